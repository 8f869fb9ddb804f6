"""The time axis of a city: service days and hours in local time, safe across daylight saving, with public holidays.

A panel's axis holds only the steps inside service days and hours: a freeway panel of weekdays jumps from Friday's last
step to Monday's first. Every step knows its service day and its local slot. On the day the clocks go back two hours
share the same local slots; on the day they go forward an hour of slots is absent. Steps themselves never overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays
import numpy as np
import polars as pl

from mtgpt.errors import PanelError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY_MINUTES = 24 * 60
_HOUR_S = 3600
# A stray date in a feed must not turn into an axis of decades.
_MAX_STEPS = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRules:
    """What decides which steps a calendar has.

    Attributes:
        time_zone: IANA name.
        interval_s: Length of a step, a divisor of one hour.
        days: ``all`` or ``weekdays`` (Monday to Friday, public holidays included).
        start_minute: Local minute of the day at which a service day begins.
        end_minute: Local minute at which it ends; above 1440 it runs into the next date (GTFS style).
        country: ISO 3166-1 alpha-2 code for public holidays, or None for none.
        subdivision: ISO 3166-2 part after the hyphen, or None.
    """

    time_zone: str
    interval_s: int
    days: str = "all"
    start_minute: int = 0
    end_minute: int = _DAY_MINUTES
    country: str | None = None
    subdivision: str | None = None

    @property
    def slots_per_day(self) -> int:
        """Slots of an ordinary service day."""
        return (self.end_minute - self.start_minute) * 60 // self.interval_s

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Local time of each of T steps over D service days.

    Attributes:
        time: datetime64[s] [T], UTC start of each step, increasing.
        day: int32 [T], service-day index, consecutive from 0.
        slot: int32 [T], (local minute of the day − service start) // interval, in [0, slots_per_day).
        slots_per_day: Slots of an ordinary service day.
        dates: datetime64[D] [D], local date of each service day.
        weekday: int8 [D], Monday = 0.
        day_off: bool [D], weekend or public holiday.
        holiday: bool [D], public holiday.
        rules: What the axis was made by; :meth:`extend` continues it.
    """

    time: np.ndarray
    day: np.ndarray
    slot: np.ndarray
    slots_per_day: int
    dates: np.ndarray
    weekday: np.ndarray
    day_off: np.ndarray
    holiday: np.ndarray
    rules: ServiceRules

    def extend(self, n: int) -> tuple[np.ndarray, Calendar]:
        """Continues the axis by the next ``n`` service steps, by the same rules, holidays included.

        Args:
            n: Number of steps to add, at least 0.

        Returns:
            The T + n step starts (datetime64[s], UTC) and their calendar.
        """
        if n <= 0:
            return self.time, self
        rules = self.rules
        days = n // rules.slots_per_day + 3
        found: np.ndarray = np.empty(0, dtype="datetime64[s]")
        while True:
            dates = _service_dates(self.dates[-1], self.dates[-1] + np.timedelta64(2 * days + 7, "D"), rules.days)
            found = _steps(dates, rules)
            found = found[found > self.time[-1]]
            if found.size >= n:
                break
            days *= 2
        more = calendar_of(found[:n], rules)
        # The axis may go on inside the last day, which is then known to both parts.
        shared = int(more.dates[0] == self.dates[-1])
        time = np.concatenate([self.time, more.time])
        return time, Calendar(
            time=time,
            day=np.concatenate([self.day, more.day + np.int32(self.dates.size - shared)]),
            slot=np.concatenate([self.slot, more.slot]),
            slots_per_day=self.slots_per_day,
            dates=np.concatenate([self.dates, more.dates[shared:]]),
            weekday=np.concatenate([self.weekday, more.weekday[shared:]]),
            day_off=np.concatenate([self.day_off, more.day_off[shared:]]),
            holiday=np.concatenate([self.holiday, more.holiday[shared:]]),
            rules=rules,
        )

    def slice(self, start: int, stop: int) -> Calendar:
        """Steps ``start:stop`` with service days counted from 0 again; the arrays of steps are views."""
        day = self.day[start:stop]
        if day.size == 0:
            raise PanelError("a calendar cannot be cut to nothing", got=f"{start}:{stop}", expected="start < stop")
        first, last = int(day[0]), int(day[-1]) + 1
        return replace(
            self,
            time=self.time[start:stop],
            day=day - np.int32(first),
            slot=self.slot[start:stop],
            dates=self.dates[first:last],
            weekday=self.weekday[first:last],
            day_off=self.day_off[first:last],
            holiday=self.holiday[first:last],
        )


