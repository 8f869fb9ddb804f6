"""Recipes: functions that return a full training configuration. Nothing is configured anywhere else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mtgpt.errors import UsageError
from mtgpt.model.config import MTGPTConfig, size
from mtgpt.train.fields import checked


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run; two runs with equal configs, panels and machine give equal weights.

    Attributes:
        recipe: Name of the recipe.
        size: ``nano`` or ``small``.
        model: Changes to the size.
        steps: Optimiser steps.
        tokens_per_step: Tokens of one step and process; sets how many cuts a step shows.
        learning_rate: Peak, after ``warmup`` steps; cosine to ``final_rate`` of it.
        weight_decay: Of AdamW, on matrices only.
        clip: Largest gradient norm.
        average: Decay of the running average of the weights, which is what is kept.
        median_weight: Weight of the median among the quantiles of the loss.
        scale_power: Series weigh (their scale / the sequence's mean scale) to this power: 1 makes the loss count
            physical units, 0 makes every series count the same.
        aggregate_share: Share of the loss that corridors and the network have together, half each, however few tokens
            they are; 0 counts every token alike.
        keep_spots: Smallest share of a sequence's spots that a step shows; which ones, and in which direction, changes
            from step to step, so that no position becomes a spot's name.
        lora_rank: Rank of the change that an adapter makes to each matrix of the model it starts from; 0 changes all.
        conceal_share: Share of the steps in which the panel is shown with holes, which are then to be filled.
        silent_spots: Share of the spots that such a panel hides altogether.
        missing_steps: Share of the other values that it hides in gaps.
        fill_weight: Weight of filling in the loss of such a step, and of forecasts at spots that it hides altogether.
        conceal_every: Steps after which other things are hidden.
        forget_covariates: Share of the windows that are shown without weather and timetable.
        train_share: Share of the windows, from the start, that is trained on.
        calibrate: Stretch the bands until they cover what they say on the validation part.
        seed: Of everything random.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between lines of the log.
    """

    recipe: str
    size: str = "nano"
    model: dict[str, Any] = field(default_factory=dict)
    steps: int = 3000
    tokens_per_step: int = 1920
    learning_rate: float = 2e-3
    warmup: int = 100
    final_rate: float = 0.005
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    median_weight: float = 1.0
    scale_power: float = 0.0
    aggregate_share: float = 0.0
    keep_spots: float = 0.5
    lora_rank: int = 0
    conceal_share: float = 0.25
    silent_spots: float = 0.1
    missing_steps: float = 0.1
    fill_weight: float = 0.3
    conceal_every: int = 250
    forget_covariates: float = 0.1
    train_share: float = 0.6
    calibrate: bool = True
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 20

    def model_config(self) -> MTGPTConfig:
        """The model's configuration."""
        return size(self.size, **self.model)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def single_city(**changes: Any) -> TrainConfig:
    """One city from scratch on two CPU cores: the best forecast of that city for its price."""
    return _build(TrainConfig(recipe="single_city"), changes)


def quick(**changes: Any) -> TrainConfig:
    """A minute on two CPU cores: enough to be ahead of the naive forecasts of a small city."""
    return _build(TrainConfig(recipe="quick", steps=500, warmup=50, average=0.99, checkpoint_every=250), changes)


def joint(**changes: Any) -> TrainConfig:
    """Several cities and modes together, every series counting the same."""
    return _build(TrainConfig(recipe="joint", steps=12_000, scale_power=0.0), changes)


def adapt(**changes: Any) -> TrainConfig:
    """From a pretrained model to a city of which a few days are known: a small adapter in a minute on two CPU cores."""
    return _build(
        TrainConfig(
            recipe="adapt",
            steps=200,
            warmup=20,
            learning_rate=1e-3,
            average=0.97,
            lora_rank=8,
            calibrate=False,
            checkpoint_every=100,
        ),
        changes,
    )


RECIPES = {"single_city": single_city, "quick": quick, "joint": joint, "adapt": adapt}


def recipe(name: str, **changes: Any) -> TrainConfig:
    """A recipe by name, with fields set differently.

    Raises:
        UsageError: No such recipe or field.
    """
    if name not in RECIPES:
        raise UsageError("there is no such recipe", where="--recipe", got=name, expected=", ".join(RECIPES))
    return RECIPES[name](**changes)


def _build(config: TrainConfig, changes: dict[str, Any]) -> TrainConfig:
    unknown = set(changes) - set(TrainConfig.__dataclass_fields__)
    if unknown:
        raise UsageError(
            "a recipe has no such field",
            got=", ".join(sorted(unknown)),
            expected=", ".join(TrainConfig.__dataclass_fields__),
        )
    return checked(replace(config, **changes))
