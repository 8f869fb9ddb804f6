from __future__ import annotations

import numpy as np
import pytest

from mtgpt.tokens.presence import fold_presence, presence_ahead
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panel():
    return small_panel(gaps=0)


def night_silence(panel, spot: int) -> np.ndarray:
    seen = np.ones(panel.values.shape, bool)
    seen[panel.calendar.slot < 20, spot] = False  # before five in the morning
    return seen


def test_a_panel_without_a_gap_needs_no_shares(panel):
    assert fold_presence(np.ones(panel.values.shape, bool), panel.calendar) is None


def test_who_is_silent_at_night_is_found_out_night_by_night(panel):
    presence = fold_presence(night_silence(panel, 2), panel.calendar)
    assert (presence[0] == 1).all()
    nights = presence[1:6, 0, 0, 2]
    np.testing.assert_allclose(nights, [1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6], rtol=1e-5)
    assert (presence[:, :, 5:, 2] == 1).all()
    assert (np.delete(presence, 2, axis=3) == 1).all()


def test_days_off_have_shares_of_their_own_once_one_is_known(panel):
    seen = np.ones(panel.values.shape, bool)
    seen[panel.calendar.day_off[panel.calendar.day] & (panel.calendar.slot < 20), 2] = False
    presence = fold_presence(seen, panel.calendar)
    first = int(np.flatnonzero(panel.calendar.day_off)[0])
    assert (presence[first] == 1).all()
    assert (presence[first + 1, 1, :5, 2] == 0.5).all()
    assert (presence[first + 1, 0, :5, 2] == 1).all()


def test_chance_gaps_leave_everyone_all_there(panel):
    seen = np.random.default_rng(0).random(panel.values.shape) > 0.02
    assert fold_presence(seen, panel.calendar)[5:].min() > 0.85


def test_no_share_of_a_day_depends_on_that_day_or_a_later_one(panel):
    seen = night_silence(panel, 2)
    start = int(np.searchsorted(panel.calendar.day, 4))
    changed = seen.copy()
    changed[start:] = ~changed[start:]
    one, other = (fold_presence(x, panel.calendar) for x in (seen, changed))
    assert np.array_equal(one[:5], other[:5])
    assert not np.array_equal(one[5], other[5])


def test_steps_ahead_read_their_own_hour_also_beyond_the_panel(panel):
    presence = fold_presence(night_silence(panel, 2), panel.calendar)
    _, longer = panel.calendar.extend(96)
    ahead = presence_ahead(presence, panel.calendar, panel.n_step - 1, 96)
    assert ahead.shape == (panel.n_series, 96)
    assert ((ahead[2] == 1) == (longer.slot[panel.n_step :] >= 20)).all()


def test_who_never_reported_has_no_share_in_anything(panel):
    seen = np.ones(panel.values.shape, bool)
    seen[:, 4] = False
    assert (fold_presence(seen, panel.calendar)[1:, :, :, 4] == 0).all()
