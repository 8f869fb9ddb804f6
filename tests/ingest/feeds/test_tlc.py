# ruff: noqa: DTZ001 - a feed's local times are naive

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import polars as pl
import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import judged, read

HEADER = (
    "VendorID,lpep_pickup_datetime,lpep_dropoff_datetime,store_and_fwd_flag,RatecodeID,PULocationID,DOLocationID,"
    "passenger_count,trip_distance,fare_amount,tip_amount,total_amount,payment_type\n"
)
NEW_YORK = "America/New_York"


def row(start: str, end: str, *, vendor="2", origin="41", target="13", distance="1.00") -> str:
    return f"{vendor},{start},{end},N,1,{origin},{target},7,{distance},26.5,7.64,38.19,1\n"


def trips_file(folder, *rows: str, name: str = "green_tripdata_2020-03.csv.gz", header: str = HEADER):
    path = folder / name
    data = (header + "".join(rows)).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


GOOD = row("2020-03-01 00:20:18", "2020-03-01 00:45:29")


@pytest.mark.parametrize("name", ["green_tripdata_2020-03.csv.gz", "green_tripdata_2020-03.csv"])
def test_a_trip_goes_from_zone_to_zone_in_utc_and_metres(tmp_path, name):
    good = judged("trip", read("tlc", trips_file(tmp_path, GOOD, name=name), zone=NEW_YORK)["trip"]).good
    assert good.select("mode", "start_time", "end_time", "from_spot", "to_spot", "distance_m").rows() == [
        (
            "taxi",
            datetime(2020, 3, 1, 5, 20, 18, tzinfo=UTC),
            datetime(2020, 3, 1, 5, 45, 29, tzinfo=UTC),
            "41",
            "13",
            pytest.approx(1609.344),
        )
    ]


def test_nothing_of_passengers_or_payment_leaves_the_adapter(tmp_path):
    path = trips_file(tmp_path, GOOD, row("2009-01-01 00:00:00", "2009-01-01 00:03:58"))
    frame = read("tlc", path, zone=NEW_YORK)["trip"]
    verdict = judged("trip", frame)
    assert set(json.loads(verdict.bad["raw"][0])) == {"start", "end", "from", "to", "distance"}
    assert {"38.19", "26.5", "7.64"}.isdisjoint(str(frame.rows()))


def test_stray_years_are_quarantined_and_a_day_either_side_is_not(tmp_path):
    path = trips_file(
        tmp_path,
        row("2041-08-17 16:24:00", "2041-08-17 16:40:00"),
        row("2020-02-29 23:59:00", "2020-03-01 00:10:00"),
        row("2020-04-01 23:59:59", "2020-04-02 00:10:00"),
        row("2020-02-28 23:59:59", "2020-02-29 00:10:00"),
    )
    verdict = judged("trip", read("tlc", path, zone=NEW_YORK)["trip"])
    assert verdict.good.height == 2
    assert verdict.bad.select("row", "rule_id").sort("row").rows() == [
        (0, "time_outside_file_period"), (3, "time_outside_file_period"),
    ]  # fmt: skip


def test_the_period_can_be_given_where_the_name_does_not_say_it(tmp_path):
    path = trips_file(tmp_path, GOOD, name="trips.csv")
    assert judged("trip", read("tlc", path, zone=NEW_YORK, period="2020-03")["trip"]).good.height == 1
    assert judged("trip", read("tlc", path, zone=NEW_YORK, period="2020-05")["trip"]).bad.height == 1
    assert judged("trip", read("tlc", path, zone=NEW_YORK)["trip"]).good.height == 1


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (row("2020-03-01 00:20:18", "2020-03-01 00:10:00"), "end_time.order"),
        (row("2020-03-01 00:20:18", "2020-03-01 00:30:00", distance="-1.5"), "distance_m.range"),
        (row("2020-03-01 00:20:18", "2020-03-01 00:30:00", distance="far"), "number_unreadable"),
        (row("yesterday", "2020-03-01 00:30:00"), "time_unreadable"),
        (row("2020-03-01 00:20:18", ""), "time_unreadable"),
        (row("03/01/2020 00:20", "03/01/2020 00:30"), "time_unreadable"),
        (row("2020-03-08 02:20:18", "2020-03-08 03:10:00"), "time_does_not_exist"),
        (row("2020-03-01 00:20:18", "2020-03-01 00:30:00", origin="266"), "zone_unknown"),
        (row("2020-03-01 00:20:18", "2020-03-01 00:30:00", target="Bronx"), "zone_unknown"),
        (row("2020-03-01 00:20:18", "2020-03-01 00:30:00", target="0"), "zone_unknown"),
    ],
)
def test_a_faulty_row_is_quarantined_by_its_rule_and_its_neighbours_are_not(tmp_path, bad, rule):
    verdict = judged("trip", read("tlc", trips_file(tmp_path, GOOD, bad), zone=NEW_YORK)["trip"])
    assert verdict.good.height == 1
    assert verdict.bad.select("row", "rule_id").rows() == [(1, rule)]
    assert verdict.bad["message"][0]


