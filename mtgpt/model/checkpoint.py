"""Models and training states on disk: safetensors and JSON, written aside and renamed, never pickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging as hf_logging

from mtgpt.errors import ModelError, NotFound
from mtgpt.model.low_rank import ADAPTER, read_facts

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from mtgpt.settings import Settings

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TRAINING = "training.json"
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")


def save_model(model: PreTrainedModel, folder: Path, *, training: dict[str, Any]) -> None:
    """Writes weights, configuration and what the model was trained on; a reader sees all of it or nothing."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        model.save_pretrained(aside)
    finally:
        if bars:
            hf_logging.enable_progress_bar()
    (aside / TRAINING).write_text(json.dumps(training, indent=2))
    folder.mkdir(parents=True, exist_ok=True)
    # The weights last: a folder with weights is a whole model.
    for path in sorted(aside.iterdir(), key=lambda p: p.name == WEIGHTS):
        _sync(path)
        path.replace(folder / path.name)
    aside.rmdir()


def refuse_other_sizes(folder: Path) -> None:
    """Looks at a model's configuration before anything is made after it.

    What a configuration leaves out is filled in with the sizes of a large language model, which no laptop can hold.

    Raises:
        ModelError: Not an MT-GPT's configuration, or sizes that these weights cannot have.
    """
    try:
        facts = json.loads((folder / CONFIG).read_text())
        sizes = {key: int(facts[key]) for key in _SIZES}
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - no mapping
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            "the model cannot be loaded",
            where=folder,
            got=str(error).splitlines()[0],
            next_step="copy or train it again",
        ) from error
    weights = sum(math.prod(shape) for shape in shapes)
    largest = sizes["hidden_size"] * max(sizes["intermediate_size"], sizes["vocab_size"])
    if facts.get("model_type") != "mtgpt" or largest > weights or sizes["num_hidden_layers"] > len(shapes):
        raise ModelError(
            "the configuration is not that of these weights",
            where=folder / CONFIG,
            got=", ".join(f"{key} {value}" for key, value in sizes.items()),
            expected=f"an MT-GPT of {weights:,} weights",
            next_step="copy or train it again",
        )


def model_sha256(folder: Path) -> str:
    """Hash of the weights, 64 hex digits: the model's name in every provenance."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_model(settings: Settings, city: str) -> Path:
    """The model to use for a city: its own newest, adapted or trained, else the newest trained on several cities.

    Raises:
        NotFound: There is none.
    """
    seen = _models(settings)
    own = [f for f in seen if city in seen[f]] or [f for f in seen if len(seen[f]) > 1]
    if not own:
        raise NotFound(
            "no model for this city yet",
            where=settings.models,
            expected=", ".join(sorted(f.name for f in seen)) or None,
            next_step=f"train one: mtgpt train {city} --recipe single_city",
        )
    return max(own, key=_made)


def find_base(settings: Settings) -> Path:
    """The newest model that was trained on several cities: what a city can be adapted from.

    Raises:
        NotFound: There is none.
    """
    found = [folder for folder, cities in _models(settings).items() if len(cities) > 1]
    if not found:
        raise NotFound(
            "no model was trained on several cities yet",
            where=settings.models,
            next_step="train one: mtgpt train CITY CITY … --recipe joint, or name one with --model",
        )
    return max(found, key=_made)


def _models(settings: Settings) -> dict[Path, set[str]]:
    """Every model and adapter, with the cities that it knows as its own."""
    if not settings.models.is_dir():
        return {}
    trained = {p.parent: _exposed(p.parent) for p in settings.models.glob(f"*/{WEIGHTS}")}
    adapted = {p.parent: _adapted_to(p.parent) for p in settings.models.glob(f"*/{ADAPTER}")}
    return {**adapted, **trained}


def _made(folder: Path) -> float:
    return max(p.stat().st_mtime for name in (WEIGHTS, ADAPTER) if (p := folder / name).is_file())


def _exposed(folder: Path) -> set[str]:
    try:
        return {e["city"] for e in json.loads((folder / TRAINING).read_text())["exposures"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _adapted_to(folder: Path) -> set[str]:
    try:
        return {str(read_facts(folder)["city"])}
    except (ModelError, KeyError):
        return set()


def save_training_state(
    folder: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    identity: dict[str, Any],
    step: int,
) -> None:
    """Everything that the next step depends on; replaces the last state only when this one is whole."""
    names = {id(p): n for n, p in model.named_parameters()}
    tensors = {f"model.{n}": p.detach() for n, p in model.named_parameters()}
    tensors |= {f"average.{n}": t for n, t in average.items()}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            for key, value in optimiser.state[parameter].items():
                tensors[f"optimiser.{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, aside / "state.safetensors")
    (aside / "state.json").write_text(json.dumps({"step": step, **identity}, indent=2))
    for path in aside.iterdir():
        _sync(path)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_training_state(
    folder: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    *,
    identity: dict[str, Any],
) -> int:
    """Restores a state in place and returns its step; 0 if there is none.

    Raises:
        ModelError: The state is of another configuration or other panels, or cannot be read.
    """
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        old.rename(folder)  # the process ended between the two renames
    if not folder.exists():
        return 0
    try:
        facts = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            "the checkpoint cannot be read", where=folder, got=str(error), next_step="remove it to start anew"
        ) from error
    step = int(facts.pop("step"))
    expected = json.loads(json.dumps(identity))
    if facts != expected:
        parts = [k for k in expected if facts.get(k) != expected[k]]
        raise ModelError(
            "the folder holds a run of another configuration",
            where=folder,
            got=f"another {' and '.join(parts)}",
            next_step="choose another --out, or remove the folder to train anew",
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            average[name].copy_(tensors[f"average.{name}"])
            if not parameter.requires_grad:
                continue
            for key in ("exp_avg", "exp_avg_sq", "step"):
                value = tensors[f"optimiser.{key}.{name}"]
                optimiser.state[parameter][key] = value.to(parameter.device) if key != "step" else value
    return step


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
