"""What a series usually does: trailing expectations, folded day by day, so that nothing ever looks ahead.

Shapes: D days, L slots a day, P steps a patch, S series, A = 3 anchors (last value, day-type and weekday expectation).

The state of day ``d`` is built from the days before ``d`` and from nothing else. It holds, for every series, a location
and scale, one expectation of each slot by day type (workday, day off), one by weekday, the spread around the
expectation, and how wrong each anchor has recently been. A forecast made at any time of day ``d`` reads the state of
day ``d``, also for steps that fall on day ``d + 1``: strictly causal at the price of one day's news.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.calendar import Calendar


class DayFlags(TypedDict):
    """What kind of day it is; weekday 0 is Monday."""

    day_off: bool
    holiday: bool
    weekday: int


ANCHORS = ("last", "expected", "weekday")
_SMOOTH_FROM_SLOTS = 144  # finer than 10 minutes, one day's slot is noisy: average it with its two neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonalConfig:
    """How fast the trailing state follows the data.

    Attributes:
        patch: P, steps of the horizon over which anchors are judged.
        level_rate: Smallest weight of a new day in location and scale.
        profile_rate: Smallest weight of a new day in the day-type expectation and its spread.
        weekday_rate: Weight of a new week in the weekday expectation.
        error_rate: Weight of a new day in the anchors' errors.
    """

    patch: int = 12
    level_rate: float = 0.05
    profile_rate: float = 0.12
    weekday_rate: float = 0.4
    error_rate: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class DayStates:
    """The states of days 0…D (the last is that of the day after the panel's end).

    Attributes:
        location: [D + 1, S] physical units.
        scale: [D + 1, S] physical units, > 0.
        expected: [D, L + P, S]; entries from L on are the first slots of the next day, as known on this day.
        weekday: [D, L + P, S] the weekday expectation.
        spread: [D, L + P, S] standard deviation around ``expected``.
        error: [D + 1, S, P, A] mean absolute error of each anchor at each step ahead, in units of ``scale``.
        days_seen: [D + 1, S] days with data so far.
    """

    location: NDArray[np.float32]
    scale: NDArray[np.float32]
    expected: NDArray[np.float32]
    weekday: NDArray[np.float32]
    spread: NDArray[np.float32]
    error: NDArray[np.float32]
    days_seen: NDArray[np.float32]


class SeasonalState:
    """The running state; :meth:`update` takes one more day, :meth:`expect` renders a day to come."""

    def __init__(self, slots: int, series: int, config: SeasonalConfig) -> None:
        self.config = config
        self.slots, self.series = slots, series
        self.days_seen = np.zeros(series, np.float32)
        self.mean = np.zeros(series, np.float32)
        self.variance = np.ones(series, np.float32)
        self.error: NDArray[np.float32] | None = None
        self._profile: dict[bool, tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]] = {}
        self._weekday: dict[int, NDArray[np.float32]] = {}

    @property
    def scale(self) -> NDArray[np.float32]:
        """[S] one standard deviation, never zero."""
        return (np.sqrt(self.variance) + 1e-3 * np.abs(self.mean) + 1e-3).astype(np.float32)

    def expect(
        self, *, day_off: bool, holiday: bool, weekday: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Expectation by day type, by weekday, and the spread, each [L, S] in physical units."""
        known = self._profile.get(day_off) or self._profile.get(not day_off)
        if known is None:
            flat = np.broadcast_to(self.mean, (self.slots, self.series)).astype(np.float32)
            return flat, flat, np.broadcast_to(self.scale, (self.slots, self.series)).astype(np.float32)
        expected, variance, _ = known
        # A public holiday does not follow its weekday.
        same = expected if holiday else self._weekday.get(weekday, expected)
        return _smooth(expected), _smooth(same), np.sqrt(variance)

    def update(self, day: NDArray[np.float32], *, day_off: bool, holiday: bool, weekday: int) -> None:
        """Takes the values of one whole day, [L, S], NaN = missing."""
        seen = np.isfinite(day)
        any_seen = seen.any(0)
        count = np.maximum(seen.sum(0), 1)
        filled = np.where(seen, day, 0)
        mean = filled.sum(0) / count
        first = any_seen & (self.days_seen == 0)
        rate = np.where(any_seen, np.maximum(1 / (self.days_seen + 1), self.config.level_rate), 0).astype(np.float32)
        centre = np.where(first, mean, self.mean)
        spread = (np.where(seen, day - centre, 0) ** 2).sum(0) / count
        self.mean = (centre + rate * (mean - centre)).astype(np.float32)
        self.variance = ((1 - rate) * self.variance + rate * spread).astype(np.float32)
        self.days_seen = self.days_seen + any_seen

        self._update_profile(day, seen, any_seen, day_off=day_off)
        if not holiday:
            old = self._weekday.get(weekday)
            base = self._profile[day_off][0] if old is None else old
            pull = 1.0 if old is None else self.config.weekday_rate
            self._weekday[weekday] = np.where(seen, base + pull * (day - base), base).astype(np.float32)

    def _update_profile(
        self, day: NDArray[np.float32], seen: NDArray[np.bool_], any_seen: Any, *, day_off: bool
    ) -> None:
        known = self._profile.get(day_off)
        if known is None:
            other = self._profile.get(not day_off)
            start = np.broadcast_to(self.mean, day.shape) if other is None else other[0]
            # The other day type is half a witness; with none at all the day speaks for itself.
            weight = 1.0 if other is None else 0.5
            expected = np.where(seen, start + weight * (day - start), start)
            variance = np.broadcast_to(np.maximum(self.variance, 1e-6), day.shape)
            self._profile[day_off] = (
                expected.astype(np.float32),
                variance.astype(np.float32).copy(),
                any_seen.astype(np.float32),
            )
            return
        expected, variance, days = known
        rate = np.maximum(1 / (days + 1), self.config.profile_rate)
        # A series that was silent on this day type so far starts from what it shows now.
        rate = np.where(seen, np.where(days == 0, 1.0, rate), 0).astype(np.float32)
        surprise = np.where(seen, day - expected, 0)
        self._profile[day_off] = (
            (expected + rate * surprise).astype(np.float32),
            np.where(days == 0, variance, (1 - rate) * variance + rate * surprise**2).astype(np.float32),
            days + any_seen,
        )

    def judge(self, errors: NDArray[np.float32]) -> None:
        """Takes one day's mean absolute error of each anchor, [S, P, A] in units of scale, NaN = not measured."""
        if self.error is None:
            self.error = np.where(np.isfinite(errors), errors, 1.0).astype(np.float32)
            return
        news = np.where(np.isfinite(errors), errors - self.error, 0)
        self.error = (self.error + self.config.error_rate * news).astype(np.float32)


def fold(values: NDArray[np.float32], calendar: Calendar, config: SeasonalConfig) -> DayStates:
    """Folds a panel's values [T, S] into the state of every day; see :class:`DayStates`."""
    steps, series = values.shape
    slots, patch = calendar.slots_per_day, config.patch
    days = len(calendar.dates)
    state = SeasonalState(slots, series, config)
    location, scale = np.zeros((days + 1, series), np.float32), np.ones((days + 1, series), np.float32)
    expected, weekday, spread = (np.zeros((days, slots + patch, series), np.float32) for _ in range(3))
    error = np.ones((days + 1, series, patch, len(ANCHORS)), np.float32)
    days_seen = np.zeros((days + 1, series), np.float32)
    starts = np.searchsorted(calendar.day, np.arange(days + 1))
    for d in range(days + 1):
        location[d], scale[d], days_seen[d] = state.mean, state.scale, state.days_seen
        if state.error is not None:
            error[d] = state.error
        if d == days:
            break
        today = day_flags(calendar, d)
        expected[d, :slots], weekday[d, :slots], spread[d, :slots] = state.expect(**today)
        ahead = state.expect(**day_flags(calendar, d + 1))
        for array, rows in zip((expected, weekday, spread), ahead, strict=True):
            array[d, slots:] = np.resize(rows, (patch, series)) if slots < patch else rows[:patch]
        lo, hi = int(starts[d]), int(starts[d + 1])
        grid = _grid(values, calendar, lo, hi)
        # The panel ends within this day: it has no successor yet. (A day that loses its hour in spring is whole.)
        if hi == steps and hi - lo < 0.9 * slots:
            continue
        if d > 0:
            state.judge(_anchor_errors(grid, expected[d, :slots], weekday[d, :slots], scale[d], patch))
        state.update(grid, **today)
    return DayStates(
        location=location,
        scale=scale,
        expected=expected,
        weekday=weekday,
        spread=spread,
        error=error,
        days_seen=days_seen,
    )


def state_of_day(values: NDArray[np.float32], calendar: Calendar, config: SeasonalConfig, day: int) -> SeasonalState:
    """The running state of one day, from the days before it; for expectations further ahead than :class:`DayStates` go.

    Args:
        values: [T, S].
        calendar: Of the panel.
        config: The same as in :func:`fold`.
        day: Service-day index.
    """
    state = SeasonalState(calendar.slots_per_day, values.shape[1], config)
    starts = np.searchsorted(calendar.day, np.arange(day + 1))
    for d in range(day):
        state.update(_grid(values, calendar, int(starts[d]), int(starts[d + 1])), **day_flags(calendar, d))
    return state


def _grid(values: NDArray[np.float32], calendar: Calendar, lo: int, hi: int) -> NDArray[np.float32]:
    """One day's values by slot, [L, S], NaN where the day has no such slot."""
    grid = np.full((calendar.slots_per_day, values.shape[1]), np.nan, np.float32)
    grid[calendar.slot[lo:hi]] = values[lo:hi]
    return grid


def day_flags(calendar: Calendar, day: int) -> DayFlags:
    """Day type of a day of the panel, or of the first day after it (guessed: the next weekday in turn)."""
    if day < len(calendar.dates):
        return {
            "day_off": bool(calendar.day_off[day]),
            "holiday": bool(calendar.holiday[day]),
            "weekday": int(calendar.weekday[day]),
        }
    _, longer = calendar.extend(calendar.slots_per_day * 2)
    return day_flags(longer, day) if day < len(longer.dates) else day_flags(calendar, day - 1)


def _smooth(profile: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(profile) < _SMOOTH_FROM_SLOTS:
        return profile
    padded = np.concatenate([profile[:1], profile, profile[-1:]])
    return ((padded[:-2] + padded[1:-1] + padded[2:]) / 3).astype(np.float32)


def _anchor_errors(
    grid: NDArray[np.float32],
    expected: NDArray[np.float32],
    weekday: NDArray[np.float32],
    scale: NDArray[np.float32],
    patch: int,
) -> NDArray[np.float32]:
    """[S, P, A] mean absolute error of each anchor on one day, in units of scale; NaN where nothing was seen."""
    slots, series = grid.shape
    errors = np.full((series, patch, len(ANCHORS)), np.nan, np.float32)
    for k in range(1, min(patch, slots - 1) + 1):
        errors[:, k - 1, 0] = _nanmean(np.abs(grid[k:] - grid[:-k]))
    if slots - 1 < patch:
        errors[:, slots - 1 :, 0] = errors[:, slots - 2 : slots - 1, 0]
    errors[:, :, 1] = _nanmean(np.abs(grid - expected))[:, None]
    errors[:, :, 2] = _nanmean(np.abs(grid - weekday))[:, None]
    return (errors / scale[:, None, None]).astype(np.float32)


def _nanmean(x: NDArray[np.float32]) -> NDArray[np.float32]:
    seen = np.isfinite(x)
    count = seen.sum(0)
    total = np.where(seen, x, 0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
