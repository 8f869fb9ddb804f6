"""Batches for training: which cuts of which sequence of which panel, decided by (seed, step, rank) alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mtgpt.errors import PanelError
from mtgpt.model.inputs import gap_inputs, network_inputs
from mtgpt.tokens.dense import targets, window
from mtgpt.tokens.gaps import Bridges, bridge, gaps, past_targets
from mtgpt.tokens.history import History, make_history
from mtgpt.tokens.sequence import sequences
from mtgpt.tokens.vocabulary import LEVELS, kind_ids
from mtgpt.train.conceal import conceal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from mtgpt.panel.panel import Panel
    from mtgpt.train.recipes import TrainConfig


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
    """A panel ready to be trained on.

    Attributes:
        name: City id.
        visible: The training share of the panel; nothing else is ever looked at.
        values: [T, S] the truth.
        history: What the model is shown; of the visible panel, or of one with holes.
        parts: Sequences of series.
        kinds: [S, 3] ids of mode, variable and level.
        cuts: First and one-past-last cut to draw.
        bridges: Over the holes of a concealed panel; None where nothing is concealed.
    """

    name: str
    visible: Panel
    values: NDArray[np.float32]
    history: History
    parts: list[NDArray[np.int64]]
    kinds: NDArray[np.int64]
    cuts: tuple[int, int]
    bridges: Bridges | None = None

    def concealed(self, rng: np.random.Generator, *, silent: float, missing: float) -> City:
        """The same city with holes in what the model is shown; the truth stays whole."""
        holes = conceal(self.visible, rng, silent=silent, missing=missing)
        history = make_history(holes, patch=self.history.patch)
        return replace(self, history=history, bridges=bridge(history))


def make_city(
    panel: Panel,
    *,
    patch: int,
    train_share: float,
    context_patches: int = 1,
    cuts: tuple[int, int] | None = None,
) -> City:
    """Prepares a panel; only what is trained on will ever be looked at.

    Args:
        panel: Any panel.
        patch: P.
        train_share: Of the windows, from the start.
        context_patches: K.
        cuts: First and one-past-last cut to train on instead of the training share.

    Raises:
        PanelError: There is less than a day and two patches to train on.
    """
    wanted = cuts or split(len(panel.values), patch=patch, train=train_share).train
    # Nothing after the last training target may enter, not even through a state that is never read.
    visible = panel.slice(0, wanted[1] + patch)
    history = make_history(visible, patch=patch)
    first = max(history.first_cut() + (context_patches - 1) * patch, wanted[0])
    if wanted[1] - first < 1:
        raise PanelError(
            "the training share is too short",
            where=panel.meta.city,
            got=f"{wanted[1]} steps",
            expected=f"more than {first} steps",
            next_step="ingest more days",
        )
    return City(
        name=panel.meta.city,
        visible=visible,
        values=np.asarray(visible.values, np.float32),
        history=history,
        parts=sequences(panel),
        kinds=kind_ids(panel.series),
        cuts=(first, wanted[1]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One step's input and truth.

    Attributes:
        inputs: Keyword arguments of the network.
        truth: [B, K, N, P] normalised; [B, K, N, 2 P] where the patch itself is to be filled too, it first.
        seen: The same shape, True where the truth counts: measured, and of the patch itself what was concealed.
        scale: [B, N] physical units of one normalised unit.
        silent: [B, N] True where a series is known by its neighbours only.
    """

    inputs: dict[str, Tensor]
    truth: Tensor
    seen: Tensor
    scale: Tensor
    silent: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(
            inputs={k: v.to(device) for k, v in self.inputs.items()},
            truth=self.truth.to(device),
            seen=self.seen.to(device),
            scale=self.scale.to(device),
            silent=self.silent.to(device),
        )


