"""Few-shot adaptation: a pretrained model and a few days of a city in, a small adapter and a decision out.

The last visible day decides. A trial is adapted on the days before it and compared there with the model as it was;
only where it is better is the adapter made, from all visible days. Otherwise the model stays as it was, and the facts
say so: an adaptation never makes a city's forecasts worse on the last day that is known.
Shapes: B cuts, S series, P steps.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.errors import UsageError
from mtgpt.model.checkpoint import WEIGHTS
from mtgpt.model.low_rank import ADAPTED, ADAPTER, write_facts
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.train.loop import train
from mtgpt.train.scaling import SeriesScale
from mtgpt.train.visible import visible_days

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mtgpt.panel.panel import Panel
    from mtgpt.train.recipes import TrainConfig

_JUDGED_CUTS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What an adaptation came to.

    Attributes:
        folder: Of the adapter; the model itself where it was not adapted.
        used: Whether the adaptation is used.
        error_before: Mean absolute error of the model as it was on the deciding steps, in units of each series' own
            standard deviation.
        error_after: The same of the trial.
        days: Visible days.
        seconds: Of both trainings and the decision.
    """

    folder: Path
    used: bool
    error_before: float
    error_after: float
    days: int
    seconds: float

    def sentence(self) -> str:
        """What happened, for people."""
        change = 100 * (self.error_after / self.error_before - 1) if self.error_before else 0.0
        if self.used:
            return f"Adapted on {self.days} days: {-change:.1f} % less error on the last of them than without."
        return (
            f"Not adapted: on the last of {self.days} days the adaptation was {change:+.1f} % off the model as it is, "
            "so that one goes on answering."
        )


def adapt(
    model: Path,
    panel: Panel,
    folder: Path,
    *,
    days: int,
    config: TrainConfig,
    end: int | None = None,
    device: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Adapted:
    """Adapts a pretrained model to a city.

    Args:
        model: Folder of the pretrained model.
        panel: The city.
        folder: Where the adapter goes; runs that were stopped go on in it.
        days: Whole service days that may be seen.
        config: A recipe with a ``lora_rank``.
        end: Last visible step; the panel's last if not given.
        device: ``cpu``, ``cuda``, ``npu`` or None for the best there is.
        progress: Called with (step, steps) over both trainings.

    Raises:
        UsageError: The recipe trains no adapter.
        PanelError: The city has too few whole days.
        ModelError: The model cannot be loaded, or the folder holds another run.
    """
    if config.lora_rank < 1:
        raise UsageError("the recipe trains no adapter", where="lora_rank", got=config.lora_rank, expected="1 or more")
    began = time.monotonic()
    base = MTGPT.from_pretrained(model)
    patch = base.config.patch
    visible = visible_days(panel, days, patch=patch, end=end)
    seen = panel.slice(0, visible.whole[1] + patch)

    def run(name: str, cuts: tuple[int, int], offset: int) -> Path:
        def report(step: int, steps: int, _loss: float) -> None:
            if progress is not None:
                progress(offset + step, 2 * steps)

        if not (folder / name / WEIGHTS).is_file():
            train(config, [seen], folder / name, start_from=model, windows=[cuts], device=device, progress=report)
        return folder / name

    trial = MTGPT.from_pretrained(run("trial", visible.fit, 0))
    before, after = (_error(one, seen, visible.judge) for one in (base, trial))
    used = after < before
    if used:
        shutil.copyfile(run("whole", visible.whole, config.steps) / ADAPTED / ADAPTER, folder / f"{ADAPTER}.part")
    facts = {
        "base": model.name,
        "base_path": os.path.relpath(model.resolve(), folder.resolve()),
        "base_sha256": base.fingerprint(),
        "rank": config.lora_rank,
        "city": panel.meta.city,
        "panel_id": panel.meta.panel_id,
        "days": days,
        "from": str(panel.time[visible.whole[0] + 1]),
        "until": str(panel.time[visible.whole[1] + patch - 1]),
        "guard": {"used": used, "error_before": before, "error_after": after},
        "config": config.as_dict(),
    }
    write_facts(folder, facts)
    if used:
        (folder / f"{ADAPTER}.part").replace(folder / ADAPTER)
    for name in ("trial", "whole"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return Adapted(
        folder=folder if used else model,
        used=used,
        error_before=before,
        error_after=after,
        days=days,
        seconds=time.monotonic() - began,
    )


def _error(model: MTGPT, panel: Panel, judge: tuple[int, int]) -> float:
    """Mean absolute error of the median over the spots, in units of each one's standard deviation before."""
    patch = model.config.patch
    cuts = np.unique(np.linspace(judge[0], judge[1] - 1, min(_JUDGED_CUTS, judge[1] - judge[0])).astype(int))
    spots = panel.n_spot
    values = np.asarray(panel.values, np.float32)[:, :spots]
    scale = SeriesScale.of(values[: judge[0] + 1])
    forecaster = Forecaster(model, panel)
    middle = list(model.config.quantile_levels).index(0.5)
    total = cells = 0.0
    for some in np.array_split(cuts, max(1, len(cuts) // 16)):
        said = forecaster.quantiles(some)[:, :spots, :, middle]
        truth = values[some[:, None] + np.arange(1, patch + 1)].transpose(0, 2, 1)
        error = np.abs(said - truth) / scale.scale[:, None]
        known = np.isfinite(error)
        total += float(error[known].sum())
        cells += int(known.sum())
    return total / cells if cells else math.inf
