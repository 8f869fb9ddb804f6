"""Puts a panel together: order of series, corridors, aggregates, identity; from arrays in memory or from the grid.

:func:`make_panel` is the whole way for arrays in memory. The streaming build takes the same steps one by one, so that
the values are written once, in their final place.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from mtgpt.errors import PanelError
from mtgpt.panel import scales
from mtgpt.panel.calendar import calendar_of, service_rules
from mtgpt.panel.panel import SERIES_SCHEMA, TRAINING_SHARE, TRANSFER_SCHEMA, Covariates, Panel, PanelMeta

if TYPE_CHECKING:
    from mtgpt.panel.calendar import Calendar

_FLOW = "flow"
_HASHED_ROWS = 256
_NOT_CONTENT = frozenset({"panel_id", "built_at", "notes", "table_versions", "batches"})
_DEFAULTS: dict[str, Any] = {"name": None, "unit": "", "mode": "road", "kind": "detector"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything stands in a panel, before any value is there.

    Attributes:
        order: int64 [N], the given series that stands at each panel position.
        series: S rows of :data:`~mtgpt.panel.panel.SERIES_SCHEMA`.
        graph: float32 [S, S].
        members: float32 [S_agg, N], 1 where a spot series is part of an aggregate.
    """

    order: np.ndarray
    series: pl.DataFrame
    graph: csr_array
    members: csr_array


def make_panel(
    values: np.ndarray,
    time: np.ndarray,
    series: pl.DataFrame,
    *,
    meta: PanelMeta,
    graph: csr_array | None = None,
    calendar: Calendar | None = None,
    covariates: Covariates | None = None,
    corridor: np.ndarray | None = None,
    corridor_size: int = 64,
) -> Panel:
    """Makes a panel from the series of spots; corridor and network series are computed.

    Args:
        values: [T, N] spot series, NaN = missing.
        time: datetime64 [T], UTC starts of the steps.
        series: N rows with ``spot_id`` and ``variable``; further columns of ``SERIES_SCHEMA`` as far as known (mode is
            road, aggregate is mean, counted is false where absent).
        meta: City, name, interval and time zone at least; the id and the time of building are filled in.
        graph: [N, N] from → to weights between the given series; none if absent.
        calendar: Of ``time``; every day and hour counts, without holidays, if absent.
        covariates: [T, C], if any.
        corridor: int [N], corridor of each given series; if absent, the graph is cut into parts.
        corridor_size: Most spots of a part.

    Returns:
        The panel; its spot series are reordered by variable, corridor and nearness.

    Raises:
        PanelError: If the parts do not fit together.
    """
    steps, count = values.shape
    if series.height != count or time.shape != (steps,):
        raise PanelError(
            "the parts of a panel do not fit together",
            where=meta.city,
            got=f"values {values.shape}, {series.height} series, {time.size} times",
            expected="values [T, N], N series, T times",
        )
    if calendar is None:
        calendar = calendar_of(time, service_rules(time_zone=meta.time_zone, interval_s=meta.interval_s))
    layout = lay_out(
        spot_series(series),
        csr_array((count, count), dtype=np.float32) if graph is None else graph,
        city=meta.name,
        corridor=corridor,
        corridor_size=corridor_size,
    )
    full = np.empty((steps, layout.series.height), dtype=np.float32)
    full[:, :count] = values[:, layout.order]
    return finish(full, layout, calendar=calendar, covariates=covariates, meta=meta)


def spot_series(series: pl.DataFrame) -> pl.DataFrame:
    """Completes a table of spot series to all columns that a spot series has.

    Raises:
        PanelError: If ``spot_id`` or ``variable`` is missing, or a series stands twice.
    """
    missing = {"spot_id", "variable"} - set(series.columns)
    if missing:
        raise PanelError("the series table lacks columns", got=series.columns, expected=", ".join(sorted(missing)))
    defaults = {**_DEFAULTS, "lon": None, "lat": None, "counted": False, "aggregate": "mean"}
    series = series.with_columns(
        pl.lit(value).alias(name) for name, value in defaults.items() if name not in series.columns
    )
    series = series.with_columns(
        series_id=pl.format("{}@{}", "variable", "spot_id"),
        level=pl.lit("spot"),
        corridor=pl.lit(None, pl.Int32),
        index=pl.int_range(pl.len(), dtype=pl.UInt32),
        name=pl.coalesce("name", "spot_id"),
    )
    twice = series.filter(pl.col("series_id").is_duplicated())
    if twice.height:
        raise PanelError(
            "a series stands twice in the table", got=twice["series_id"][0], expected="one row per spot and variable"
        )
    return series.select(SERIES_SCHEMA.names()).cast(SERIES_SCHEMA)