class Draws:
    """The batches of a run: each a pure function of seed, step and rank, so that a resumed run repeats it.

    Args:
        cities: To draw from, each with the root of its size.
        config: Of the run.
        rank: Of this process.
        context_patches: K.
    """

    def __init__(self, cities: Sequence[City], config: TrainConfig, rank: int, *, context_patches: int = 1) -> None:
        self._cities, self._config, self._rank = cities, config, rank
        self._context_patches = context_patches
        self._holes: dict[int, tuple[int, City]] = {}

    def __call__(self, step: int) -> Batch:
        """The batch of one step."""
        config = self._config
        rng = np.random.default_rng((config.seed, step, self._rank))
        weight = np.sqrt([float(c.cuts[1] - c.cuts[0]) * len(c.kinds) for c in self._cities])
        chosen = int(rng.choice(len(self._cities), p=weight / weight.sum()))
        city = self._cities[chosen]
        if config.conceal_share and rng.random() < config.conceal_share:
            city = self._with_holes(chosen, step // config.conceal_every)
        return draw(
            city,
            rng,
            tokens=config.tokens_per_step,
            context_patches=self._context_patches,
            keep_spots=config.keep_spots,
            forget_covariates=config.forget_covariates,
        )

    def _with_holes(self, chosen: int, turn: int) -> City:
        known = self._holes.get(chosen)
        if known is None or known[0] != turn:
            config = self._config
            rng = np.random.default_rng((config.seed, turn, self._rank, chosen))
            known = turn, self._cities[chosen].concealed(rng, silent=config.silent_spots, missing=config.missing_steps)
            self._holes[chosen] = known
        return known[1]


def draw(
    city: City,
    rng: np.random.Generator,
    *,
    tokens: int,
    context_patches: int = 1,
    keep_spots: float = 1.0,
    forget_covariates: float = 0.0,
) -> Batch:
    """Cuts of one sequence of one city.

    Args:
        city: Of which.
        rng: Decides everything random.
        tokens: About how many.
        context_patches: K.
        keep_spots: Smallest share of the spots to show.
        forget_covariates: Share of the cuts that are shown without weather and timetable.
    """
    share = np.asarray([len(p) for p in city.parts], float)
    index = city.parts[rng.choice(len(share), p=share / share.sum())]
    if keep_spots < 1:
        index = _some(index, city.kinds, keep_spots, rng)
    size = max(1, round(tokens / (len(index) * context_patches)))
    cuts = rng.integers(*city.cuts, size=size)
    patch = city.history.patch
    ends = [cuts - patch * back for back in range(context_patches - 1, -1, -1)]
    views = [window(city.history, at, index) for at in ends]
    if forget_covariates and city.history.covariates_seen.any():
        keep = (rng.random(size) >= forget_covariates)[:, None].astype(np.float32)
        views = [replace(view, covariates=view.covariates * keep) for view in views]
    inputs, states = network_inputs(views, city.kinds[index])
    pairs = [targets(city.values, at, index, patch, state) for at, state in zip(ends, states, strict=True)]
    truth, seen = (np.stack(x, 1) for x in zip(*pairs, strict=True))
    if city.bridges is not None:
        anchors = [gaps(city.history, city.bridges, at, index, s) for at, s in zip(ends, states, strict=True)]
        inputs |= gap_inputs(anchors)
        past = [past_targets(city.values, at, index, patch, s) for at, s in zip(ends, states, strict=True)]
        filled, known = (np.stack(x, 1) for x in zip(*past, strict=True))
        shown = np.stack([view.seen for view in views], 1).transpose(0, 1, 3, 2) > 0
        truth, seen = np.concatenate([filled, truth], -1), np.concatenate([known & ~shown, seen], -1)
    return Batch(
        inputs=inputs,
        truth=torch.from_numpy(truth),
        seen=torch.from_numpy(seen),
        scale=torch.from_numpy(states[-1].scale),
        silent=torch.from_numpy(views[-1].days_seen == 0),
    )


def _some(
    index: NDArray[np.int64], kinds: NDArray[np.int64], least: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The aggregates of a sequence and a random share of its spots, in the panel's order or against it."""
    spot = kinds[index, 2] == LEVELS.index("spot")
    spots = index[spot]
    kept = spots[rng.random(len(spots)) < rng.uniform(least, 1)] if len(spots) > 1 else spots
    return np.concatenate([index[~spot], kept[:: rng.choice([-1, 1])]])
