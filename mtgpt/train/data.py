"""Batches for training: which cuts of which sequence of which panel, decided by (seed, step, rank) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mtgpt.errors import PanelError
from mtgpt.model.inputs import network_inputs
from mtgpt.tokens.dense import targets, window
from mtgpt.tokens.history import History, make_history
from mtgpt.tokens.sequence import sequences
from mtgpt.tokens.vocabulary import LEVELS, kind_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mtgpt.panel.panel import Panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Chronological split over windows of one context and one target patch.

    Attributes:
        train: First and one-past-last cut whose targets lie wholly in the training share.
        validation: The same for the next 20 %.
        test: The same for the rest.
    """

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]


def split(steps: int, *, patch: int = 12, train: float = 0.6, validation: float = 0.2) -> Split:
    """Splits the windows of a panel, as the published benchmarks do.

    There are ``steps − 2·patch + 1`` windows; window i ends its context at cut ``i + patch − 1``. Unlike the
    benchmarks, training and validation windows whose targets reach into the next part are left out.
    """
    windows = steps - 2 * patch + 1
    tests = round(windows * (1 - train - validation))
    trains = round(windows * train)
    first = patch - 1
    test = (first + windows - tests, first + windows)
    middle = first + trains
    return Split(
        train=(first, max(first, middle - patch + 1)),
        validation=(middle, max(middle, test[0] - patch + 1)),
        test=test,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class City:
    """A panel ready to be trained on."""

    name: str
    values: NDArray[np.float32]
    history: History
    parts: list[NDArray[np.int64]]
    kinds: NDArray[np.int64]
    cuts: tuple[int, int]


def make_city(panel: Panel, *, patch: int, train_share: float, context_patches: int = 1) -> City:
    """Prepares a panel; only its training share will ever be looked at.

    Raises:
        PanelError: The training share holds less than a day and two patches.
    """
    bounds = split(len(panel.values), patch=patch, train=train_share)
    # Nothing after the last training target may enter, not even through a state that is never read.
    visible = panel.slice(0, bounds.train[1] + patch)
    history = make_history(visible, patch=patch)
    first = history.first_cut() + (context_patches - 1) * patch
    if bounds.train[1] - first < 1:
        raise PanelError(
            "the training share is too short",
            where=panel.meta.city,
            got=f"{bounds.train[1]} steps",
            expected=f"more than {first} steps",
            next_step="ingest more days",
        )
    return City(
        name=panel.meta.city,
        values=np.asarray(visible.values, np.float32),
        history=history,
        parts=sequences(panel),
        kinds=kind_ids(panel.series),
        cuts=(first, bounds.train[1]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's input and truth.

    Attributes:
        inputs: Keyword arguments of the network.
        truth: [B, K, N, P] normalised.
        seen: [B, K, N, P] True where measured.
        scale: [B, N] physical units of one normalised unit.
    """

    inputs: dict[str, Tensor]
    truth: Tensor
    seen: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            inputs={k: v.to(device) for k, v in self.inputs.items()},
            truth=self.truth.to(device),
            seen=self.seen.to(device),
            scale=self.scale.to(device),
        )


def draw(
    cities: Sequence[City],
    *,
    seed: int,
    step: int,
    rank: int,
    tokens: int,
    context_patches: int = 1,
    keep_spots: float = 1.0,
) -> Batch:
    """The batch of one step and process: a pure function of its arguments, so that a resumed run repeats it."""
    rng = np.random.default_rng((seed, step, rank))
    weight = np.sqrt([float(c.cuts[1] - c.cuts[0]) * len(c.kinds) for c in cities])
    city = cities[rng.choice(len(cities), p=weight / weight.sum())]
    share = np.asarray([len(p) for p in city.parts], float)
    index = city.parts[rng.choice(len(share), p=share / share.sum())]
    if keep_spots < 1:
        index = _some(index, city.kinds, keep_spots, rng)
    size = max(1, round(tokens / (len(index) * context_patches)))
    cuts = rng.integers(*city.cuts, size=size)
    patch = city.history.patch
    views = [window(city.history, cuts - patch * back, index) for back in range(context_patches - 1, -1, -1)]
    inputs, states = network_inputs(views, city.kinds[index])
    pairs = [
        targets(city.values, cuts - patch * back, index, patch, state)
        for back, state in zip(range(context_patches - 1, -1, -1), states, strict=True)
    ]
    return Batch(
        inputs=inputs,
        truth=torch.from_numpy(np.stack([t for t, _ in pairs], 1)),
        seen=torch.from_numpy(np.stack([s for _, s in pairs], 1)),
        scale=torch.from_numpy(states[-1].scale),
    )


def _some(
    index: NDArray[np.int64], kinds: NDArray[np.int64], least: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The aggregates of a sequence and a random share of its spots, in the panel's order or against it."""
    spot = kinds[index, 2] == LEVELS.index("spot")
    spots = index[spot]
    kept = spots[rng.random(len(spots)) < rng.uniform(least, 1)] if len(spots) > 1 else spots
    return np.concatenate([index[~spot], kept[:: rng.choice([-1, 1])]])
