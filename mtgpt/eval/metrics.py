"""Scores with explicit masks: MAE, RMSE, WAPE, MASE, MAPE, quantile loss, CRPS, coverage – per step and averaged.

A benchmark's test windows times all series times all quantiles do not fit into memory at once, so :class:`ScoreSum`
takes them batch by batch and keeps sums per series and step; any grouping of series is asked for afterwards. A cell
counts where its truth is known and the mask says so; a metric over no cell at all is None, never 0.

Shapes: N windows, S series, H steps, Q quantile levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mtgpt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

Number = float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Metrics of one group of series.

    ``mae``, ``rmse``, ``bias``, ``crps`` and ``width_…`` are in the variable's unit; ``wape``, ``mape``, ``mase`` and
    ``wql`` are ratios (0.1 is 10 %); ``coverage_80`` is the share of truths inside the central 80 % band.

    Attributes:
        steps: Per metric, its value at each of the H steps.
        averaged: Per metric, the mean of its per-step values (how traffic benchmarks average).
        pooled: Per metric, its value over the cells of all steps together.
        cells: Cells that count: truth known, mask set, forecast there.
        unanswered: Cells whose truth counts but that had no forecast; a score with many is not worth its name.
    """

    steps: Mapping[str, tuple[Number, ...]]
    averaged: Mapping[str, Number]
    pooled: Mapping[str, Number]
    cells: int
    unanswered: int

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {
            "averaged": dict(self.averaged),
            "pooled": dict(self.pooled),
            "steps": {name: list(values) for name, values in self.steps.items()},
            "cells": self.cells,
            "unanswered": self.unanswered,
        }


