"""Geometry: degrees to metres, sensors to roads, spots and corridors to GIS files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import geopandas as gpd
import numpy as np
import polars as pl

from mtgpt.errors import PanelError, UsageError
from mtgpt.lake.derived.road_net import snap as put_on_lines

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.panel.panel import Panel

_WGS84 = "EPSG:4326"
_LEAST_SPREAD_M = 25.0


def places(lon: np.ndarray, lat: np.ndarray) -> gpd.GeoSeries:
    """Points of degrees (EPSG:4326)."""
    return gpd.GeoSeries(gpd.points_from_xy(lon, lat), crs=_WGS84)


def metres(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Projects places of one city to its own UTM zone.

    Args:
        lon: [n] degrees.
        lat: [n] degrees.

    Returns:
        float64 [n, 2], easting and northing in metres.
    """
    points = places(lon, lat)
    flat = points.to_crs(points.estimate_utm_crs())
    return np.stack([flat.x.to_numpy(), flat.y.to_numpy()], axis=1)


def snap(
    points: gpd.GeoSeries, roads: gpd.GeoDataFrame, *, within_m: float = 50.0, heading: np.ndarray | None = None
) -> gpd.GeoDataFrame:
    """Puts sensors onto the nearest road.

    Args:
        points: n places, any CRS; missing ones stay missing.
        roads: Lines, any CRS, with any attributes; ``oneway`` (forward, backward, both) is used with ``heading``.
        within_m: Sensors farther from every road stay where they are.
        heading: [n] direction of travel in degrees clockwise from north, not a number where unknown: of two
            carriageways the one that runs that way is taken.

    Returns:
        n rows in the order given (EPSG:4326): geometry, ``road`` (row of ``roads``, -1 if none) and ``moved_m``
        (distance to the nearest road; not a number where there is no road or no place).

    Raises:
        PanelError: Points or roads do not say their CRS, roads are no lines, or ``heading`` is not as long as points.
    """
    lines, n = roads.geometry, len(points)
    if points.crs is None or lines.crs is None:
        raise PanelError("places without a reference system", where="snap", expected="a CRS, such as EPSG:4326")
    if heading is not None and len(heading) != n:
        raise PanelError("headings and places differ in number", where="snap", got=len(heading), expected=n)
    if not lines.geom_type.isin(["LineString", "LinearRing"]).all():
        got = ", ".join(sorted({str(kind) for kind in lines.geom_type.unique()}))
        raise PanelError("roads are not lines", where="snap", got=got, expected="LineString; see GeoDataFrame.explode")
    degrees = points.to_crs(_WGS84)
    placed = (~(degrees.is_empty | degrees.isna())).to_numpy()
    if not placed.any() or lines.empty:
        frame = {"road": np.full(n, -1), "moved_m": np.full(n, np.nan)}
        return gpd.GeoDataFrame(frame, geometry=degrees.to_numpy(), crs=_WGS84)
    zone = gpd.GeoSeries(degrees[placed]).estimate_utm_crs()
    flat = degrees.to_crs(zone)
    oneway = roads["oneway"].astype(str).tolist() if "oneway" in roads.columns else None
    on = put_on_lines(
        flat.x.to_numpy(),
        flat.y.to_numpy(),
        lines.to_crs(zone).to_numpy(),
        within_m=within_m,
        heading=heading,
        oneway=oneway,
    )
    moved = gpd.GeoSeries(gpd.points_from_xy(on.x, on.y), crs=zone).to_crs(_WGS84)
    geometry = np.where(on.line >= 0, moved.to_numpy(), degrees.to_numpy())
    return gpd.GeoDataFrame({"road": on.line, "moved_m": on.gap_m}, geometry=geometry, crs=_WGS84)


def spot_frame(panel: Panel) -> gpd.GeoDataFrame:
    """One row per spot with a place (EPSG:4326): id, name, mode, kind, corridor, variables measured there."""
    spots = (
        panel.series.filter((pl.col("level") == "spot") & pl.col("lon").is_finite() & pl.col("lat").is_finite())
        .group_by("spot_id", maintain_order=True)
        .agg(
            *(pl.col(c).first() for c in ("name", "mode", "kind", "corridor", "lon", "lat")),
            variables=pl.col("variable").unique(maintain_order=True).str.join(","),
        )
    )
    columns = {name: spots[name].to_list() for name in spots.columns if name not in ("lon", "lat")}
    return gpd.GeoDataFrame(columns, geometry=places(spots["lon"].to_numpy(), spots["lat"].to_numpy()), crs=_WGS84)


def corridor_frame(panel: Panel) -> gpd.GeoDataFrame:
    """One row per corridor (EPSG:4326): number, name, mode, spots, and the hull of its spots, 25 m wide at least."""
    spots = spot_frame(panel)
    names = dict(panel.series.filter(pl.col("level") == "corridor").select("corridor", "name").iter_rows())
    if spots.empty:
        return gpd.GeoDataFrame({"corridor": [], "name": [], "mode": [], "spots": []}, geometry=[], crs=_WGS84)
    flat = spots.to_crs(spots.estimate_utm_crs())
    grouped = flat.groupby("corridor", sort=True)
    hull = gpd.GeoSeries(grouped.geometry.agg(lambda g: g.union_all().convex_hull), crs=flat.crs)
    columns = {
        "corridor": hull.index.to_list(),
        "name": [names.get(number) for number in hull.index],
        "mode": grouped["mode"].first().to_list(),
        "spots": grouped.size().to_list(),
    }
    outline = gpd.GeoSeries(hull.buffer(_LEAST_SPREAD_M).to_numpy(), crs=flat.crs).to_crs(_WGS84)
    return gpd.GeoDataFrame(columns, geometry=outline, crs=_WGS84)


def export_geo(panel: Panel, folder: Path, *, kind: str = "geoparquet") -> list[Path]:
    """Writes spots and corridors for GIS programs.

    Args:
        panel: With places.
        folder: Where ``spots`` and ``corridors`` go; made if absent.
        kind: ``geoparquet`` or ``geojson``.

    Returns:
        The files written.

    Raises:
        UsageError: If the kind is unknown.
        PanelError: If no spot of the panel has a place, or the folder cannot be written.
    """
    if kind not in ("geoparquet", "geojson"):
        raise UsageError("unknown kind of GIS file", got=kind, expected="geoparquet or geojson")
    frames = {"spots": spot_frame(panel), "corridors": corridor_frame(panel)}
    if frames["spots"].empty:
        raise PanelError(
            "no spot of this panel has a place",
            where=panel.meta.city,
            expected="lon and lat in the spot table",
            next_step="add a locations file to the manifest's source and ingest again",
        )
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            path = folder / f"{name}.{'parquet' if kind == 'geoparquet' else 'geojson'}"
            if kind == "geoparquet":
                frame.to_parquet(path, index=False)
            else:
                path.write_text(frame.to_json(drop_id=True), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise PanelError("the files could not be written", where=folder, got=error.strerror or str(error)) from error
    return written
