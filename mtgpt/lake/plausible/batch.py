"""Looks at a judged batch beside its source's past, marks the values that look wrong, and says where all of them do.

The rows of a batch stay what they were: a mark takes none away and adds none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.lake.plausible.look import FROZEN, Hours, findings
from mtgpt.lake.plausible.past import PAST_HOURS, SCHEMA, SERIES, an_hour, recent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mtgpt.lake.plausible.look import Finding, Jump
    from mtgpt.lake.plausible.past import Past
    from mtgpt.lake.staging import Staging

OBSERVATION = "observation"
_CELLS = 8_000_000
_LEAST_WINDOW = 14 * 24
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _SECOND = timedelta(hours=1), timedelta(seconds=1)
_MOST_SPANS = 16
_READ = ("spot_id", "variable", "time_start", "interval_s", "value")
_FROZEN_S = 6 * 3600
# Things that are there until somebody takes one, and prices: that they stay as they are says nothing.
_STOCKS = frozenset({"bikes", "docks", "vehicles", "local currency"})
MARKS = pl.Schema(
    {
        "spot_id": pl.String(),
        "variable": pl.String(),
        "suspect": pl.String(),
        "first": pl.Datetime("us", "UTC"),
        "last": pl.Datetime("us", "UTC"),
    }
)
"""Spans ``first <= t < last`` of series whose values look wrong, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a batch found.

    Attributes:
        marks: What looks wrong: rows of :data:`MARKS`.
        hold: Why the whole batch should be held, or None.
        hours: The source's past with this batch, rows of :data:`~mtgpt.lake.plausible.past.SCHEMA`.
    """

    marks: pl.DataFrame = field(default_factory=MARKS.to_frame)
    hold: str | None = None
    hours: pl.DataFrame = field(default_factory=SCHEMA.to_frame)

    def mark(self, observations: pl.DataFrame) -> pl.DataFrame:
        """The same rows in the same order, ``suspect`` set where their values look wrong."""
        if not self.marks.height or not observations.height:
            return observations
        # Times are compared much faster than names, and mostly say that there is nothing to be done.
        near = observations.select(_within(self.marks.select("first", "last").iter_rows())).to_series()
        if not near.any():
            return observations
        rows = pl.select(row=near.arg_true()).with_columns(observations.select(*SERIES, "time_start").filter(near))
        inside = (pl.col("time_start") >= pl.col("first")) & (pl.col("time_start") < pl.col("last"))
        # Of two reasons the first in the alphabet: a frozen value is of no scale.
        wrong = rows.join(self.marks, on=SERIES).filter(inside).group_by("row").agg(pl.col("suspect").min())
        for (reason,), wrong_rows in wrong.group_by("suspect"):
            those = np.zeros(observations.height, dtype=bool)
            those[wrong_rows["row"].to_numpy()] = True
            said = pl.when(pl.Series(those)).then(pl.lit(reason)).otherwise(pl.col("suspect"))
            observations = observations.with_columns(said.alias("suspect"))
        return observations


@dataclass(slots=True, kw_only=True)
class Hourly:
    """One value an hour of a batch's observations, taken while its chunks pass by: they are not read a second time.

    Attributes:
        frames: Rows of :data:`~mtgpt.lake.plausible.past.SCHEMA`, a frame per chunk.
        rows: Observations that passed.
    """

    frames: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0

    def take(self, observations: pl.DataFrame) -> None:
        """Takes what it needs of a chunk's good rows."""
        self.frames.append(an_hour(observations.lazy(), count=self.rows + observations.height).collect())
        self.rows += observations.height


