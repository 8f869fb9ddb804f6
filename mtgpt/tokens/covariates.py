"""What a city knows beside its series, in slots of a fixed meaning: weights fit every city, whatever it knows.

Shapes: T steps, F steps beyond the panel that the timetable reaches to, V = :data:`ROOM` slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel

# Positions never change their meaning: append. Fixed physical units, not the city's own statistics: 20 °C means the
# same everywhere.
_REPORTS = (("temperature_c", 15.0, 10.0), ("rain_mm", 0.0, 2.0), ("wind_m_s", 0.0, 5.0))
_TIMETABLE = "transit_departures"
KNOWN_AHEAD = slice(len(_REPORTS), len(_REPORTS) + 2)
"""Slots that may be read at any step, also one that is still to come."""
ROOM = 8
"""Slots in all; those without a name are for covariates to come."""

_USUAL_DAYS = 7
_MOST = 5.0


def covariate_features(panel: Panel, patch: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each step's covariates and where they are known.

    Slots 0 to 2 are weather in fixed units, as known when the step began. Slots 3 and 4 are scheduled departures of
    public transport in the patch that ends with the step and in the patch after it, both against their own trailing
    mean of a week: 0 is as usual, -1 is no service.

    Args:
        panel: Any panel.
        patch: P, steps of a patch.

    Returns:
        Values, 0 where not known, and mask, both [T + F, V]; steps beyond T know the timetable at most.
    """
    known = panel.covariates
    steps = panel.n_step
    beyond = 0 if known is None or known.future is None else len(known.future)
    values = np.zeros((steps + beyond, ROOM), np.float32)
    seen = np.zeros_like(values)
    if known is None:
        return values, seen
    for slot, (name, centre, unit) in enumerate(_REPORTS):
        if name in known.names:
            _put(values[:steps, slot], seen[:steps, slot], (known.values[:, known.names.index(name)] - centre) / unit)
    if _TIMETABLE in known.names:
        at = known.names.index(_TIMETABLE)
        departures = known.values[:, at] if known.future is None else np.r_[known.values[:, at], known.future[:, at]]
        for slot, column in enumerate(_supply(departures, panel.calendar.slots_per_day, patch), KNOWN_AHEAD.start):
            _put(values[:, slot], seen[:, slot], column)
    return values, seen


def _put(value: NDArray[np.float32], mask: NDArray[np.float32], column: NDArray[np.floating]) -> None:
    mask[:] = np.isfinite(column)
    value[:] = np.clip(np.where(mask > 0, column, 0), -_MOST, _MOST)


def _supply(
    departures: NDArray[np.floating], slots_per_day: int, patch: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The patch ending at each step and the one after it, relative to the trailing week; NaN where unknown."""
    now = _trailing_mean(departures, patch)
    usual = _trailing_mean(departures, _USUAL_DAYS * slots_per_day)
    ahead = np.full_like(now, np.nan)
    ahead[:-patch] = now[patch:]
    level = np.where(usual > 0, usual, np.nan)
    return now / level - 1, ahead / level - 1


def _trailing_mean(x: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """Mean of the known ones among the last ``width`` values, this one included; NaN where none is."""
    seen = np.isfinite(x)
    total = np.cumsum(np.r_[0.0, np.where(seen, x, 0)])
    count = np.cumsum(np.r_[0, seen])
    end = np.arange(1, len(x) + 1)
    start = np.maximum(end - width, 0)
    n = count[end] - count[start]
    return np.where(n > 0, (total[end] - total[start]) / np.maximum(n, 1), np.nan)
