"""Which steps of a target a setting may see, counted in service days that end where the test part begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.errors import PanelError
from mtgpt.train.data import split

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def visible_days(panel: Panel, days: int, *, patch: int) -> Visible:
    """The last ``days`` whole service days before the test part.

    Args:
        panel: The target.
        days: How many.
        patch: P, steps of a target patch.

    Raises:
        PanelError: The panel has fewer whole days before its test part.
    """
    end = split(panel.n_step, patch=patch).test[0]  # the first test cut: steps up to it are past when the test begins
    day = panel.calendar.day[: end + 1]
    slots = panel.calendar.slots_per_day
    counts = np.bincount(day, minlength=int(day[-1]) + 1)
    whole = np.flatnonzero(counts >= _WHOLE * slots)
    # One day more than is shown: the first visible day still needs a past.
    if len(whole) < days + 1:
        raise PanelError(
            "the target has too few whole days before its test part",
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


def test_cuts(panel: Panel, *, patch: int, stride: int) -> NDArray[np.int64]:
    """The cuts of the test part that are scored."""
    return np.arange(*split(panel.n_step, patch=patch).test, stride)


def day_blocks(panel: Panel, cuts: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """The cuts by the service day they lie in: the blocks that a bootstrap draws."""
    day = panel.calendar.day[cuts]
    return [(int(one), cuts[day == one]) for one in np.unique(day)]
