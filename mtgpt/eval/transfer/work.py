"""Doing the cells of a plan: pre-trainings first, then one cell after the other or several at once.

Every cell is a function of the plan, the panels and itself alone, with one thread, so a table comes out the same
whether its cells were done in one go, in pieces or side by side.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch

from mtgpt.errors import ModelError, PanelError
from mtgpt.eval.baselines import baselines
from mtgpt.eval.foundation import foundation
from mtgpt.eval.graph_wavenet import train_graph_wavenet
from mtgpt.eval.ridge import fit_ridge
from mtgpt.eval.score import coherent
from mtgpt.eval.stid import train_stid
from mtgpt.eval.transfer.cells import ALONE, FOUNDATION, NAIVE, OURS, RIDGE, STID, Cell, Results
from mtgpt.eval.transfer.days import days_before_test, test_cuts
from mtgpt.eval.transfer.exposure import require_unseen
from mtgpt.eval.transfer.plan import FULL, ZERO, load_plan
from mtgpt.eval.transfer.tally import tally
from mtgpt.model.checkpoint import WEIGHTS
from mtgpt.model.low_rank import FACTS, read_facts
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.panel.store import latest_panel
from mtgpt.settings import share_cores
from mtgpt.train.adapt import adapt
from mtgpt.train.data import split
from mtgpt.train.loop import train
from mtgpt.train.recipes import recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mtgpt.eval.transfer.plan import Plan
    from mtgpt.eval.transfer.tally import Answer
    from mtgpt.panel.panel import Panel
    from mtgpt.settings import Settings
    from mtgpt.train.recipes import TrainConfig

PLAN = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """One model to be made before the cells that need it."""

    group: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"without-{'-'.join(self.group)}-{self.seed}"


def pretrainings(plan: Plan, wanted: Sequence[Cell]) -> list[Pretraining]:
    """The models that these cells start from, each once."""
    needed = {(plan.group(cell.target), cell.seed) for cell in wanted if cell.competitor == OURS}
    return [
        Pretraining(group=group, seed=seed) for group in plan.held_out for seed in plan.seeds if (group, seed) in needed
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One job that ended.

    Attributes:
        name: Of the job.
        seconds: It took.
        problem: Why it could not be measured; None where it was.
    """

    name: str
    seconds: float
    problem: str | None = None


def do(
    folder: Path,
    wanted: Sequence[Cell],
    *,
    settings: Settings,
    workers: int = 1,
    threads: int = 1,
    progress: Callable[[Done, int, int], None] | None = None,
) -> None:
    """Does what is not done yet.

    Args:
        folder: Of the results; holds the plan.
        wanted: Cells.
        settings: Where the panels are.
        workers: Processes side by side.
        threads: Of each; another number may change the last digits.
        progress: Called with each job that ended, how many have ended, and how many there are.

    Raises:
        MTGPTError: A job failed; what was done stays.
    """
    plan, results = load_plan(folder / PLAN), Results(folder=folder)
    missing = [cell for cell in wanted if not results.has(cell)]
    first = [one for one in pretrainings(plan, missing) if not (folder / "models" / one.name / WEIGHTS).is_file()]
    total, ended = len(first) + len(missing), 0
    for jobs in (first, missing):
        for done in _run(folder, jobs, settings, workers, threads):
            ended += 1
            if progress is not None:
                progress(done, ended, total)


def _run(
    folder: Path, jobs: Sequence[Cell | Pretraining], settings: Settings, workers: int, threads: int
) -> Iterator[Done]:
    if workers == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            for job in jobs:
                yield _job(folder, job, settings)
        finally:
            torch.set_num_threads(before)
        return
    # Spawned, not forked: torch's and Polars' threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(threads,)) as pool:
        running = [pool.submit(_job, folder, job, settings) for job in jobs]
        try:
            for one in as_completed(running):
                yield one.result()
        finally:
            for one in running:
                one.cancel()


def _begin(threads: int) -> None:
    share_cores()
    torch.set_num_threads(threads)


def _job(folder: Path, job: Cell | Pretraining, settings: Settings) -> Done:
    began, problem = time.monotonic(), None
    plan = load_plan(folder / PLAN)
    if isinstance(job, Pretraining):
        _pretrain(plan, job, folder, settings)
    else:
        problem = _Work(plan=plan, folder=folder, panel=latest_panel(settings, job.target), settings=settings).cell(job)
    return Done(name=job.name, seconds=time.monotonic() - began, problem=problem)


