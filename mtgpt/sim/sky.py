"""Weather and calendar of the simulated city: what the sky does, and what kind of day it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

TIME_ZONE = "Europe/Vienna"
FIRST_DAY = date(2024, 3, 11)
"""A Monday. Four weeks from here hold a change to daylight saving time (31 March) and a holiday (1 April)."""

HOLIDAYS = frozenset({date(2024, 4, 1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One local day.

    Attributes:
        date: Local date.
        start: Local midnight in UTC.
        hours: 24, or 23 when clocks go forward.
    """

    date: date
    start: datetime
    hours: int

    @property
    def day_off(self) -> bool:
        """Saturday, Sunday or public holiday."""
        return self.date.weekday() >= 5 or self.date in HOLIDAYS

    def clock(self, seconds: np.ndarray | float) -> np.ndarray:
        """Local time of day in hours, for seconds after local midnight (elapsed, not read off a clock)."""
        hour = np.asarray(seconds, dtype=np.float64) / 3600.0
        # Clocks jump from 02:00 to 03:00 on the short day.
        return np.where((hour >= 2) & (self.hours == 23), hour + 1, hour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Hourly weather, UTC.

    Attributes:
        start: First hour.
        temperature_c: [hours].
        rain_mm: [hours], fallen within the hour.
        wind_m_s: [hours], mean.
    """

    start: datetime
    temperature_c: np.ndarray
    rain_mm: np.ndarray
    wind_m_s: np.ndarray

    def rain_at(self, at: datetime) -> float:
        """Rain at this instant as mm/h: it swells and fades between the middles of the hours."""
        middles = np.arange(len(self.rain_mm)) + 0.5
        return float(np.interp((at - self.start) / timedelta(hours=1), middles, self.rain_mm))

    def temperature_at(self, at: datetime) -> float:
        """Temperature at this instant, °C."""
        middles = np.arange(len(self.temperature_c)) + 0.5
        return float(np.interp((at - self.start) / timedelta(hours=1), middles, self.temperature_c))


def days(count: int, first: date = FIRST_DAY) -> list[Day]:
    """The simulated period, local days in order."""
    zone = ZoneInfo(TIME_ZONE)

    def midnight(day: date) -> datetime:
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)

    return [
        Day(
            date=(day := first + timedelta(days=i)),
            start=midnight(day),
            hours=round((midnight(day + timedelta(days=1)) - midnight(day)) / timedelta(hours=1)),
        )
        for i in range(count)
    ]


def make_weather(period: list[Day], rng: np.random.Generator) -> Weather:
    """Hourly weather of a wet spring: fronts that bring hours of rain, wind and cooler air."""
    start = period[0].start
    hours = sum(day.hours for day in period)
    rain = np.zeros(hours)
    front = np.zeros(hours)
    hour = int(rng.integers(8, 20))
    while hour < hours:
        length = int(rng.integers(2, 9))
        strength = float(rng.gamma(2.0, 0.9))
        for k in range(length):
            if hour + k < hours:
                shape = np.sin(np.pi * (k + 0.5) / length)
                rain[hour + k] = strength * shape * rng.uniform(0.3, 1.5)
                front[hour + k] = 1.0
        hour += length + int(rng.exponential(34)) + 3
    rain = np.where(rain < 0.1, 0.0, rain)
    calm = np.convolve(front, np.ones(7) / 7, mode="same")
    utc_hour = np.arange(hours) + start.hour
    slow = _wander(hours, rng, hold=0.992, step=0.35)
    daily = 4.6 * np.sin(2 * np.pi * (utc_hour - 8) / 24)
    temperature = 8.5 + 0.008 * np.arange(hours) + slow + daily * (1 - 0.6 * calm) - 2.2 * calm
    wind = np.abs(2.4 + _wander(hours, rng, hold=0.9, step=0.5) + 2.6 * calm)
    return Weather(
        start=start,
        temperature_c=np.round(temperature, 1),
        rain_mm=np.round(rain, 1),
        wind_m_s=np.round(wind, 1),
    )


def _wander(n: int, rng: np.random.Generator, *, hold: float, step: float) -> np.ndarray:
    out = np.zeros(n)
    for i in range(1, n):
        out[i] = hold * out[i - 1] + rng.normal(0, step)
    return out
