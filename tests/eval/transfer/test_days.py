"""What a few-shot setting may see."""

from __future__ import annotations

import numpy as np
import pytest

from mtgpt.errors import PanelError
from mtgpt.eval.transfer.days import day_blocks, days_before_test, test_cuts
from mtgpt.train.data import split
from tests.synthetic import small_panel

PATCH = 12
test_cuts.__test__ = False  # a function of the package, not a test


@pytest.fixture(scope="module")
def panel():
    return small_panel(days=20)


@pytest.mark.parametrize("days", [1, 3, 7])
def test_visible_days_are_whole_and_end_before_the_first_test_target(panel, days):
    visible = days_before_test(panel, days, patch=PATCH)
    first, last = visible.whole
    seen = panel.calendar.day[first + 1 : last + PATCH]
    assert len(np.unique(seen)) == days
    assert last - 1 + PATCH <= split(panel.n_step, patch=PATCH).test[0]


@pytest.mark.parametrize("days", [1, 3, 7])
def test_what_decides_was_not_fitted(panel, days):
    visible = days_before_test(panel, days, patch=PATCH)
    fitted = set(range(visible.fit[0] + 1, visible.fit[1] + PATCH))
    judged = set(range(visible.judge[0] + 1, visible.judge[1] + PATCH))
    assert fitted
    assert judged
    assert not fitted & judged


def test_the_last_visible_day_decides(panel):
    visible = days_before_test(panel, 3, patch=PATCH)
    judged = panel.calendar.day[visible.judge[0] + 1 : visible.judge[1] + PATCH]
    assert set(judged) == {panel.calendar.day[visible.whole[1] + PATCH - 1]}


def test_a_target_with_too_few_days_is_refused(panel):
    with pytest.raises(PanelError, match="too few whole days"):
        days_before_test(panel, 40, patch=PATCH)


def test_blocks_hold_every_cut_once_and_stay_within_a_day(panel):
    cuts = test_cuts(panel, patch=PATCH, stride=3)
    blocks = day_blocks(panel, cuts)
    assert np.array_equal(np.concatenate([some for _, some in blocks]), cuts)
    for day, some in blocks:
        assert set(panel.calendar.day[some]) == {day}