class ScoreSum:
    """Streams over windows; :meth:`score` and :meth:`by` can be asked at any time.

    Args:
        n_series: S.
        horizon: H.
        levels: Quantile levels of the quantiles that :meth:`add` will get; None where only points are scored.
        scale: [S] in-sample error of the seasonal naive, for MASE; see :func:`seasonal_scale`. None: no MASE.
        mape_threshold: MAPE counts only truths larger than this (in size); None: no MAPE, which explodes near zero.
        coverages: Central bands to report where the levels have both ends.
    """

    def __init__(
        self,
        n_series: int,
        horizon: int,
        *,
        levels: Sequence[float] | None = None,
        scale: np.ndarray | None = None,
        mape_threshold: float | None = None,
        coverages: Sequence[float] = (0.8, 0.95),
    ) -> None:
        self.shape = (n_series, horizon)
        self.levels = None if levels is None else tuple(float(level) for level in levels)
        self.mape_threshold = mape_threshold
        self.scale = scale
        if scale is not None and scale.shape != (n_series,):
            raise UsageError("the scale of MASE does not fit", got=scale.shape, expected=(n_series,))
        self.bands = tuple(
            (coverage, low, high)
            for coverage in coverages
            if (low := self._position((1 - coverage) / 2)) is not None
            and (high := self._position((1 + coverage) / 2)) is not None
        )
        names = ["count", "unanswered", "error", "absolute", "squared", "truth"]
        names += [] if scale is None else ["scaled", "scaled_count"]
        names += [] if mape_threshold is None else ["relative", "relative_count"]
        names += [f"{what}_{i}" for i in range(len(self.levels or ())) for what in ("pinball", "below")]
        names += [f"{what}_{_percent(coverage)}" for coverage, _, _ in self.bands for what in ("coverage", "width")]
        self.sums = {name: np.zeros(self.shape) for name in names}

    def add(
        self,
        truth: np.ndarray,
        *,
        point: np.ndarray | None = None,
        quantiles: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Counts one batch in.

        Args:
            truth: [N, S, H] or [S, H], NaN where unknown.
            point: Same shape, what MAE and its kin judge; the median where only quantiles are given.
            quantiles: [N, S, H, Q] or [S, H, Q].
            mask: Broadcastable to ``truth``, True where a cell counts; None counts every known truth.

        Raises:
            UsageError: Shapes do not fit, or the median that should stand in for the point is not among the levels.
        """
        truth = truth[None] if truth.ndim == 2 else truth
        if quantiles is not None and quantiles.ndim == 3:
            quantiles = quantiles[None]
        point = self._point(point, quantiles)
        self._check(truth, point, quantiles)
        wanted = np.isfinite(truth)
        if mask is not None:
            wanted &= np.broadcast_to(mask, wanted.shape)
        counted = wanted & np.isfinite(point)
        if quantiles is not None:
            counted &= np.isfinite(quantiles).all(axis=-1)

        # Everything that does not count becomes 0 once, so plain sums below are masked sums.
        y = np.where(counted, truth, 0).astype(np.float64)
        error = np.where(counted, point, 0) - y
        absolute = np.abs(error)
        self._sum("count", counted)
        self._sum("unanswered", wanted & ~counted)
        self._sum("error", error)
        self._sum("absolute", absolute)
        self._sum("squared", error * error)
        self._sum("truth", np.abs(y))
        if self.scale is not None:
            known = np.isfinite(self.scale) & (self.scale > 0)
            scaled = np.divide(absolute, self.scale[:, None], out=np.zeros_like(absolute), where=known[:, None])
            self._sum("scaled", scaled)
            self._sum("scaled_count", counted & known[:, None])
        if self.mape_threshold is not None:
            large = counted & (np.abs(y) > self.mape_threshold)
            self._sum("relative", np.divide(absolute, np.abs(y), out=np.zeros_like(absolute), where=large))
            self._sum("relative_count", large)
        if quantiles is None:
            return
        for position, level in enumerate(self.levels or ()):
            gap = y - np.where(counted, quantiles[..., position], 0)
            self._sum(f"pinball_{position}", np.maximum(level * gap, (level - 1) * gap))
            self._sum(f"below_{position}", counted & (gap <= 0))
        for coverage, low, high in self.bands:
            lower, upper = quantiles[..., low], quantiles[..., high]
            self._sum(f"coverage_{_percent(coverage)}", counted & (lower <= truth) & (truth <= upper))
            self._sum(f"width_{_percent(coverage)}", np.where(counted, upper - lower, 0))

    def merge(self, other: ScoreSum) -> None:
        """Adds the sums of another process that scored other windows of the same series.

        Raises:
            UsageError: The two do not score the same thing.
        """
        if other.shape != self.shape or other.sums.keys() != self.sums.keys() or other.levels != self.levels:
            raise UsageError("these two scores are of different things", got=other.shape, expected=self.shape)
        for name, values in other.sums.items():
            self.sums[name] += values

    def score(self, rows: np.ndarray | Sequence[int] | None = None) -> Score:
        """The metrics over these series (positions or a boolean mask [S]; None: all)."""
        chosen = {name: values if rows is None else values[np.asarray(rows)] for name, values in self.sums.items()}
        per_step = {name: values.sum(axis=0) for name, values in chosen.items()}  # H each
        steps = {name: tuple(_number(value) for value in values) for name, values in self._metrics(per_step).items()}
        whole = self._metrics({name: values.sum(keepdims=True) for name, values in per_step.items()})
        return Score(
            steps=steps,
            averaged={name: _mean([value for value in values if value is not None]) for name, values in steps.items()},
            pooled={name: _number(values[0]) for name, values in whole.items()},
            cells=int(per_step["count"].sum()),
            unanswered=int(per_step["unanswered"].sum()),
        )

    def by(self, series: pl.DataFrame, columns: Sequence[str] = ("level", "variable")) -> dict[tuple[str, ...], Score]:
        """One score per distinct value of these columns of the series table, in order of appearance.

        Raises:
            UsageError: The table has another number of rows than S.
        """
        if series.height != self.shape[0]:
            raise UsageError("the series table does not fit the score", got=series.height, expected=self.shape[0])
        keys = list(zip(*(series[column].to_list() for column in columns), strict=True))
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(keys):
            groups.setdefault(key, []).append(row)
        return {key: self.score(rows) for key, rows in groups.items()}

    def per_series(self, metric: str) -> np.ndarray:
        """One metric over all steps, per series [S], NaN where no cell counted: what a map of errors shows.

        Raises:
            UsageError: This score does not know the metric.
        """
        metrics = self._metrics({name: values.sum(axis=1) for name, values in self.sums.items()})
        if metric not in metrics:
            raise UsageError("the score does not know this metric", got=metric, expected=", ".join(metrics))
        return metrics[metric]

    def _metrics(self, sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        count, truth = sums["count"], sums["truth"]
        metrics = {
            "mae": _ratio(sums["absolute"], count),
            "rmse": np.sqrt(_ratio(sums["squared"], count)),
            "bias": _ratio(sums["error"], count),
            "wape": _ratio(sums["absolute"], truth),
        }
        if self.scale is not None:
            metrics["mase"] = _ratio(sums["scaled"], sums["scaled_count"])
        if self.mape_threshold is not None:
            metrics["mape"] = _ratio(sums["relative"], sums["relative_count"])
        if self.levels:
            losses = np.stack([sums[f"pinball_{position}"] for position in range(len(self.levels))])
            metrics["wql"] = _ratio(2 * losses.mean(axis=0), truth)
            metrics["crps"] = _ratio(2 * np.tensordot(level_weights(self.levels), losses, 1), count)
        for coverage, _, _ in self.bands:
            for what in ("coverage", "width"):
                name = f"{what}_{_percent(coverage)}"
                metrics[name] = _ratio(sums[name], count)
        return metrics

    def _sum(self, name: str, values: np.ndarray) -> None:
        self.sums[name] += values.sum(axis=0, dtype=np.float64)

    def _position(self, level: float) -> int | None:
        distances = [abs(one - level) for one in self.levels or ()]
        return distances.index(min(distances)) if distances and min(distances) <= 1e-6 else None

    def _point(self, point: np.ndarray | None, quantiles: np.ndarray | None) -> np.ndarray:
        if point is not None:
            return point[None] if point.ndim == 2 else point
        middle = self._position(0.5)
        if quantiles is None or middle is None:
            raise UsageError("nothing to score", expected="a point forecast, or quantiles with the median among them")
        return quantiles[..., middle]

    def _check(self, truth: np.ndarray, point: np.ndarray, quantiles: np.ndarray | None) -> None:
        due = (len(truth), *self.shape)
        if truth.shape != due or point.shape != due:
            raise UsageError(
                "what is scored does not fit", got=f"truth {truth.shape}, point {point.shape}", expected=due
            )
        if (quantiles is None) != (self.levels is None):
            raise UsageError("quantiles and levels come together or not at all")
        if quantiles is not None and quantiles.shape != (*due, len(self.levels or ())):
            raise UsageError("the quantiles do not fit", got=quantiles.shape, expected=(*due, len(self.levels or ())))


def level_weights(levels: Sequence[float]) -> np.ndarray:
    """Weights [Q] of quantile losses in the integral over all levels whose double is the CRPS.

    Each level stands for the levels nearer to it than to its neighbours; the outermost ones reach to 0 and 1. Evenly
    spaced levels therefore come close to their plain mean, and crowded tails do not count twice.
    """
    given = np.asarray(levels, dtype=np.float64)
    edges = np.concatenate([[0.0], (given[1:] + given[:-1]) / 2, [1.0]])
    return np.diff(edges)


def seasonal_scale(values: np.ndarray, season: int) -> np.ndarray:
    """Mean absolute error of repeating the value ``season`` steps ago, per series: the denominator of MASE.

    Args:
        values: [T, S] of the visible period only, NaN where missing.
        season: Steps in a season (a service day, say).

    Returns:
        [S], NaN where the history has no pair to compare.
    """
    if season < 1:
        raise UsageError("a season has at least one step", got=season)
    gap = np.abs(values[season:].astype(np.float64) - values[:-season])
    known = np.isfinite(gap)
    return _ratio(np.where(known, gap, 0).sum(axis=0), known.sum(axis=0))


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=np.asarray(count) > 0)


def _number(value: float) -> Number:
    return float(value) if np.isfinite(value) else None


def _mean(values: Sequence[float]) -> Number:
    return float(np.mean(values)) if values else None


def _percent(coverage: float) -> str:
    return f"{100 * coverage:g}"