def test_zones_that_mean_no_place_become_null(tmp_path):
    path = trips_file(tmp_path, row("2020-03-01 00:20:18", "2020-03-01 00:30:00", origin="264", target="265"))
    good = judged("trip", read("tlc", path, zone=NEW_YORK)["trip"]).good
    assert good.select("from_spot", "to_spot").rows() == [(None, None)]


def test_a_voided_trip_that_stands_twice_is_one_trip(tmp_path):
    path = trips_file(tmp_path, GOOD, GOOD.replace("26.5", "-26.5"), row("2020-03-01 00:20:19", "2020-03-01 00:45:29"))
    verdict = judged("trip", read("tlc", path, zone=NEW_YORK)["trip"])
    assert (verdict.good.height, verdict.duplicates) == (2, 1)


def test_keys_hide_behind_the_salt_and_agree_between_csv_and_parquet(tmp_path):
    csv = trips_file(tmp_path, GOOD, row("2020-03-01 00:10:00", "2020-03-01 00:30:00", vendor="", distance=".92"))
    parquet = tmp_path / "green_tripdata_2020-03.parquet"
    pl.DataFrame(
        {
            "VendorID": [2.0, None],
            "lpep_pickup_datetime": [datetime(2020, 3, 1, 0, 20, 18), datetime(2020, 3, 1, 0, 10)],
            "lpep_dropoff_datetime": [datetime(2020, 3, 1, 0, 45, 29), datetime(2020, 3, 1, 0, 30)],
            "PULocationID": [41, 41],
            "DOLocationID": [13, 13],
            "passenger_count": [1.0, None],
            "trip_distance": [1.0, 0.92],
        }
    ).write_parquet(parquet)
    one, two = (read("tlc", path, zone=NEW_YORK)["trip"]["trip_key"].to_list() for path in (csv, parquet))
    assert one == two
    assert set(one).isdisjoint(read("tlc", csv, zone=NEW_YORK, salt=b"other")["trip"]["trip_key"])


def test_yellow_cabs_have_other_column_names(tmp_path):
    path = trips_file(tmp_path, GOOD, header=HEADER.replace("lpep", "tpep"), name="yellow_tripdata_2020-03.csv")
    assert judged("trip", read("tlc", path, zone=NEW_YORK)["trip"]).good.height == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (HEADER.encode(), "the table has no rows"),
        (b"a,b\n1,2\n", "columns are missing"),
        (gzip.compress((HEADER + GOOD * 5000).encode())[:-40], "the gzip file is truncated"),
        (b"PAR1 and nothing more", "not a readable Parquet file"),
    ],
)
def test_files_that_are_no_trip_records_are_refused_with_one_sentence(tmp_path, content, message):
    path = tmp_path / "green_tripdata_2020-03.csv"
    path.write_bytes(content)
    with pytest.raises(FeedError, match=message):
        read("tlc", path, zone=NEW_YORK)


def zones_file(folder):
    def square(x: float) -> list:
        # The published file writes its coordinates as texts.
        return [[f"{x}", "40.0"], [f"{x + 2}", "40.0"], [f"{x + 2}", "42.0"], [f"{x}", "42.0"], [f"{x}", "40.0"]]

    def feature(zone: int, name: str, geometry: dict) -> dict:
        return {"properties": {"LocationID": zone, "zone": name, "borough": "Queens"}, "geometry": geometry}

    islands = [
        feature(7, "Astoria", {"type": "Polygon", "coordinates": [square(-74.0)]}),
        feature(56, "Corona", {"type": "MultiPolygon", "coordinates": [[square(-80.0)]]}),
        feature(56, "Corona", {"type": "Polygon", "coordinates": [square(-76.0)]}),
    ]
    path = folder / "zones.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": islands}))
    return path


def test_zones_get_names_and_centres_and_several_islands_are_one_zone(tmp_path):
    frames = read("tlc", trips_file(tmp_path, GOOD), zone=NEW_YORK, files={"zones": zones_file(tmp_path)})
    spot = judged("spot", frames["spot"]).good
    assert spot.height == 263
    assert spot.filter(pl.col("lon").is_not_null()).select("spot_id", "name", "lon", "lat", "attributes").rows() == [
        ("7", "Astoria", pytest.approx(-73.0), pytest.approx(41.0), '{"borough": "Queens"}'),
        ("56", "Corona", pytest.approx(-77.0), pytest.approx(41.0), '{"borough": "Queens"}'),
    ]


def test_without_polygons_the_zones_are_known_by_number(tmp_path):
    spot = judged("spot", read("tlc", trips_file(tmp_path, GOOD), zone=NEW_YORK)["spot"]).good
    assert spot["spot_id"].to_list() == [str(zone) for zone in range(1, 264)]


def test_a_file_that_is_no_geojson_of_zones_is_refused(tmp_path):
    path = tmp_path / "zones.json"
    path.write_text('{"features": [{"properties": {}}]}')
    with pytest.raises(FeedError, match="not a GeoJSON of taxi zones"):
        read("tlc", trips_file(tmp_path, GOOD), zone=NEW_YORK, files={"zones": path})
