"""Times of the GTFS standard: seconds of a service day, which is not a calendar day.

A service day starts twelve hours before its noon and has no end: 25:10:00 is ten past one in the next night. Counting
from noon is what keeps timetables right on the two days a year when the clocks change: the trip at 08:00:00 leaves at
eight by the clock on these days too, and midnight of the timetable is then 23:00 or 01:00 by the clock.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from zoneinfo import ZoneInfo

import polars as pl

MOST_SECONDS = 3 * 86_400
"""A trip of more than three days is a slip."""

_NOON_S = 43_200
_TIME = r"^\d{1,3}:[0-5]\d:[0-5]\d$"


def seconds_of_day(texts: pl.Series) -> pl.Series:
    """``H:MM:SS`` as seconds of the service day.

    Args:
        texts: [n] trimmed texts.

    Returns:
        Int32 [n]; null where the text is null, is no such time, or lies after three days.
    """
    # A feed of millions of rows has some thousands of times: each is read once.
    distinct = texts.unique()
    part = pl.col("text")
    seconds = (
        part.str.head(-6).cast(pl.Int32, strict=False) * 3600
        + part.str.slice(-5, 2).cast(pl.Int32, strict=False) * 60
        + part.str.tail(2).cast(pl.Int32, strict=False)
    )
    known = (
        distinct.drop_nulls()
        .to_frame("text")
        .filter(part.str.contains(_TIME))
        .with_columns(seconds.alias("seconds"))
        .filter(pl.col("seconds") < MOST_SECONDS)
    )
    return texts.to_frame("text").join(known, on="text", how="left", maintain_order="left")["seconds"].alias(texts.name)


def clock_text(seconds: pl.Expr) -> pl.Expr:
    """Seconds of the service day as ``HH:MM:SS``."""
    two = [part.cast(pl.String).str.zfill(2) for part in (seconds // 3600, seconds // 60 % 60, seconds % 60)]
    return pl.concat_str(two, separator=":")


def service_time(day: date, seconds: float, zone: str) -> datetime:
    """When a time of a timetable comes on a service day.

    Args:
        day: Service day.
        seconds: Of the timetable, from noon minus twelve hours.
        zone: IANA name of the agency's time zone.

    Returns:
        UTC.
    """
    noon = datetime.combine(day, clock(12), tzinfo=ZoneInfo(zone))
    return noon.astimezone(UTC) + timedelta(seconds=seconds - _NOON_S)


def service_times(day: pl.Expr, seconds: pl.Expr, zone: str) -> pl.Expr:
    """As :func:`service_time`, for columns of dates and of seconds."""
    noon = (day.cast(pl.Datetime("us")) + pl.duration(hours=12)).dt.replace_time_zone(zone, ambiguous="earliest")
    return noon.dt.convert_time_zone("UTC") + pl.duration(seconds=seconds - _NOON_S)
