"""Delimited and Parquet files of one table, streamed in bounded pieces with row numbers.

A delimited file is read as text only: what a column should have been is the adapter's to say, so that one odd cell
costs one row and not the file. Compressed files are unpacked as they are read, behind the caps of
:mod:`mtgpt.ingest.guard.archive`.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import ROW
from mtgpt.ingest.guard.archive import open_guarded
from mtgpt.ingest.guard.text import no_table, refuse_other_than_text, utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from mtgpt.ingest.adapter import FeedFile

    Choose = Callable[[Sequence[str]], Mapping[str, str]]

_PIECE_BYTES = 8 << 20
_PIECE_ROWS = 500_000
_LONGEST_LINE = 32 << 20
_PARQUET = b"PAR1"


def read_table(file: FeedFile, choose: Choose) -> Iterator[pl.DataFrame]:
    """Streams the wanted columns of a csv, csv.gz, zipped csv or Parquet file.

    Args:
        file: The raw file; what it is, is told by its first bytes.
        choose: Gets the file's column names and answers with column name → new name, or raises FeedError.

    Yields:
        Frames of the chosen columns under their new names and ``__row``. Columns of delimited files are texts (null
        where empty), those of Parquet files as they are typed.

    Raises:
        FeedError: Empty, truncated, or not such a file.
        SourceRefused: A cap of :mod:`mtgpt.ingest.guard.archive`.
    """
    if file.size == 0:
        raise FeedError("the file is empty", where=file.name, expected="a table with a header")
    with file.path.open("rb") as stream:
        head = stream.read(4)
    pieces = _parquet(file, choose) if head == _PARQUET else _delimited(file, choose)
    first = 0
    for piece in pieces:
        yield piece.with_columns(pl.int_range(first, first + piece.height, dtype=pl.UInt64).alias(ROW))
        first += piece.height
    if first == 0:
        raise FeedError("the table has no rows", where=file.name)


def choose_columns(
    names: Sequence[str], wanted: Mapping[str, Sequence[str]], *, file: str, optional: Sequence[str] = ()
) -> dict[str, str]:
    """Finds columns by any of their known spellings, case and surrounding spaces aside.

    Args:
        names: Column names of the file.
        wanted: New name → spellings.
        file: What to name in an error.
        optional: New names that may be absent.

    Returns:
        Column name of the file → new name.

    Raises:
        FeedError: A column is missing.
    """
    by_lower = {name.strip().lower(): name for name in names}
    chosen: dict[str, str] = {}
    missing: list[str] = []
    for new, spellings in wanted.items():
        found = next((by_lower[one.lower()] for one in spellings if one.lower() in by_lower), None)
        if found is not None:
            chosen[found] = new
        elif new not in optional:
            missing.append(" or ".join(spellings))
    if missing:
        raise FeedError(
            "columns are missing",
            where=file,
            got=", ".join(name.strip() for name in names),
            expected="; ".join(missing),
        )
    return chosen


def parse_texts(
    data: bytes, names: Sequence[str], chosen: Mapping[str, str], *, where: str, first_line: int = 1
) -> pl.DataFrame:
    """Header-less delimited bytes as texts; ``first_line`` is the number of their first line in the file.

    Raises:
        FeedError: Not delimited text.
    """
    try:
        frame = pl.read_csv(
            data,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            columns=[names.index(name) for name in chosen],
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            # A last line that was cut off is one bad row, like a short line anywhere else.
            missing_columns="insert",
        )
    except pl.exceptions.PolarsError as error:
        raise no_table(data, error, where=where, first_line=first_line) from None
    return frame.rename(dict(chosen)).rechunk()


def _delimited(file: FeedFile, choose: Choose) -> Iterator[pl.DataFrame]:
    with open_guarded(file.path, file.name) as stream:
        names = _header(stream.readline(1 << 20), file.name)
        chosen = choose(names)
        line = 2
        for piece in whole_lines(stream, where=file.name):
            yield parse_texts(piece, names, chosen, where=file.name, first_line=line)
            line += piece.count(b"\n")


def _header(line: bytes, where: str) -> list[str]:
    refuse_other_than_text(line, where=where)
    if not line.strip():
        raise FeedError("the first line is empty", where=where, expected="a table with a header")
    try:
        return _unique(next(csv.reader(io.StringIO(utf8(line, where=where))), []))
    except csv.Error as error:
        raise FeedError("not a csv", where=where, got=str(error)) from None


def whole_lines(stream: BinaryIO, *, where: str) -> Iterator[bytes]:
    """Pieces of about 8 MB, cut at line ends: none of these feeds breaks a line inside quotes.

    Raises:
        FeedError: A line of more than 32 MB.
    """
    rest = b""
    while data := stream.read(_PIECE_BYTES):
        data = rest + data
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if len(rest) > _LONGEST_LINE:
            raise FeedError("a line never ends", where=where, got=f"{len(rest)} bytes", expected="line feeds")
        if cut:
            yield data[:cut]
    if rest.strip():
        yield rest


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return unique


def _parquet(file: FeedFile, choose: Choose) -> Iterator[pl.DataFrame]:
    try:
        with pq.ParquetFile(file.path, page_checksum_verification=True) as table:
            chosen = choose(table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=_PIECE_ROWS, columns=list(chosen)):
                piece = pl.DataFrame(pa.Table.from_batches([batch]))
                _refuse_nested(piece, file.name)
                yield piece.rename(dict(chosen))
    except (pa.ArrowException, OSError) as error:
        raise FeedError("not a readable Parquet file", where=file.name, got=str(error).splitlines()[0]) from None


def _refuse_nested(piece: pl.DataFrame, where: str) -> None:
    for name, dtype in piece.schema.items():
        if dtype.is_nested() or dtype in {pl.Binary, pl.Object}:
            raise FeedError(
                "a column of the wrong type", where=f"{where}: {name}", got=str(dtype), expected="plain values"
            )