def look(hourly: Hourly, staged: Staging, past: Past, *, accept: bool = False) -> Look:
    """Looks for observations that look wrong beside the past, or beside each other where there is none.

    A long batch is looked at in windows, each with the ones before it as its past, so that memory is bounded.

    Args:
        hourly: Of the batch.
        staged: The batch's good rows; they are read only where an hourly value alone proves nothing.
        past: Of the batch's source; it is not changed.
        accept: Find nothing: whatever the values are, they are right.

    Raises:
        LakeError: The past cannot be read.
    """
    if not hourly.rows:
        return Look()
    resting = {one.name for one in past.table.contract.variables if one.counted or one.unit in _STOCKS}
    pasts = {str(name): rows for (name,), rows in past.frame().group_by("variable")}
    marks = [MARKS.to_frame()]
    jumps: dict[str, list[Jump]] = {}
    for fresh in _windows(pl.concat(hourly.frames)):
        for (name,), rows in fresh.group_by("variable"):
            variable = str(name)
            old = pasts.get(variable, SCHEMA.to_frame())
            hours, ids = _grid(old, rows, may_rest=variable in resting)
            if not accept:
                found, jump = findings(hours)
                jumps.setdefault(variable, []).append(jump)
                marks.append(_marks(found, ids, variable, staged))
            others = old.filter(~pl.col("spot_id").is_in(ids.implode()))
            pasts[variable] = recent(
                pl.concat([others, _past(hours, ids, variable, marks[-1] if not accept else marks[0])])
            )
    return Look(marks=pl.concat(marks), hold=_hold(jumps), hours=pl.concat(pasts.values()))


