"""The cells of a transfer table: one competitor on one target in one setting with one seed; each is kept as it is done.

A cell's result is two files, written aside and renamed: sums by day (Parquet) and facts (JSON). What is there is never
done again, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.errors import UsageError
from mtgpt.eval.baselines import BASELINES
from mtgpt.eval.transfer.plan import FULL, ZERO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mtgpt.eval.transfer.plan import Plan
    from mtgpt.eval.transfer.tally import Tally

OURS = "MT-GPT"
ALONE = "MT-GPT, target only"
RIDGE = "ridge"
STID = "STID-like"
WAVENET = "Graph WaveNet-like"
CHRONOS = "Chronos"
TIMESFM = "TimesFM"
NAIVE = BASELINES
NETWORKS = (STID, WAVENET)
FOUNDATION = (CHRONOS, TIMESFM)
COMPETITORS = (OURS, ALONE, *NAIVE, RIDGE, *NETWORKS, *FOUNDATION)
ALWAYS = "always"
"""Setting of a competitor that learns nothing and sees all of the past."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One entry of the table.

    Attributes:
        target: City.
        competitor: One of :data:`COMPETITORS`.
        setting: ``zero``, a number of days, ``full``, or :data:`ALWAYS`.
        seed: 0 where nothing is random.
    """

    target: str
    competitor: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """A file's name."""
        competitor = re.sub(r"[^a-z0-9]+", "-", self.competitor.lower()).strip("-")
        return f"{self.target}.{competitor}.{self.setting}.{self.seed}"

    def facts(self) -> dict[str, Any]:
        """For JSON and tables."""
        return {
            "target": self.target,
            "competitor": self.competitor,
            "setting": self.setting,
            "seed": self.seed,
        }


def cells(plan: Plan, *, competitors: Sequence[str] | None = None, targets: Sequence[str] | None = None) -> list[Cell]:
    """All cells of a plan, cheap ones first.

    Args:
        plan: The plan.
        competitors: Only these.
        targets: Only these.

    Raises:
        UsageError: An unknown competitor or target.
    """
    wanted = COMPETITORS if competitors is None else tuple(competitors)
    places = plan.targets if targets is None else tuple(targets)
    for what, given, known in (("competitor", wanted, COMPETITORS), ("target", places, plan.targets)):
        unknown = [one for one in given if one not in known]
        if unknown:
            raise UsageError(f"no such {what}", got=", ".join(unknown), expected=", ".join(known))
    order = (*NAIVE, RIDGE, OURS, ALONE, *NETWORKS, *FOUNDATION)
    return [
        cell
        for competitor in sorted(wanted, key=order.index)
        for target in places
        for cell in _of(plan, target, competitor)
    ]


def _of(plan: Plan, target: str, competitor: str) -> Iterator[Cell]:
    days = [str(one) for one in plan.days]
    settings = {OURS: [ZERO, *days, FULL], ALONE: [*days, FULL], RIDGE: [*days, FULL], STID: [*days, FULL]}
    if competitor in NAIVE:
        names, seeds = [ALWAYS], (0,)
    elif competitor in FOUNDATION:
        names, seeds = [ZERO], (0,)
    else:
        names = settings.get(competitor, [FULL])
        seeds = (0,) if competitor == RIDGE else plan.seeds
    for setting in names:
        for seed in seeds:
            yield Cell(target=target, competitor=competitor, setting=setting, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The cells that are done, in a folder.

    Attributes:
        folder: Of one plan's results.
    """

    folder: Path

    def has(self, cell: Cell) -> bool:
        """Whether the cell is done. The facts are written last."""
        return self._facts(cell).is_file()

    def put(self, cell: Cell, tally: Tally | None, facts: dict[str, Any]) -> None:
        """Keeps a cell; ``tally`` is None where it could not be measured, and the facts say why."""
        folder = self.folder / "cells"
        folder.mkdir(parents=True, exist_ok=True)
        if tally is not None:
            for frame, path in ((tally.spots, self._spots(cell)), (tally.sums, self._sums(cell))):
                aside = path.with_suffix(".part")
                frame.write_parquet(aside)
                _settle(aside, path)
        aside = self._facts(cell).with_suffix(".part")
        aside.write_text(json.dumps({**cell.facts(), **facts}, indent=1, sort_keys=True), "utf-8")
        _settle(aside, self._facts(cell))

    def facts(self, cell: Cell) -> dict[str, Any]:
        """What is known of a cell that is done."""
        return json.loads(self._facts(cell).read_text("utf-8"))

    def sums(self, cell: Cell) -> pl.DataFrame | None:
        """The cell's sums by day; None where it could not be measured."""
        path = self._sums(cell)
        return pl.read_parquet(path) if path.is_file() else None

    def spots(self, cell: Cell) -> pl.DataFrame | None:
        """The cell's errors by place; None where it could not be measured."""
        path = self._spots(cell)
        return pl.read_parquet(path) if path.is_file() else None

    def _spots(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.spots.parquet"

    def _sums(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.parquet"

    def _facts(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{cell.name}.json"


def _settle(aside: Path, path: Path) -> None:
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)