def service_rules(
    *,
    time_zone: str,
    interval_s: int,
    days: str = "all",
    hours: Sequence[str] = ("00:00", "24:00"),
    country: str | None = None,
    subdivision: str | None = None,
) -> ServiceRules:
    """Checks and compiles the rules of a time axis.

    Args:
        time_zone: IANA name.
        interval_s: Length of a step; must divide one hour, so that steps fit days of 23 and 25 hours.
        days: ``all`` or ``weekdays``.
        hours: Local start and end, ``HH:MM``; the end may go up to 24 hours after the start (``"25:30"``).
        country: For public holidays; None for none.
        subdivision: Of the country; None for national holidays only.

    Raises:
        PanelError: If a rule is off.
    """
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise PanelError("unknown time zone", got=time_zone, expected="an IANA name such as Europe/Berlin") from error
    if interval_s <= 0 or _HOUR_S % interval_s:
        raise PanelError(
            "the interval does not divide one hour", got=interval_s, expected="60, 300, 600, 900, 3600 … s"
        )
    if days not in ("all", "weekdays"):
        raise PanelError("unknown kind of service days", got=days, expected="all or weekdays")
    start, end = (_minute(text) for text in hours)
    if not (0 <= start < _DAY_MINUTES and start < end <= start + _DAY_MINUTES):
        raise PanelError("service hours are not a window", got=list(hours), expected="start < end ≤ start + 24:00")
    if start * 60 % interval_s or (end - start) * 60 % interval_s:
        raise PanelError("service hours are not whole steps", got=list(hours), expected=f"multiples of {interval_s} s")
    _holiday_dates(country, subdivision, 2024)
    return ServiceRules(
        time_zone=time_zone,
        interval_s=interval_s,
        days=days,
        start_minute=start,
        end_minute=end,
        country=country,
        subdivision=subdivision,
    )


def service_steps(start: date, end: date, rules: ServiceRules) -> np.ndarray:
    """All step starts of the service days from ``start`` to ``end``, both included.

    Returns:
        datetime64[s] [T], UTC, increasing.

    Raises:
        PanelError: If there is no service day, or the span is absurdly long.
    """
    dates = _service_dates(np.datetime64(start, "D"), np.datetime64(end, "D") + 1, rules.days)
    if dates.size * rules.slots_per_day > _MAX_STEPS:
        raise PanelError(
            "the time axis is too long",
            got=f"{start} to {end} in steps of {rules.interval_s} s",
            expected=f"at most {_MAX_STEPS:,} steps",
            next_step="set panel.start and panel.end in the manifest",
        )
    steps = _steps(dates, rules)
    if steps.size == 0:
        raise PanelError("no service day in the period", got=f"{start} to {end}", expected=f"days: {rules.days}")
    return steps


def calendar_of(time_utc: np.ndarray, rules: ServiceRules) -> Calendar:
    """Calendar of given steps under compiled rules.

    Args:
        time_utc: datetime64 [T], UTC, strictly increasing.
        rules: From :func:`service_rules`.

    Raises:
        PanelError: If the steps are empty, not increasing or outside the service days and hours.
    """
    time = np.asarray(time_utc).astype("datetime64[s]")
    if time.size == 0 or (np.diff(time) <= np.timedelta64(0, "s")).any():
        raise PanelError(
            "the steps of a calendar must increase", got=f"{time.size} steps", expected="distinct and sorted"
        )
    date_of, slot = local_slots(time, rules)
    dates, day = np.unique(date_of, return_inverse=True)
    # 1970-01-01 was a Thursday.
    weekday = ((dates.astype(np.int64) + 3) % 7).astype(np.int8)
    outside = (slot < 0) | (slot >= rules.slots_per_day)
    if rules.days == "weekdays":
        outside |= weekday[day] >= 5
    if outside.any():
        raise PanelError(
            "a step lies outside the service days and hours",
            got=f"{time[outside.argmax()]}Z",
            expected=f"{rules.days}, minutes {rules.start_minute} to {rules.end_minute} in {rules.time_zone}",
        )
    holiday = is_holiday(dates, rules.country, rules.subdivision)
    return Calendar(
        time=time,
        day=day.astype(np.int32),
        slot=slot,
        slots_per_day=rules.slots_per_day,
        dates=dates,
        weekday=weekday,
        day_off=holiday | (weekday >= 5),
        holiday=holiday,
        rules=rules,
    )


