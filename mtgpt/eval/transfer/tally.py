"""Scores of one competitor on one target, kept as sums by day, so that any later question can be answered from them.

Shapes: B windows, S series, P steps ahead, Q levels, D days.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

from mtgpt.eval.metrics import ScoreSum, seasonal_scale
from mtgpt.eval.transfer.days import day_blocks
from mtgpt.train.data import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel

KEYS = ("day", "level", "variable", "step")
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What is kept of a competitor's answers.

    Attributes:
        sums: By :data:`KEYS`, ``step`` from 1.
        spots: By series of level spot: spot_id, variable, lon, lat, absolute, count; for maps of error.
        seconds: That the competitor took.
    """

    sums: pl.DataFrame
    spots: pl.DataFrame
    seconds: float


class Answer(Protocol):
    """A competitor: what it says of the next P steps at many cuts."""

    def __call__(self, cuts: NDArray[np.integer]) -> NDArray[np.floating]:
        """Points [B, S, P], or quantiles [B, S, P, Q], in physical units."""
        ...


def tally(
    panel: Panel, answer: Answer, cuts: NDArray[np.int64], *, patch: int, levels: Sequence[float] | None = None
) -> Tally:
    """Scores an answer at the cuts.

    Args:
        panel: The target.
        answer: The competitor.
        cuts: Test cuts.
        patch: P.
        levels: Q levels where it answers with quantiles.

    Returns:
        Sums over days and places; see :class:`Tally`.
    """
    values = np.asarray(panel.values, np.float32)
    scale = seasonal_scale(values[: split(panel.n_step, patch=patch).train[1] + patch], panel.calendar.slots_per_day)
    groups = (
        panel.series.with_row_index("row")
        .group_by("level", "variable", maintain_order=True)
        .agg("row")
        .rows(named=True)
    )
    at_once = max(1, _VALUES_AT_ONCE // (panel.n_series * patch * len(levels or (0,))))
    rows, seconds = [], 0.0
    absolute, count = np.zeros(panel.n_series), np.zeros(panel.n_series)
    for day, some in day_blocks(panel, cuts):
        sums = ScoreSum(panel.n_series, patch, levels=levels, scale=scale)
        for part in np.array_split(some, -(-len(some) // at_once)):
            began = time.perf_counter()
            said = answer(part)
            seconds += time.perf_counter() - began
            truth = values[part[:, None] + np.arange(1, patch + 1)].transpose(0, 2, 1)
            sums.add(truth, **({"point": said} if levels is None else {"quantiles": said}))
        absolute += sums.sums["absolute"].sum(axis=1)
        count += sums.sums["count"].sum(axis=1)
        for group in groups:
            columns = {name: total[group["row"]].sum(axis=0) for name, total in sums.sums.items()}
            rows.append(
                pl.DataFrame({"step": np.arange(1, patch + 1), **columns}).select(
                    pl.lit(day).alias("day"),
                    pl.lit(group["level"]).alias("level"),
                    pl.lit(group["variable"]).alias("variable"),
                    pl.col("step").cast(pl.Int64),
                    *columns,
                )
            )
    spots = panel.series.select("spot_id", "variable", "lon", "lat", "level").with_columns(
        absolute=absolute, count=count
    )
    return Tally(sums=pl.concat(rows), spots=spots.filter(level="spot").drop("level"), seconds=seconds)


def score_of(sums: pl.DataFrame, levels: Sequence[float] | None = None) -> dict[str, float | None]:
    """The metrics of some rows of a tally, averaged over steps as traffic benchmarks do.

    Args:
        sums: Rows of :func:`tally`; days, levels and variables in it are pooled.
        levels: As in :func:`tally`.

    Returns:
        Metric → value; None where no cell counted.
    """
    per_step = sums.group_by("step").agg(pl.exclude(*KEYS).sum()).sort("step")
    scored = ScoreSum(1, per_step.height, levels=levels, scale=np.ones(1))
    for name in scored.sums:
        scored.sums[name] = per_step[name].to_numpy()[None]
    return dict(scored.score().averaged)


def reliability(sums: pl.DataFrame, levels: Sequence[float]) -> list[tuple[float, float]]:
    """For each quantile level, the share of truths at or below that quantile: equal where it is calibrated."""
    total = float(sums["count"].sum())
    return [(level, float(sums[f"below_{i}"].sum()) / total) for i, level in enumerate(levels) if total]


def daily_mae(sums: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Absolute errors and cells by day and step, both [D, P], days in order."""
    days, steps = sums["day"].unique().sort(), sums["step"].unique().sort()
    grouped = sums.group_by("day", "step").agg(pl.col("absolute", "count").sum()).sort("day", "step")
    shape = (len(days), len(steps))
    return grouped["absolute"].to_numpy().reshape(shape), grouped["count"].to_numpy().reshape(shape)
