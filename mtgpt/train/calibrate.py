"""Bands that cover what they say: one stretch per band, found on days that the weights were not fitted to.

A network trained on a few weeks is a little too sure of itself on the weeks after. The validation part (the 20 % of
the windows after the training share) shows by how much; the test part is never looked at.
Shapes: M panels, B cuts, S series, P steps, Q quantile levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.train.data import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel

_CUTS = 160
# A band of a series that is mostly zero covers its zeros however narrow it is; coverage alone must not shrink it away.
_LEAST, _MOST = 0.8, 1.6


def calibrate(model: MTGPT, panels: Sequence[Panel], *, train_share: float) -> NDArray[np.float32]:
    """Sets the model's band stretches in place.

    Args:
        model: Trained; its stretches must still be 1.
        panels: M it was trained on; their validation parts are forecast and compared, spots only, and the panels'
            stretches averaged.
        train_share: Of the windows, as in training.

    Returns:
        [Q] the stretches: 1 for the median, equal for both ends of a band.
    """
    levels = np.asarray(model.config.quantile_levels)
    found = [_stretches(model, panel, levels, train_share) for panel in panels]
    stretch = np.mean(found, axis=0).astype(np.float32)
    model.band_stretch.copy_(torch.from_numpy(stretch))
    return stretch


def _stretches(model: MTGPT, panel: Panel, levels: NDArray[np.float64], train_share: float) -> NDArray[np.float64]:
    patch = model.config.patch
    first, last = split(panel.n_step, patch=patch, train=train_share).validation
    out = np.ones(len(levels))
    if last - first < patch:
        return out
    forecaster = Forecaster(model, panel.slice(0, last + patch))
    cuts = np.unique(np.linspace(first, last - 1, _CUTS).astype(int))
    spots = panel.n_spot
    quantiles = np.concatenate(
        [
            np.stack(
                [
                    forecaster.finish(one, "wls", int(cut))[:spots]
                    for cut, one in zip(some, forecaster.quantiles(some), strict=True)
                ]
            )
            for some in np.array_split(cuts, max(1, len(cuts) // 16))
        ]
    )
    truth = np.asarray(panel.values, np.float32)[cuts[:, None] + np.arange(1, patch + 1)][:, :, :spots]
    truth = truth.transpose(0, 2, 1)
    known = np.isfinite(truth) & np.isfinite(quantiles[..., 0])
    if not known.any():
        return out
    cells, y = quantiles[known], truth[known]
    least = np.broadcast_to(forecaster.least[:spots][None, :, None], known.shape)[known]
    middle = cells[:, int(np.argmin(np.abs(levels - 0.5)))]
    for low, high in zip(np.flatnonzero(levels < 0.5), np.flatnonzero(levels > 0.5)[::-1], strict=False):
        wanted = levels[high] - levels[low]
        narrow, wide = _LEAST, _MOST
        for _ in range(20):
            stretch = (narrow + wide) / 2
            lower = np.maximum(middle + stretch * (cells[:, low] - middle), least)
            upper = middle + stretch * (cells[:, high] - middle)
            covered = float(((lower <= y) & (y <= upper)).mean())
            narrow, wide = (stretch, wide) if covered < wanted else (narrow, stretch)
        out[low] = out[high] = (narrow + wide) / 2
    return out
