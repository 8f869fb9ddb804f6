"""The time that a source covers, where what it leaves out is a zero and not a gap.

Trip files hold the trips that happened. That nobody left a stop between nine and ten is a zero, but only on days that
the file covers at all, and nothing in the file says which days those are. A source that writes zeros of its own for a
variable says by leaving a row out that it does not know; it covers nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.panel.calendar import local_slots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.contracts.variables import Variable
    from mtgpt.panel.calendar import Calendar, ServiceRules

Windows = tuple[tuple[int, int], ...]

_SCHEMA = pl.Schema({"source_id": pl.String(), "variable": pl.String(), "first": pl.Int64(), "last": pl.Int64()})
# A file of June holds a few trips that began on the last of May: that day was not measured.
_LEAST_OF_USUAL = 0.1
# Where so many rows a day are usual, a day without one is a file that did not come.
_NEVER_SILENT = 10
_DERIVED = "derived:trip:"


def covers(
    observations: pl.LazyFrame,
    trips: pl.LazyFrame,
    found: pl.DataFrame,
    vocabulary: Mapping[str, Variable],
    rules: ServiceRules,
) -> pl.DataFrame:
    """The spans covered by each source that writes no zeros, per counted variable.

    A source covers the span in which *all* its counted variables have rows: trips that end after midnight leave
    arrivals on a day without departures. Days at either end with less than a tenth of what is usual by that time of day
    are not covered. Where rows are many, neither are days without any, unless one batch reaches across them: a month's
    file with a silent day says that nobody travelled, two files with a day between them say nothing about it.

    Args:
        observations: Rows of the table.
        trips: Rows of the table ``trip``, behind the counts that are derived from trips.
        found: From :func:`mtgpt.panel.grid.survey`, of all variables.
        vocabulary: Variables by name.
        rules: Service days and hours.

    Returns:
        source_id, variable, first, last (epoch seconds of a span's first and last row); in order of time.
    """
    counted = [name for name, variable in vocabulary.items() if variable.counted]
    silent = (
        found.filter(pl.col("variable").is_in(counted))
        .group_by("source_id", "variable")
        .agg(pl.col("zeros").sum())
        .filter(pl.col("zeros") == 0)
        .select("source_id", "variable")
        .sort("source_id", "variable")
    )
    if silent.height == 0:
        return pl.DataFrame(schema=_SCHEMA)
    end = pl.col("time_start").dt.epoch("s") + pl.col("interval_s") - 1
    activity = (
        observations.join(silent.lazy(), on=["source_id", "variable"])
        .group_by("source_id", "variable", step=end // rules.interval_s)
        .agg(rows=pl.len(), first=end.min(), last=end.max())
        .sort("step")
        .collect(engine="streaming")
    )
    batches = _batches(observations, trips, silent)
    spans = []
    for source, variable in silent.iter_rows():
        steps = activity.filter((pl.col("source_id") == source) & (pl.col("variable") == variable))
        reach = batches.filter(pl.col("source_id") == source).select("first", "last").to_numpy()
        spans += [(source, variable, *span) for span in _busy_spans(steps, reach, rules)]
    frame = pl.DataFrame(spans, schema=_SCHEMA, orient="row")
    outer = frame.group_by("source_id", "variable").agg(low=pl.col("first").min(), high=pl.col("last").max())
    outer = outer.group_by("source_id").agg(pl.col("low").max(), pl.col("high").min())
    return (
        frame.join(outer, on="source_id", maintain_order="left")
        .select(
            "source_id",
            "variable",
            first=pl.max_horizontal("first", "low"),
            last=pl.min_horizontal("last", "high"),
        )
        .filter(pl.col("first") <= pl.col("last"))
    )


def zero_windows(covered: pl.DataFrame, calendar: Calendar) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Steps ``(start, stop)`` of each (source, variable): whole service days, but the axis' last only to the last row.

    That last day may be still going on: what a slower source has not reported yet is not zero.

    Args:
        covered: From :func:`covers`.
        calendar: The panel's.
    """
    dates = calendar.dates[calendar.day]
    windows: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for source, variable, first, last in covered.select(_SCHEMA.names()).iter_rows():
        ends = np.array([first, last], dtype="datetime64[s]")
        days, _ = local_slots(ends, calendar.rules)
        start = int(np.searchsorted(dates, days[0], side="left"))
        stop = int(np.searchsorted(dates, days[1], side="right"))
        if days[1] == calendar.dates[-1]:
            stop = int(np.searchsorted(calendar.time, ends[1], side="right"))
        windows.setdefault((source, variable), []).append((start, stop))
    return windows


def union(windows: list[tuple[int, int]]) -> Windows:
    """Sorted, disjoint windows; empty ones vanish."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(w for w in windows if w[0] < w[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)


def _batches(observations: pl.LazyFrame, trips: pl.LazyFrame, silent: pl.DataFrame) -> pl.DataFrame:
    """First and last row (epoch seconds) of every batch behind the silent sources: source_id, first, last."""
    sources = silent.select(pl.col("source_id").unique())
    start = pl.col("time_start").dt.epoch("s")
    direct = observations.join(sources.lazy(), on="source_id").group_by("source_id", "batch_id")
    frames = [direct.agg(first=start.min(), last=start.max()).collect(engine="streaming")]
    if sources["source_id"].str.starts_with(_DERIVED).any():
        # Counts of all trips of a mode are one batch; the files are those of the trips.
        frames[0] = frames[0].filter(~pl.col("source_id").str.starts_with(_DERIVED))
        moment = pl.col("start_time").dt.epoch("s")
        counted = trips.group_by("batch_id", source_id=pl.lit(_DERIVED) + pl.col("mode"))
        frames.append(counted.agg(first=moment.min(), last=moment.max()).collect(engine="streaming"))
    return pl.concat([frame.select("source_id", "first", "last") for frame in frames])


def _busy_spans(steps: pl.DataFrame, reach: np.ndarray, rules: ServiceRules) -> list[tuple[int, int]]:
    """First and last row of each run of days that are as busy as usual, of one source and variable.

    Args:
        steps: rows, first, last of each step with rows, in order of time.
        reach: int64 [batches, 2], first and last row of each batch.
        rules: Service days and hours.
    """
    rows, first, last = (steps[name].to_numpy() for name in ("rows", "first", "last"))
    day, slot = local_slots(last.astype("datetime64[s]"), rules)
    dates, number = np.unique(day, return_inverse=True)
    reached = local_slots(reach.reshape(-1).astype("datetime64[s]"), rules)[0].reshape(-1, 2)
    low, high = 0, dates.size - 1
    usual = np.median(np.bincount(number, rows))
    while low < high and rows[number == low].sum() < _LEAST_OF_USUAL * usual:
        low += 1
    while high > low:
        until = slot[number == high].max()
        by_then = np.bincount(number, rows * (slot <= until), minlength=dates.size)
        if by_then[high] >= _LEAST_OF_USUAL * np.median(by_then[low:high]):
            break
        high -= 1
    spans: list[tuple[int, int]] = []
    for here in range(low, high + 1):
        opening, closing = int(first[number == here].min()), int(last[number == here].max())
        if spans and (
            usual < _NEVER_SILENT
            or _follows(dates[here - 1], dates[here], rules)
            or ((reached[:, 0] <= dates[here - 1]) & (reached[:, 1] >= dates[here])).any()
        ):
            spans[-1] = (spans[-1][0], closing)
        else:
            spans.append((opening, closing))
    return spans


def _follows(before: np.datetime64, after: np.datetime64, rules: ServiceRules) -> bool:
    """Whether no service day lies between two dates."""
    if rules.days == "weekdays":
        return int(np.busday_count(before + 1, after)) == 0
    return bool(after - before == np.timedelta64(1, "D"))
