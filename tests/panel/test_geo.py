from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import LineString, Point

from mtgpt.errors import PanelError
from mtgpt.panel.geo import metres, snap

# A motorway along the 34th parallel: westbound carriageway in the north, eastbound 22 m south of it, and a side road.
ROADS = gpd.GeoDataFrame(
    {"name": ["west", "east", "side"], "oneway": ["backward", "forward", "both"]},
    geometry=[
        LineString([(-118.262, 34.0002), (-118.248, 34.0002)]),
        LineString([(-118.262, 34.0000), (-118.248, 34.0000)]),
        LineString([(-118.25, 34.0020), (-118.25, 34.0100)]),
    ],
    crs="EPSG:4326",
)


def points(*places: tuple[float, float] | None) -> gpd.GeoSeries:
    shapes = np.array([None if one is None else Point(one) for one in places], dtype=object)
    return gpd.GeoSeries(shapes, crs="EPSG:4326")


def test_a_sensor_is_put_onto_the_nearest_road_and_says_how_far_it_was_moved():
    snapped = snap(points((-118.26, 33.9999), (-118.2501, 34.005)), ROADS)
    assert snapped["road"].tolist() == [1, 2]
    assert snapped["moved_m"].to_numpy() == pytest.approx([11.1, 9.2], abs=0.2)
    assert snapped.geometry.y.to_numpy() == pytest.approx([34.0, 34.005], abs=2e-6)
    assert snapped.crs == "EPSG:4326"


def test_a_sensor_farther_than_the_limit_stays_where_it_is():
    far = points((-118.26, 34.001))
    snapped = snap(far, ROADS, within_m=50.0)
    assert snapped["road"].tolist() == [-1]
    assert snapped["moved_m"].item() == pytest.approx(88.7, abs=0.5)
    assert snapped.geometry.iloc[0].equals_exact(far.iloc[0], 1e-9)
    assert snap(far, ROADS, within_m=100.0)["road"].tolist() == [0]


def test_of_two_carriageways_the_one_that_runs_the_sensors_way_is_taken():
    middle = points((-118.26, 34.00012), (-118.26, 34.00012), (-118.26, 34.00012))
    snapped = snap(middle, ROADS, heading=np.array([np.nan, 270.0, 90.0]))
    assert snapped["road"].tolist() == [0, 0, 1]


def test_a_sensor_on_a_road_that_only_runs_the_other_way_is_still_put_there():
    assert snap(points((-118.26, 34.0002)), ROADS.iloc[:1], heading=np.array([90.0]))["road"].tolist() == [0]


def test_missing_places_and_missing_roads_are_said_and_not_guessed():
    snapped = snap(points(None, (-118.26, 34.0)), ROADS)
    assert snapped["road"].tolist() == [-1, 1]
    assert np.isnan(snapped["moved_m"][0])
    nowhere = snap(points((-118.26, 34.0)), ROADS.iloc[:0])
    assert nowhere["road"].tolist() == [-1]
    assert nowhere.geometry.x.item() == -118.26


def test_places_in_another_reference_system_give_the_same_answer():
    sensors = points((-118.26, 33.9999))
    flat = snap(sensors.to_crs(32611), ROADS.to_crs(3857))
    assert flat.geometry.iloc[0].distance(snap(sensors, ROADS).geometry.iloc[0]) < 1e-7


@pytest.mark.parametrize(
    ("sensors", "roads", "heading", "what"),
    [
        (gpd.GeoSeries([Point(0, 0)]), ROADS, None, "without a reference system"),
        (points((0, 0)), gpd.GeoDataFrame(geometry=ROADS.geometry.to_numpy()), None, "without a reference system"),
        (points((0, 0)), ROADS.set_geometry(ROADS.envelope), None, "roads are not lines"),
        (points((0, 0)), ROADS, np.zeros(2), "differ in number"),
    ],
)  # fmt: skip
def test_what_cannot_be_snapped_is_one_sentence(sensors, roads, heading, what):
    with pytest.raises(PanelError, match=what):
        snap(sensors, roads, heading=heading)


def test_metres_are_those_of_the_city_s_own_zone():
    flat = metres(np.array([-118.26, -118.25]), np.array([34.0, 34.0]))
    assert np.hypot(*(flat[1] - flat[0])) == pytest.approx(923.7, abs=1.0)
