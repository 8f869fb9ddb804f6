"""From observations of any interval, in any order, to a regular grid; memory grows with the grid, not with the rows.

Rows are read three times in bounded batches: a survey (who measures what, when), a census (what falls into the service
hours) and the scatter into the grid. A row belongs to the step in which its interval ends, so that no step knows what
was measured after it; rows longer than a step are left out, for they would tell a step about its future.

Several rows of one step become one by the variable's nature: amounts (persons, trips, kWh, h) add up, everything else
is averaged over time; only a step that is observed in full counts. For a source that writes no zeros, a counted
variable is zero where there is no row, within the days that the source covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.panel.panel import TRAINING_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.contracts.variables import Variable

_BATCH_ROWS = 1 << 19
_BLOCK_ROWS = 256
_AMOUNTS = frozenset({"persons", "trips", "kWh", "h"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How N grid columns are filled.

    Attributes:
        keys: spot_id, variable, ``column`` (int64) of every series that is wanted.
        adds_up: bool [N], amounts; the others are averaged over time.
        merges: bool [N], several rows may fall into one step.
        windows: Per column the steps ``(start, stop)`` in which no row means zero; empty where it means missing.
    """

    keys: pl.DataFrame
    adds_up: np.ndarray
    merges: np.ndarray
    windows: tuple[tuple[tuple[int, int], ...], ...]


