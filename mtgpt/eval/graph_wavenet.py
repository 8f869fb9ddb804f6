"""A Graph WaveNet-like network (Wu et al., IJCAI 2019), trained on one city only.

Gated dilated convolutions over the last patch, and after each a diffusion over the road graph, its reverse and a graph
that is learned from embeddings of the spots. Smaller than the published one, so that two CPU cores can train it. It
knows every spot by name and cannot move to another city.
Shapes: B windows, C channels, S series, P steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from mtgpt.tokens.history import operators
from mtgpt.train.scaling import SeriesScale

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from mtgpt.panel.panel import Panel

_CHANNELS, _SKIP, _RANK = 16, 64, 10
_DILATIONS = (1, 2, 4, 4)


class GraphWaveNet(nn.Module):
    """Four gated layers with diffusion, skip connections and a head that gives all steps at once."""

    def __init__(self, graph: tuple[Tensor, Tensor], series: int, patch: int) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, _CHANNELS, (1, 1))
        self.source = nn.Parameter(torch.randn(series, _RANK) * 0.3)
        self.sink = nn.Parameter(torch.randn(_RANK, series) * 0.3)
        self.forward_graph: Tensor
        self.backward_graph: Tensor
        self.register_buffer("forward_graph", graph[0], persistent=False)
        self.register_buffer("backward_graph", graph[1], persistent=False)
        self.gates = nn.ModuleList(nn.Conv2d(_CHANNELS, 2 * _CHANNELS, (1, 2), dilation=(1, d)) for d in _DILATIONS)
        self.mixes = nn.ModuleList(nn.Conv2d(4 * _CHANNELS, _CHANNELS, (1, 1)) for _ in _DILATIONS)
        self.skips = nn.ModuleList(nn.Conv2d(_CHANNELS, _SKIP, (1, 1)) for _ in _DILATIONS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(_CHANNELS) for _ in _DILATIONS)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(_SKIP, _SKIP, 1), nn.ReLU(), nn.Conv2d(_SKIP, patch, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalised points [B, S, P] from value, mask and time of day, [B, 3, S, P]."""
        learned = torch.softmax(torch.relu(self.source @ self.sink), dim=1)
        x, out = self.start(inputs), None
        for gate, mix, skip, norm in zip(self.gates, self.mixes, self.skips, self.norms, strict=True):
            a, b = gate(x).chunk(2, dim=1)
            y = torch.tanh(a) * torch.sigmoid(b)
            last = skip(y[..., -1:])
            out = last if out is None else out + last
            parts = [y, *(_diffused(one, y) for one in (self.forward_graph, self.backward_graph, learned))]
            x = norm(mix(torch.cat(parts, dim=1)) + x[..., -y.shape[-1] :])
        return self.head(out).squeeze(-1).transpose(1, 2)


def _diffused(graph: Tensor, y: Tensor) -> Tensor:
    b, c, s, t = y.shape
    flat = y.permute(2, 0, 1, 3).reshape(s, -1)
    return (graph @ flat).reshape(s, b, c, t).permute(1, 2, 0, 3)


class GraphWaveNetForecast:
    """A trained :class:`GraphWaveNet` as a baseline of one panel."""

    def __init__(self, net: GraphWaveNet, panel: Panel, patch: int, scale: SeriesScale) -> None:
        self._net, self._panel, self._patch, self._scale = net.eval(), panel, patch, scale

    @torch.inference_mode()
    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`mtgpt.eval.baselines.Baseline`."""
        normal = self._net(_inputs(self._panel, cuts, self._patch, self._scale)).numpy()
        return self._scale.physical(normal)


def train_graph_wavenet(
    panel: Panel,
    *,
    patch: int,
    cuts: tuple[int, int],
    steps: int = 2000,
    batch: int = 16,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> GraphWaveNetForecast:
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
    scale = SeriesScale.of(np.asarray(panel.values[: cuts[1] + patch], np.float32))
    forward, _, backward = operators(panel.graph)
    graph = tuple(torch.from_numpy(one.toarray()) for one in (forward, backward))
    net = GraphWaveNet((graph[0], graph[1]), panel.n_series, patch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-5)
    for step in range(steps):
        chosen = rng.integers(max(cuts[0], patch - 1), cuts[1], size=batch)
        truth = np.asarray(panel.values[chosen[:, None] + np.arange(1, patch + 1)], np.float32).transpose(0, 2, 1)
        known = torch.from_numpy(np.isfinite(truth))
        error = (net(_inputs(panel, chosen, patch, scale)) - torch.from_numpy(scale.normal(truth))).abs() * known
        loss = error.sum() / known.sum().clamp(min=1)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))
    return GraphWaveNetForecast(net, panel, patch, scale)


def _inputs(panel: Panel, cuts: NDArray[np.integer], patch: int, scale: SeriesScale) -> Tensor:
    past = cuts[:, None] + np.arange(1 - patch, 1)
    values = np.asarray(panel.values[past], np.float32).transpose(0, 2, 1)
    seen = np.isfinite(values).astype(np.float32)
    slot = (panel.calendar.slot[past] / panel.calendar.slots_per_day).astype(np.float32)
    time = np.broadcast_to(slot[:, None], values.shape)
    return torch.from_numpy(np.stack([scale.normal(values), seen, time], axis=1))
