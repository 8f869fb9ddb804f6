"""From cells to a table: one row per target, variable, competitor and setting, with intervals over days and seeds.

Rows are of spots: corridors and the network are sums of them, and a mean over levels would count the same car thrice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.eval.transfer.cells import ALONE, ALWAYS, NAIVE, NETWORKS, OURS, RIDGE, Cell, Results
from mtgpt.eval.transfer.plan import FULL, ZERO
from mtgpt.eval.transfer.statistics import mae, mae_interval, skill_interval, win_rate
from mtgpt.eval.transfer.tally import daily_mae, score_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

METRICS = ("mae", "rmse", "wape", "mase", "crps", "coverage_80", "coverage_95")
_Run = tuple["NDArray[np.float64]", "NDArray[np.float64]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The seeds of one competitor in one setting on one target, for one variable."""

    runs: dict[int, _Run]
    scores: dict[int, dict[str, float | None]]
    facts: dict[int, dict[str, Any]]


def gather(results: Results, cells: Sequence[Cell], *, level: str = "spot") -> dict[tuple[str, str, str, str], Found]:
    """Every finished cell by (target, variable, competitor, setting).

    Args:
        results: Where they are.
        cells: Those wanted; the ones not done or not measured are left out.
        level: Of the series.
    """
    found: dict[tuple[str, str, str, str], Found] = {}
    for cell in cells:
        sums = results.sums(cell) if results.has(cell) else None
        if sums is None:
            continue
        facts = results.facts(cell)
        levels = facts.get("levels")
        for variable, rows in sums.filter(pl.col("level") == level).group_by("variable", maintain_order=True):
            key = (cell.target, str(variable[0]), cell.competitor, cell.setting)
            one = found.setdefault(key, Found(runs={}, scores={}, facts={}))
            one.runs[cell.seed] = daily_mae(rows)
            one.scores[cell.seed] = score_of(rows, levels)
            one.facts[cell.seed] = facts
    return found


def table(found: dict[tuple[str, str, str, str], Found]) -> pl.DataFrame:
    """The table.

    Returns:
        target, variable, competitor, setting, seeds, the metrics of :data:`METRICS` as means over seeds, ``mae_low``
        and ``mae_high`` (95 %), ``skill_day`` against the same time yesterday with its interval, ``best_naive`` and
        ``against_best_naive`` (negative is better), ``series_per_second`` and ``seconds_to_learn``.
    """
    rows = []
    for (target, variable, competitor, setting), one in found.items():
        seeds = sorted(one.runs)
        runs = [one.runs[seed] for seed in seeds]
        interval = mae_interval(runs)
        naive = {n: found[k] for n in NAIVE if (k := (target, variable, n, ALWAYS)) in found}
        best = min(naive, key=lambda n: mae(*naive[n].runs[0])) if naive else None
        yesterday = naive.get("same time yesterday")
        skill = None if yesterday is None else skill_interval(runs, [yesterday.runs[0]])
        rows.append(
            {
                "target": target,
                "variable": variable,
                "competitor": competitor,
                "setting": setting,
                "seeds": len(seeds),
                **{name: _mean([one.scores[seed].get(name) for seed in seeds]) for name in METRICS},
                "mae_low": interval.low,
                "mae_high": interval.high,
                "skill_day": None if skill is None else skill.value,
                "skill_day_low": None if skill is None else skill.low,
                "skill_day_high": None if skill is None else skill.high,
                "best_naive": best,
                "against_best_naive": None if best is None else _ratio(interval.value, mae(*naive[best].runs[0])),
                "series_per_second": _mean([one.facts[seed].get("series_per_second") for seed in seeds]),
                "seconds_to_learn": _mean([one.facts[seed].get("seconds_to_learn") for seed in seeds]),
                "adapted": _mean([_used(one.facts[seed]) for seed in seeds]),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def verdicts(found: dict[tuple[str, str, str, str], Found]) -> list[dict[str, Any]]:
    """What a reader wants to know first: each claim, in how many cases it holds, and where it does not.

    A case is a target, a variable and a seed.
    """
    places = sorted({(target, variable) for target, variable, *_ in found})
    zero_naive, few_zero, few_alone, full_best = [], [], [], []
    days = sorted({s for *_, c, s in found if c == ALONE and s not in (FULL, ZERO)}, key=int)
    for place in places:
        ours = found.get((*place, OURS, ZERO))
        naive = [found[k] for n in NAIVE if (k := (*place, n, ALWAYS)) in found]
        strongest = [one for c in (ALONE, *NETWORKS, RIDGE) if (one := found.get((*place, c, FULL))) is not None]
        if ours is None:
            continue
        for seed, run in ours.runs.items():
            case = (*place, seed)
            if naive:
                zero_naive.append((case, mae(*run), min(mae(*one.runs[0]) for one in naive)))
            if strongest:
                best = min(float(np.mean([mae(*r) for r in one.runs.values()])) for one in strongest)
                full_best.append((case, mae(*run), 1.03 * best))
            for setting in days:
                few, alone = found.get((*place, OURS, setting)), found.get((*place, ALONE, setting))
                if few is not None and seed in few.runs:
                    label = (*case, f"{setting} d")
                    few_zero.append((label, mae(*few.runs[seed]), mae(*run) * (1 + 1e-9)))
                    if alone is not None and seed in alone.runs:
                        few_alone.append((label, mae(*few.runs[seed]), mae(*alone.runs[seed])))
    return [
        _verdict("zero-shot beats the best naive forecast", zero_naive),
        _verdict("zero-shot comes within 3 % of the best network trained on the target", full_best),
        _verdict("adapted is never worse than zero-shot", few_zero),
        _verdict("adapted beats the same network trained on the same days alone", few_alone),
    ]


def _verdict(claim: str, cases: list[tuple[tuple[Any, ...], float, float]]) -> dict[str, Any]:
    failed = [(case, ours, theirs) for case, ours, theirs in cases if ours > theirs]
    return {
        "claim": claim,
        "cases": len(cases),
        "holds": len(cases) - len(failed),
        "win_rate": win_rate([(ours, theirs) for _, ours, theirs in cases]),
        "mean_gain": None if not cases else float(np.mean([1 - ours / theirs for _, ours, theirs in cases])),
        "fails_at": [
            {"case": " ".join(str(part) for part in case), "ours": ours, "theirs": theirs}
            for case, ours, theirs in failed
        ],
    }


def _used(facts: dict[str, Any]) -> float | None:
    return None if "guard" not in facts else float(facts["guard"]["used"])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(ours: float, theirs: float) -> float | None:
    return ours / theirs - 1 if theirs > 0 else None
