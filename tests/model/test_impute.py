from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtgpt.errors import PanelError
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT
from mtgpt.tokens.gaps import bridge
from mtgpt.tokens.history import make_history
from tests.synthetic import small_panel

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}


@pytest.fixture(scope="module")
def panel():
    return small_panel(gaps=0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = MTGPT(size("nano", **SHAPE))
    torch.nn.init.normal_(net.fill_mixer[-1].weight, std=0.02)
    return net.eval()


def holes(panel):
    values = np.array(panel.values)
    values[300:330, 2] = np.nan
    values[400, 5] = np.nan
    values[10:14, 1] = np.nan  # of the first day
    values[:, 6] = np.nan
    return replace(panel, values=values)


def test_every_hole_after_the_first_day_is_filled_and_nothing_else(model, panel):
    imputed = model.impute(holes(panel))
    cells = set(zip(imputed.step.tolist(), imputed.series.tolist(), strict=True))
    assert {(t, 2) for t in range(300, 330)} <= cells
    assert (400, 5) in cells
    assert {(t, 6) for t in range(100, panel.n_step)} <= cells
    assert {s for _, s in cells} == {2, 5, 6}
    assert imputed.left == 4 + panel.n_step - sum(1 for _, s in cells if s == 6)
    assert np.isfinite(imputed.quantiles).all()
    assert (np.diff(imputed.quantiles, axis=1) >= 0).all()


def test_untrained_a_short_gap_is_filled_near_the_truth(panel):
    net = MTGPT(size("nano", **SHAPE)).eval()
    imputed = net.impute(holes(panel))
    gap = imputed.series == 2
    error = np.abs(imputed.median[gap] - panel.values[imputed.step[gap], 2])
    assert error.mean() < 8


def test_the_filled_panel_keeps_what_was_measured_and_adds_its_aggregates_up_again(model, panel):
    given = holes(panel)
    imputed = model.impute(given)
    filled = imputed.filled()
    seen = np.isfinite(given.values[:, : panel.n_spot])
    assert np.array_equal(filled.values[:, : panel.n_spot][seen], given.values[:, : panel.n_spot][seen])
    whole = np.isfinite(filled.values[:, : panel.n_spot]).all(1)
    assert whole[100:].all()
    expected = (panel.aggregation @ filled.values[whole, : panel.n_spot].T).T
    touched = np.unique(imputed.step)
    at = touched[whole[touched]]
    np.testing.assert_allclose(
        filled.values[at, panel.n_spot :], expected[np.searchsorted(np.flatnonzero(whole), at)], rtol=1e-5
    )


def test_only_what_was_asked_for_is_filled(model, panel):
    imputed = model.impute(holes(panel), panel.time[310], panel.time[320])
    assert imputed.step.min() == 310
    assert imputed.step.max() == 319
    frame = imputed.frame()
    assert frame.height == 20
    assert (frame["low"] <= frame["value"]).all()
    assert (frame["value"] <= frame["high"]).all()
    assert imputed.provenance["panel_id"] == panel.meta.panel_id


def test_a_panel_of_one_day_says_that_it_is_too_short(model, panel):
    with pytest.raises(PanelError, match=r"less than one day of data.*Ingest more days"):
        model.impute(holes(panel), None, panel.time[60])


def test_each_cell_is_answered_by_a_patch_that_has_it_in_its_middle(model, panel):
    """Moving the values five steps beyond either end of the answering patch changes nothing but the bridge."""
    given = holes(panel)
    history = make_history(given, patch=12)
    assert bridge(history).values.shape == given.values.shape
    later = np.array(given.values)
    later[345:, :] += 30  # 15 steps after the end of the gap
    one, other = model.impute(given, panel.time[300], panel.time[331]), None
    other = model.impute(replace(given, values=later), panel.time[300], panel.time[331])
    gap = one.series == 2
    assert np.array_equal(one.quantiles[gap], other.quantiles[gap])