def survey(observations: pl.LazyFrame, step_s: int) -> pl.DataFrame:
    """Who measures what, when, how: one row per spot, variable and source.

    Returns:
        spot_id, variable, source_id, rows, first, last (epoch seconds of the last instant of a row), shortest, longest
        (interval_s), phases (least and greatest offset of a start from whole steps), zeros (rows of value 0), days
        (UTC dates with rows); sorted.
    """
    start = pl.col("time_start").dt.epoch("s")
    return (
        observations.filter(pl.col("value").is_finite())
        .group_by("spot_id", "variable", "source_id")
        .agg(
            rows=pl.len().cast(pl.Int64),
            first=(start + pl.col("interval_s") - 1).min(),
            last=(start + pl.col("interval_s") - 1).max(),
            shortest=pl.col("interval_s").min(),
            longest=pl.col("interval_s").max(),
            phase_low=(start % step_s).min(),
            phase_high=(start % step_s).max(),
            zeros=(pl.col("value") == 0).sum().cast(pl.Int64),
            days=(start // 86_400).n_unique().cast(pl.Int64),
        )
        .sort("variable", "spot_id", "source_id")
        .collect(engine="streaming")
    )


def adds_up(variable: Variable) -> bool:
    """Whether values of consecutive intervals add up (persons do, vehicles per hour and bikes in a dock do not)."""
    return variable.counted or (variable.aggregate == "sum" and variable.unit in _AMOUNTS)


def census(
    observations: pl.LazyFrame, keys: pl.DataFrame, time: np.ndarray, step_s: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What falls onto the time axis.

    Args:
        observations: Rows of the table.
        keys: As in :class:`Columns`.
        time: datetime64 [T].
        step_s: Length of a step.

    Returns:
        Per column, float64: seconds observed; rows in the training part; sum of their values.
    """
    count = keys.height
    seconds, rows, total = np.zeros(count), np.zeros(count), np.zeros(count)
    training = int(time.size * TRAINING_SHARE)
    for column, step, interval, value in _batches(observations, keys, time, step_s):
        seconds += np.bincount(column, interval, minlength=count)
        early = step < training
        rows += np.bincount(column[early], minlength=count)
        total += np.bincount(column[early], value[early], minlength=count)
    return seconds, rows, total


def scatter(observations: pl.LazyFrame, columns: Columns, time: np.ndarray, step_s: int, out: np.ndarray) -> None:
    """Fills the first N columns of a grid.

    Args:
        observations: Rows of the table.
        columns: What goes where.
        time: datetime64 [T].
        step_s: Length of a step.
        out: float32 [T, ≥ N], C-contiguous, usually a memory map; other columns are not touched.
    """
    steps, width = out.shape
    count = columns.adds_up.size
    zeroed = np.array([bool(windows) for windows in columns.windows])
    weighed = np.flatnonzero(columns.merges & ~zeroed)
    place = np.full(count, -1)
    place[weighed] = np.arange(weighed.size)
    covered = np.zeros((steps, weighed.size), dtype=np.float32)
    _prepare(out[:, :count], columns, weighed)
    flat, flat_covered = out.reshape(-1), covered.reshape(-1)
    for column, step, interval, value in _batches(observations, columns.keys, time, step_s):
        merged = columns.merges[column]
        flat[(step * width + column)[~merged]] = value[~merged]
        if merged.any():
            own, at, seconds = column[merged], step[merged], interval[merged].astype(np.float32)
            weight = np.where(columns.adds_up[own], np.float32(1), seconds)
            np.add.at(flat, at * width + own, value[merged] * weight)
            shared = place[own] >= 0
            np.add.at(flat_covered, at[shared] * weighed.size + place[own[shared]], seconds[shared])
    _average(out, columns, weighed, covered, step_s)
    _clip(out, columns)


def blank(rows: pl.LazyFrame, keys: pl.DataFrame, time: np.ndarray, step_s: int, out: np.ndarray) -> None:
    """Takes away the steps that rows fall into: what was measured wrongly is missing, not zero.

    Args:
        rows: Rows of the table observation.
        keys: spot_id, variable, ``column`` (int64) of the series.
        time: datetime64 [T].
        step_s: Length of a step.
        out: float32 [T, ≥ N], from :func:`scatter`.
    """
    for column, step, _, _ in _batches(rows, keys, time, step_s):
        out[step, column] = np.nan


def _batches(
    observations: pl.LazyFrame, keys: pl.DataFrame, time: np.ndarray, step_s: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Column, step, interval and value of the rows that fall onto the axis."""
    axis = time.astype("datetime64[s]").astype(np.int64)
    low, high = int(axis[0]), int(axis[-1]) + step_s
    rows = (
        observations.filter(
            (pl.col("time_start") >= pl.from_epoch(pl.lit(low - step_s), "s").dt.replace_time_zone("UTC"))
            & (pl.col("time_start") < pl.from_epoch(pl.lit(high), "s").dt.replace_time_zone("UTC"))
            & (pl.col("interval_s") <= step_s)
            & pl.col("value").is_finite()
        )
        .join(keys.lazy(), on=["spot_id", "variable"])
        .select(
            pl.col("column"),
            end=pl.col("time_start").dt.epoch("s") + pl.col("interval_s") - 1,
            interval_s=pl.col("interval_s"),
            value=pl.col("value").cast(pl.Float32),
        )
    )
    for batch in rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, engine="streaming"):
        end = batch["end"].to_numpy()
        step = np.searchsorted(axis, end, side="right") - 1
        inside = (step >= 0) & (end < axis[np.maximum(step, 0)] + step_s)
        yield (
            batch["column"].to_numpy()[inside],
            step[inside],
            batch["interval_s"].to_numpy()[inside],
            batch["value"].to_numpy()[inside],
        )


def _prepare(grid: np.ndarray, columns: Columns, weighed: np.ndarray) -> None:
    empty = np.full(grid.shape[1], np.nan, dtype=np.float32)
    empty[weighed] = 0
    for start in range(0, grid.shape[0], _BLOCK_ROWS):
        grid[start : start + _BLOCK_ROWS] = empty
    for windows, members in _same_windows(columns):
        for start, stop in windows:
            for low in range(start, stop, _BLOCK_ROWS):
                grid[low : min(low + _BLOCK_ROWS, stop), members] = 0


def _average(out: np.ndarray, columns: Columns, weighed: np.ndarray, covered: np.ndarray, step_s: int) -> None:
    if weighed.size == 0:
        return
    amounts = columns.adds_up[weighed]
    for start in range(0, out.shape[0], _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        total, seconds = out[rows, weighed], covered[rows]
        full = seconds >= step_s - 0.5
        # Two sources of one series cover a step twice; what they counted must not.
        scale = np.where(amounts, step_s, 1) / np.where(full, seconds, 1)
        out[rows, weighed] = np.where(full, total * scale, np.nan)


def _clip(out: np.ndarray, columns: Columns) -> None:
    """Takes away what counted variables have outside the covered days: parts of days look like quiet days."""
    for windows, members in _same_windows(columns):
        start = 0
        for low, high in [*windows, (out.shape[0], 0)]:
            if low > start:
                out[start:low, members] = np.nan
            start = max(start, high)


def _same_windows(columns: Columns) -> list[tuple[tuple[tuple[int, int], ...], np.ndarray]]:
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for column, windows in enumerate(columns.windows):
        if windows:
            groups.setdefault(windows, []).append(column)
    return [(windows, np.array(members)) for windows, members in groups.items()]
