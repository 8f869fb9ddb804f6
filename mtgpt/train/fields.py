"""Whether the fields of a recipe that a person has set can mean anything; all faults are found before a run starts."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mtgpt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.train.recipes import TrainConfig

_KINDS: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "dict": (dict,),
}
_WORDS: Mapping[str, str] = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a name",
    "dict": "a JSON object",
}
_MOST = 10**9
# Field: least and most; a field that is not here may be any number from 0 on.
_RANGES: Mapping[str, tuple[float, float]] = {
    "steps": (1, _MOST),
    "tokens_per_step": (1, _MOST),
    "learning_rate": (1e-9, 10),
    "final_rate": (0, 1),
    "clip": (1e-9, _MOST),
    "average": (0, 1),
    "aggregate_share": (0, 0.9),
    "keep_spots": (1e-3, 1),
    "conceal_share": (0, 1),
    "silent_spots": (0, 0.9),
    "missing_steps": (0, 0.9),
    "conceal_every": (1, _MOST),
    "forget_covariates": (0, 1),
    "train_share": (0.05, 0.95),
    "checkpoint_every": (1, _MOST),
    "log_every": (1, _MOST),
}


def checked(config: TrainConfig) -> TrainConfig:
    """The same configuration.

    Raises:
        UsageError: A field has the wrong type or lies outside what it can be.
    """
    for field in fields(config):
        _check(field.name, str(field.type).partition("[")[0], getattr(config, field.name))
    return config


def _check(name: str, kind: str, value: Any) -> None:
    # JSON's true is Python's 1.
    if not isinstance(value, _KINDS[kind]) or (kind != "bool" and isinstance(value, bool)):
        raise UsageError("wrong type", where=f"--set {name}", got=value, expected=_WORDS[kind])
    if kind in {"int", "float"}:
        least, most = _RANGES.get(name, (0, _MOST))
        if not math.isfinite(value) or not least <= value <= most:
            raise UsageError("out of range", where=f"--set {name}", got=value, expected=f"{least:g} to {most:g}")
