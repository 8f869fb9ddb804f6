"""Hourly weather of services that write, at each hour, the state of that moment and the rain of the hour before it.

A row of the lake is an hour from ``time_start`` on; so it takes the state that is written at its start, and the rain
that is written at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.adapter import ROW
from mtgpt.ingest.rows.marks import NUMBER_UNREADABLE, TIME_UNREADABLE, first_fault, marked

if TYPE_CHECKING:
    from datetime import datetime

HOUR_S = 3600
UTC, WRITTEN, ODD = "utc", "written", "odd"
RAIN = "rain_mm"
STATES = ("temperature_c", "wind_m_s", "humidity")
MEASURES = (*STATES, RAIN)


def weather_rows(stamps: pl.DataFrame, *, complete_until: datetime | None) -> pl.DataFrame:
    """Rows of the table weather.

    Args:
        stamps: ``__row``; ``utc``, null where the time cannot be read; ``written``, the time or line as the feed
            has it; :data:`MEASURES` in the lake's units, null where not measured; ``odd``, a text that should be a
            number.
        complete_until: Hours that begin later have no row: whatever landed of them now would keep a later file
            from saying the rest. None where all hours are to be kept.

    Returns:
        One row per hour of which something is known, in order of time; then what cannot be read, and further rows of an
        hour that stands twice. Columns lon and lat are left to the caller.
    """
    readable = stamps.filter(pl.col(UTC).is_not_null())
    first = readable.filter(pl.col(UTC).is_first_distinct())
    again = readable.filter(~pl.col(UTC).is_first_distinct())
    hours = _shifted(first)
    if complete_until is not None:
        hours = hours.filter((pl.col(UTC) <= complete_until) | pl.col(ODD).is_not_null())
    known = pl.concat([hours, again], how="diagonal").filter(pl.any_horizontal(pl.col(*MEASURES, ODD).is_not_null()))
    frame = pl.concat([known, stamps.filter(pl.col(UTC).is_null())], how="diagonal")
    fault = first_fault(
        (pl.col(UTC).is_null(), TIME_UNREADABLE),
        (pl.col(ODD).is_not_null(), NUMBER_UNREADABLE),
    )
    typed = frame.select(
        ROW, pl.col(UTC).alias("time_start"), *MEASURES, fault, interval_s=pl.lit(HOUR_S, dtype=pl.Int32)
    )
    return marked(typed, frame.select(WRITTEN, ODD))


def _shifted(stamps: pl.DataFrame) -> pl.DataFrame:
    states = stamps.select(ROW, UTC, WRITTEN, ODD, *STATES)
    rain = stamps.filter(pl.col(RAIN).is_not_null()).select(
        pl.col(UTC) - pl.duration(seconds=HOUR_S), RAIN, rain_row=ROW, rain_written=WRITTEN
    )
    return (
        states.join(rain, on=UTC, how="full", coalesce=True)
        .with_columns(pl.coalesce(ROW, "rain_row").alias(ROW), pl.coalesce(WRITTEN, "rain_written").alias(WRITTEN))
        .drop("rain_row", "rain_written")
        .sort(UTC)
    )
