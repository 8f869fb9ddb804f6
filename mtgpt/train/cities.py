"""Training by name: which cities, which recipe, which folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from mtgpt.errors import UsageError
from mtgpt.panel.store import latest_panel
from mtgpt.train.loop import Trained, train
from mtgpt.train.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mtgpt.settings import Settings


def train_cities(
    cities: Sequence[str],
    *,
    settings: Settings,
    recipe_name: str = "single_city",
    name: str | None = None,
    changes: dict[str, Any] | None = None,
    device: str | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Trains on the newest panels of some cities; the model lands under ``settings.models``.

    Args:
        cities: City ids with a panel.
        settings: Of this workspace.
        recipe_name: See :mod:`mtgpt.train.recipes`.
        name: Of the run; by default the cities and the recipe.
        changes: Fields of the recipe to set differently.
        device: ``cpu``, ``cuda``, ``npu`` or None for the best there is.
        progress: Called with (step, steps, loss).

    Raises:
        UsageError: No city, an unusable name, or an unknown recipe or field.
        NotFound: A city has no panel.
        ModelError: See :func:`mtgpt.train.loop.train`.
    """
    if not cities:
        raise UsageError("no city to train on", expected="at least one city with a panel")
    config = recipe(recipe_name, **(changes or {}))
    label = name or f"{'-'.join(cities) if len(cities) < 4 else f'{len(cities)}-cities'}-{recipe_name}"
    run_name(label)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    panels = [latest_panel(settings, city) for city in cities]
    return train(config, panels, settings.models / label, device=device, progress=progress)


def run_name(label: str) -> str:
    """The label, if it can name a run's folder.

    Raises:
        UsageError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", label):
        raise UsageError(
            "a run's name is a plain folder name", where="--name", got=label, expected="letters, digits, . _ -"
        )
    return label
