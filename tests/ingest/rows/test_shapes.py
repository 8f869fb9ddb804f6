"""Shapes as well-known text with a point on them."""

from __future__ import annotations

import math

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.ingest.rows.shapes import from_geojson, from_lines, from_points

# Degrees as feeds write them: a number below the smallest normal one is no place.
LON = st.floats(-180, 180).map(lambda degrees: round(degrees, 9))
LAT = st.floats(-90, 90).map(lambda degrees: round(degrees, 9))
RING = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]


@pytest.mark.parametrize(
    ("kind", "coordinates", "wkt", "point"),
    [
        ("Point", [1.5, 2, 99], "POINT (1.5 2)", (1.5, 2)),
        ("MultiPoint", [[1, 2], [3, 4]], "MULTIPOINT ((1 2), (3 4))", (1, 2)),
        ("LineString", [[0, 0], [4, 0]], "LINESTRING (0 0, 4 0)", (2, 0)),
        ("MultiLineString", [[[0, 0], [1, 0]], [[0, 2], [8, 2]]], "MULTILINESTRING ((0 0, 1 0), (0 2, 8 2))", (4, 2)),
        ("Polygon", [RING], "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0))", (2, 2)),
    ],
)
def test_geometries_of_geojson_are_read(kind, coordinates, wkt, point):
    shape = from_geojson({"type": kind, "coordinates": coordinates})
    assert (shape.wkt, (shape.lon, shape.lat)) == (wkt, point)


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        [],
        {},
        {"type": ["Point"], "coordinates": [1, 2]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "Point"},
        {"type": "Point", "coordinates": []},
        {"type": "Point", "coordinates": [1]},
        {"type": "Point", "coordinates": ["1", "2"]},
        {"type": "Point", "coordinates": [True, False]},
        {"type": "Point", "coordinates": [10**400, 0]},
        {"type": "Point", "coordinates": [0, 91]},
        {"type": "LineString", "coordinates": []},
        {"type": "LineString", "coordinates": [[1, 2]]},
        {"type": "LineString", "coordinates": [1, 2]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "MultiPoint", "coordinates": [[0, 0]] * 100_001},
    ],
)
def test_what_is_no_geometry_is_refused_in_a_short_sentence(geometry):
    with pytest.raises(ValueError) as caught:
        from_geojson(geometry)
    assert 0 < len(str(caught.value)) <= 200


@pytest.mark.parametrize("number", [math.nan, math.inf, 181.0])
def test_numbers_that_are_no_degrees_are_refused(number):
    with pytest.raises(ValueError, match="degrees"):
        from_points([(0.0, 0.0), (number, 0.0)])
    with pytest.raises(ValueError, match="degrees"):
        from_lines([[(0.0, 0.0), (1.0, number)]])
    with pytest.raises(ValueError, match="no point"):
        from_points([])


@given(st.lists(st.tuples(LON, LAT), min_size=2, max_size=8))
def test_the_point_lies_on_the_line_and_the_text_can_be_read_back(line):
    shape = from_lines([line])
    read = shapely.from_wkt(shape.wkt)
    assert read.distance(shapely.Point(shape.lon, shape.lat)) < 1e-5
    assert shapely.get_coordinates(read) == pytest.approx(shapely.get_coordinates(shapely.LineString(line)), abs=1e-6)
