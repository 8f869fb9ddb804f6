"""What is known about a city's steps beside its series: weather until now, the timetable also of the days ahead."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.panel.panel import Covariates
from mtgpt.panel.transit import TRANSIT, transit_departures
from mtgpt.panel.weather import weather_covariates

if TYPE_CHECKING:
    from mtgpt.panel.calendar import Calendar

AHEAD_DAYS = 7
"""Service days after the panel's end for which what is known ahead is kept; later ones are in the tables."""


def covariates(
    *, weather: pl.LazyFrame, service: pl.LazyFrame, service_day: pl.LazyFrame, calendar: Calendar
) -> Covariates | None:
    """Weather and transit supply on a panel's axis, and transit supply beyond it.

    Args:
        weather: Rows of the table of one city.
        service: Rows of the table of the same city.
        service_day: Rows of the table of the same city.
        calendar: The panel's, T steps.

    Returns:
        Columns that have at least one value; None where there is none.
    """
    sky = weather_covariates(weather, calendar.time)
    longer, _ = calendar.extend(AHEAD_DAYS * calendar.slots_per_day)
    rules = calendar.rules
    supply = transit_departures(service, service_day, longer, time_zone=rules.time_zone, interval_s=rules.interval_s)
    if supply is None:
        return sky
    steps = calendar.time.size
    if sky is None:
        sky = Covariates(values=np.empty((steps, 0), np.float32), names=())
    future = np.full((longer.size - steps, len(sky.names) + 1), np.nan, np.float32)
    future[:, -1] = supply[steps:]
    return Covariates(
        values=np.column_stack([sky.values, supply[:steps]]).astype(np.float32, copy=False),
        names=(*sky.names, TRANSIT),
        future=future,
    )


def events_by_kind(events: pl.LazyFrame, calendar: Calendar) -> dict[str, int]:
    """How many events of each kind overlap a panel's time, the newest description of each counting.

    Args:
        events: Rows of the table of one city. No start is since ever, no end is until further notice.
        calendar: The panel's.
    """
    ends = pl.Series(calendar.time[[0, -1]].astype("datetime64[us]")).dt.replace_time_zone("UTC")
    first, after = ends[0], ends[1] + timedelta(seconds=calendar.rules.interval_s)
    newest = events.sort("valid_from").group_by("source_id", "event_id", "language").last()
    found = (
        newest.filter(
            (pl.col("start").is_null() | (pl.col("start") < after))
            & (pl.col("end").is_null() | (pl.col("end") > first))
        )
        # An event told in two languages is one event.
        .group_by("source_id", "event_id")
        .agg(pl.col("kind").sort().first())
        .group_by("kind")
        .len()
        .sort("kind")
        .collect(engine="streaming")
    )
    return dict(found.iter_rows())
