from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtgpt.panel.panel import Covariates
from mtgpt.tokens.covariates import KNOWN_AHEAD, ROOM, covariate_features
from mtgpt.tokens.dense import encode, window
from mtgpt.tokens.history import make_history
from tests.synthetic import small_panel

P = 12
BEYOND = 96


@pytest.fixture(scope="module")
def panel():
    return small_panel()


def timetable(panel, *, strike_from: int | None = None) -> np.ndarray:
    """Departures at the panel's steps and a day beyond; 30 a step by day, none in the small hours."""
    _, longer = panel.calendar.extend(BEYOND)
    departures = np.where(longer.slot < 20, 0.0, 30.0)
    if strike_from is not None:
        departures[strike_from:] = 0
    return departures.astype(np.float32)


def served(panel, departures):
    steps = panel.n_step
    known = Covariates(
        values=departures[:steps, None], names=("transit_departures",), future=departures[steps:][:, None]
    )
    return replace(panel, covariates=known)


def test_a_city_that_knows_nothing_has_the_same_slots_as_one_that_knows_it_all(panel):
    values, seen = covariate_features(panel, P)
    assert values.shape == (panel.n_step, ROOM)
    assert not values.any()
    assert not seen.any()
    known, mask = covariate_features(served(panel, timetable(panel)), P)
    assert known.shape == (panel.n_step + BEYOND, ROOM)
    assert mask[30:-P, KNOWN_AHEAD].all()
    assert not mask[:, KNOWN_AHEAD.stop :].any()


def test_weather_keeps_its_fixed_units_and_a_hole_is_masked(panel):
    weather = np.full((panel.n_step, 2), np.nan, np.float32)
    weather[:, 1] = 25
    weather[10:, 0] = 4
    known = replace(panel, covariates=Covariates(values=weather, names=("rain_mm", "temperature_c")))
    values, seen = covariate_features(known, P)
    assert values[0, :3].tolist() == [1, 0, 0]
    assert seen[0, :3].tolist() == [1, 0, 0]
    assert values[20, :3].tolist() == [1, 2, 0]


def test_a_strike_that_begins_in_the_next_patch_is_known_now_and_a_usual_day_is_near_zero(panel):
    cut = 500
    usual, _ = covariate_features(served(panel, timetable(panel)), P)
    strike, _ = covariate_features(served(panel, timetable(panel, strike_from=cut + 1)), P)
    now, ahead = KNOWN_AHEAD.start, KNOWN_AHEAD.start + 1
    assert strike[cut, now] == usual[cut, now]
    assert strike[cut, ahead] == -1
    assert abs(usual[:, now].mean()) < 0.3


def test_the_timetable_is_known_the_same_whether_the_panel_goes_on_or_ends_here(panel):
    whole = served(panel, timetable(panel))
    cut = panel.n_step - 100
    views = [window(make_history(p, patch=P), np.array([cut])) for p in (whole, whole.slice(0, cut + 1))]
    one, other = (encode(view)[0] for view in views)
    assert np.array_equal(one.calendar, other.calendar)
    assert one.calendar[0, -2 * ROOM + KNOWN_AHEAD.start + 1] != 0


def test_departures_after_the_next_patch_change_nothing(panel):
    cut = 500
    clean, _ = covariate_features(served(panel, timetable(panel)), P)
    dirty, _ = covariate_features(served(panel, timetable(panel, strike_from=cut + P + 1)), P)
    assert np.array_equal(clean[: cut + 1], dirty[: cut + 1])
