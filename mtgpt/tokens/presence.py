"""How often a series reports at each hour of the day: who will be part of a sum that the panel makes of who is there.

A loop in an empty road reports no speed. At night a corridor's mean is then that of its busy roads, and a forecast of
the corridor that adds up all of its spots is wrong by as much as busy and quiet roads differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.calendar import Calendar

_HOURS = 24
_RATE = 0.12
# One that reports four times of five counts as all there: chance gaps must not change the weights of sums.
_ALL_THERE = 0.8


def fold_presence(seen: NDArray[np.bool_], calendar: Calendar) -> NDArray[np.float32] | None:
    """Trailing share of steps that were measured, by day type and hour; like every state, from the days before only.

    Args:
        seen: [T, S].
        calendar: Of the T steps.

    Returns:
        [D + 1, 2, up to 24, S] in [0, 1] for workdays and days off, 1 for "as good as always"; None where nothing is
        missing at all. A series that never reported so far has 0.
    """
    if seen.all():
        return None
    days, slots = len(calendar.dates), calendar.slots_per_day
    hours = min(_HOURS, slots)
    out = np.ones((days + 1, 2, hours, seen.shape[1]), np.float32)
    starts = np.searchsorted(calendar.day, np.arange(days + 1))
    share, told, ever = np.ones(out.shape[1:], np.float32), [0, 0], np.zeros(seen.shape[1], bool)
    for d in range(days):
        rows, kind = slice(int(starts[d]), int(starts[d + 1])), int(calendar.day_off[d])
        hour = calendar.slot[rows] * hours // slots
        count = np.bincount(hour, minlength=hours)
        total = np.zeros(share.shape[1:], np.float32)
        np.add.at(total, hour, seen[rows])
        # Before its first day a kind of day counts as one on which all reported.
        rate = np.where(count > 0, max(1 / (told[kind] + 2), _RATE), 0)[:, None]
        told[kind] += 1
        share[kind] += (rate * (total / np.maximum(count, 1)[:, None] - share[kind])).astype(np.float32)
        if told[1 - kind] == 0:
            share[1 - kind] = share[kind]  # until it is known better, a day off is like a workday
        ever |= seen[rows].any(0)
        out[d + 1] = np.where(ever, np.where(share < _ALL_THERE, share, 1), 0)
    return out


def presence_ahead(presence: NDArray[np.float32], calendar: Calendar, cut: int, horizon: int) -> NDArray[np.float32]:
    """[S, H]: the shares at the steps after a cut, as known on the day of the cut.

    Args:
        presence: From :func:`fold_presence`.
        calendar: Of the panel; continued where the horizon leaves it.
        cut: Index of the last visible step.
        horizon: H.
    """
    beyond = max(0, cut + 1 + horizon - len(calendar.day))
    longer = calendar.extend(beyond)[1] if beyond else calendar
    steps = slice(cut + 1, cut + 1 + horizon)
    kind = longer.day_off[longer.day[steps]].astype(int)
    return presence[calendar.day[cut], kind, longer.slot[steps] * presence.shape[2] // calendar.slots_per_day].T
