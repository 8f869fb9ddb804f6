"""How sure a table is: day-block bootstrap, paired between competitors, and win rates.

Errors of neighbouring windows are nearly the same error, so windows are not drawn one by one: whole service days are,
the same days for both of a pair. Shapes: D days, P steps, R replicates, K seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

REPLICATES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value and the range that holds 95 % of its bootstrap replicates."""

    value: float
    low: float
    high: float


def mae(absolute: NDArray[np.float64], count: NDArray[np.float64]) -> float:
    """Mean over steps of the mean absolute error at each, from sums [D, P]."""
    total, cells = absolute.sum(axis=0), count.sum(axis=0)
    known = cells > 0
    return float((total[known] / cells[known]).mean()) if known.any() else float("nan")


def mae_interval(
    runs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], *, seed: int = 0, replicates: int = REPLICATES
) -> Interval:
    """MAE of one competitor over K seeds: seeds and days are drawn.

    Args:
        runs: Per seed, absolute errors and cells, both [D, P].
        seed: Of the draws.
        replicates: R.
    """
    drawn = np.stack([_replicates(one, _days(one[0], seed, replicates)) for one in runs])  # [K, R]
    which = np.random.default_rng((seed, 1)).integers(len(runs), size=(replicates, len(runs)))
    means = drawn[which, np.arange(replicates)[:, None]].mean(axis=1)
    low, high = np.nanquantile(means, (0.025, 0.975))
    return Interval(value=float(np.mean([mae(*one) for one in runs])), low=float(low), high=float(high))


def skill_interval(
    ours: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    theirs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Interval:
    """``1 − MAE(ours) / MAE(theirs)``, days drawn in pairs; positive where ours is better.

    Args:
        ours: Per seed; see :func:`mae_interval`.
        theirs: One entry where it has no seed.
        seed: Of the draws.
        replicates: R.

    Raises:
        UsageError: The two were not scored on the same days.
    """
    if len({one[0].shape for one in (*ours, *theirs)}) != 1:
        raise UsageError("these two were not scored on the same days and steps")
    days = _days(ours[0][0], seed, replicates)
    a, b = (np.stack([_replicates(one, days) for one in runs]) for runs in (ours, theirs))
    rng = np.random.default_rng((seed, 2))
    rows = np.arange(replicates)[:, None]
    drawn = [x[rng.integers(len(x), size=(replicates, len(x))), rows].mean(axis=1) for x in (a, b)]
    low, high = np.nanquantile(1 - drawn[0] / drawn[1], (0.025, 0.975))
    value = 1 - np.mean([mae(*one) for one in ours]) / np.mean([mae(*one) for one in theirs])
    return Interval(value=float(value), low=float(low), high=float(high))


def win_rate(values: Sequence[tuple[float, float]]) -> float | None:
    """Share of pairs (ours, theirs) in which ours is smaller; ties count half; None without a pair."""
    if not values:
        return None
    return float(np.mean([0.5 if a == b else float(a < b) for a, b in values]))


def _days(one: NDArray[np.float64], seed: int, replicates: int) -> NDArray[np.float64]:
    """[R, D] how often each day is drawn."""
    days = len(one)
    drawn = np.random.default_rng((seed, 0)).integers(days, size=(replicates, days))
    return np.stack([np.bincount(row, minlength=days) for row in drawn]).astype(np.float64)


def _replicates(one: tuple[NDArray[np.float64], NDArray[np.float64]], days: NDArray[np.float64]) -> NDArray[np.float64]:
    """[R] MAE of each replicate."""
    absolute, count = days @ one[0], days @ one[1]
    ratio = np.divide(absolute, count, out=np.full_like(absolute, np.nan), where=count > 0)
    return np.nanmean(ratio, axis=1)
