"""Which steps of a city an adaptation may see, counted in whole service days that end at a given step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.errors import PanelError, UsageError

if TYPE_CHECKING:
    from mtgpt.panel.panel import Panel

_WHOLE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """Cuts of a target's visible days.

    Attributes:
        fit: First and one-past-last cut whose targets may be trained on before the decision.
        judge: The cuts that decide whether the adaptation is used: the last visible day, or the last third of one day.
        whole: First and one-past-last cut of all visible days; what the adaptation is made of once it is decided.
    """

    fit: tuple[int, int]
    judge: tuple[int, int]
    whole: tuple[int, int]


def visible_days(panel: Panel, days: int, *, patch: int, end: int | None = None) -> Visible:
    """The last ``days`` whole service days up to a step.

    Args:
        panel: The city.
        days: How many.
        patch: P, steps of a target patch.
        end: Last visible step; the panel's last if not given.

    Raises:
        UsageError: Not even one day.
        PanelError: The panel has fewer whole days before that step.
    """
    if days < 1:
        raise UsageError("an adaptation needs at least one day", got=days, expected="1 or more")
    end = panel.n_step - 1 if end is None else end
    day = panel.calendar.day[: end + 1]
    slots = panel.calendar.slots_per_day
    counts = np.bincount(day, minlength=int(day[-1]) + 1)
    whole = np.flatnonzero(counts >= _WHOLE * slots)
    # One day more than is shown: the first visible day still needs a past.
    if len(whole) < days + 1:
        raise PanelError(
            "the city has too few whole days",
            where=panel.meta.city,
            got=f"{len(whole)} days",
            expected=f"at least {days + 1}",
        )
    chosen = whole[-days:]
    first = int(np.searchsorted(day, chosen[0]))
    last = int(np.searchsorted(day, chosen[-1], side="right"))  # one past the last visible step
    middle = int(np.searchsorted(day, chosen[-1])) if days > 1 else first + (last - first) * 2 // 3

    def cuts(low: int, high: int) -> tuple[int, int]:
        # A cut's targets are the patch after it: all of them must lie inside.
        return max(low - 1, patch - 1), max(high - patch, low - 1, patch - 1)

    return Visible(fit=cuts(first, middle), judge=cuts(middle, last), whole=cuts(first, last))
