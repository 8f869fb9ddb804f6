"""Which steps of a target are scored, and which a few-shot setting may see: the days before the test part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mtgpt.train.data import split
from mtgpt.train.visible import Visible, visible_days

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel


def days_before_test(panel: Panel, days: int, *, patch: int) -> Visible:
    """The last ``days`` whole service days before the test part.

    Raises:
        PanelError: The panel has fewer whole days there.
    """
    # Steps up to the first test cut are past when the test begins.
    return visible_days(panel, days, patch=patch, end=split(panel.n_step, patch=patch).test[0])


def test_cuts(panel: Panel, *, patch: int, stride: int) -> NDArray[np.int64]:
    """The cuts of the test part that are scored."""
    return np.arange(*split(panel.n_step, patch=patch).test, stride)


def day_blocks(panel: Panel, cuts: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """The cuts by the service day they lie in: the blocks that a bootstrap draws."""
    day = panel.calendar.day[cuts]
    return [(int(one), cuts[day == one]) for one in np.unique(day)]