def lay_out(
    series: pl.DataFrame,
    graph: csr_array,
    *,
    city: str,
    corridor: np.ndarray | None = None,
    labels: list[str | None] | None = None,
    corridor_size: int = 64,
) -> Layout:
    """Decides corridors and order; looks at structure only, never at values.

    Args:
        series: N spot series, from :func:`spot_series`.
        graph: [N, N] between them.
        city: Name for the network series.
        corridor: int [N], given corridors; they are numbered anew, and never span two modes.
        labels: [N], the name of the corridor each series' spot belongs to, where the data has one.
        corridor_size: Most spots of a corridor that is cut from the graph.
    """
    spots = series["spot_id"].unique(maintain_order=True)
    spot = (
        series["spot_id"].replace_strict(spots, pl.int_range(spots.len(), eager=True), return_dtype=pl.Int64).to_numpy()
    )
    count = series.height
    to_spot = csr_array((np.ones(count, np.float32), (np.arange(count), spot)), shape=(count, spots.len()))
    between = csr_array(to_spot.T @ graph @ to_spot)
    first = np.full(spots.len(), count)
    np.minimum.at(first, spot, np.arange(count))
    mode = series["mode"].to_numpy()[first]
    if corridor is None:
        named: list[str | None] = [labels[i] if labels else None for i in first]
        of_spot, names = _corridors(between, mode, named, corridor_size)
        of_series = of_spot[spot]
    else:
        of_series, names = _given(np.asarray(corridor), series["mode"].to_numpy())
    rank = scales.nearness_rank(between)[spot]
    variable = np.unique(series["variable"].to_numpy().astype(str), return_inverse=True)[1]
    order = np.lexsort((rank, of_series, variable))
    frame = series.with_columns(corridor=pl.Series(of_series, dtype=pl.Int32))[order]
    aggregates, members = _aggregates(frame, names, city)
    whole = pl.concat([frame, aggregates]).with_columns(index=pl.int_range(pl.len(), dtype=pl.UInt32))
    return Layout(order=order, series=whole, graph=_with_aggregates(graph, order, members, aggregates), members=members)


def finish(
    values: np.ndarray,
    layout: Layout,
    *,
    calendar: Calendar,
    covariates: Covariates | None,
    meta: PanelMeta,
    transfers: pl.DataFrame | None = None,
) -> Panel:
    """Weighs and computes the aggregates in place, and gives the panel its identity.

    Args:
        values: float32 [T, S], the spot columns filled in panel order.
        layout: Of these columns.
        calendar: Of the T steps.
        covariates: [T, C], if any.
        meta: Without id.
        transfers: Where travellers change modes, if anywhere.
    """
    aggregation = _aggregation(values, layout)
    scales.fill_aggregates(values, aggregation)
    panel = Panel(
        values=values,
        time=calendar.time,
        series=layout.series,
        graph=layout.graph,
        aggregation=aggregation,
        calendar=calendar,
        covariates=covariates,
        meta=meta,
        transfers=pl.DataFrame(schema=TRANSFER_SCHEMA) if transfers is None else transfers,
    )
    built = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(panel, meta=replace(meta, panel_id=identity(panel), built_at=built))


def identity(panel: Panel) -> str:
    """sha256 over content and recipe.

    Table versions are not part of it: they move on with every batch of any city, the panel's data need not.
    """
    meta = panel.meta.as_dict()
    recipe = {key: meta[key] for key in meta.keys() - _NOT_CONTENT}
    recipe["calendar"] = panel.calendar.rules.as_dict()
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True, ensure_ascii=False, default=str).encode())
    digest.update(panel.series.write_json().encode())
    digest.update(np.ascontiguousarray(panel.time.astype(np.int64)).data)
    for matrix in (panel.graph, panel.aggregation):
        for part in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data.astype(np.float32)):
            digest.update(np.ascontiguousarray(part).data)
    if panel.covariates is not None:
        digest.update(json.dumps(panel.covariates.names).encode())
        digest.update(np.ascontiguousarray(panel.covariates.values, dtype=np.float32).data)
        if panel.covariates.future is not None:
            digest.update(np.ascontiguousarray(panel.covariates.future, dtype=np.float32).data)
    if panel.transfers.height:
        digest.update(panel.transfers.write_json().encode())
    for start in range(0, panel.n_step, _HASHED_ROWS):
        digest.update(np.ascontiguousarray(panel.values[start : start + _HASHED_ROWS]).data)
    return digest.hexdigest()


def _corridors(graph: csr_array, mode: np.ndarray, labels: list[str | None], size: int) -> tuple[np.ndarray, list[str]]:
    of_spot = np.empty(mode.size, dtype=np.int64)
    names: list[str] = []
    for name in sorted(set(mode)):
        nodes = np.flatnonzero(mode == name)
        within = csr_array(graph[nodes][:, nodes])
        parts, labelled = scales.corridors_by_label([labels[i] for i in nodes], within, size)
        unnamed = 0
        for part, label in zip(parts, labelled, strict=True):
            of_spot[nodes[part]] = len(names)
            unnamed += not label
            names.append(label or f"{name} corridor {unnamed}")
    return of_spot, names


