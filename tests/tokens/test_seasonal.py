from __future__ import annotations

import numpy as np

from mtgpt.tokens.seasonal import SeasonalConfig, SeasonalState, fold, state_of_day
from tests.synthetic import small_panel

WORKDAY = {"day_off": False, "holiday": False, "weekday": 1}


def test_a_series_that_repeats_itself_is_expected_exactly():
    shape = np.sin(np.linspace(0, 6, 24, dtype=np.float32))[:, None] * 10 + 50
    state = SeasonalState(24, 1, SeasonalConfig())
    for _ in range(5):
        state.update(shape, **WORKDAY)
    expected, weekday, spread = state.expect(**WORKDAY)
    np.testing.assert_allclose(expected, shape, rtol=1e-6)
    np.testing.assert_allclose(weekday, shape, rtol=1e-6)
    assert spread.max() < 5


def test_location_and_scale_trail_a_collapse_of_demand():
    state = SeasonalState(24, 1, SeasonalConfig())
    rng = np.random.default_rng(0)
    for _ in range(30):
        state.update(rng.normal(1000, 50, (24, 1)).astype(np.float32), **WORKDAY)
    for _ in range(30):
        state.update(rng.normal(50, 5, (24, 1)).astype(np.float32), **WORKDAY)
    assert state.mean[0] < 350


def test_gaps_teach_nothing():
    state = SeasonalState(4, 2, SeasonalConfig())
    state.update(np.array([[1, 5], [2, 5], [3, 5], [4, 5]], np.float32), **WORKDAY)
    before = state.expect(**WORKDAY)[0].copy()
    state.update(np.array([[np.nan, 9]] * 4, np.float32), **WORKDAY)
    after = state.expect(**WORKDAY)[0]
    assert np.array_equal(before[:, 0], after[:, 0])
    assert (after[:, 1] > 5).all()
    assert state.days_seen.tolist() == [1, 2]


def test_a_public_holiday_is_expected_to_be_a_day_off_and_not_its_weekday():
    state = SeasonalState(2, 1, SeasonalConfig())
    state.update(np.full((2, 1), 100, np.float32), day_off=False, holiday=False, weekday=0)
    state.update(np.full((2, 1), 10, np.float32), day_off=True, holiday=False, weekday=6)
    state.update(np.full((2, 1), 10, np.float32), day_off=True, holiday=False, weekday=6)
    expected, weekday, _ = state.expect(day_off=True, holiday=True, weekday=0)
    assert expected.max() < 60
    assert np.array_equal(expected, weekday)


def test_the_state_of_a_day_ignores_that_day_and_all_after_it():
    panel = small_panel()
    config = SeasonalConfig()
    states = fold(panel.values, panel.calendar, config)
    first = int(np.searchsorted(panel.calendar.day, 4))
    values = np.array(panel.values)
    values[first:] = 1e9
    dirty = fold(values, panel.calendar, config)
    for name in ("location", "scale", "expected", "weekday", "spread", "error", "days_seen"):
        assert np.array_equal(getattr(states, name)[4], getattr(dirty, name)[4]), name


def test_folding_in_one_go_and_up_to_a_day_agree():
    panel = small_panel()
    states = fold(panel.values, panel.calendar, SeasonalConfig())
    state = state_of_day(panel.values, panel.calendar, SeasonalConfig(), 5)
    np.testing.assert_array_equal(state.mean, states.location[5])
    np.testing.assert_array_equal(state.scale, states.scale[5])
