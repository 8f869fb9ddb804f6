"""Local clock readings to UTC, safe across daylight saving.

Feeds write naive local times. Twice a year that clock is not a function of time: an hour is skipped, or an hour comes
twice. What is done here:

* a reading inside the **skipped** hour never happened: it becomes null, and the adapter marks its row as faulty;
* a reading inside the **repeated** hour is taken as its first pass. Where the feed is in order of time
  (:func:`clock_to_utc`) and its clock steps back inside that hour, the readings from there on are the second pass. A
  journey (:func:`journey_to_utc`) that would end before it began ends in the second pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from typing import Literal

_HALF_DAY_US = 12 * 3600 * 1_000_000

UTC_TIME = pl.Datetime("us", "UTC")


def to_utc(local: pl.Expr, zone: str, *, ambiguous: Literal["earliest", "latest"] = "earliest") -> pl.Expr:
    """Naive local times as UTC; null where that local time does not exist.

    Args:
        local: Expression of naive datetimes.
        zone: IANA name.
        ambiguous: Which pass of a repeated hour is meant.
    """
    return (
        local.dt.cast_time_unit("us")
        .dt.replace_time_zone(zone, ambiguous=ambiguous, non_existent="null")
        .dt.convert_time_zone("UTC")
    )


def clock_to_utc(local: pl.Series, zone: str) -> pl.Series:
    """An ordered local clock as UTC, both passes of a repeated hour told apart where the feed has both.

    Args:
        local: Naive datetimes [T] in the order in which they happened.
        zone: IANA name.

    Returns:
        UTC datetimes [T]; null where the reading is null or its local time does not exist.
    """
    frame = local.to_frame("local").select(
        first=to_utc(pl.col("local"), zone), second=to_utc(pl.col("local"), zone, ambiguous="latest")
    )
    repeated = frame.select((pl.col("first") != pl.col("second")).fill_null(value=False)).to_series()
    if not repeated.any():
        return frame["first"].alias(local.name)
    inside = repeated.to_numpy()
    stamps = local.dt.cast_time_unit("us").to_physical().fill_null(0).to_numpy()
    advance = np.diff(stamps, prepend=stamps[:1])
    again = inside & np.concatenate([[False], inside[:-1]]) & (advance < _HALF_DAY_US)
    # Equal readings count too: an hourly feed writes the repeated hour twice.
    backs = np.cumsum(again & (advance <= 0))
    backs_before_run = np.maximum.accumulate(np.where(again, 0, backs))
    second_pass = pl.Series(inside & (backs > backs_before_run))
    return frame.select(pl.when(second_pass).then("second").otherwise("first")).to_series().alias(local.name)


def journey_to_utc(frame: pl.DataFrame, start: str, end: str, zone: str) -> pl.DataFrame:
    """Naive local start and end of journeys as UTC, in place of the two columns.

    Args:
        frame: Has two columns of naive datetimes.
        start: Name of the first.
        end: Name of the second.
        zone: IANA name.
    """
    done = frame.with_columns(to_utc(pl.col(start), zone), to_utc(pl.col(end), zone))
    backwards = (done[end] < done[start]).fill_null(value=False)
    if not backwards.any():
        return done
    # Rare rows only: a conversion of every end a second time would double the cost of the whole file.
    where = backwards.arg_true()
    later = frame.select(pl.col(end).gather(where)).select(to_utc(pl.col(end), zone, ambiguous="latest")).to_series()
    return done.with_columns(done[end].scatter(where, later))
