from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import PanelError
from mtgpt.tokens.dense import CALENDAR_COUNT, Scale, decode, encode, feature_count, targets, window
from mtgpt.tokens.history import make_history
from tests.synthetic import small_panel

P = 12


@pytest.fixture(scope="module")
def panel():
    return small_panel()


@pytest.fixture(scope="module")
def history(panel):
    return make_history(panel, patch=P)


def test_a_token_has_the_announced_number_of_features_and_all_are_finite(history):
    tokens, state = encode(window(history, np.array([200, 300])))
    assert tokens.features.shape == (2, history.z.shape[1], feature_count(P))
    assert tokens.calendar.shape == (2, CALENDAR_COUNT)
    for array in (tokens.features, tokens.calendar, tokens.anchors, tokens.log_error, tokens.spread, state.scale):
        assert np.isfinite(array).all()
    assert (state.scale > 0).all()


def test_targets_decode_to_the_measured_values_exactly_enough_for_a_detector(panel, history):
    cuts = np.array([150, 250, 351])
    _, state = encode(window(history, cuts))
    normal, seen = targets(panel.values, cuts, slice(None), P, state)
    physical = decode(normal[..., None], state)[..., 0]
    truth = panel.values[cuts[:, None] + np.arange(1, P + 1)].transpose(0, 2, 1)
    assert (seen == np.isfinite(truth)).all()
    np.testing.assert_allclose(physical[seen], truth[seen], rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.lists(st.floats(-50, 50, width=32), min_size=5, max_size=5))
def test_decoding_is_the_inverse_of_scaling_and_sorts_crossed_quantiles(location, scale, normal):
    state = Scale(location=np.array([[location]], np.float64), scale=np.array([[scale]], np.float64))
    out = decode(np.array(normal).reshape(1, 1, 1, 5), state)[0, 0, 0]
    np.testing.assert_allclose(out, np.sort(np.array(normal) * scale + location), rtol=1e-9, atol=1e-9)


def test_no_feature_of_a_cut_changes_when_the_future_is_poisoned(panel, history):
    cut = 400
    values = np.array(panel.values)
    values[cut + 1 :] = 1e9
    poisoned = make_history(replace(panel, values=values), patch=P)
    for at in (cut, cut - 1, cut - 50, cut - 97):
        clean, _ = encode(window(history, np.array([at])))
        dirty, _ = encode(window(poisoned, np.array([at])))
        for name in clean.__slots__:
            assert np.array_equal(getattr(clean, name), getattr(dirty, name)), (at, name)


def test_a_past_value_does_change_the_features(panel, history):
    values = np.array(panel.values)
    values[399] += 10
    changed = make_history(replace(panel, values=values), patch=P)
    clean, _ = encode(window(history, np.array([400])))
    other, _ = encode(window(changed, np.array([400])))
    assert not np.array_equal(clean.features, other.features)


def test_in_a_gap_the_surprise_before_it_fades_towards_the_expectation(panel):
    values = np.array(panel.values)
    values[340:401, 2] = np.nan
    values[339, 2] = 20
    history = make_history(replace(panel, values=values), patch=P)
    first, last = (window(history, np.array([cut])) for cut in (351, 400))
    assert (first.seen[0, :, 2] == 0).all()

    def surprise(view):
        return view.z[0, :, 2] * view.scale[0, 2] + view.location[0, 2] - view.expected_past[0, :, 2]

    assert (np.diff(np.abs(surprise(first))) < 0).all()
    assert surprise(first)[0] < -20
    np.testing.assert_allclose(surprise(last), 0, atol=1e-2)


def test_a_panel_of_less_than_a_day_is_refused_with_what_to_do(panel):
    with pytest.raises(PanelError, match=r"too short.*Ingest more days"):
        make_history(panel.slice(0, 60), patch=P)
