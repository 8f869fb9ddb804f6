"""The training loop: one JSONL log, checkpoints that resume bit-identically, one process or many.

Every random decision of a step is a function of (seed, step, rank), so a resumed run repeats exactly what an
uninterrupted one would have done. Checkpoints are safetensors and JSON; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from mtgpt.errors import ModelError
from mtgpt.model.checkpoint import TRAINING, load_training_state, save_model, save_training_state
from mtgpt.model.device import choose_device
from mtgpt.model.low_rank import ADAPTED, add_low_rank, learned, merge, save_adapter
from mtgpt.model.mtgpt import MTGPT
from mtgpt.model.network import pinball
from mtgpt.tokens.vocabulary import LEVELS
from mtgpt.train.calibrate import calibrate
from mtgpt.train.data import Batch, City, Draws, make_city, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from mtgpt.model.device import Device
    from mtgpt.panel.panel import Panel
    from mtgpt.train.recipes import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a run left behind.

    Attributes:
        folder: Of the run.
        steps: Steps done in all.
        seconds: Of this process, from the first to the last step.
        loss: Of the last step.
        resumed_at: Step of the checkpoint it went on from, 0 for none.
        rank: Of this process among those that trained together; 0 speaks for all.
    """

    folder: Path
    steps: int
    seconds: float
    loss: float
    resumed_at: int
    rank: int


def train(
    config: TrainConfig,
    panels: Sequence[Panel],
    folder: Path,
    *,
    device: str | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    stop_after: int | None = None,
    start_from: Path | None = None,
    windows: Sequence[tuple[int, int]] | None = None,
) -> Trained:
    """Trains a model on the training share of some panels.

    The folder gets ``log.jsonl``, ``checkpoint/`` (the last one) and, at the end, the model itself. If it holds a
    checkpoint of the same configuration and panels, the run goes on from there.

    Args:
        config: From a recipe.
        panels: One or more.
        folder: Of the run.
        device: ``cpu``, ``cuda`` or ``npu``; None for the best there is.
        progress: Called with (step, steps, loss) as the run goes on.
        stop_after: Leave after this many steps in all, with a checkpoint; for schedulers with a time limit.
        start_from: Folder of a model whose weights the run starts with; its shape stands for the recipe's.
        windows: Per panel, first and one-past-last cut to train on instead of the training share.

    Raises:
        ModelError: The folder holds a run of another configuration, or the loss is not finite.
        PanelError: A panel is too short.
    """
    where = choose_device(device)
    with _processes(where) as (rank, world):
        return _train(
            config,
            panels,
            folder,
            where=where,
            rank=rank,
            world=world,
            progress=progress,
            stop_after=stop_after,
            start_from=start_from,
            windows=windows,
        )


