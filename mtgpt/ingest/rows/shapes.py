"""Shapes of feeds as well-known text with a point that stands for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import shape as _shape

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEPTH = {"Point": 0, "MultiPoint": 1, "LineString": 1, "MultiLineString": 2, "Polygon": 2, "MultiPolygon": 3}
_DECIMALS = 6
_MOST_POINTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A place in WGS 84.

    Attributes:
        wkt: Well-known text, longitude first.
        lon: Of a point on it.
        lat: Of the same point.
    """

    wkt: str
    lon: float
    lat: float


def from_geojson(geometry: Any) -> Shape:
    """A geometry object (RFC 7946 section 3.1) but a collection; heights are left out.

    Raises:
        ValueError: Not such a geometry, or not in degrees.
    """
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(kind, str) or kind not in _DEPTH:
        raise ValueError(f"no geometry of GeoJSON: {geometry!r}"[:200])
    coordinates = geometry.get("coordinates")
    count = _count(coordinates, _DEPTH[kind])
    if not 0 < count <= _MOST_POINTS:
        raise ValueError(f"{count} points, expected 1 to {_MOST_POINTS}")
    try:
        return _of(_shape({"type": kind, "coordinates": _positions(coordinates, _DEPTH[kind])}))
    except (TypeError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"coordinates cannot be read: {error}"[:200]) from None


def from_points(points: Sequence[tuple[float, float]]) -> Shape:
    """A point, or several.

    Args:
        points: Longitude, latitude.

    Raises:
        ValueError: None at all, or not in degrees.
    """
    if not points:
        raise ValueError("no point")
    _check(points)
    return _of(shapely.Point(points[0]) if len(points) == 1 else shapely.MultiPoint(points))


def from_lines(lines: Sequence[Sequence[tuple[float, float]]]) -> Shape:
    """A line, or several.

    Args:
        lines: Longitude, latitude of at least two points each.

    Raises:
        ValueError: None at all, too short, or not in degrees.
    """
    if not lines or min(len(line) for line in lines) < 2:
        raise ValueError("a line of fewer than two points")
    for line in lines:
        _check(line)
    return _of(shapely.LineString(lines[0]) if len(lines) == 1 else shapely.MultiLineString(lines))


def _count(coordinates: Any, depth: int) -> int:
    """Number of positions; the nesting must be that of the geometry's type."""
    if not isinstance(coordinates, list):
        raise ValueError("coordinates are missing")  # noqa: TRY004 - callers know one kind of fault
    return 1 if depth == 0 else sum(_count(part, depth - 1) for part in coordinates)


def _positions(coordinates: Any, depth: int) -> list[Any]:
    """The same nesting with longitude and latitude as numbers, heights left out."""
    if depth:
        return [_positions(part, depth - 1) for part in coordinates]
    numbers = coordinates[:2]
    if len(numbers) < 2 or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise ValueError(f"no position: {coordinates!r}"[:200])
    if not all(abs(one) <= 180 for one in numbers):
        raise ValueError("coordinates are not in degrees")
    return [float(one) for one in numbers]


def _check(points: Sequence[tuple[float, float]]) -> None:
    # Before shapely sees them: it warns of what is not finite.
    if not all(abs(lon) <= 180 and abs(lat) <= 90 for lon, lat in points):
        raise ValueError("coordinates are not in degrees")


def _of(geometry: Any) -> Shape:
    coordinates = shapely.get_coordinates(geometry)
    within = np.isfinite(coordinates).all() and (np.abs(coordinates) <= (180, 90)).all()
    if not coordinates.size or not within:
        raise ValueError("coordinates are not in degrees")
    point = _on(geometry)
    wkt = shapely.to_wkt(geometry, rounding_precision=_DECIMALS)
    return Shape(wkt=wkt, lon=round(point.x, _DECIMALS), lat=round(point.y, _DECIMALS))


def _on(geometry: Any) -> Any:
    """A point on the geometry: the middle of its longest line, the first of its points, a point inside its area."""
    if geometry.geom_type == "MultiLineString":
        geometry = max(geometry.geoms, key=lambda line: line.length)
    if geometry.geom_type == "LineString":
        return shapely.line_interpolate_point(geometry, 0.5, normalized=True)
    if geometry.geom_type == "MultiPoint":
        return geometry.geoms[0]
    return geometry if geometry.geom_type == "Point" else shapely.point_on_surface(geometry)
