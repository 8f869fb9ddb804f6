"""What any forecast must beat: last value, the same time yesterday and last week, historical average, expectation.

Shapes: T steps, S series, B cuts, P steps ahead, D service days, L slots a day.

Each is prepared once for a panel and then asked for many cuts; none looks past a cut, and the historical average looks
at the training share only, as the published tables do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from mtgpt.errors import UsageError
from mtgpt.tokens.history import make_history

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel
    from mtgpt.tokens.history import History


class Baseline(Protocol):
    """Points [B, S, P] in physical units for the next P steps of each cut; NaN where it has nothing to say."""

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """Forecasts at these cuts (index of the last visible step)."""
        ...


class LastValue:
    """The last value measured, carried forward."""

    def __init__(self, panel: Panel, patch: int) -> None:
        self._last = carried_forward(np.asarray(panel.values, np.float32))
        self._patch = patch

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`Baseline`."""
        return np.repeat(self._last[cuts][..., None], self._patch, -1)


class SeasonalNaive:
    """The value at the same local time of the service day before, or of the last day with the same weekday.

    Where that was not measured, the next older one (up to four) answers, then the last value.

    Args:
        panel: Of which cuts are asked.
        patch: P.
        weekly: Same weekday instead of the day before.
    """

    def __init__(self, panel: Panel, patch: int, *, weekly: bool) -> None:
        _, self._calendar = panel.calendar.extend(patch)
        calendar = self._calendar
        grid = np.full((len(calendar.dates), calendar.slots_per_day, panel.n_series), np.nan, np.float32)
        now = panel.calendar
        grid[now.day, now.slot] = panel.values
        days = np.arange(len(grid))
        if weekly:
            weekday = calendar.weekday[: len(days)]
            before = [np.array([_last_such(weekday, int(d), skip) for d in days]) for skip in range(4)]
        else:
            before = [days - 1 - skip for skip in range(4)]
        self._grid, self._before = grid, before
        self._last, self._patch = LastValue(panel, patch), patch

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`Baseline`."""
        ahead = cuts[:, None] + np.arange(1, self._patch + 1)
        day, slot = self._calendar.day[ahead], self._calendar.slot[ahead]
        today = self._calendar.day[cuts][:, None]
        out = np.full((*ahead.shape, self._grid.shape[2]), np.nan, np.float32)
        for before in self._before:
            source = before[day]
            # A step after midnight must not read the part of today that is still to come.
            future = (source > today) | ((source == today) & (slot > self._calendar.slot[cuts][:, None]))
            values = self._grid[np.maximum(source, 0), slot]
            values[(source < 0) | future] = np.nan
            out = np.where(np.isfinite(out), out, values)
        out = out.transpose(0, 2, 1)
        return np.where(np.isfinite(out), out, self._last(cuts))


class HistoricalAverage:
    """Mean of each slot by weekday over the training share; weekdays never seen there use all days."""

    def __init__(self, panel: Panel, patch: int, train_end: int) -> None:
        _, self._calendar = panel.calendar.extend(patch)
        now = panel.calendar
        values = np.asarray(panel.values[:train_end], np.float32)
        slots = now.slots_per_day
        shape = (8, slots, panel.n_series)  # seven weekdays and all together
        total, count = np.zeros(shape, np.float64), np.zeros(shape)
        seen = np.isfinite(values)
        weekday = now.weekday[now.day[:train_end]].astype(int)
        for where in (weekday, np.full(train_end, 7)):
            np.add.at(total, (where, now.slot[:train_end]), np.where(seen, values, 0))
            np.add.at(count, (where, now.slot[:train_end]), seen)
        mean = np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)
        self._mean = np.where(np.isfinite(mean[:7]), mean[:7], mean[7]).astype(np.float32)
        self._patch = patch

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`Baseline`."""
        ahead = cuts[:, None] + np.arange(1, self._patch + 1)
        weekday = self._calendar.weekday[self._calendar.day[ahead]]
        return self._mean[weekday, self._calendar.slot[ahead]].transpose(0, 2, 1)


class TrailingExpectation:
    """The day-type expectation that the tokens carry: an exponentially weighted mean of the past days' slots."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`Baseline`."""
        calendar, states = self._history.calendar, self._history.states
        ahead = cuts[:, None] + np.arange(1, self._history.patch + 1)
        today = calendar.day[cuts][:, None]
        slot = calendar.slot[ahead] + calendar.slots_per_day * np.minimum(calendar.day[ahead] - today, 1)
        slot = np.minimum(slot, states.expected.shape[1] - 1)
        return states.expected[today, slot].transpose(0, 2, 1)


BASELINES = ("last value", "same time yesterday", "same time last week", "historical average", "trailing expectation")


def baselines(panel: Panel, *, patch: int, train_end: int, history: History | None = None) -> dict[str, Baseline]:
    """All of :data:`BASELINES`, prepared for one panel.

    Args:
        panel: Of which cuts will be asked.
        patch: P.
        train_end: Steps of the training share.
        history: The panel's, if there is one already.
    """
    if not 0 < train_end <= panel.n_step:
        raise UsageError("the training share lies outside the panel", got=train_end, expected=f"1 to {panel.n_step}")
    made: list[Callable[[], Baseline]] = [
        lambda: LastValue(panel, patch),
        lambda: SeasonalNaive(panel, patch, weekly=False),
        lambda: SeasonalNaive(panel, patch, weekly=True),
        lambda: HistoricalAverage(panel, patch, train_end),
        lambda: TrailingExpectation(history or make_history(panel, patch=patch)),
    ]
    return {name: make() for name, make in zip(BASELINES, made, strict=True)}


def carried_forward(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[T, S] each gap filled with the last value before it; NaN before the first."""
    row = np.where(np.isfinite(values), np.arange(len(values))[:, None], 0)
    np.maximum.accumulate(row, axis=0, out=row)
    return np.take_along_axis(values, row, axis=0)


def _last_such(weekday: NDArray[np.int8], day: int, skip: int) -> int:
    """The day before ``day`` with its weekday, ``skip`` of them left out; -1 if there is none."""
    found = np.flatnonzero(weekday[:day] == weekday[day])
    return int(found[-1 - skip]) if len(found) > skip else -1
