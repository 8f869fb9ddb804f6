"""A STID-like network (Shao et al., CIKM 2022), trained on one city only: what a small specialised net reaches.

An MLP over the last patch with learned identities of the spot, the time of day and the weekday. It knows each spot by
name and therefore cannot move to another city; here it is the yardstick for a city's own data.
Shapes: B windows, S series, P steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from mtgpt.panel.panel import Panel

_WIDTH = 32


class Stid(nn.Module):
    """Three residual MLP layers over patch and identities."""

    def __init__(self, series: int, slots: int, patch: int, layers: int = 3) -> None:
        super().__init__()
        d = 4 * _WIDTH
        self.patch = nn.Linear(2 * patch, _WIDTH)
        self.spot = nn.Parameter(torch.empty(series, _WIDTH))
        self.slot = nn.Embedding(slots, _WIDTH)
        self.weekday = nn.Embedding(7, _WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(0.15), nn.Linear(d, d)) for _ in range(layers)
        )
        self.head = nn.Linear(d, patch)
        nn.init.xavier_uniform_(self.spot)

    def forward(self, values: Tensor, seen: Tensor, slot: Tensor, weekday: Tensor) -> Tensor:
        """Normalised points [B, S, P] from values and mask [B, S, P], slot and weekday [B]."""
        b, s, _ = values.shape
        time = torch.cat([self.slot(slot), self.weekday(weekday)], -1)[:, None].expand(b, s, -1)
        x = torch.cat([self.patch(torch.cat([values, seen], -1)), self.spot.expand(b, -1, -1), time], -1)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class StidForecast:
    """A trained :class:`Stid` as a baseline of one panel."""

    def __init__(self, net: Stid, panel: Panel, patch: int, centre: float, scale: float) -> None:
        self._net, self._panel, self._patch = net.eval(), panel, patch
        self._centre, self._scale = centre, scale

    @torch.inference_mode()
    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`mtgpt.eval.baselines.Baseline`."""
        return (
            self._net(*_inputs(self._panel, cuts, self._patch, self._centre, self._scale)).numpy() * (self._scale)
            + self._centre
        )


def train_stid(
    panel: Panel,
    *,
    patch: int,
    cuts: tuple[int, int],
    steps: int = 3000,
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> StidForecast:
    """Trains on the cuts given and nothing else.

    Args:
        panel: The city.
        patch: P.
        cuts: First and one-past-last training cut.
        steps: Optimiser steps.
        batch: Windows a step.
        seed: Of weights and order.
        progress: Called with (step, steps, loss).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    visible = np.asarray(panel.values[: cuts[1]], np.float32)
    centre, scale = float(np.nanmean(visible)), float(np.nanstd(visible)) or 1.0
    net = Stid(panel.n_series, panel.calendar.slots_per_day, patch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-5)
    for step in range(steps):
        chosen = rng.integers(max(cuts[0], patch - 1), cuts[1], size=batch)
        truth = np.asarray(panel.values[chosen[:, None] + np.arange(1, patch + 1)], np.float32).transpose(0, 2, 1)
        known = torch.from_numpy(np.isfinite(truth))
        wanted = torch.from_numpy((np.nan_to_num(truth) - centre) / scale)
        error = (net(*_inputs(panel, chosen, patch, centre, scale)) - wanted).abs() * known
        loss = error.sum() / known.sum().clamp(min=1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))
    return StidForecast(net, panel, patch, centre, scale)


def _inputs(
    panel: Panel, cuts: NDArray[np.integer], patch: int, centre: float, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    past = np.asarray(panel.values[cuts[:, None] + np.arange(1 - patch, 1)], np.float32).transpose(0, 2, 1)
    seen = np.isfinite(past)
    values = np.where(seen, (past - centre) / scale, 0).astype(np.float32)
    slot = panel.calendar.slot[cuts].astype(np.int64)
    weekday = panel.calendar.weekday[panel.calendar.day[cuts]].astype(np.int64)
    return (
        torch.from_numpy(values),
        torch.from_numpy(seen.astype(np.float32)),
        torch.from_numpy(slot),
        torch.from_numpy(weekday),
    )
