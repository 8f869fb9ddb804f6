"""Scores a model and the baselines on a part of a panel that none of them was trained on.

All windows of the part count (12 → 12 steps at the panel's interval unless the model's patch says otherwise), every
series, every step, explicit masks: see :mod:`mtgpt.eval.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.errors import UsageError
from mtgpt.eval.baselines import Baseline, baselines
from mtgpt.eval.metrics import Score, ScoreSum
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.train.data import split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mtgpt.model.reconcile import Method
    from mtgpt.panel.panel import Panel

PARTS = ("validation", "test")
OURS = "MT-GPT"
_TOKENS_AT_ONCE = 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of everything that was compared.

    Attributes:
        sums: Per name, the score sums over all series of the panel.
        part: ``validation`` or ``test``.
        windows: How many windows were scored.
        series: The panel's series table.
    """

    sums: Mapping[str, ScoreSum]
    part: str
    windows: int
    series: pl.DataFrame

    def score(self, name: str, *, level: str = "spot") -> Score:
        """One competitor's score over the series of one level."""
        return self.sums[name].score((self.series["level"] == level).to_numpy())

    def frame(self) -> pl.DataFrame:
        """Long table: model, level, variable, unit, horizon_step (0 = average), the metrics, and n cells."""
        units = {(r["level"], r["variable"]): r["unit"] for r in self.series.iter_rows(named=True)}
        rows: list[dict[str, Any]] = []
        for name, sums in self.sums.items():
            for (level, variable), score in sums.by(self.series).items():
                key = {"model": name, "level": level, "variable": variable, "unit": units[level, variable]}
                for step in range(sums.shape[1] + 1):
                    values = score.averaged if step == 0 else {n: v[step - 1] for n, v in score.steps.items()}
                    rows.append(
                        {
                            **key,
                            "horizon_step": step,
                            "mae": values.get("mae"),
                            "rmse": values.get("rmse"),
                            "wape": values.get("wape"),
                            "crps": values.get("crps"),
                            "coverage80": values.get("coverage_80"),
                            "coverage95": values.get("coverage_95"),
                            "n": score.cells,
                        }
                    )
        return pl.DataFrame(rows, infer_schema_length=None)


def evaluate(
    panel: Panel,
    model: MTGPT | None = None,
    *,
    part: str = "test",
    stride: int = 1,
    method: Method = "wls",
    extra: Mapping[str, Baseline] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores a model, the baselines and whatever else is given on one part of a panel.

    Args:
        panel: Of any city.
        model: None scores the baselines alone.
        part: ``test`` (the last 20 % of the windows) or ``validation`` (the 20 % before); tune on the latter only.
        stride: Every how many windows; 1 scores all.
        method: Reconciliation; the scored forecast is the coherent one, as users get it.
        extra: More competitors by name.
        progress: Called with (windows done, windows).

    Raises:
        UsageError: No such part.
        PanelError: The panel is too short.
    """
    if part not in PARTS:
        raise UsageError("there is no such part", where="part", got=part, expected=" or ".join(PARTS))
    patch = 12 if model is None else model.config.patch
    bounds = split(panel.n_step, patch=patch)
    first, last = getattr(bounds, part)
    forecaster = None if model is None else Forecaster(model, panel)
    rivals = baselines(
        panel,
        patch=patch,
        train_end=bounds.train[1] + patch,
        history=None if forecaster is None else forecaster.history,
    )
    named: dict[str, Baseline] = {**rivals, **(extra or {})}
    sums = {name: ScoreSum(panel.n_series, patch) for name in named}
    if forecaster is not None:
        sums = {OURS: ScoreSum(panel.n_series, patch, levels=forecaster.model.config.quantile_levels), **sums}
    cuts = np.arange(first, last, stride)
    size = max(1, _TOKENS_AT_ONCE // panel.n_series)
    values = np.asarray(panel.values, np.float32)
    for at in range(0, len(cuts), size):
        some = cuts[at : at + size]
        truth = values[some[:, None] + np.arange(1, patch + 1)].transpose(0, 2, 1)
        for name, rival in named.items():
            sums[name].add(truth, point=rival(some))
        if forecaster is not None:
            sums[OURS].add(truth, quantiles=coherent(forecaster, some, method))
        if progress is not None:
            progress(min(at + size, len(cuts)), len(cuts))
    return Evaluation(sums=sums, part=part, windows=len(cuts), series=panel.series)


def coherent(forecaster: Forecaster, cuts: NDArray[np.integer], method: Method) -> NDArray[np.floating]:
    """[B, S, P, Q]: what :meth:`Forecaster.forecast` answers, for many cuts."""
    return np.stack(
        [forecaster.finish(one, method, int(cut)) for cut, one in zip(cuts, forecaster.quantiles(cuts), strict=True)]
    )
