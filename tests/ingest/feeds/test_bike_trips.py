from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import judged, read

NEW_YORK = "America/New_York"
OLD = (
    '"tripduration","starttime","stoptime","start station id","start station name","start station latitude",'
    '"start station longitude","end station id","end station name","end station latitude","end station longitude",'
    '"bikeid","usertype","birth year","gender"\n'
    '142,"2021-01-01 15:35:02.0820","2021-01-01 15:37:24.1360",3183,"Exchange Place",40.7162469,-74.0334588,3639,'
    '"Harborside, North",40.7192517,-74.034234,29677,"Subscriber",1963,1\n'
)
NEW = (
    "ride_id,rideable_type,started_at,ended_at,start_station_name,start_station_id,end_station_name,end_station_id,"
    "start_lat,start_lng,end_lat,end_lng,member_casual\n"
    "121DD7DD23CB1335,docked_bike,2021-02-03 23:11:28,2021-02-03 23:18:28,Exchange place ,JC116,"
    '"Harborside, North",JC104,40.71621,-74.03341,40.71927,-74.03421,member\n'
)
DOCKLESS = "FD73FB85F008349D,electric_bike,2021-02-27 16:34:05,2021-02-27 16:56:40,Exchange Place,JC116,,,40.71624,-74.03345,40.7145840,-74.0428170,casual\n"


def bikes(folder, text: str, name: str = "JC-202102-citibike-tripdata.csv"):
    path = folder / name
    path.write_text(text)
    return path


def old(folder):
    return bikes(folder, OLD, "JC-202101-citibike-tripdata.csv")


def test_both_schemas_give_the_same_shape_of_trip(tmp_path):
    one, two = (
        judged("trip", read("bike_trips", path, zone=NEW_YORK)["trip"]).good
        for path in (old(tmp_path), bikes(tmp_path, NEW))
    )
    columns = ["mode", "start_time", "end_time", "from_spot", "to_spot"]
    assert one.select(columns).rows() == [
        ("bike", datetime(2021, 1, 1, 20, 35, 2, 82_000, tzinfo=UTC), datetime(2021, 1, 1, 20, 37, 24, 136_000, tzinfo=UTC), "exchange-place", "harborside-north")
    ]  # fmt: skip
    assert two.select(columns).rows() == [
        ("bike", datetime(2021, 2, 4, 4, 11, 28, tzinfo=UTC), datetime(2021, 2, 4, 4, 18, 28, tzinfo=UTC), "exchange-place", "harborside-north")
    ]  # fmt: skip


def test_a_station_with_a_new_id_stays_one_spot(tmp_path):
    before, after = (read("bike_trips", path, zone=NEW_YORK)["spot"] for path in (old(tmp_path), bikes(tmp_path, NEW)))
    assert set(before["spot_id"]) == set(after["spot_id"]) == {"exchange-place", "harborside-north"}
    assert json.loads(after.filter(pl.col("spot_id") == "exchange-place")["attributes"][0]) == {"feed_id": "JC116"}


def test_stations_can_be_told_apart_by_id_and_joined_by_aliases(tmp_path):
    frames = read("bike_trips", old(tmp_path), zone=NEW_YORK, station="id", aliases={"3183": "JC116"})
    assert frames["trip"].select("from_spot", "to_spot").rows() == [("JC116", "3639")]


@pytest.mark.parametrize("text", [OLD, NEW + DOCKLESS])
def test_nothing_of_the_rider_leaves_the_adapter_not_even_in_quarantine(tmp_path, text):
    stray = text.replace("2021-02-03", "2013-02-03").replace("2021-01-01", "2013-01-01")
    path = bikes(tmp_path, text + stray.split("\n", 1)[1])
    frames = read("bike_trips", path, zone=NEW_YORK, period="2021-02" if "ride_id" in text else "2021-01")
    verdict = judged("trip", frames["trip"])
    assert verdict.bad.height >= 1
    everything = str([frame.rows() for frame in frames.values()]) + str(verdict.bad.rows())
    for fact in (
        "1963",
        "Subscriber",
        "member",
        "casual",
        "29677",
        "121DD7DD23CB1335",
        "FD73FB85F008349D",
        "birth",
        "gender",
    ):
        assert fact not in everything


def test_a_bike_left_in_the_street_gets_its_neighbourhood_only(tmp_path):
    good = judged("trip", read("bike_trips", bikes(tmp_path, NEW + DOCKLESS), zone=NEW_YORK)["trip"]).good
    assert good.select("from_lon", "to_spot", "to_lon", "to_lat").rows() == [
        (None, "harborside-north", None, None),
        (None, None, -74.043, 40.715),
    ]


def test_a_quarantined_row_shows_rounded_places_only(tmp_path):
    path = bikes(tmp_path, NEW + DOCKLESS.replace("2021-02-27", "1999-02-27"))
    raw = judged("trip", read("bike_trips", path, zone=NEW_YORK)["trip"]).bad["raw"][0]
    assert json.loads(raw)["to_lon"] == -74.043


def test_a_station_lies_at_the_median_of_where_its_bikes_stood(tmp_path):
    spot = judged("spot", read("bike_trips", bikes(tmp_path, NEW + DOCKLESS), zone=NEW_YORK)["spot"]).good
    at = spot.filter(pl.col("spot_id") == "exchange-place")
    assert at.select("name", "lon", "lat", "kind", "mode").rows() == [
        ("Exchange Place", -74.0334, 40.7162, "dock", "bike")
    ]


@pytest.mark.parametrize(
    ("find", "put", "rule"),
    [
        ("2021-02-03 23:18:28", "2021-02-03 23:10:00", "end_time.order"),
        ("2021-02-03 23:18:28", "soon", "time_unreadable"),
        ("2021-02-03 23:11:28", "2015-02-03 23:11:28", "time_outside_file_period"),
        ("40.71621", "north", "number_unreadable"),
    ],
)
def test_a_faulty_row_is_quarantined_by_its_rule_and_its_neighbours_are_not(tmp_path, find, put, rule):
    verdict = judged(
        "trip", read("bike_trips", bikes(tmp_path, NEW.replace(find, put) + DOCKLESS), zone=NEW_YORK)["trip"]
    )
    assert (verdict.good.height, verdict.bad["rule_id"].to_list()) == (1, [rule])


def test_the_same_ride_has_the_same_key_in_another_file(tmp_path):
    one = read("bike_trips", bikes(tmp_path, NEW), zone=NEW_YORK)["trip"]["trip_key"]
    two = read("bike_trips", bikes(tmp_path, NEW + DOCKLESS), zone=NEW_YORK)["trip"]["trip_key"]
    assert one[0] == two[0]
    assert two.n_unique() == 2


def test_a_file_of_other_columns_is_refused_and_says_what_is_missing(tmp_path):
    with pytest.raises(FeedError, match=r"columns are missing.*started_at or starttime"):
        read("bike_trips", bikes(tmp_path, "a,b\n1,2\n"), zone=NEW_YORK)