def _pretrain(plan: Plan, job: Pretraining, folder: Path, settings: Settings) -> None:
    config = recipe(plan.pretrain.name, **{**plan.pretrain.changes, "seed": job.seed})
    panels = [latest_panel(settings, city) for city in plan.sources(job.group)]
    train(config, panels, folder / "models" / job.name, device="cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    plan: Plan
    folder: Path
    panel: Panel
    settings: Settings

    def cell(self, cell: Cell) -> str | None:
        """Does and keeps one cell; returns why it could not be measured."""
        results = Results(folder=self.folder)
        began = time.perf_counter()
        try:
            if cell.competitor in (OURS, ALONE):
                answer, facts = self._network(cell)
                levels = facts.pop("levels")
                patch = facts.pop("patch")
            else:
                levels, patch, facts = None, 12, {}
                answer = self._rival(cell, patch)
        except PanelError as error:
            # A city with too few days for a setting: the table says so instead of leaving it out.
            results.put(cell, None, {"problem": error.sentence()})
            return error.sentence()
        if answer is None:
            problem = "no weights on this machine"
            results.put(cell, None, {"problem": problem})
            return problem
        ready = time.perf_counter() - began
        cuts = test_cuts(self.panel, patch=patch, stride=self.plan.stride)
        found = tally(self.panel, answer, cuts, patch=patch, levels=levels)
        facts |= {
            "seconds_to_learn": round(ready, 2),
            "series_per_second": round(len(cuts) * self.panel.n_series / max(found.seconds, 1e-9), 1),
            "windows": len(cuts),
            "levels": None if levels is None else list(levels),
            "panel_id": self.panel.meta.panel_id,
            "plan": self.plan.sha256,
        }
        results.put(cell, found, facts)
        return None

    def _network(self, cell: Cell) -> tuple[Answer, dict[str, Any]]:
        folder = self.folder / "models" / cell.name
        pretrained = self.folder / "models" / Pretraining(group=self.plan.group(cell.target), seed=cell.seed).name
        facts: dict[str, Any] = {}
        if cell.competitor == ALONE:
            model = self._alone(cell, folder)
        else:
            require_unseen(pretrained, self.plan.group(cell.target))
            if cell.setting == ZERO:
                model = MTGPT.from_pretrained(pretrained)
            elif cell.setting == FULL:
                config = self._config(self.plan.alone.name, self.plan.alone.changes, cell.seed)
                # The same budget as from scratch, so that only the start differs.
                train(config, [self._shown(cell)], folder, device="cpu", start_from=pretrained)
                model = MTGPT.from_pretrained(folder)
            else:
                model, facts["guard"] = self._adapted(cell, pretrained, folder)
        facts |= {"model_sha256": model.fingerprint(), "levels": tuple(model.config.quantile_levels)}
        facts["patch"] = model.config.patch
        forecaster = Forecaster(model, self.panel)

        def answer(cuts: NDArray[np.integer]) -> NDArray[np.floating]:
            return coherent(forecaster, cuts, "wls")

        return answer, facts

    def _alone(self, cell: Cell, folder: Path) -> MTGPT:
        config = self._config(self.plan.alone.name, self.plan.alone.changes, cell.seed)
        windows = None
        if cell.setting != FULL:
            # There is no validation part to set the bands on.
            config = replace(config, calibrate=False)
            windows = [days_before_test(self.panel, int(cell.setting), patch=config.model_config().patch).whole]
        if not (folder / WEIGHTS).is_file():
            train(config, [self._shown(cell)], folder, device="cpu", windows=windows)
        return MTGPT.from_pretrained(folder)

    def _adapted(self, cell: Cell, pretrained: Path, folder: Path) -> tuple[MTGPT, dict[str, Any]]:
        config = self._config(self.plan.adapt.name, self.plan.adapt.changes, cell.seed)
        if not (folder / FACTS).is_file():
            end = split(self.panel.n_step, patch=config.model_config().patch).test[0]
            adapt(pretrained, self.panel, folder, days=int(cell.setting), config=config, end=end, device="cpu")
        guard = read_facts(folder)["guard"]
        return MTGPT.from_pretrained(folder if guard["used"] else pretrained), guard

    def _rival(self, cell: Cell, patch: int) -> Answer | None:
        panel = self.panel
        bounds = split(panel.n_step, patch=patch)
        if cell.competitor in NAIVE:
            return baselines(panel, patch=patch, train_end=bounds.train[1] + patch)[cell.competitor]
        if cell.competitor in FOUNDATION:
            return foundation(cell.competitor, panel, patch=patch, settings=self.settings)
        cuts = bounds.train if cell.setting == FULL else days_before_test(panel, int(cell.setting), patch=patch).whole
        if cell.competitor == RIDGE:
            return fit_ridge(panel, patch=patch, cuts=cuts, seed=cell.seed)
        if cell.competitor == STID:
            return train_stid(panel, patch=patch, cuts=cuts, seed=cell.seed)
        return train_graph_wavenet(panel, patch=patch, cuts=cuts, seed=cell.seed)

    def _shown(self, cell: Cell) -> Panel:
        """The panel without its test part: what a training on the target may be handed at all."""
        end = split(self.panel.n_step).test[0] + 1
        return self.panel if cell.setting == FULL else self.panel.slice(0, end)

    def _config(self, name: str, changes: dict[str, Any], seed: int) -> TrainConfig:
        config = recipe(name, **{**changes, "seed": seed})
        if config.steps < 1:
            raise ModelError("the plan's recipe does nothing", got=config.steps)
        return config
