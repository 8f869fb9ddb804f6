"""Adapters: a matrix learns a change of low rank (LoRA, Hu et al., ICLR 2022), a vector learns as it is.

The changes sit on the weights as torch's own parametrisations, so the network's code knows nothing of them, and
:func:`merge` turns them into plain weights again: an adapted model is as fast as any other.
Shapes: matrices [D, E], rank R.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize

from mtgpt.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

ADAPTER = "adapter.safetensors"
FACTS = "adapter.json"
ADAPTED = "adapter"
"""Folder, within that of a run, where the adapter alone lies beside the model that it was merged into."""


class LowRank(nn.Module):
    """A matrix plus the product of two thin ones; the second starts at zero, so nothing changes at first."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """[D, E] → [D, E]."""
        return weight + self.up @ self.down


def add_low_rank(model: nn.Module, rank: int) -> None:
    """Freezes every matrix, puts a change of this rank onto each linear layer, and leaves vectors free to learn."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim < 2)
    for module in list(model.modules()):
        if isinstance(module, nn.Linear) and not parametrize.is_parametrized(module):
            rows, columns = module.weight.shape
            change = LowRank(rows, columns, min(rank, rows, columns)).to(module.weight)
            parametrize.register_parametrization(module, "weight", change)
            cast("Any", module).parametrizations.weight.original.requires_grad_(False)


def merge(model: nn.Module) -> None:
    """Turns all changes into plain weights, in place."""
    for module in list(model.modules()):
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def learned(model: nn.Module) -> dict[str, Tensor]:
    """What an adapter consists of, by name: everything that is free to learn."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def save_adapter(tensors: dict[str, Tensor], folder: Path, *, facts: dict[str, Any]) -> None:
    """Writes an adapter; the facts must name ``base_sha256`` and ``rank``."""
    write_facts(folder, facts)
    aside = folder / f"{ADAPTER}.part"
    save_file(tensors, aside)
    # The weights last: a folder with weights is a whole adapter.
    aside.replace(folder / ADAPTER)


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Writes what is known of an adapter; without weights beside it, that there is none and why."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{FACTS}.part"
    aside.write_text(json.dumps(facts, indent=2, sort_keys=True), "utf-8")
    aside.replace(folder / FACTS)


def read_facts(folder: Path) -> dict[str, Any]:
    """What is known of an adapter.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    try:
        facts = json.loads((folder / FACTS).read_text("utf-8"))
        rank, base = int(facts["rank"]), str(facts["base_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError("the adapter cannot be read", where=folder, got=f"{type(error).__name__}: {error}") from None
    if not 1 <= rank <= 1024 or len(base) != hashlib.sha256().digest_size * 2:
        raise ModelError("the adapter cannot be read", where=folder / FACTS, got=f"rank {rank}, base {base[:12]}")
    return facts


def apply_adapter(model: nn.Module, folder: Path, *, base_sha256: str) -> dict[str, Any]:
    """Adapts a base model in place and merges the change.

    Args:
        model: The base.
        folder: Of the adapter.
        base_sha256: Of the base's weights.

    Returns:
        The adapter's facts.

    Raises:
        ModelError: The adapter is damaged, or was made for other weights.
    """
    facts = read_facts(folder)
    if facts["base_sha256"] != base_sha256:
        raise ModelError(
            "the adapter was made for another model",
            where=folder,
            got=base_sha256[:12],
            expected=str(facts["base_sha256"])[:12],
            next_step="adapt this model anew: mtgpt adapt --help",
        )
    try:
        tensors = load_file(folder / ADAPTER)
    except (OSError, SafetensorError) as error:
        raise ModelError("the adapter cannot be read", where=folder, got=str(error).splitlines()[0]) from None
    add_low_rank(model, int(facts["rank"]))
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shapes = {name: tuple(p.shape) for name, p in own.items()}
    if shapes != {name: tuple(t.shape) for name, t in tensors.items()}:
        merge(model)
        raise ModelError("the adapter does not fit its model", where=folder, next_step="adapt the model anew")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
    merge(model)
    return facts