def _given(corridor: np.ndarray, mode: np.ndarray) -> tuple[np.ndarray, list[str]]:
    keys = sorted(set(zip(mode.tolist(), corridor.tolist(), strict=True)))
    number = {key: i for i, key in enumerate(keys)}
    of_series = np.array([number[key] for key in zip(mode.tolist(), corridor.tolist(), strict=True)], dtype=np.int64)
    return of_series, [f"{name} corridor {given}" for name, given in keys]


def _aggregates(frame: pl.DataFrame, names: list[str], city: str) -> tuple[pl.DataFrame, csr_array]:
    """Corridor and network rows in panel order, and which spot columns they are made of."""
    placed = frame.with_row_index("column").with_columns(modes=pl.col("mode").n_unique().over("variable"))
    common = [
        *(pl.col(c).first() for c in ("unit", "kind", "counted", "aggregate", "modes")),
        *(pl.col(c).mean() for c in ("lon", "lat")),
        pl.col("column"),
    ]
    corridors = (
        placed.group_by("variable", "mode", "corridor", maintain_order=True)
        .agg(common)
        .sort("variable", "corridor")
        .with_columns(
            level=pl.lit("corridor"),
            series_id=pl.format("{}@corridor:{}", "variable", "corridor"),
            name=pl.col("corridor").replace_strict(range(len(names)), names, return_dtype=pl.String),
        )
    )
    single = pl.format("{}@network", "variable")
    networks = (
        placed.group_by("variable", "mode", maintain_order=True)
        .agg(common)
        .sort("variable", "mode")
        .with_columns(
            level=pl.lit("network"),
            corridor=pl.lit(None, pl.Int32),
            series_id=pl.when(pl.col("modes") == 1)
            .then(single)
            .otherwise(pl.format("{}@network:{}", "variable", "mode")),
            name=pl.lit(city),
        )
    )
    rows = pl.concat([corridors, networks], how="diagonal")
    columns = rows["column"].to_list()
    row = np.repeat(np.arange(len(columns)), [len(c) for c in columns])
    column = np.concatenate([np.asarray(c, dtype=np.int64) for c in columns])
    members = csr_array((np.ones(row.size, np.float32), (row, column)), shape=(len(columns), frame.height))
    rows = rows.with_columns(spot_id=pl.lit(None, pl.String), index=pl.lit(0, pl.UInt32))
    return rows.select(SERIES_SCHEMA.names()).cast(SERIES_SCHEMA), members


def _with_aggregates(graph: csr_array, order: np.ndarray, members: csr_array, aggregates: pl.DataFrame) -> csr_array:
    """The graph in panel order, and below it the corridors joined by the edges that cross between them."""
    spots = csr_array(graph[order][:, order]).astype(np.float32)
    number = np.flatnonzero(aggregates["level"].to_numpy() == "corridor")
    coarse = csr_array(members[number] @ spots @ members[number].T)
    fine, rough = spots.tocoo(), coarse.tocoo()
    row = np.concatenate([fine.row, rough.row + order.size])
    column = np.concatenate([fine.col, rough.col + order.size])
    weight = np.concatenate([fine.data, rough.data]).astype(np.float32)
    keep = (row != column) & (weight != 0)
    total = order.size + aggregates.height
    whole = csr_array((weight[keep], (row[keep], column[keep])), shape=(total, total))
    whole.sort_indices()
    return whole


def _aggregation(values: np.ndarray, layout: Layout) -> csr_array:
    """Ones for sums; for means shares of the flow at the same spots in the training part of the axis."""
    spots = layout.order.size
    frame = layout.series.with_row_index("position")
    weighed = frame[:spots].filter(pl.col("aggregate") == "mean").select("position", "spot_id", "mode", "variable")
    members = csr_array(layout.members, dtype=np.float32)
    if weighed.height == 0:
        return members
    flows = frame[:spots].filter(pl.col("variable") == _FLOW).select("spot_id", column="position")
    means = _training_means(values, flows["column"].to_numpy().astype(np.int64))
    flows = flows.with_columns(flow=pl.Series(means, dtype=pl.Float64))
    flow = np.full(spots, np.nan)
    found = weighed.join(flows, on="spot_id", how="inner")
    flow[found["position"].to_numpy()] = found["flow"].to_numpy()
    kinds = layout.series["aggregate"].to_list()
    for row in range(layout.series.height - spots):
        if kinds[spots + row] == "mean":
            part = slice(int(members.indptr[row]), int(members.indptr[row + 1]))
            members.data[part] = scales.weights_of_means(flow[members.indices[part]])
    return members


def _training_means(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64: mean of each column over what is observed in the training part; NaN where nothing is."""
    total, seen = np.zeros(columns.size), np.zeros(columns.size)
    stop = int(values.shape[0] * TRAINING_SHARE)
    if columns.size:
        for start in range(0, stop, _HASHED_ROWS):
            block = values[start : min(start + _HASHED_ROWS, stop), columns]
            there = np.isfinite(block)
            total += np.where(there, block, 0).sum(axis=0, dtype=np.float64)
            seen += there.sum(axis=0)
    return np.divide(total, seen, out=np.full(columns.size, np.nan), where=seen > 0)
