"""Looks at a judged batch beside its source's past, marks the values that look wrong, and says where all of them do.

The rows of a batch stay what they were: a mark takes none away and adds none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.lake.plausible import FROZEN, Hours, findings
from mtgpt.lake.plausible_past import SCHEMA, SERIES, an_hour, recent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.lake.plausible import Finding, Jump
    from mtgpt.lake.plausible_past import Past
    from mtgpt.lake.staging import Staging

OBSERVATION = "observation"
_CELLS = 8_000_000
_LEAST_WINDOW = 14 * 24
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
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
        hours: The source's past with this batch, rows of :data:`~mtgpt.lake.plausible_past.SCHEMA`.
    """

    marks: pl.DataFrame = field(default_factory=MARKS.to_frame)
    hold: str | None = None
    hours: pl.DataFrame = field(default_factory=SCHEMA.to_frame)

    def mark(self, observations: pl.DataFrame) -> pl.DataFrame:
        """The same rows in the same order, ``suspect`` set where their values look wrong."""
        if not self.marks.height or not observations.height:
            return observations
        numbered = observations.select(*SERIES, "time_start").with_row_index("row")
        near = numbered.filter(
            pl.col("spot_id").is_in(self.marks["spot_id"].unique().implode())
            & pl.col("time_start").is_between(self.marks["first"].min(), self.marks["last"].max())
        )
        inside = (pl.col("time_start") >= pl.col("first")) & (pl.col("time_start") < pl.col("last"))
        # Of two reasons the first in the alphabet: a frozen value is of no scale.
        wrong = near.join(self.marks, on=SERIES).filter(inside).group_by("row").agg(pl.col("suspect").min())
        if not wrong.height:
            return observations
        reasons = numbered.select("row").join(wrong, on="row", how="left", maintain_order="left")
        return observations.with_columns(reasons["suspect"])


@dataclass(slots=True, kw_only=True)
class Hourly:
    """One value an hour of a batch's observations, taken while its chunks pass by: they are not read a second time.

    Attributes:
        frames: Rows of :data:`~mtgpt.lake.plausible_past.SCHEMA`, a frame per chunk.
        rows: Observations that passed.
    """

    frames: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0

    def take(self, observations: pl.DataFrame) -> None:
        """Takes what it needs of a chunk's good rows."""
        self.frames.append(an_hour(observations.lazy(), count=self.rows + observations.height).collect())
        self.rows += observations.height


def look(hourly: Hourly, staged: Staging, past: Past) -> Look:
    """Looks for observations that look wrong beside the past, or beside each other where there is none.

    A long batch is looked at in windows, each with the ones before it as its past, so that memory is bounded.

    Args:
        hourly: Of the batch.
        staged: The batch's good rows; they are read only where an hourly value alone proves nothing.
        past: Of the batch's source; it is not changed.

    Raises:
        LakeError: The past cannot be read.
    """
    if not hourly.rows:
        return Look()
    before = past.frame()
    resting = {one.name for one in past.table.contract.variables if one.counted or one.unit in _STOCKS}
    marks = [MARKS.to_frame()]
    jumps: dict[str, list[Jump]] = {}
    for fresh in _windows(pl.concat(hourly.frames)):
        seen = []
        for (name,), rows in fresh.group_by("variable", maintain_order=True):
            variable = str(name)
            old = before.filter(pl.col("variable") == variable)
            hours, ids = _grid(old, rows, may_rest=variable in resting)
            found, jump = findings(hours)
            jumps.setdefault(variable, []).append(jump)
            marks.append(_marks(found, ids, variable, staged))
            seen.append(_unmarked(rows, marks[-1]))
        before = recent(pl.concat([before, *seen]))
    return Look(marks=pl.concat(marks), hold=_hold(jumps), hours=before)


def _windows(hours: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The hours in parts that fit in memory as grids."""
    first, last = hours["hour"].min(), hours["hour"].max()
    assert isinstance(first, int)
    assert isinstance(last, int)
    series = hours.select(pl.struct(SERIES).n_unique()).item() if last - first >= _LEAST_WINDOW else 1
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
    hour = np.unique(np.concatenate([old["hour"].to_numpy(), fresh["hour"].to_numpy()]))
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
    names = sorted({ids[one.series] for one in stuck})
    wanted = pl.col("spot_id").is_in(names) & (pl.col("variable") == variable)
    columns = ("spot_id", "time_start", "interval_s", "value")
    low, high = (_EPOCH + hour * _HOUR for hour in (min(f.first for f in stuck) - 1, max(f.last for f in stuck) + 2))
    pieces = [piece for piece in staged.pieces(OBSERVATION) if piece.low < high and piece.high >= low]
    frames = [piece.lazy().filter(wanted).select(columns).collect() for piece in pieces]
    of_spot = pl.concat(frames).sort("spot_id", "time_start").partition_by("spot_id", as_dict=True)
    for one in stuck:
        rows = of_spot[(ids[one.series],)]
        near = rows["time_start"].is_between(
            _EPOCH + (one.first - 1) * _HOUR, _EPOCH + (one.last + 2) * _HOUR, closed="left"
        )
        rows = rows.filter(near)
        # What of a run lies in the past was looked at when it came.
        begun = max(0, int((rows["time_start"][0] - _EPOCH) / _HOUR) - one.first) * 3600
        spans = (
            rows.with_columns(run=pl.col("value").rle_id())
            .filter(pl.col("value") == np.float32(one.value))
            .group_by("run")
            .agg(
                first=pl.col("time_start").first(),
                last=pl.col("time_start").last(),
                seconds=pl.col("interval_s").sum() + pl.when(pl.col("run").first() == 0).then(begun).otherwise(0),
            )
            .filter(pl.col("seconds") >= _FROZEN_S)
        )
        for first, last in spans.select("first", "last").iter_rows():
            yield ids[one.series], variable, FROZEN, first, last + timedelta(microseconds=1)


def _unmarked(rows: pl.DataFrame, marks: pl.DataFrame) -> pl.DataFrame:
    """The hours of a window, those that are marked as not fine."""
    if not marks.height:
        return rows
    wrong = rows.with_row_index("row").join(marks, on=SERIES)
    moment = pl.from_epoch(pl.col("hour") * 3600, "s").dt.replace_time_zone("UTC")
    wrong = wrong.filter((moment + _HOUR > pl.col("first")) & (moment < pl.col("last")))["row"].unique()
    flag = pl.int_range(pl.len(), dtype=pl.UInt32).is_in(wrong.implode())
    return rows.with_columns(fine=~flag)


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