def _train(
    config: TrainConfig,
    panels: Sequence[Panel],
    folder: Path,
    *,
    where: Device,
    rank: int,
    world: int,
    progress: Callable[[int, int, float], None] | None,
    stop_after: int | None,
    start_from: Path | None,
    windows: Sequence[tuple[int, int]] | None,
) -> Trained:
    torch.manual_seed(config.seed)
    model, origin = _begin(config, start_from)
    shape = model.config
    cities = [
        make_city(
            p,
            patch=shape.patch,
            train_share=config.train_share,
            context_patches=shape.context_patches,
            cuts=None if windows is None else windows[i],
        )
        for i, p in enumerate(panels)
    ]
    model.to(device=where.device)  # pyright: ignore[reportCallIssue, reportArgumentType] - wrapped by transformers
    average = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimiser = _optimiser(model, config)
    identity = {"config": config.as_dict(), "panels": [p.meta.panel_id for p in panels], "processes": world, **origin}
    if windows is not None:
        identity["windows"] = [list(one) for one in windows]
    start = load_training_state(folder / "checkpoint", model, average, optimiser, identity=identity)
    if start == 0 and (folder / "model.safetensors").exists():
        raise ModelError(
            "the folder holds a finished model",
            where=folder,
            next_step="choose another --out, or remove the folder to train anew",
        )
    module: nn.Module = DistributedDataParallel(model) if world > 1 else model
    levels = torch.tensor(shape.quantile_levels, device=where.device)
    weights = torch.where(levels == 0.5, config.median_weight, 1.0)
    draws = Draws(cities, config, rank, context_patches=shape.context_patches)
    end = min(config.steps, stop_after or config.steps)
    began, loss_value, recent = time.monotonic(), math.nan, []
    with _log(folder / "log.jsonl", start, rank) as log:
        log({"event": "start", "step": start, **identity, "device": str(where.device), "reason": where.reason})
        model.train()
        for step in range(start, end):
            rate = _rate(config, step)
            for group in optimiser.param_groups:
                group["lr"] = rate
            batch = draws(step).to(where.device)
            # Whatever is random in the network is decided by the step too, so that a resumed run repeats it.
            torch.manual_seed(((config.seed * world + rank) * 2**32 + step) % 2**63)
            loss = batch_loss(module(**batch.inputs), batch, levels, weights, config)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            loss_value = float(loss.detach())
            if not math.isfinite(loss_value):
                raise ModelError(
                    "the loss is not finite any more",
                    where=f"step {step}",
                    got=loss_value,
                    next_step="lower learning_rate in the recipe; the last checkpoint is untouched",
                )
            optimiser.step()
            # Young averages follow quickly, so that the random start is soon forgotten.
            _follow(average, model, min(config.average, (step + 1) / (step + 10)))
            recent.append(loss_value)
            if (step + 1) % config.log_every == 0 or step + 1 == end:
                log(
                    {
                        "event": "step",
                        "step": step + 1,
                        "loss": sum(recent) / len(recent),
                        "learning_rate": rate,
                        "gradient_norm": float(norm),
                        "seconds": round(time.monotonic() - began, 2),
                    }
                )
                recent.clear()
            if rank == 0 and progress is not None:
                progress(step + 1, config.steps, loss_value)
            if rank == 0 and ((step + 1) % config.checkpoint_every == 0 or step + 1 == end):
                save_training_state(folder / "checkpoint", model, average, optimiser, identity=identity, step=step + 1)
        if end == config.steps and rank == 0:
            stretch = _finish(model, average, config, panels, folder, base=origin.get("base"))
            save_model(model, folder, training=_card(config, panels, cities, where, start_from))
            bands = None if stretch is None else [round(float(x), 3) for x in stretch]
            log({"event": "end", "step": end, "band_stretch": bands, "seconds": round(time.monotonic() - began, 2)})
    return Trained(
        folder=folder, steps=end, seconds=time.monotonic() - began, loss=loss_value, resumed_at=start, rank=rank
    )