def _windows(hours: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The hours in parts that fit in memory as grids."""
    first, last = hours["hour"].min(), hours["hour"].max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    series = hours["spot_id"].n_unique() if last - first >= _LEAST_WINDOW else 1
    length = max(_LEAST_WINDOW, _CELLS // max(series, 1))
    if last - first < length:
        yield hours
        return
    for start in range(first, last + 1, length):
        part = hours.filter(pl.col("hour").is_between(start, start + length, closed="left"))
        if part.height:
            yield part


def _grid(old: pl.DataFrame, fresh: pl.DataFrame, *, may_rest: bool) -> tuple[Hours, pl.Series]:
    ids = fresh["spot_id"].unique().sort()
    codes = pl.Enum(ids)
    # Series that the batch does not bring are nobody's past; they are peers in nothing.
    old = old.filter(pl.col("spot_id").is_in(ids.implode()))
    hour = pl.concat([old["hour"].unique(), fresh["hour"].unique()]).unique().sort().to_numpy()
    shape = (ids.len(), hour.size)
    value = np.full(shape, np.nan, np.float32)
    new, fine = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    for rows, is_new in ((old, False), (fresh, True)):
        # Backwards: of several values of an hour the first one stands.
        at = rows["spot_id"].cast(codes).to_physical().to_numpy()[::-1]
        when = np.searchsorted(hour, rows["hour"].to_numpy())[::-1]
        value[at, when] = rows["value"].to_numpy()[::-1]
        new[at, when] = is_new
        fine[at, when] = rows["fine"].to_numpy()[::-1]
    return Hours(hour=hour, value=value, new=new, fine=fine, may_rest=may_rest), ids


def _marks(found: list[Finding], ids: pl.Series, variable: str, staged: Staging) -> pl.DataFrame:
    rows = [
        (ids[one.series], variable, one.reason, _EPOCH + one.first * _HOUR, _EPOCH + (one.last + 1) * _HOUR)
        for one in found
        if one.reason != FROZEN
    ]
    stuck = [one for one in found if one.reason == FROZEN]
    if stuck:
        rows += _proven(stuck, ids, variable, staged)
    return pl.DataFrame(rows, schema=MARKS, orient="row")


def _proven(
    stuck: list[Finding], ids: pl.Series, variable: str, staged: Staging
) -> Iterator[tuple[str, str, str, datetime, datetime]]:
    """Of values that were equal at every hour, those that were equal in between too."""
    names = pl.Series(sorted({ids[one.series] for one in stuck}))
    spans = [(_EPOCH + (one.first - 1) * _HOUR, _EPOCH + (one.last + 2) * _HOUR) for one in stuck]
    low, high = min(first for first, _ in spans), max(last for _, last in spans)
    wanted = _within(spans) & (pl.col("variable") == variable)
    named = pl.col("spot_id").is_in(names.implode())
    of = pl.col("spot_id").cast(pl.Enum(names)).to_physical()
    columns = [of.alias("spot"), pl.col("time_start").dt.epoch("s").alias("time"), "interval_s", "value"]
    rows = pl.concat(
        piece.lazy().select(*_READ).filter(named).collect().filter(wanted).select(columns)
        for piece in staged.pieces(OBSERVATION)
        if piece.low < high and piece.high >= low
    ).sort("spot", "time")
    spot, time, value = (rows[name].to_numpy() for name in ("spot", "time", "value"))
    begins = np.flatnonzero(np.r_[True, (spot[1:] != spot[:-1]) | (value[1:] != value[:-1])])
    ends = np.r_[begins[1:], spot.size] - 1
    lasted = np.add.reduceat(rows["interval_s"].to_numpy().astype(np.int64), begins)
    place = {name: number for number, name in enumerate(names)}
    for one in stuck:
        own = place[ids[one.series]]
        # What of a run lies in the past was looked at when it came: it lasts on in the first row of the batch.
        first = np.searchsorted(spot, own)
        begun = np.maximum(time[first] - one.first * 3600, 0) * (begins == first)
        there = (spot[begins] == own) & (value[begins] == np.float32(one.value))
        there &= (time[ends] >= (one.first - 1) * 3600) & (time[begins] < (one.last + 2) * 3600)
        for run in np.flatnonzero(there & (lasted + begun >= _FROZEN_S)):
            since, until = int(time[begins[run]]), int(time[ends[run]])
            yield str(names[own]), variable, FROZEN, _EPOCH + since * _SECOND, _EPOCH + (until + 1) * _SECOND


def _within(spans: Iterable[tuple[datetime, datetime]]) -> pl.Expr:
    """Whether ``time_start`` lies in one of the spans, or near one where they are many."""
    joined: list[tuple[datetime, datetime]] = []
    for first, last in sorted(spans):
        if joined and (first <= joined[-1][1] or len(joined) == _MOST_SPANS):
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return pl.any_horizontal([pl.col("time_start").is_between(first, last) for first, last in joined])


def _past(hours: Hours, ids: pl.Series, variable: str, marks: pl.DataFrame) -> pl.DataFrame:
    """The last hours of a grid as rows; what is marked is not fine."""
    late = slice(int(np.searchsorted(hours.hour, hours.hour[-1] - PAST_HOURS, side="right")), None)
    hour, value, fine = hours.hour[late], hours.value[:, late], hours.fine[:, late].copy()
    place = {name: number for number, name in enumerate(ids)}
    for spot, first, last in marks.select("spot_id", "first", "last").iter_rows():
        begin, end = ((moment - _EPOCH) / _HOUR for moment in (first, last))
        fine[place[spot], (hour + 1 > begin) & (hour < end)] = False
    row, column = np.nonzero(np.isfinite(value))
    return pl.DataFrame(
        {
            "spot_id": ids.gather(row),
            "variable": pl.repeat(variable, row.size, eager=True),
            "hour": hour[column],
            "value": value[row, column],
            "fine": fine[row, column],
        },
        schema=SCHEMA,
    )


def _hold(jumps: Mapping[str, list[Jump]]) -> str | None:
    for variable, parts in sorted(jumps.items()):
        for jump in parts:
            if jump.held:
                way, number = ("above", jump.up) if jump.up >= jump.down else ("below", jump.down)
                factor = jump.factor if way == "above" else 1 / jump.factor
                return (
                    f"scale_jump: {number} of {jump.series} series of {variable} lie about {factor:,.0f} times {way} "
                    "their own past (half of them would hold a batch)"
                )
    return None
