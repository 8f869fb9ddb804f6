"""Judged rows on their way into the tables: held back until the whole batch is judged, in bounded memory.

Whether a batch is held depends on all of its rows, so nothing may become visible before the last one was read. Frames
stay in memory up to a budget; what goes beyond lies in Arrow files on the lake's own disk, so that a disk that is too
small says so before anything is visible.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.lake.disk import refusals
from mtgpt.lake.lock import locked, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mtgpt.contracts.contract import Contract

MEMORY_BYTES = 192 << 20
_BYTES: dict[Any, int] = {pl.String: 24, pl.Float32: 4, pl.Int32: 4}
_LOCK = "lock"


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder of its own for one run, removed afterwards; what killed runs left is removed first.

    Raises:
        LakeError: The disk is full, read-only or forbidden.
    """
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Under a lock of its own: a folder is another run's to sweep until its owner has locked it.
        with locked(folder / _LOCK):
            _sweep(folder)
            own = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
            handle = try_lock(own / _LOCK)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _sweep(folder: Path) -> None:
    for left in folder.glob("run-*"):
        try:
            handle = try_lock(left / _LOCK)
        except FileNotFoundError:
            continue  # its owner removed it just now
        if handle is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(handle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of one table, in memory or in a file, with their span in time."""

    rows: int
    frame: pl.DataFrame | None
    file: Path | None
    low: Any = None
    high: Any = None

    def read(self) -> pl.DataFrame:
        """The rows."""
        return self.lazy().collect() if self.frame is None else self.frame

    def lazy(self) -> pl.LazyFrame:
        """The rows, of which only what is asked for is read."""
        return pl.scan_ipc(self.file) if self.frame is None and self.file is not None else self.read().lazy()

    def overlaps(self, other: Piece) -> bool:
        """Whether the two touch in time; without a time column they do always."""
        return self.low is None or other.low is None or (self.low <= other.high and other.low <= self.high)


@dataclass(slots=True, kw_only=True)
class Staging:
    """The judged rows of one batch, by table.

    Attributes:
        folder: Where files may go.
        memory_bytes: How much may stay in memory.
    """

    folder: Path
    memory_bytes: int = MEMORY_BYTES
    _pieces: dict[str, list[Piece]] = field(default_factory=dict)
    _held_bytes: int = 0
    _files: int = 0

    def tables(self) -> list[str]:
        """Names of the tables that rows were added for."""
        return list(self._pieces)

    def rows(self, table: str) -> int:
        """Number of rows."""
        return sum(piece.rows for piece in self._pieces.get(table, ()))

    def pieces(self, table: str) -> list[Piece]:
        """The table's pieces, in the order they came."""
        return list(self._pieces.get(table, ()))

    def span(self, table: str) -> tuple[Any, Any]:
        """First and last time of the table's rows; None, None where it has no rows or no time column."""
        known = [piece for piece in self.pieces(table) if piece.low is not None]
        return (min(p.low for p in known), max(p.high for p in known)) if known else (None, None)

    def frames(self, table: str) -> Iterator[pl.DataFrame]:
        """The table's rows, piece by piece."""
        for piece in self.pieces(table):
            yield piece.read()

    def in_memory(self, table: str) -> pl.DataFrame | None:
        """The table's rows as one frame, without a copy, where none of them lies in a file; None otherwise."""
        frames = [piece.frame for piece in self.pieces(table)]
        if not frames or any(frame is None for frame in frames):
            return None
        return pl.concat([frame for frame in frames if frame is not None], rechunk=False)

    def add(self, table: str, frame: pl.DataFrame, *, time_column: str | None = None) -> None:
        """Adds rows.

        Raises:
            LakeError: They do not fit in memory, and the disk refuses them.
        """
        if frame.height:
            self._pieces.setdefault(table, []).append(self._piece(frame, time_column))

    def drop_repeated(self, table: str, contract: Contract, *, time_column: str | None = None) -> int:
        """Takes out rows whose key stood in an earlier chunk of this batch; keys are unique within a chunk.

        Chunks that are apart in time are never compared. The others are compared by hash, and only rows whose hash
        stands twice by the key itself, so that a large batch in any order costs one pass.

        Args:
            table: Its name.
            contract: The table's contract.
            time_column: Its time column.

        Returns:
            How many rows were taken out.
        """
        pieces = self.pieces(table)
        near = [one for one in pieces if any(one.overlaps(other) for other in pieces if other is not one)]
        if not near:
            return 0
        key = list(contract.key)
        key_hash = pl.struct(key).hash().alias("hash")
        hashes = pl.concat([one.lazy().select(key_hash).collect().to_series() for one in near])
        if hashes.n_unique() == len(hashes):
            return 0
        before = self.rows(table)
        repeated = hashes.filter(hashes.is_duplicated()).unique().implode()
        seen = [pl.DataFrame(schema=contract.polars_schema).select(key)]

        def without_repeated(piece: Piece) -> pl.DataFrame:
            frame = piece.read()
            keys = frame.filter(key_hash.is_in(repeated)).select(key)
            known = keys.join(pl.concat(seen), on=key, how="semi")
            seen.append(keys)
            return frame.join(known, on=key, how="anti", maintain_order="left") if known.height else frame

        self.rewrite(table, without_repeated, time_column=time_column)
        return before - self.rows(table)

    def rewrite(self, table: str, change: Callable[[Piece], pl.DataFrame], *, time_column: str | None = None) -> None:
        """Replaces every piece by what ``change`` makes of it."""
        old = self._pieces.pop(table, [])
        for piece in old:
            changed = change(piece)
            if piece.frame is not None:
                self._held_bytes -= _size(piece.frame)
            self.add(table, changed, time_column=time_column)
            if piece.file is not None:
                piece.file.unlink(missing_ok=True)

    def _piece(self, frame: pl.DataFrame, time_column: str | None) -> Piece:
        low, high = _span(frame, time_column)
        size = _size(frame)
        if self._held_bytes + size <= self.memory_bytes:
            self._held_bytes += size
            return Piece(rows=frame.height, frame=frame, file=None, low=low, high=high)
        self._files += 1
        file = self.folder / f"{self._files}.arrow"
        with refusals("staging"):
            try:
                frame.write_ipc(file, compression="lz4")
            except pl.exceptions.ComputeError as error:
                # Polars words some of the disk's refusals as its own.
                raise OSError(str(error)) from error
        return Piece(rows=frame.height, frame=None, file=file, low=low, high=high)


def _size(frame: pl.DataFrame) -> int:
    # A column of one repeated value is nearly nothing now and a value per row when it is written.
    return frame.height * sum(_BYTES.get(dtype, 8) for dtype in frame.dtypes)


def _span(frame: pl.DataFrame, time_column: str | None) -> tuple[Any, Any]:
    if time_column is None or not frame.height:
        return None, None
    return frame[time_column].min(), frame[time_column].max()
