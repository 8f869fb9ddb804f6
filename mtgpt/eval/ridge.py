"""Ridge regression on lags: what a straight line makes of the last patch, the same time yesterday and last week.

One set of coefficients per step ahead, shared by all series of a panel, in units of each series' own mean and standard
deviation over the visible steps. Shapes: B cuts, S series, P steps, X inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mtgpt.eval.baselines import SeasonalNaive, carried_forward
from mtgpt.train.scaling import SeriesScale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel

_CUTS_AT_ONCE = 64
_MOST_CUTS = 2_000
_FEW_CUTS = 100
_WEEK = np.timedelta64(7, "D")


class Ridge:
    """A fitted regression as a baseline of one panel; fit it with :func:`fit_ridge`."""

    def __init__(self, panel: Panel, patch: int, visible: NDArray[np.float32]) -> None:
        self._patch = patch
        self._last = carried_forward(np.asarray(panel.values, np.float32))
        self._day = SeasonalNaive(panel, patch, weekly=False)
        self._week = SeasonalNaive(panel, patch, weekly=True)
        self.scale = SeriesScale.of(visible)
        self.coefficients: NDArray[np.floating] = np.zeros((3 * patch + 1, patch))

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """See :class:`mtgpt.eval.baselines.Baseline`."""
        return self.scale.physical(self.inputs(cuts) @ self.coefficients)

    def inputs(self, cuts: NDArray[np.integer]) -> NDArray[np.float64]:
        """[B, S, X] last patch, the same time yesterday and last week, and a one; what is missing is the mean."""
        past = self._last[cuts[:, None] + np.arange(1 - self._patch, 1)].transpose(0, 2, 1)
        parts = [self.scale.normal(part).astype(np.float64) for part in (past, self._day(cuts), self._week(cuts))]
        return np.concatenate([*parts, np.ones((*parts[0].shape[:2], 1))], axis=-1)


def fit_ridge(panel: Panel, *, patch: int, cuts: tuple[int, int], strength: float = 1.0, seed: int = 0) -> Ridge:
    """Fits on the cuts given and nothing else.

    Args:
        panel: The city.
        patch: P.
        cuts: First and one-past-last cut to fit on.
        strength: Of the penalty, in units of the average variance of an input.
        seed: Which cuts are taken where there are more than two thousand.
    """
    low = max(cuts[0], patch - 1)
    model = Ridge(panel, patch, np.asarray(panel.values[: cuts[1] + patch], np.float32))
    chosen = np.arange(low, cuts[1])
    # Before a week has passed there is no last week, and what stands in for it means something else.
    settled = chosen[panel.calendar.dates[panel.calendar.day[chosen]] >= panel.calendar.dates[0] + _WEEK]
    if len(settled) >= _FEW_CUTS:
        chosen = settled
    if len(chosen) > _MOST_CUTS:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, _MOST_CUTS, replace=False))
    width = 3 * patch + 1
    gram, moment, cells = np.zeros((width, width)), np.zeros((width, patch)), 0
    values = np.asarray(panel.values, np.float32)
    for some in np.array_split(chosen, max(1, -(-len(chosen) // _CUTS_AT_ONCE))):
        if not len(some):
            continue
        truth = values[some[:, None] + np.arange(1, patch + 1)].transpose(0, 2, 1)
        whole = np.isfinite(truth).all(axis=-1)
        x, y = model.inputs(some)[whole], model.scale.normal(truth)[whole]
        gram += x.T @ x
        moment += x.T @ y
        cells += len(x)
    penalty = np.eye(width) * strength * max(float(np.trace(gram)) / width, 1e-6) * 1e-3
    penalty[-1, -1] = 0.0
    if cells:
        model.coefficients = np.linalg.solve(gram + penalty + 1e-9 * np.eye(width), moment)
    return model
