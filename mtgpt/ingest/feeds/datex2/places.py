"""Locations of DATEX II as points and lines.

What is read: points by coordinates, GML lines (``posList``), OpenLR and TPEG points, coordinates for display; alone, in
groups or in itineraries. Locations that are only codes (Alert-C, OpenLR's binary form) have no coordinates to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtgpt.ingest.rows.shapes import Shape, from_lines, from_points

if TYPE_CHECKING:
    from mtgpt.ingest.guard.xml_stream import Node

Point = tuple[float, float]

_OPENLR = ("openlrLocationReferencePoint", "openlrLastLocationReferencePoint")
_LINEAR = ("tpegLinearLocation", "openlrLineLocationReference", "openlrLineLocation")
_DISPLAY = ("coordinatesForDisplay", "locationForDisplay")
_POINTS = ("pointCoordinates", "openlrCoordinate", "openlrCoordinates")


def shape_of(location: Node, *, lon_first: bool) -> Shape | None:
    """The shape of a location reference; None where it has no coordinates.

    Args:
        location: ``locationReference``, ``groupOfLocations`` or ``measurementSiteLocation``.
        lon_first: Order of the numbers in a ``posList``.

    Raises:
        ValueError: Coordinates that are no numbers, or not in degrees.
    """
    lines = [_line(node.text, lon_first=lon_first) for node in location.within("posList")]
    lines += [line for part in location.within(*_LINEAR) if len(line := _chain(part)) > 1]
    if lines:
        return from_lines(lines)
    points = list(dict.fromkeys(_point(node) for node in location.within(*_POINTS)))
    if not points:
        points = [_point(node) for node in location.within(*_DISPLAY)][:1]
    return from_points(points) if points else None


def point_of(location: Node, *, lon_first: bool) -> Point | None:
    """A point that stands for a location: the one for display where there is one.

    Args:
        location: As in :func:`shape_of`.
        lon_first: As in :func:`shape_of`.

    Raises:
        ValueError: As :func:`shape_of`.
    """
    for node in location.within(*_DISPLAY):
        return _point(node)
    shape = shape_of(location, lon_first=lon_first)
    return None if shape is None else (shape.lon, shape.lat)


def _linear_parts(location: Node) -> list[Node]:
    return [
        *location.within("tpegLinearLocation", "openlrLineLocationReference", "openlrLinear", "linearByCoordinates")
    ]


def _chain(part: Node) -> list[Point]:
    if part.name == "tpegLinearLocation":
        # The schema puts the end of the line before its beginning.
        ends = [part.first("from"), part.first("to")]
        found = [next(end.within("pointCoordinates"), None) for end in ends if end is not None]
        return [_point(node) for node in found if node is not None]
    nodes = [next(point.within(*_POINTS), None) for point in part.within(*_OPENLR)]
    return [_point(node) for node in nodes if node is not None]


def _point(node: Node) -> Point:
    lon, lat = node.value("longitude"), node.value("latitude")
    if lon is None or lat is None:
        raise ValueError("coordinates are missing")
    return float(lon), float(lat)


def _line(text: str, *, lon_first: bool) -> list[Point]:
    numbers = [float(number) for number in text.split()]
    if len(numbers) % 2:
        raise ValueError("an odd number of coordinates in a line")
    firsts, seconds = numbers[::2], numbers[1::2]
    return list(zip(firsts, seconds, strict=True) if lon_first else zip(seconds, firsts, strict=True))
