from __future__ import annotations

import numpy as np
import pytest
import torch

from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.train.calibrate import calibrate
from mtgpt.train.data import split
from tests.synthetic import small_panel

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}


def model(width: float) -> MTGPT:
    """Untrained, with bands of a given width around the mix of the anchors."""
    torch.manual_seed(0)
    net = MTGPT(size("nano", **TINY)).eval()
    q = len(net.config.quantile_levels)
    bias = torch.zeros(12, q + 3)
    bias[:, :q] = width * torch.special.ndtri(torch.tensor(net.config.quantile_levels))
    with torch.no_grad():
        net.forecast_head.bias.copy_(bias.flatten())
    return net


def coverage(net: MTGPT, panel) -> float:
    first, last = split(panel.n_step).validation
    cuts = np.arange(first, last)
    quantiles = Forecaster(net, panel).quantiles(cuts)[:, : panel.n_spot]
    truth = panel.values[cuts[:, None] + np.arange(1, 13)].transpose(0, 2, 1)[:, : panel.n_spot]
    inside = (quantiles[..., 1] <= truth) & (truth <= quantiles[..., 9])
    return float(inside[np.isfinite(truth)].mean())


@pytest.mark.parametrize("width", [0.4, 0.5])
def test_bands_that_are_too_narrow_or_too_wide_end_where_they_should(width):
    panel = small_panel(days=14)
    net = model(width)
    before = coverage(net, panel)
    stretch = calibrate(net, [panel], train_share=0.6)
    assert abs(coverage(net, panel) - 0.8) < 0.5 * abs(before - 0.8) + 0.005
    assert stretch[5] == 1
    np.testing.assert_array_equal(stretch, stretch[::-1])
    assert ((stretch >= 0.8) & (stretch <= 1.6)).all()


def test_the_median_does_not_move():
    panel = small_panel()
    net = model(0.5)
    before = net.forecast(panel, method="none").median.copy()
    calibrate(net, [panel], train_share=0.6)
    np.testing.assert_allclose(net.forecast(panel, method="none").median, before, rtol=1e-6)
