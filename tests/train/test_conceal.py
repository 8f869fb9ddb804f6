from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtgpt.train.conceal import conceal
from mtgpt.train.data import draw, make_city
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panel():
    return small_panel(gaps=0, days=20, spots=12)


def test_about_as_much_is_hidden_as_was_asked_for(panel):
    holes = [conceal(panel, np.random.default_rng(s), silent=0.25, missing=0.1) for s in range(30)]
    silent = np.mean([(~np.isfinite(h.values[:, :12])).all(0).mean() for h in holes])
    assert 0.18 < silent < 0.32
    others = [h.values[:, :12][:, np.isfinite(h.values[:, :12]).any(0)] for h in holes]
    assert 0.06 < np.mean([(~np.isfinite(o)).mean() for o in others]) < 0.14


def test_aggregates_are_those_of_what_is_left_and_what_is_shown_is_unchanged(panel):
    holes = conceal(panel, np.random.default_rng(1), silent=0.2, missing=0.1)
    seen = np.isfinite(holes.values[:, :12])
    assert np.array_equal(holes.values[:, :12][seen], panel.values[:, :12][seen])
    network = holes.values[:, -1]
    known = np.isfinite(network)
    np.testing.assert_allclose(network[known], np.nanmean(holes.values[known][:, :12], 1), rtol=1e-4)
    assert not np.allclose(network[known], panel.values[known, -1], rtol=1e-6)


def test_everything_is_never_hidden(panel):
    holes = conceal(panel, np.random.default_rng(1), silent=1.0, missing=0.0)
    assert np.isfinite(holes.values[:, :12]).any(0).sum() == 1


def test_what_is_concealed_is_asked_for_and_never_shown(panel):
    how = {"silent": 0.3, "missing": 0.2}
    clean = make_city(panel, patch=12, train_share=0.6)
    hidden = ~np.isfinite(conceal(clean.visible, np.random.default_rng(2), **how).values[:, :12])
    values = np.array(panel.values)
    values[: len(hidden), :12][hidden] += 1000
    dirty = make_city(replace(panel, values=values), patch=12, train_share=0.6)
    for step in range(5):
        one, other = (
            draw(city.concealed(np.random.default_rng(2), **how), np.random.default_rng(step), tokens=150)
            for city in (clean, dirty)
        )
        for name in one.inputs:
            assert torch.equal(one.inputs[name], other.inputs[name]), name
            assert torch.isfinite(one.inputs[name].float()).all(), name
        assert one.truth.shape[-1] == 24
        asked = one.seen[..., :12]
        assert asked.any()
        spots = one.inputs["kinds"][0, :, 2] == 0
        assert ((other.truth - one.truth)[..., :12][asked & spots[:, None]] > 1).all()
        assert one.seen[..., 12:].all()
