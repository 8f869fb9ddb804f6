"""Public transport's timetable as a covariate: scheduled departures in the city per step.

A timetable is known before it runs, so the column reaches beyond the panel's last step. Service-day seconds count from
local noon minus twelve hours (GTFS reference, ``stop_times.txt``), which is midnight on all but the two days on which
the clocks change; departures past midnight belong to the service day that they began in.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from mtgpt.panel.calendar import local_times

if TYPE_CHECKING:
    from collections.abc import Iterable

TRANSIT = "transit_departures"
_DAY_S = 86_400
# The longest service day that the contract allows is three dates long.
_REACH = timedelta(days=3)


def transit_departures(
    service: pl.LazyFrame, service_day: pl.LazyFrame, time_utc: np.ndarray, *, time_zone: str, interval_s: int
) -> np.ndarray | None:
    """Scheduled departures at all stops, all sources together, per step.

    A band longer than a step is spread evenly over it, one shorter is counted where it lies. Of several statements
    about a day the newest counts. A step is known where a source has its date, and, in the small hours to which the
    timetable of the day before reaches, that day's too.

    Args:
        service: Rows of the table of one city; read once, in streams, down to one row per pattern and band.
        service_day: Rows of the table of the same city.
        time_utc: datetime64 [T], starts of the steps, increasing.
        time_zone: IANA name of the city's zone.
        interval_s: Length of a step.

    Returns:
        float32 [T], NaN where no source covers the step; None where none covers any.
    """
    start = time_utc.astype("datetime64[s]")
    local = local_times(start, time_zone)
    first, last = (bound.astype("datetime64[D]").astype(object) for bound in (local[0], local[-1]))
    days = (
        service_day.filter(pl.col("service_date").is_between(first - _REACH, last + _REACH))
        .group_by("source_id", "service_date")
        .agg(pl.col("pattern_id").sort_by("valid_from", "pattern_id").last())
        .sort("source_id", "service_date")
        .collect(engine="streaming")
    )
    if days.height == 0:
        return None
    key = ["source_id", "pattern_id"]
    bands = (
        service.join(days.lazy().select(key).unique(), on=key, how="semi")
        .group_by(*key, "band_start_s", "band_s")
        .agg(pl.col("departures").cast(pl.Float64).sum())
        .collect(engine="streaming")
    )
    anchors = _anchors(days["service_date"].unique(), time_zone)
    placed = days.join(anchors, on="service_date").join(bands, on=key)
    low = (placed["anchor"] + placed["band_start_s"]).to_numpy().astype(np.float64)
    length = placed["band_s"].to_numpy().astype(np.float64)
    edges = start.astype(np.int64).astype(np.float64)
    count = _running(low, low + length, placed["departures"].to_numpy(), np.stack([edges, edges + interval_s]))
    values = np.maximum(np.round(count[1] - count[0], 6), 0)
    over = bands.group_by("source_id").agg(over=(pl.col("band_start_s") + pl.col("band_s")).max() - _DAY_S)
    known = _known(days.join(over, on="source_id", how="left"), local)
    return np.where(known, values, np.nan).astype(np.float32) if known.any() else None


def _anchors(dates: Iterable[date], time_zone: str) -> pl.DataFrame:
    """Epoch seconds of second 0 of each service day."""
    zone = ZoneInfo(time_zone)
    listed = list(dates)
    noon = [datetime.combine(day, time(12), tzinfo=zone).astimezone(UTC).timestamp() for day in listed]
    return pl.DataFrame(
        {"service_date": listed, "anchor": [int(moment) - _DAY_S // 2 for moment in noon]},
        schema={"service_date": pl.Date, "anchor": pl.Int64},
    )


def _running(low: np.ndarray, high: np.ndarray, amount: np.ndarray, at: np.ndarray) -> np.ndarray:
    """How much of all amounts, each spread evenly over [low, high), lies before each moment of ``at``."""
    if low.size == 0:
        return np.zeros_like(at)
    rate = amount / (high - low)
    moments, place = np.unique(np.concatenate([low, high]), return_inverse=True)
    slope = np.cumsum(np.bincount(place, np.concatenate([rate, -rate])))
    total = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(moments))])
    return np.interp(at, moments, total)


def _known(days: pl.DataFrame, local: np.ndarray) -> np.ndarray:
    """Bool [T]: a source covers the step's date, and the date before as far as its timetable reaches past midnight."""
    dates = local.astype("datetime64[D]")
    second = (local - dates).astype(np.int64)
    known = np.zeros(local.size, dtype=bool)
    for _, source in days.group_by("source_id"):
        has = source["service_date"].to_numpy().astype("datetime64[D]")
        over = source["over"][0] or 0
        before = np.isin(dates - np.timedelta64(1, "D"), has) | (second >= over)
        known |= np.isin(dates, has) & before
    return known
