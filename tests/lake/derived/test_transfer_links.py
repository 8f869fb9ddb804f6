from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import UsageError
from mtgpt.lake.derived.transfer_links import NEAREST, SOURCE, derive_transfer_links, near
from mtgpt.lake.replay import replay, waiting
from tests.lake.feeds import write_rows

PLACE = ("spot_id", "kind", "mode", "lon", "lat", "valid_from")
# One thousandth of a degree of latitude is 111 m.
STATION = ("station", "station", "rail", 10.0, 59.0)


def place(spot_id, kind, mode, lon, lat, valid_from="1970-01-01T00:00:00Z"):
    return (spot_id, kind, mode, lon, lat, valid_from)


def write_places(path, *places):
    return write_rows(path, PLACE, [place(*one) for one in places])


def transfers(lake):
    rows = lake.scan("link", city_id="testville").filter(pl.col("kind") == "transfer").collect()
    return {(a, b): metres for a, b, metres in rows.select("from_spot", "to_spot", "distance_m").iter_rows()}


def test_a_dock_beside_a_station_is_linked_both_ways_in_metres(city):
    write_places(city.write("places.csv"), STATION, ("dock", "dock", "bike", 10.0, 59.001))
    city.add("places", "places.csv", table="spot")
    results = city.ingest()
    assert [one.source_id for one in results] == ["places", SOURCE]
    assert transfers(city.lake) == {("dock", "station"): 111.4, ("station", "dock"): 111.4}
    assert city.lake.scan("link").collect()["source_id"].unique().to_list() == [SOURCE]


def test_nothing_is_linked_again_until_places_or_the_distance_change(city):
    write_places(city.write("places.csv"), STATION, ("dock", "dock", "bike", 10.0, 59.001))
    city.add("places", "places.csv", table="spot")
    city.ingest()
    version = city.lake.version("link")
    assert [one.status for one in city.ingest()] == ["replay"]
    assert derive_transfer_links(city.lake, "testville", within_m=250) == []
    assert city.lake.version("link") == version
    write_places(city.write("more.csv"), ("stop", "stop", "bus", 10.0005, 59.0))
    city.add("more", "more.csv", table="spot")
    assert [one.source_id for one in city.ingest()] == ["places", "more", SOURCE]
    assert set(transfers(city.lake)) == {
        (a, b) for a in ("dock", "station", "stop") for b in ("dock", "station", "stop") if a != b
    }


def test_a_shorter_distance_takes_links_away_and_the_old_one_brings_them_back(city):
    write_places(city.write("places.csv"), STATION, ("dock", "dock", "bike", 10.0, 59.001))
    city.add("places", "places.csv", table="spot")
    city.ingest()
    assert len(derive_transfer_links(city.lake, "testville", within_m=0)) == 1
    assert transfers(city.lake) == {}
    derive_transfer_links(city.lake, "testville", within_m=250)
    assert len(transfers(city.lake)) == 2


def test_a_place_that_moved_away_is_linked_no_more(city):
    write_places(city.write("places.csv"), STATION, ("dock", "dock", "bike", 10.0, 59.001))
    city.add("places", "places.csv", table="spot")
    city.ingest()
    write_places(city.write("moved.csv"), ("dock", "dock", "bike", 10.0, 59.1))
    city.add("moved", "moved.csv", table="spot")
    city.ingest()
    assert transfers(city.lake) == {}


def test_what_a_feed_says_of_a_transfer_stays_and_is_not_said_twice(city):
    write_places(city.write("places.csv"), STATION, ("dock", "dock", "bike", 10.0, 59.001))
    write_rows(
        city.write("links.csv"),
        ("from_spot", "to_spot", "kind", "distance_m", "valid_from"),
        [("dock", "station", "transfer", 160, "1970-01-01T00:00:00Z")],
    )
    city.add("links", "links.csv", table="link")
    city.add("places", "places.csv", table="spot")
    city.ingest()
    assert transfers(city.lake) == {("dock", "station"): 160.0, ("station", "dock"): 111.4}
    derive_transfer_links(city.lake, "testville", within_m=0)
    assert transfers(city.lake) == {("dock", "station"): 160.0}


def test_detectors_and_places_without_a_position_are_no_transfer(city):
    write_places(
        city.write("places.csv"),
        STATION,
        ("loop", "detector", "road", 10.0, 59.0),
        ("lost", "dock", "bike", "", ""),
    )
    city.add("places", "places.csv", table="spot")
    assert [one.source_id for one in city.ingest()] == ["places"]
    assert transfers(city.lake) == {}


def test_derived_links_have_no_raw_bytes_to_replay(city):
    write_places(city.write("places.csv"), STATION, ("dock", "dock", "bike", 10.0, 59.001))
    city.add("places", "places.csv", table="spot")
    derived = city.ingest()[-1]
    with pytest.raises(UsageError, match="derived from others"):
        replay(derived.batch_id, city.lake, settings=city.settings)
    assert waiting(city.lake, held=True, quarantined=True) == []


def test_distances_hold_at_high_latitudes_and_across_the_antimeridian():
    spots = pl.DataFrame(
        {"spot_id": ["a", "b"], "mode": ["bus", "bike"], "lon": [179.9999, -179.9999], "lat": [70.0, 70.0]}
    )
    found = near(spots, within_m=250)
    # 0.0002 degrees at 70 degrees north; the earth's radius there is 6,395 km.
    assert found["distance_m"].to_list() == pytest.approx([7.6, 7.6], abs=0.1)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_links_are_short_join_two_modes_run_both_ways_and_hold_each_places_nearest(count, seed):
    rng = np.random.default_rng(seed)
    spots = pl.DataFrame(
        {
            "spot_id": [f"s{i}" for i in range(count)],
            "mode": rng.choice(["bus", "bike", "rail"], count),
            "lon": 10 + rng.normal(0, 0.003, count),
            "lat": 45 + rng.normal(0, 0.003, count),
        }
    )
    found = near(spots, within_m=250)
    mode = dict(spots.select("spot_id", "mode").iter_rows())
    pairs = {(a, b) for a, b, _ in found.iter_rows()}
    assert len(pairs) == found.height
    assert pairs == {(b, a) for a, b in pairs}
    assert all(mode[a] != mode[b] for a, b in pairs)
    assert (found["distance_m"] <= 250).all()
    # Every pair is among the nearest of one of its ends.
    lon, lat = spots["lon"].to_numpy(), spots["lat"].to_numpy()
    flat = np.stack([lon * 111_320 * np.cos(np.pi / 4), lat * 111_132], axis=1)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    distance[spots["mode"].to_numpy()[:, None] == spots["mode"].to_numpy()] = np.inf
    # With 2 m to spare for the flat map that this test draws.
    near_enough = {
        (f"s{i}", f"s{j}")
        for i in range(count)
        for j in range(count)
        if distance[i, j] < 248 and (distance[i] < distance[i, j] + 2).sum() <= NEAREST
    }
    assert near_enough <= pairs
