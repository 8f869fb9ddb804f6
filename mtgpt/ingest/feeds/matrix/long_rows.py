"""A grid of time × place as rows of the table observation, a bounded block of steps at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from mtgpt.ingest.adapter import FAULT, ROW, Chunk
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import (
    NUMBER_NOT_FINITE,
    NUMBER_UNREADABLE,
    TIME_DOES_NOT_EXIST,
    TIME_UNREADABLE,
    first_fault,
    marked,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mtgpt.ingest.rows.units import Conversion

_MOST_ROWS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time of each of T steps.

    Attributes:
        utc: [T] start of each step; null where that local time does not exist or cannot be read.
        written: [T] the same as the feed writes it, as text.
        readable: [T] whether that could be read as a time.
        interval_s: Length of a step.
    """

    utc: pl.Series
    written: pl.Series
    readable: pl.Series
    interval_s: int

    def __len__(self) -> int:
        return len(self.utc)

    def part(self, steps: slice) -> Clock:
        """Some of the steps."""
        return replace(self, utc=self.utc[steps], written=self.written[steps], readable=self.readable[steps])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """One cell that is no number: its step, its place and what stands there."""

    step: int
    place: int
    text: str

    def transposed(self) -> Unreadable:
        """The same cell of a file that has a line per place."""
        return Unreadable(step=self.place, place=self.step, text=self.text)


class SlicesAlongTime(Protocol):
    """[T, N] numbers, in memory or not."""

    def __getitem__(self, steps: slice, /) -> np.ndarray:
        """Some steps as a numpy array."""
        ...


class LongRows:
    """Makes observation chunks for one list of places.

    Args:
        ids: [N] spot ids.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = pl.Series("spot_id", ids, dtype=pl.String)
        self._steps = max(1, _MOST_ROWS // max(1, len(ids)))
        self._spots: dict[int, pl.Series] = {}

    def chunks(
        self,
        values: SlicesAlongTime,
        clock: Clock,
        *,
        variable: str,
        conversion: Conversion,
        missing: Sequence[float] = (),
        unreadable: Sequence[Unreadable] = (),
        first_row: int = 0,
    ) -> Iterator[Chunk]:
        """All values that are not missing, in order of time.

        Args:
            values: [T, N], anything that slices along time to a numpy array; not a number = not measured, no row.
            clock: [T].
            variable: Name of the variable.
            conversion: To the variable's unit.
            missing: Numbers that stand for a missing value, in the feed's unit.
            unreadable: Cells that are no numbers; ``values`` has not a number there.
            first_row: Position of the first step in the raw file.

        Yields:
            Chunks of at most about a million rows.
        """
        for first in range(0, len(clock), self._steps):
            steps = slice(first, first + self._steps)
            block = np.asarray(values[steps], dtype=np.float64)
            part = clock.part(steps)
            for marker in missing:
                block = np.where(block == marker, np.nan, block)
            if conversion.changes:
                block = block * conversion.factor + conversion.offset
            frame = self._frame(block, part, variable, first_row + first)
            if frame.height:
                yield Chunk(table="observation", frame=frame)
        if unreadable:
            yield Chunk(table="observation", frame=self._unreadable(unreadable, clock, variable, first_row))

    def _frame(self, block: np.ndarray, clock: Clock, variable: str, first_row: int) -> pl.DataFrame:
        steps, places = block.shape
        flat = block.ravel()
        present = ~np.isnan(flat)
        with np.errstate(over="ignore"):
            # What single precision cannot hold becomes infinite, and is judged as that.
            single = flat.astype(np.float32)
        row = np.repeat(np.arange(first_row, first_row + steps, dtype=np.uint64), places)
        frame = pl.DataFrame(
            {
                "spot_id": self._tiled(steps),
                "time_start": _repeated(clock.utc, places),
                "value": single,
                ROW: row,
            }
        ).with_columns(
            variable=pl.lit(variable),
            interval_s=pl.lit(clock.interval_s, dtype=pl.Int32),
        )
        if not present.all():
            frame = frame.filter(pl.Series(present))
        if clock.utc.null_count() or np.isinf(flat).any():
            frame = self._marked(frame, clock, first_row)
        return frame

    def _tiled(self, steps: int) -> pl.Series:
        if steps not in self._spots:
            self._spots[steps] = self._ids.gather(np.tile(np.arange(len(self._ids), dtype=np.uint32), steps))
        return self._spots[steps]

    def _marked(self, frame: pl.DataFrame, clock: Clock, first_row: int) -> pl.DataFrame:
        at = (frame[ROW] - first_row).cast(pl.UInt32)
        looked_up = {"__written": clock.written.gather(at), "__readable": clock.readable.gather(at)}
        frame = frame.with_columns(**looked_up)
        no_time = pl.col("time_start").is_null()
        fault = first_fault(
            (no_time & ~pl.col("__readable"), TIME_UNREADABLE),
            (no_time, TIME_DOES_NOT_EXIST),
            (pl.col("value").is_infinite(), NUMBER_NOT_FINITE),
        )
        raw = frame.select("spot_id", "value", time="__written")
        return marked(frame.drop(looked_up).with_columns(frame.select(fault)), raw)

    def _unreadable(self, cells: Sequence[Unreadable], clock: Clock, variable: str, first_row: int) -> pl.DataFrame:
        steps = [cell.step for cell in cells]
        ids = self._ids.gather([cell.place for cell in cells])
        frame = pl.DataFrame(
            {
                "spot_id": ids,
                "time_start": clock.utc.gather(steps),
                ROW: pl.Series([first_row + step for step in steps], dtype=pl.UInt64),
            }
        ).with_columns(
            pl.lit(NUMBER_UNREADABLE).alias(FAULT),
            variable=pl.lit(variable),
            interval_s=pl.lit(clock.interval_s, dtype=pl.Int32),
            value=pl.lit(None, dtype=pl.Float32),
        )
        texts = pl.Series("value", [cell.text for cell in cells])
        return marked(frame, pl.DataFrame([ids, clock.written.gather(steps).alias("time"), texts]))


def _repeated(utc: pl.Series, times: int) -> pl.Series:
    stamps = np.repeat(utc.to_physical().fill_null(0).to_numpy(), times)
    repeated = pl.Series("time_start", stamps).cast(UTC_TIME)
    if utc.null_count():
        there = pl.Series(np.repeat(utc.is_not_null().to_numpy(), times))
        repeated = pl.select(pl.when(there).then(repeated).alias("time_start")).to_series()
    return repeated
