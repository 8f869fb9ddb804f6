"""Filling what was not measured: gaps of a series, and spots that have never measured anything.

Shapes: T steps, S series, B cuts, P steps a patch, Q quantile levels, C cells that were not measured.

A gap is filled from both sides: from the patch around it, from what the neighbours measured meanwhile, and from the
trailing expectation of the day. Corridors and the network follow from their spots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.errors import PanelError
from mtgpt.panel.scales import fill_aggregates
from mtgpt.tokens.gaps import bridge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from mtgpt.model.mtgpt import Forecaster
    from mtgpt.panel.panel import Panel

_CUTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imputation:
    """What stands where nothing was measured.

    Attributes:
        panel: The panel as it was.
        step: [C] index of the step.
        series: [C] index of the spot series.
        levels: Q quantile levels, increasing, with 0.5 among them.
        quantiles: float32 [C, Q] in the series' units, non-decreasing along Q.
        left: Cells that stay empty: of the first day, before anything is known of usual days.
        provenance: Panel, model and window that produced the numbers.
    """

    panel: Panel
    step: NDArray[np.int64]
    series: NDArray[np.int64]
    levels: tuple[float, ...]
    quantiles: NDArray[np.float32]
    left: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> NDArray[np.float32]:
        """[C]."""
        return self.quantiles[:, self.levels.index(0.5)]

    def filled(self) -> Panel:
        """The panel with the medians in its gaps, and with aggregates of all spots where they were incomplete."""
        values = np.array(self.panel.values, np.float32)
        values[self.step, self.series] = self.median
        spots = self.panel.n_spot
        touched = np.unique(self.step)
        rows = values[touched]
        fill_aggregates(rows, self.panel.aggregation)
        values[touched, spots:] = rows[:, spots:]
        return replace(self.panel, values=values)

    def frame(self) -> pl.DataFrame:
        """One row per filled cell: series, time (UTC), the median and the 80 % band, in the series' unit."""
        at = self.levels.index
        table = self.panel.series.select("series_id", "spot_id", "name", "variable", "unit")[self.series.tolist()]
        time = pl.Series("time", self.panel.time[self.step].astype("datetime64[us]")).dt.replace_time_zone("UTC")
        bands = {"value": self.median, "low": self.quantiles[:, at(0.1)], "high": self.quantiles[:, at(0.9)]}
        return table.insert_column(1, time).with_columns(**{name: pl.Series(x) for name, x in bands.items()})


def impute(
    forecaster: Forecaster,
    *,
    start: int = 0,
    stop: int | None = None,
    spots: NDArray[np.int64] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imputation:
    """Fills every cell of the spots that was not measured.

    Args:
        forecaster: A model and the panel with the gaps.
        start: First step to fill.
        stop: One past the last.
        spots: Indices of the spot series to fill; all by default.
        progress: Called with (windows done, windows).

    Raises:
        PanelError: There is less than one day of data before ``stop``.
    """
    panel, history, config = forecaster.panel, forecaster.history, forecaster.model.config
    patch = config.patch
    last = panel.n_step if stop is None else min(stop, panel.n_step)
    first = history.first_cut() + (config.context_patches - 1) * patch
    if last - 1 < first:
        raise PanelError(
            "there is less than one day of data",
            where=panel.meta.city,
            got=f"{last} steps",
            expected=f"more than {first}",
            next_step="ingest more days and build the panel again",
        )
    wanted = np.arange(panel.n_spot) if spots is None else np.asarray(spots, np.int64)
    alive = history.alive[history.calendar.day[: panel.n_step]]
    rows, columns = np.nonzero(~history.seen[start:last][:, wanted])
    rows, columns = rows + start, wanted[columns]
    # The patch that has a step nearest to its middle answers for it; patches overlap by half.
    ends = np.unique(np.r_[np.arange(first, last, max(1, patch // 2)), last - 1])
    cut = ends[np.minimum(np.searchsorted(ends, rows + (patch - 1) // 2), len(ends) - 1)]
    reached = (rows > cut - patch) & alive[rows, columns]
    rows, columns, cut, left = rows[reached], columns[reached], cut[reached], int((~reached).sum())
    out = np.empty((len(rows), len(config.quantile_levels)), np.float32)
    cuts, over = np.unique(cut), bridge(history)
    for at in range(0, len(cuts), _CUTS_AT_ONCE):
        some = cuts[at : at + _CUTS_AT_ONCE]
        quantiles = forecaster.fills(some, over)
        here = np.flatnonzero((cut >= some[0]) & (cut <= some[-1]))
        b = np.searchsorted(some, cut[here])
        out[here] = quantiles[b, columns[here], rows[here] - cut[here] + patch - 1]
        if progress is not None:
            progress(min(at + _CUTS_AT_ONCE, len(cuts)), len(cuts))
    np.maximum(out, forecaster.least[columns][:, None], out=out)
    return Imputation(
        panel=panel,
        step=rows,
        series=columns,
        levels=tuple(config.quantile_levels),
        quantiles=out,
        left=left,
        provenance=forecaster.provenance(start, last - 1),
    )
