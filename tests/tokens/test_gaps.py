from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtgpt.tokens.dense import encode, window
from mtgpt.tokens.gaps import bridge, gaps, past_targets
from mtgpt.tokens.history import make_history
from tests.synthetic import small_panel

P = 12


@pytest.fixture(scope="module")
def panel():
    return small_panel(gaps=0)


def with_gap(panel, start: int, stop: int, spot: int = 2):
    values = np.array(panel.values)
    values[start:stop, spot] = np.nan
    return replace(panel, values=values)


def test_a_bridge_keeps_what_was_measured_and_leads_from_one_end_of_a_gap_to_the_other(panel):
    history = make_history(with_gap(panel, 300, 304), patch=P)
    over = bridge(history)
    np.testing.assert_allclose(over.values[history.seen], np.array(panel.values)[history.seen], rtol=1e-4)
    assert (over.reach[history.seen] == 0).all()
    day, slot = panel.calendar.day[299:305], panel.calendar.slot[299:305]
    surprise = over.values[299:305, 2] - history.states.expected[day, slot][:, 2]
    np.testing.assert_allclose(np.diff(surprise, 2), 0, atol=1e-3)
    np.testing.assert_allclose(over.reach[300:304, 2], [4 / 5, 6 / 5, 6 / 5, 4 / 5], rtol=1e-6)


def test_a_gap_that_has_not_ended_is_carried_on_and_a_silent_spot_is_what_is_lent(panel):
    values = np.array(panel.values)
    values[:, 3] = np.nan
    values[-20:, 2] = np.nan
    history = make_history(replace(panel, values=values), patch=P)
    over = bridge(history)
    carried = history.z * history.states.scale[panel.calendar.day] + history.states.location[panel.calendar.day]
    np.testing.assert_allclose(over.values[-20:, 2], carried[-20:, 2], rtol=1e-5)
    np.testing.assert_allclose(over.values[200:, 3], history.loan.values[200:, 0], rtol=1e-3)
    assert over.reach[-20:, 2].tolist() == list(range(1, 21))


def test_only_the_anchors_of_filling_look_past_the_cut(panel):
    holes = with_gap(panel, 396, 410)
    later = np.array(holes.values)
    later[405:] += 50
    cuts, index = np.array([400]), np.arange(panel.n_series)
    found = []
    for one in (holes, replace(holes, values=later)):
        history = make_history(one, patch=P)
        tokens, state = encode(window(history, cuts, index))
        found.append((tokens, gaps(history, bridge(history), cuts, index, state)))
    (tokens, inside), (others, other) = found
    assert np.array_equal(tokens.features, others.features)
    assert np.array_equal(tokens.anchors, others.anchors)
    assert not np.array_equal(inside.anchors[0, 2], other.anchors[0, 2])
    assert inside.anchors.shape == (1, panel.n_series, P, 3)
    assert inside.log_error.shape == inside.anchors.shape
    assert inside.spread.shape == (1, panel.n_series, P)


def test_the_longer_the_way_to_the_next_value_the_less_a_bridge_is_trusted(panel):
    history = make_history(with_gap(panel, 350, 420), patch=P)
    over, index = bridge(history), np.array([2])
    errors = []
    for cut in (361, 385):
        cuts = np.array([cut])
        _, state = encode(window(history, cuts, index))
        errors.append(gaps(history, over, cuts, index, state).log_error[0, 0, :, 0])
    assert errors[0][0] < errors[0][-1]
    assert errors[0].max() <= errors[1].min() + 1e-6


def test_the_truth_of_a_patch_is_its_own_values_in_units_of_the_cut(panel):
    history = make_history(panel, patch=P)
    cuts, index = np.array([300]), np.arange(panel.n_series)
    _, state = encode(window(history, cuts, index))
    normal, known = past_targets(np.array(panel.values), cuts, index, P, state)
    assert known.all()
    physical = normal * state.scale[..., None] + state.location[..., None]
    np.testing.assert_allclose(physical[0].T, panel.values[289:301], rtol=1e-4)
