"""Ridge regression and the Graph WaveNet-like network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.eval.baselines import baselines
from mtgpt.eval.graph_wavenet import train_graph_wavenet
from mtgpt.eval.ridge import fit_ridge
from mtgpt.train.data import split
from mtgpt.train.scaling import SeriesScale
from tests.synthetic import small_panel

PATCH = 12


@pytest.fixture(scope="module")
def panel():
    return small_panel(days=16, spots=6)


def error(panel, rival) -> float:
    cuts = np.arange(*split(panel.n_step, patch=PATCH).test)
    truth = np.asarray(panel.values)[cuts[:, None] + np.arange(1, PATCH + 1)].transpose(0, 2, 1)
    return float(np.nanmean(np.abs(rival(cuts) - truth)))


def test_ridge_beats_what_it_is_made_of(panel):
    bounds = split(panel.n_step, patch=PATCH)
    parts = baselines(panel, patch=PATCH, train_end=bounds.train[1] + PATCH)
    ridge = error(panel, fit_ridge(panel, patch=PATCH, cuts=bounds.train))
    assert ridge < min(error(panel, parts[n]) for n in ("last value", "same time yesterday", "same time last week"))


def test_graph_wavenet_learns_more_than_the_last_value(panel):
    bounds = split(panel.n_step, patch=PATCH)
    net = train_graph_wavenet(panel, patch=PATCH, cuts=bounds.train, steps=150, batch=16)
    last = baselines(panel, patch=PATCH, train_end=bounds.train[1] + PATCH)["last value"]
    assert error(panel, net) < 0.9 * error(panel, last)


@pytest.mark.parametrize("kind", ["ridge", "wavenet"])
def test_no_rival_sees_what_comes_after_its_cuts(panel, kind):
    cuts = (50, 400)
    values = np.array(panel.values)
    values[cuts[1] + PATCH :] = 1e9
    poisoned = replace(panel, values=values)

    def answer(one):
        if kind == "ridge":
            return fit_ridge(one, patch=PATCH, cuts=cuts)(np.array([300, 390]))
        return train_graph_wavenet(one, patch=PATCH, cuts=cuts, steps=3)(np.array([300, 390]))

    assert np.array_equal(answer(panel), answer(poisoned))


def test_the_same_seed_gives_the_same_network(panel):
    first, second = (train_graph_wavenet(panel, patch=PATCH, cuts=(50, 400), steps=5, seed=7) for _ in range(2))
    cuts = np.array([500, 600])
    assert np.array_equal(first(cuts), second(cuts))


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e6), st.floats(-1e6, 1e6))
@settings(max_examples=50, deadline=None)
def test_units_lead_back_to_where_they_came_from(seed, spread, centre):
    rng = np.random.default_rng(seed)
    values = (centre + spread * rng.normal(size=(40, 3))).astype(np.float32)
    scale = SeriesScale.of(values)
    again = scale.physical(scale.normal(values.T)).T
    assert np.allclose(again, values, rtol=1e-4, atol=1e-4 * (abs(centre) + spread))


def test_a_series_without_values_has_a_scale_all_the_same():
    scale = SeriesScale.of(np.full((5, 2), np.nan, np.float32))
    assert np.array_equal(scale.scale, [1, 1])
    assert np.array_equal(scale.normal(np.full((2, 3), np.nan, np.float32)), np.zeros((2, 3)))
