"""A spot where nothing is measured, put into a panel so that it can be forecast: a virtual sensor."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import coo_array, csr_array

from mtgpt.errors import PanelError, UsageError
from mtgpt.panel.geo import metres

if TYPE_CHECKING:
    from mtgpt.panel.panel import Panel

NEIGHBOURS = 4
_FARTHEST_M = 20_000.0


def with_virtual_spot(
    panel: Panel, *, lon: float, lat: float, variable: str | None = None, spot_id: str = "virtual"
) -> Panel:
    """Adds a spot that has never measured anything beside the spot that is nearest to it.

    It is joined to its four nearest spots of the same variable in both directions and takes no part in any sum.

    Args:
        panel: With places of its spots.
        lon: Degrees east.
        lat: Degrees north.
        variable: What would be measured there; the panel's only one by default.
        spot_id: Its name.

    Raises:
        UsageError: The variable is not clear, the place is none or far from the city, or the name is taken.
        PanelError: No spot of that variable has a place.
    """
    city = panel.meta.city
    table = panel.series[: panel.n_spot]
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise UsageError("not a place", where=city, got=f"{lon}, {lat}", expected="degrees east, degrees north")
    variables = table["variable"].unique().sort().to_list()
    if variable is None and len(variables) > 1:
        raise UsageError("which variable?", where=city, expected=" or ".join(variables))
    wanted = variable or variables[0]
    if wanted not in variables:
        raise UsageError("no series with this variable", where=city, got=wanted, expected=", ".join(variables))
    if spot_id in set(table["spot_id"].to_list()):
        raise UsageError("a spot has this name already", where=city, got=spot_id)
    placed = table.filter((pl.col("variable") == wanted) & pl.col("lon").is_finite() & pl.col("lat").is_finite())
    if placed.height == 0:
        raise PanelError(
            "no spot of this city has a place",
            where=city,
            expected="longitude and latitude of its spots",
            next_step="name the file of locations in the city's manifest",
        )
    point = metres(np.r_[placed["lon"].to_numpy(), lon], np.r_[placed["lat"].to_numpy(), lat])
    distance = np.hypot(*(point[:-1] - point[-1]).T)
    order = np.argsort(distance, kind="stable")[:NEIGHBOURS]
    if not distance[order[0]] <= _FARTHEST_M:
        raise UsageError(
            "the place lies outside the city",
            where=city,
            got=f"{distance[order[0]] / 1000:,.0f} km from the nearest spot",
            expected=f"at most {_FARTHEST_M / 1000:.0f} km",
            next_step="longitude comes first",
        )
    near = placed["index"].to_numpy().astype(np.int64)[order]
    at = int(near[0]) + 1
    width = float(np.median(distance[order])) or 1.0
    weights = np.maximum(np.exp(-np.square(distance[order] / width) / 2), 1e-3).astype(np.float32)
    return _inserted(panel, at, near, weights, lon=lon, lat=lat, spot_id=spot_id)


def _inserted(
    panel: Panel, at: int, near: np.ndarray, weights: np.ndarray, *, lon: float, lat: float, spot_id: str
) -> Panel:
    def moved(index: np.ndarray) -> np.ndarray:
        return index + (index >= at)

    edges = coo_array(panel.graph)
    rows = np.concatenate([moved(edges.row), np.full(len(near), at), moved(near)])
    columns = np.concatenate([moved(edges.col), moved(near), np.full(len(near), at)])
    size = panel.n_series + 1
    graph = csr_array((np.concatenate([edges.data, weights, weights]), (rows, columns)), shape=(size, size))
    parts = coo_array(panel.aggregation)
    shares = csr_array(
        (parts.data, (parts.row, moved(parts.col))), shape=(panel.n_series - panel.n_spot, panel.n_spot + 1)
    )
    beside = panel.series[int(near[0])]
    own = beside.with_columns(
        series_id=pl.lit(f"{beside['variable'][0]}@{spot_id}"),
        spot_id=pl.lit(spot_id),
        name=pl.lit(f"virtual sensor at {lon:.5f}, {lat:.5f}"),
        kind=pl.lit("virtual"),
        lon=pl.lit(lon, pl.Float64),
        lat=pl.lit(lat, pl.Float64),
    )
    series = pl.concat([panel.series[:at], own, panel.series[at:]]).with_columns(
        index=pl.int_range(size, dtype=pl.UInt32)
    )
    values = np.insert(np.asarray(panel.values, np.float32), at, np.float32(np.nan), axis=1)
    name = hashlib.sha256(f"{panel.meta.panel_id} {beside['variable'][0]} {lon} {lat}".encode()).hexdigest()
    return replace(
        panel,
        values=values,
        series=series,
        graph=graph,
        aggregation=shares,
        meta=replace(panel.meta, panel_id=name),
    )