def local_times(time: np.ndarray, time_zone: str) -> np.ndarray:
    """What the clock on the wall shows (datetime64[s] [T]) at UTC times."""
    return (
        pl.Series(time.astype("datetime64[ms]"))
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone(time_zone)
        .dt.replace_time_zone(None)
        .to_numpy()
        .astype("datetime64[s]")
    )


def local_slots(time: np.ndarray, rules: ServiceRules) -> tuple[np.ndarray, np.ndarray]:
    """Service date (datetime64[D] [T]) and slot (int32 [T]) of UTC times; slots outside the hours are not clipped."""
    local = local_times(time, rules.time_zone)
    # Seconds since the service day's start: the small hours belong to the day before when service runs past midnight.
    shifted = local - np.timedelta64(rules.start_minute * 60, "s")
    dates = shifted.astype("datetime64[D]")
    slot = (shifted - dates).astype(np.int64) // rules.interval_s
    return dates, slot.astype(np.int32)


def is_holiday(dates: np.ndarray, country: str | None, subdivision: str | None) -> np.ndarray:
    """Bool [D]: which local dates are public holidays (false everywhere without a country)."""
    if country is None or dates.size == 0:
        return np.zeros(dates.shape, dtype=bool)
    years = np.unique(dates.astype("datetime64[Y]").astype(np.int64) + 1970)
    off = [d for year in years for d in _holiday_dates(country, subdivision, int(year))]
    return np.isin(dates, np.array(off, dtype="datetime64[D]"))


@lru_cache(maxsize=256)
def _holiday_dates(country: str | None, subdivision: str | None, year: int) -> tuple[date, ...]:
    if country is None:
        return ()
    try:
        return tuple(holidays.country_holidays(country, subdiv=subdivision, years=year))
    except NotImplementedError as error:
        raise PanelError(
            "no public holidays are known for this place",
            got=f"{country}{'-' + subdivision if subdivision else ''}",
            expected="ISO codes such as US and CA, or country: null",
        ) from error


def _service_dates(start: np.datetime64, stop: np.datetime64, days: str) -> np.ndarray:
    dates = np.arange(start, stop, dtype="datetime64[D]")
    return dates[np.is_busday(dates)] if days == "weekdays" else dates


def _steps(dates: np.ndarray, rules: ServiceRules) -> np.ndarray:
    zone = ZoneInfo(rules.time_zone)
    steps = []
    for day in dates.astype(object):
        opening = _instant(day, rules.start_minute, zone)
        closing = _instant(day, rules.end_minute, zone)
        count = (closing - opening) // rules.interval_s
        steps.append(np.arange(count, dtype=np.int64) * rules.interval_s + opening)
    if not steps:
        return np.empty(0, dtype="datetime64[s]")
    return np.concatenate(steps).astype("datetime64[s]")


def _instant(day: date, minute: int, zone: ZoneInfo) -> int:
    extra, minute = divmod(minute, _DAY_MINUTES)
    day += timedelta(days=extra)
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone)
    return int(local.astimezone(UTC).timestamp())


def _minute(text: str) -> int:
    try:
        hour, minute = (int(part) for part in text.split(":"))
    except (ValueError, AttributeError) as error:
        raise PanelError("a service hour is not a time", got=text, expected="HH:MM, for example 05:30") from error
    return hour * 60 + minute
