"""Moments as a city planner reads them: local clock, local date."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mtgpt.model.forecast import Forecast


def local(time: np.datetime64, zone: str) -> datetime:
    """A UTC moment in a zone."""
    naive = time.astype("datetime64[s]").item()
    return naive.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone))


def clock(forecast: Forecast) -> Callable[[float], str]:
    """Local ``HH:MM`` for seconds from the moment of the forecast."""
    at = forecast.at.astype("datetime64[s]")
    return lambda seconds: local(at + np.timedelta64(round(seconds), "s"), forecast.time_zone).strftime("%H:%M")


def moment(forecast: Forecast) -> str:
    """``07:30 on Tuesday 2 April 2024``."""
    at = local(forecast.at, forecast.time_zone)
    return f"{at:%H:%M} on {at:%A} {day(at)}"


def day(at: datetime) -> str:
    """``2 April 2024``."""
    return f"{at.day} {at:%B %Y}"


def span(seconds: int) -> str:
    """``1 h``, ``15 min``, ``30 s``."""
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
