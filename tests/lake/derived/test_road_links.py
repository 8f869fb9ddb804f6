"""Places are put onto roads and linked along them, one-way streets respected."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import UsageError
from mtgpt.lake.derived.road_links import SOURCE, along_roads, derive_road_links
from mtgpt.lake.derived.road_net import BACKWARD, BOTH, FORWARD, Roads, Snapped, heading_deg, nearest_along, snap
from mtgpt.lake.replay import replay
from mtgpt.lake.table import Table
from tests.lake.feeds import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.lake.conftest import City

EVER = "1970-01-01T00:00:00Z"
ROAD = ("road_id", "from_node", "to_node", "kind", "oneway", "length_m", "geometry", "valid_from")
PLACE = ("spot_id", "kind", "mode", "lon", "lat", "attributes", "valid_from")
# At the equator a thousandth of a degree is 111.3 m either way: a block, and a street that leaves it to the east.
CORNERS = {"a": (0.0, 0.0), "b": (0.001, 0.0), "c": (0.001, 0.001), "d": (0.0, 0.001), "e": (0.003, 0.0)}
STREETS = (("a", "b", BOTH), ("b", "c", BOTH), ("c", "d", BOTH), ("d", "a", BOTH), ("b", "e", FORWARD))
BLOCK_M = 111.3


def road(start: str, end: str, oneway: str, *, corners=CORNERS) -> tuple:
    line = shapely.LineString([corners[start], corners[end]])
    return (f"{start}{end}/0", start, end, "residential", oneway, line.length * 1000 * BLOCK_M, line.wkt, EVER)


def place(spot_id: str, lon: float, lat: float, *, kind="stop", mode="bus", direction=None, since=EVER) -> tuple:
    attributes = None if direction is None else json.dumps({"direction": direction})
    return (spot_id, kind, mode, lon, lat, attributes, since)


def write(path: Path, roads: Iterable[tuple] = (), places: Iterable[tuple] = ()) -> None:
    if roads:
        write_rows(path, ROAD, roads)
    if places:
        write_rows(path, PLACE, places)


def linked(spots: Sequence[tuple], streets=STREETS, **options) -> dict[tuple[str, str], float]:
    roads = pl.DataFrame([road(*one) for one in streets], schema=ROAD, orient="row")
    places = pl.DataFrame(
        [(one[0], one[3], one[4], one[5]) for one in spots],
        schema={"spot_id": pl.String, "lon": pl.Float64, "lat": pl.Float64, "attributes": pl.String},
        orient="row",
    )
    return {(a, b): metres for a, b, metres in along_roads(places, roads, **options).iter_rows()}


def test_distances_run_along_the_streets_and_not_through_the_houses():
    found = linked([place("west", 0.0, 0.0005), place("east", 0.001, 0.0005)])
    assert found == {
        ("west", "east"): pytest.approx(2 * BLOCK_M, abs=0.5),
        ("east", "west"): pytest.approx(2 * BLOCK_M, abs=0.5),
    }


def test_a_one_way_street_leads_one_way():
    spots = [place("1", 0.0015, 0.0), place("2", 0.0025, 0.0)]
    assert linked(spots) == {("1", "2"): pytest.approx(BLOCK_M, abs=0.5)}
    backwards = [*STREETS[:4], ("b", "e", BACKWARD)]
    assert linked(spots, backwards) == {("2", "1"): pytest.approx(BLOCK_M, abs=0.5)}


def test_the_cutoff_and_the_number_of_neighbours_are_kept():
    spots = [place(str(at), 0.001 + at / 1e5, 0.0) for at in range(0, 200, 10)]
    both = [*STREETS[:4], ("b", "e", BOTH)]
    near = linked(spots, both, nearest=2)
    assert len(near) == 2 * len(spots)
    assert ("0", "10") in near
    assert ("0", "30") not in near
    assert max(linked(spots, both, nearest=99, cutoff_m=50).values()) <= 50
    assert len(linked(spots, both, nearest=99)) == len(spots) * (len(spots) - 1)


def test_a_place_far_from_every_road_is_linked_to_nothing():
    assert linked([place("1", 0.0, 0.0005), place("2", 0.002, 0.001)]) == {}
    assert linked([place("1", 0.0, 0.0005)]) == {}
    assert linked([place("1", 0.0, 0.0005), place("2", 0.0, 0.0006)], []) == {}


def test_of_two_carriageways_the_one_of_the_detector_s_direction_is_taken():
    corners = {"a": (0.0, 0.0), "b": (0.01, 0.0), "c": (0.01, 0.0002), "d": (0.0, 0.0002)}
    roads = pl.DataFrame(
        [road("a", "b", FORWARD, corners=corners), road("c", "d", FORWARD, corners=corners)], schema=ROAD, orient="row"
    )
    # All of them lie nearer to the westbound carriageway.
    spots = pl.DataFrame(
        [("e1", 0.002, 0.00012, '{"direction": "E"}'), ("e2", 0.004, 0.00012, '{"direction": "eastbound"}'),
         ("w1", 0.002, 0.00012, '{"direction": "W"}'), ("w2", 0.004, 0.00012, "not json")],
        schema=["spot_id", "lon", "lat", "attributes"], orient="row",
    )  # fmt: skip
    found = along_roads(spots, roads)
    assert {(a, b) for a, b, _ in found.iter_rows()} == {("e1", "e2"), ("w2", "w1")}


@pytest.mark.parametrize(
    ("text", "degrees"),
    [("N", 0), ("NB", 0), ("Northbound", 0), ("e", 90), ("SW", 225), ("south-bound", 180), ("W ", 270)],
)
def test_directions_of_travel_are_understood(text, degrees):
    assert heading_deg(text) == degrees


@pytest.mark.parametrize("text", [None, "", "inbound", 7, "up", "bound", "²", ["N"]])
def test_what_is_no_direction_is_none(text):
    assert math.isnan(heading_deg(text))


def test_geometry_that_is_no_line_or_of_another_planet_is_left_out():
    roads = pl.DataFrame(
        [road(*one) for one in STREETS]
        + [("x/0", "a", "b", "x", BOTH, 1.0, "POINT (0 0)", EVER), ("y/0", "a", "b", "x", BOTH, 1.0, "LINESTRING (", EVER),
           ("z/0", "a", "b", "x", BOTH, 1.0, "LINESTRING (1e308 0, 90 91)", EVER),
           ("e/0", "a", "b", "x", BOTH, 1.0, "LINESTRING EMPTY", EVER)],
        schema=ROAD, orient="row",
    )  # fmt: skip
    spots = pl.DataFrame(
        [("1", 0.0, 0.0005, None), ("2", 0.0, 0.0007, None), ("3", 170.0, 80.0, None)],
        schema={"spot_id": pl.String, "lon": pl.Float64, "lat": pl.Float64, "attributes": pl.String}, orient="row",
    )  # fmt: skip
    assert along_roads(spots, roads).height == 2


SIZE = 6


@st.composite
def networks(draw) -> tuple[Roads, Snapped]:
    count = draw(st.integers(1, 12))
    ends = st.lists(st.integers(0, SIZE - 1), min_size=count, max_size=count)
    start, end = np.array(draw(ends)), np.array(draw(ends))
    length = np.array(draw(st.lists(st.integers(1, 900), min_size=count, max_size=count)), dtype=float)
    way = draw(st.lists(st.sampled_from([BOTH, FORWARD, BACKWARD]), min_size=count, max_size=count))
    lines = shapely.linestrings([[(0, at), (1, at)] for at in range(count)])
    on = draw(st.lists(st.tuples(st.integers(-1, count - 1), st.integers(0, 64)), min_size=2, max_size=10))
    line = np.array([one for one, _ in on])
    along = np.where(line >= 0, np.array([share / 64 for _, share in on]), np.nan)
    none = np.zeros(len(on))
    return (
        Roads(lines=lines, from_node=start, to_node=end, length_m=length, oneway=np.array(way)),
        Snapped(line=line, along=along, gap_m=none, x=none, y=none),
    )


def by_hand(roads: Roads, places: Snapped) -> np.ndarray:
    """All distances, thought of in another way: out of one line, over the junctions, into the other line."""
    far = np.full((SIZE, SIZE), np.inf)
    np.fill_diagonal(far, 0)
    ahead, back = roads.oneway != BACKWARD, roads.oneway != FORWARD
    for a, b, metres, forth, home in zip(roads.from_node, roads.to_node, roads.length_m, ahead, back, strict=True):
        far[a, b] = min(far[a, b], metres if forth else np.inf)
        far[b, a] = min(far[b, a], metres if home else np.inf)
    for via in range(SIZE):
        far = np.minimum(far, far[:, [via]] + far[[via], :])
    n = len(places.line)
    found = np.full((n, n), np.inf)
    for i, j in ((i, j) for i in range(n) for j in range(n) if i != j and min(places.line[i], places.line[j]) >= 0):
        one, two = places.line[i], places.line[j]
        p, q = places.along[i] * roads.length_m[one], places.along[j] * roads.length_m[two]
        outs = [(roads.from_node[one], p if back[one] else np.inf),
                (roads.to_node[one], roads.length_m[one] - p if ahead[one] else np.inf)]  # fmt: skip
        ins = [(roads.from_node[two], q if ahead[two] else np.inf),
               (roads.to_node[two], roads.length_m[two] - q if back[two] else np.inf)]  # fmt: skip
        found[i, j] = min(out + far[a, b] + into for a, out in outs for b, into in ins)
        if one == two and ((q >= p and ahead[one]) or (q <= p and back[one])):
            found[i, j] = min(found[i, j], abs(q - p))
    return found


@settings(max_examples=150, deadline=None)
@given(networks())
def test_distances_are_those_of_another_way_of_thinking(network):
    roads, places = network
    expected = by_hand(roads, places)
    start, end, metres = nearest_along(roads, places, cutoff_m=1500.0, nearest=100)
    found = np.full_like(expected, np.inf)
    found[start, end] = metres
    # Places on the very same spot of a one-way street stand in one order or the other.
    same = (places.line[:, None] == places.line[None, :]) & (places.along[:, None] == places.along[None, :])
    differ = (expected <= 1499.9) & ~same
    assert np.abs(found[differ] - expected[differ]).max(initial=0) < 0.1
    assert np.isinf(found[(expected > 1500.1) & ~same]).all()


def test_each_place_gets_its_nearest_whatever_the_blocks_it_was_reached_in(monkeypatch):
    spots = [place(str(at), 0.001 + at / 1e5, 0.0) for at in range(0, 200, 7)]
    streets = [*STREETS[:4], ("b", "e", BOTH)]
    whole = linked(spots, streets, nearest=5)
    monkeypatch.setattr("mtgpt.lake.derived.road_net._AT_ONCE", 1)
    monkeypatch.setattr("mtgpt.lake.derived.road_net._NEAR_M", 20.0)
    assert linked(spots, streets, nearest=5) == whole


def test_snapping_without_places_or_lines_is_no_error():
    none = np.empty(0)
    lines = np.array([shapely.LineString([(0, 0), (1, 0)])])
    assert snap(none, none, lines, within_m=1).line.size == 0
    assert snap(np.array([np.nan, 0.0]), np.zeros(2), lines[:0], within_m=1).line.tolist() == [-1, -1]
    assert snap(np.array([np.nan, 0.5]), np.zeros(2), lines, within_m=1).line.tolist() == [-1, 0]


BLOCK = [road(*one) for one in STREETS]
TWO = [place("west", 0.0, 0.0005), place("east", 0.001, 0.0005)]


def ready(city: City) -> None:
    write(city.write("roads.csv"), roads=BLOCK)
    write(city.write("places.csv"), places=[*TWO, place("dock", 0.0, 0.0004, kind="dock", mode="bike")])
    city.add("streets", "roads.csv", table="road")
    city.add("stops", "places.csv", table="spot")


def road_links(city: City) -> dict[tuple[str, str], float]:
    rows = city.lake.scan("link", city_id="testville").filter(pl.col("source_id") == SOURCE).collect()
    assert set(rows["kind"]) <= {"road"}
    return {(a, b): metres for a, b, metres in rows.select("from_spot", "to_spot", "distance_m").iter_rows()}


def test_a_city_with_roads_gets_its_stops_linked_once(city: City) -> None:
    ready(city)
    assert SOURCE in [one.source_id for one in city.ingest()]
    assert set(road_links(city)) == {("west", "east"), ("east", "west")}
    version = city.lake.version("link")
    assert SOURCE not in [one.source_id for one in city.ingest()]
    assert derive_road_links(city.lake, "testville") == []
    assert city.lake.version("link") == version


def test_a_city_without_roads_or_with_one_place_gets_nothing(city: City) -> None:
    write(city.write("places.csv"), places=TWO)
    city.add("stops", "places.csv", table="spot")
    city.ingest()
    assert derive_road_links(city.lake, "testville") == []
    assert city.lake.version("link") is None


def test_links_follow_places_that_moved_and_roads_that_changed(city: City) -> None:
    ready(city)
    city.ingest()
    write(city.write("places.csv"), places=[TWO[0], place("east", 0.001, 0.0002, since="2024-01-01T00:00:00Z")])
    city.ingest()
    assert road_links(city)["west", "east"] == pytest.approx(1.7 * BLOCK_M, abs=0.5)
    write(city.write("roads.csv"), roads=[road("a", "b", BACKWARD), *BLOCK[1:]])
    city.ingest()
    assert road_links(city)["west", "east"] == pytest.approx(2.3 * BLOCK_M, abs=0.5)
    assert road_links(city)["east", "west"] == pytest.approx(1.7 * BLOCK_M, abs=0.5)


def test_places_that_roads_do_not_touch_change_nothing(city: City) -> None:
    ready(city)
    city.ingest()
    version = city.lake.version("link")
    write(
        city.write("more.csv"),
        places=[place("tram", 0.0, 0.0003, mode="tram"), place("dock2", 0.0, 0.0, kind="dock", mode="bike")],
    )
    city.add("more", "more.csv", table="spot")
    assert SOURCE not in [one.source_id for one in city.ingest()]
    kinds = city.lake.scan("link", version=version).collect()["source_id"].unique().to_list()
    assert SOURCE in kinds


def test_what_a_feed_says_of_two_detectors_stays_and_is_not_said_twice(city: City) -> None:
    ready(city)
    write_rows(
        city.write("links.csv"), ("from_spot", "to_spot", "kind", "distance_m", "valid_from"),
        [("west", "east", "road", 300, EVER)],
    )  # fmt: skip
    city.add("published", "links.csv", table="link")
    city.ingest()
    assert set(road_links(city)) == {("east", "west")}
    published = city.lake.scan("link").filter(pl.col("source_id") == "published").collect()
    assert published["distance_m"].to_list() == [300.0]


def test_a_run_killed_before_the_ledger_links_once(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(city)
    commit = Table.commit

    def stops(self, *args, **more):
        if self.name == "batch" and more["facts"]["source"] == SOURCE:
            raise KeyboardInterrupt
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        city.ingest()
    monkeypatch.undo()
    city.ingest()
    assert len(road_links(city)) == 2
    assert city.lake.scan("link").filter(pl.col("source_id") == SOURCE).collect().height == 2


def test_derived_links_cannot_be_replayed_and_say_so(city: City) -> None:
    ready(city)
    (batch,) = (one.batch_id for one in city.ingest() if one.source_id == SOURCE)
    with pytest.raises(UsageError, match="derived from others"):
        replay(batch, city.lake, settings=city.settings)


@pytest.mark.real_data
def test_porto_alegre_s_stops_are_linked_in_seconds(real_data) -> None:
    from tests.ingest.feed_files import read

    roads = read("osm", real_data / "osm" / "poa_osm.pbf")["road"]
    stops = read("gtfs", real_data / "gtfs" / "poa_eptc.zip", zone="America/Sao_Paulo")["spot"]
    spots = stops.with_columns(attributes=pl.lit(None, dtype=pl.String)).select("spot_id", "lon", "lat", "attributes")
    found = along_roads(spots, roads)
    places = {row[0]: row[1:3] for row in spots.iter_rows()}
    crow = [math.hypot((places[a][0] - places[b][0]) * 96_400, (places[a][1] - places[b][1]) * 110_900)
            for a, b, _ in found.iter_rows()]  # fmt: skip
    # Two places may each have been moved by 50 m to their road.
    assert (found["distance_m"].to_numpy() - np.array(crow)).min() > -101
    assert found["from_spot"].n_unique() > 2_000
    assert found["distance_m"].to_numpy().max() <= 3000
