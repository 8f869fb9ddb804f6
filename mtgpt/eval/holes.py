"""How well holes are filled: spots hidden altogether, and gaps in the others, on a part that no weights were fitted to.

What is hidden is hidden from the first step of the panel on, so the model knows such a spot by its neighbours alone.
Every competitor sees the same holes. Shapes: T steps, N spots, B cuts, P steps a patch, M hidden spots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.errors import UsageError
from mtgpt.eval.score import OURS, PARTS
from mtgpt.model.impute import impute
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.tokens.gaps import bridge
from mtgpt.train.conceal import conceal
from mtgpt.train.data import split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel
    from mtgpt.tokens.history import History

# Gaps by their length in hours: what a straight line can do, what it cannot, and a day without data.
GAPS_HOURS = ((0.0, 0.5), (0.5, 2.0), (2.0, 24.0))


def evaluate_holes(
    panel: Panel,
    model: MTGPT,
    *,
    part: str = "validation",
    silent: float = 0.1,
    missing: float = 0.1,
    seed: int = 0,
    stride: int = 6,
    weights: NDArray[np.floating] | None = None,
) -> pl.DataFrame:
    """Hides part of a panel and scores what is put in its place.

    Args:
        panel: Of any city.
        model: Any.
        part: ``validation`` or ``test``; tune on the former only.
        silent: Share of the spots to hide altogether.
        missing: Share of the other values to hide in gaps.
        seed: Of what is hidden.
        stride: Every how many cuts a forecast at the hidden spots is made.
        weights: [N, N] for an interpolation over visible spots, inverse distances for instance; none by default.

    Returns:
        Columns task, horizon_step (0 = now), competitor, unit, mae, bias, coverage80, n; tasks are ``silent spot`` and
        ``gap of … h``.

    Raises:
        UsageError: No such part.
    """
    if part not in PARTS:
        raise UsageError("there is no such part", where="part", got=part, expected=" or ".join(PARTS))
    patch, spots = model.config.patch, panel.n_spot
    first, last = getattr(split(panel.n_step, patch=patch), part)
    shown = panel.slice(0, last + patch)
    holes = conceal(shown, np.random.default_rng(seed), silent=silent, missing=missing)
    truth = np.asarray(shown.values[:, :spots], np.float32)
    seen = np.isfinite(holes.values[:, :spots])
    mute = np.flatnonzero(~seen.any(0) & np.isfinite(truth).any(0))
    forecaster = Forecaster(model, holes)
    filled = impute(forecaster, start=first, stop=last)
    ours = _spread_out(filled.step, filled.series, filled.median, truth.shape)
    at = filled.levels.index
    low, high = (_spread_out(filled.step, filled.series, filled.quantiles[:, at(q)], truth.shape) for q in (0.1, 0.9))
    unit = panel.series["unit"][0]
    rows: list[dict[str, Any]] = []

    def score(task: str, step: int, where: NDArray[np.bool_], said: Mapping[str, NDArray[np.floating]]) -> None:
        for name, value in said.items():
            error = (value - truth)[where & np.isfinite(truth)]
            known = np.isfinite(error)
            row = {"task": task, "horizon_step": step, "competitor": name, "unit": unit, "n": int(known.sum())}
            row |= {"mae": float(np.abs(error[known]).mean()), "bias": float(error[known].mean())}
            inside = ((low <= truth) & (truth <= high))[where & np.isfinite(truth)]
            rows.append(row | {"coverage80": float(inside.mean()) if name == OURS else None})

    inside = np.zeros(truth.shape, bool)
    inside[first:last] = True
    lent, expected = _borrowed(forecaster.history, holes)
    rivals = {"mean of the neighbours": lent, "expectation of the neighbours": expected}
    if weights is not None:
        rivals["inverse distance"] = _weighted(np.asarray(holes.values[:, :spots]), seen, weights)
    silence = np.zeros_like(inside)
    silence[:, mute] = True
    score("silent spot", 0, inside & silence, {OURS: ours, **rivals})
    straight, usual = _interpolated(holes, spots), _expected(forecaster.history, spots)
    over = bridge(forecaster.history).values[:, :spots]
    length = _gap_hours(seen, panel.meta.interval_s)
    for low_h, high_h in GAPS_HOURS:
        where = inside & ~seen & ~silence & np.isfinite(truth) & (length > low_h) & (length <= high_h)
        if where.any():
            said = {OURS: ours, "straight line": straight, "trailing expectation": usual, "line of surprise": over}
            score(f"gap of {low_h:g} to {high_h:g} h", 0, where, said)
    return pl.concat(
        [pl.DataFrame(rows), _ahead(forecaster, truth, mute, np.arange(first, last, stride), lent, expected)]
    )


def _ahead(  # noqa: PLR0917 - in the order of the columns
    forecaster: Forecaster,
    truth: NDArray[np.float32],
    mute: NDArray[np.int64],
    cuts: NDArray[np.int64],
    lent: NDArray[np.floating],
    expected: NDArray[np.floating],
) -> pl.DataFrame:
    """Forecasts at the hidden spots, per step ahead."""
    patch, config = forecaster.model.config.patch, forecaster.model.config
    levels = list(config.quantile_levels)
    said = np.concatenate(
        [forecaster.quantiles(some)[:, mute] for some in np.array_split(cuts, max(1, len(cuts) // 16))]
    )
    rows: list[dict[str, Any]] = []
    for step in range(1, patch + 1):
        y = truth[cuts + step][:, mute]
        guesses = {
            OURS: said[:, :, step - 1, levels.index(0.5)],
            "mean of the neighbours": lent[cuts][:, mute],
            "expectation of the neighbours": expected[cuts + step][:, mute],
        }
        inside = (said[:, :, step - 1, levels.index(0.1)] <= y) & (y <= said[:, :, step - 1, levels.index(0.9)])
        for name, value in guesses.items():
            error = value - y
            known = np.isfinite(error)
            rows.append(
                {
                    "task": "silent spot",
                    "horizon_step": step,
                    "competitor": name,
                    "unit": forecaster.panel.series["unit"][0],
                    "n": int(known.sum()),
                    "mae": float(np.abs(error[known]).mean()),
                    "bias": float(error[known].mean()),
                    "coverage80": float(inside[known].mean()) if name == OURS else None,
                }
            )
    return pl.DataFrame(rows)


def _spread_out(
    step: NDArray[np.int64], series: NDArray[np.int64], values: NDArray[np.floating], shape: tuple[int, ...]
) -> NDArray[np.floating]:
    out = np.full(shape, np.nan, np.float32)
    out[step, series] = values
    return out


def _borrowed(history: History, holes: Panel) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """[T, N] what neighbours measure, and what they usually do, at the silent spots."""
    spots = holes.n_spot
    lent = np.full((holes.n_step, spots), np.nan, np.float32)
    if history.loan is not None:
        lent[:, history.loan.index] = history.loan.values
    return lent, _expected(history, spots)


def _expected(history: History, spots: int) -> NDArray[np.floating]:
    calendar, steps = history.calendar, history.steps
    return history.states.expected[calendar.day[:steps], calendar.slot[:steps]][:, :spots]


def _interpolated(holes: Panel, spots: int) -> NDArray[np.floating]:
    values = np.array(holes.values[:, :spots], np.float32)
    now = np.arange(len(values))
    for column in values.T:
        known = np.isfinite(column)
        if known.any():
            column[~known] = np.interp(now[~known], now[known], column[known])
    return values


def _weighted(
    values: NDArray[np.floating], seen: NDArray[np.bool_], weights: NDArray[np.floating]
) -> NDArray[np.floating]:
    filled = np.where(seen, values, 0)
    total = seen.astype(np.float64) @ weights.T
    return np.divide(filled @ weights.T, total, out=np.full(values.shape, np.nan), where=total > 0)


def _gap_hours(seen: NDArray[np.bool_], interval_s: int) -> NDArray[np.floating]:
    """[T, N] length of the gap that a cell lies in; 0 where measured."""
    steps = len(seen)
    now = np.arange(steps)[:, None]
    before = np.maximum.accumulate(np.where(seen, now, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, now, steps)[::-1], axis=0)[::-1]
    return np.where(seen, 0, after - before - 1) * interval_s / 3600