def _finish(
    model: MTGPT,
    average: dict[str, Tensor],
    config: TrainConfig,
    panels: Sequence[Panel],
    folder: Path,
    *,
    base: str | None,
) -> NDArray[np.float32] | None:
    """Turns the model into what is kept: averaged weights, merged changes, stretched bands (returned)."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(average[name])
    if config.lora_rank:
        # Beside the whole model, which answers; the adapter alone is what is kept and passed on.
        save_adapter(learned(model), folder / ADAPTED, facts={"rank": config.lora_rank, "base_sha256": base})
        merge(model)
    return calibrate(model, panels, train_share=config.train_share) if config.calibrate else None


def batch_loss(quantiles: Tensor, batch: Batch, levels: Tensor, weights: Tensor, config: TrainConfig) -> Tensor:
    """Mean pinball loss over what was measured, of the next patch and, where asked for, of filling the patch itself.

    See :class:`mtgpt.train.recipes.TrainConfig` for the weights.
    """
    loss = (pinball(quantiles, batch.truth, levels) * weights).sum(-1) / weights.sum()
    importance = batch.seen.to(loss.dtype)
    if config.scale_power:
        share = (batch.scale / batch.scale.mean(1, keepdim=True)) ** config.scale_power
        importance = importance * share[:, None, :, None]
    patch = quantiles.shape[-2] // (2 if "gap_anchors" in batch.inputs else 1)
    # The last P steps are the forecast, what stands before them is filled.
    ahead = importance[..., -patch:]
    if config.aggregate_share:
        ahead = ahead * _level_weights(ahead, batch.inputs["kinds"][..., 2], config.aggregate_share)
    # Where nothing is ever measured errors are large: at full weight they would drown what can be known better.
    ahead = ahead * torch.where(batch.silent, config.fill_weight, 1.0)[:, None, :, None]
    total = (loss[..., -patch:] * ahead).sum() / ahead.sum().clamp(min=1e-6)
    if loss.shape[-1] > patch:
        filled = importance[..., :-patch]
        total = total + config.fill_weight * (loss[..., :-patch] * filled).sum() / filled.sum().clamp(min=1e-6)
    return total


def _level_weights(importance: Tensor, level: Tensor, aggregate_share: float) -> Tensor:
    """[B, 1, N, 1] so that each level's importance adds up to its share; a level that is absent takes no part.

    Args:
        importance: [B, K, N, P].
        level: [B, N] ids.
        aggregate_share: Of all but the spots.
    """
    out = torch.zeros_like(importance[:, :1, :, :1])
    for i, name in enumerate(LEVELS):
        mine = (level == i)[:, None, :, None]
        total = (importance * mine).sum()
        share = 1 - aggregate_share if name == "spot" else aggregate_share / (len(LEVELS) - 1)
        out = out + mine * (share / total.clamp(min=1e-6))
    return out


def _begin(config: TrainConfig, start_from: Path | None) -> tuple[MTGPT, dict[str, str]]:
    """The model at step 0, and what names its origin."""
    if start_from is None:
        if config.lora_rank:
            raise ModelError(
                "a change of low rank needs a model to change",
                where="lora_rank",
                got=config.lora_rank,
                next_step="start from a model, or set lora_rank to 0",
            )
        return MTGPT(config.model_config()), {}
    model = MTGPT.from_pretrained(start_from)
    origin = {"base": model.fingerprint()}
    if config.lora_rank:
        add_low_rank(model, config.lora_rank)
    return model, origin


def _optimiser(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    free = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in free if p.ndim >= 2]
    vectors = [p for p in free if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def _rate(config: TrainConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    wave = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * wave)


@torch.no_grad()
def _follow(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    for name, parameter in model.named_parameters():
        average[name].lerp_(parameter, 1 - decay)


@contextlib.contextmanager
def _processes(where: Device) -> Iterator[tuple[int, int]]:
    """Rank and number of processes; joins the group that torchrun announced, if any."""
    if not distributed.is_torchelastic_launched():
        yield 0, 1
        return
    distributed.init_process_group(where.backend)
    try:
        yield distributed.get_rank(), distributed.get_world_size()
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def _log(path: Path, start: int, rank: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    if rank != 0:
        yield lambda _: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        # Lines written after the checkpoint belong to steps that are about to be repeated.
        lines = [line for line in path.read_text().splitlines() if line and json.loads(line)["step"] <= start]
        path.write_text("".join(line + "\n" for line in lines))
    with path.open("a") as file:

        def write(line: dict[str, Any]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield write


def _card(
    config: TrainConfig, panels: Sequence[Panel], cities: Sequence[City], where: Device, start_from: Path | None
) -> dict[str, Any]:
    """What the model has seen: the exposure ledger of this checkpoint, that of its origin included."""
    before = {} if start_from is None else json.loads((start_from / TRAINING).read_text("utf-8"))
    return {
        "config": config.as_dict(),
        "device": str(where.device),
        "exposures": [
            *before.get("exposures", []),
            *(
                {
                    "city": p.meta.city,
                    "panel_id": p.meta.panel_id,
                    "simulated": p.meta.simulated,
                    "table_versions": p.meta.table_versions,
                    # Weights have seen what lies between these two; the width of the bands also what follows.
                    "from": str(p.time[0]),
                    "until": str(p.time[min(c.cuts[1] + 11, len(p.time) - 1)]),
                    "bands_until": _bands_until(p, config.train_share) if config.calibrate else None,
                }
                for p, c in zip(panels, cities, strict=True)
            ),
        ],
    }


def _bands_until(panel: Panel, train_share: float) -> str:
    return str(panel.time[min(split(panel.n_step, train=train_share).validation[1] + 11, panel.n_step - 1)])
