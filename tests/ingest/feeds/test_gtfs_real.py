"""Published timetables: every zip is read whole, and counted as other readers count it."""

from __future__ import annotations

from datetime import date
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.contracts.registry import contract
from mtgpt.contracts.verdict import judge
from tests.ingest.feed_files import read

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real_data

# Rows by table; nothing of these feeds is refused, and nothing in them should be.
FEEDS = {
    "gtfs/bart_2018": {"route": 6, "spot": 50, "link": 100, "service": 9212, "service_day": 402},
    "gtfs/bart_2023": {"route": 14, "spot": 99, "link": 102, "service": 28_542, "service_day": 205},
    "gtfs/cairns_gtfs": {"route": 22, "spot": 416, "link": 495, "service": 44_651, "service_day": 217},
    "gtfs/caltrain": {"route": 6, "spot": 64, "link": 130, "service": 6766, "service_day": 735},
    "gtfs/ctran-flex": {"route": 6, "spot": 293, "link": 0, "service": 0},
    "gtfs/la_metro_rail_2023-10-26": {"route": 6, "spot": 211, "link": 199, "service": 40_905, "service_day": 15},
    "gtfs/la_metro_rail_2024-02-22": {"route": 6, "spot": 211, "link": 199, "service": 32_248, "service_day": 15},
    "gtfs/nyc_subway_gtfs": {"route": 2, "spot": 273, "link": 188, "service": 13_223, "service_day": 34},
    "gtfs/poa_eptc": {"route": 115, "spot": 3986, "link": 4579, "service": 70_810, "service_day": 92},
    "gtfs/poa_trensurb": {"route": 2, "spot": 24, "link": 47, "service": 1400, "service_day": 306},
    "gtfs/spo": {"route": 19, "spot": 654, "link": 822, "service": 32_112, "service_day": 4505},
    "gtfs/trimet-2routes": {"route": 2, "spot": 103, "link": 118, "service": 8754, "service_day": 84},
    "gtfs_rt/bart_static_for_rt": {"route": 8, "spot": 48, "link": 101, "service": 9064, "service_day": 365},
    "gtfs_rt/caltrain_static_for_rt": {"route": 9, "spot": 109, "link": 105, "service": 3175, "service_day": 253},
}


@cache
def ours(path: Path) -> dict[str, pl.DataFrame]:
    return read("gtfs", path, zone="UTC")


@pytest.mark.parametrize("feed", FEEDS)
def test_every_published_zip_is_read_whole(real_data, feed):
    frames = ours(real_data / f"{feed}.zip")
    assert {table: frame.height for table, frame in frames.items()} == FEEDS[feed]
    for table, frame in frames.items():
        known = contract(table)
        added = {name: pl.lit("x") for name in ("city_id", "source_id") if name in known.polars_schema}
        verdict = judge(frame.with_columns(**added), known)
        assert not verdict.bad.height
        assert not verdict.duplicates


def test_all_zips_of_the_folder_are_tested(real_data):
    there = {f"{path.parent.name}/{path.stem}" for path in real_data.glob("gtfs*/*.zip")}
    assert there == set(FEEDS)


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("bart_2023", ["2023-02-27", "2023-05-29", "2023-07-08"]),
        ("cairns_gtfs", ["2014-06-09", "2014-09-11", "2014-12-28"]),
        ("caltrain", ["2018-06-20", "2018-07-04", "2019-10-06"]),
        ("la_metro_rail_2024-02-22", ["2024-02-22", "2024-02-25"]),
        ("nyc_subway_gtfs", ["2024-12-25", "2025-01-04"]),
        ("poa_trensurb", ["2019-06-11", "2019-12-29"]),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_trips_and_departures_are_those_of_gtfs_kit(real_data, name, days):
    import gtfs_kit

    path = real_data / "gtfs" / f"{name}.zip"
    frames = ours(path)
    theirs = gtfs_kit.read_feed(path, dist_units="km")
    dates = theirs.get_dates()
    said = frames["service_day"].with_columns(pl.col("service_date").dt.strftime("%Y%m%d"))
    trips = dict(said.select("service_date", "trips").iter_rows())
    assert list(trips) == dates
    # One prime number of days apart: every weekday, and a tenth of the time that all days take.
    some = dates[:: 11 if len(dates) > 100 else 1]
    activity = theirs.compute_trip_activity(some)
    assert {day: trips[day] for day in some} == {day: int(activity[day].sum()) for day in some}
    patterns = dict(said.select("service_date", "pattern_id").iter_rows())
    for day in days:
        stops = theirs.get_stop_times(day.replace("-", "")).sort_values(["trip_id", "stop_sequence"])
        goes_on = stops["trip_id"] == stops["trip_id"].shift(-1)
        pattern = frames["service"].filter(pattern_id=patterns[day.replace("-", "")])
        counts = dict(pattern.group_by("spot_id").agg(pl.col("departures").sum()).iter_rows())
        assert counts == stops[goes_on].groupby("stop_id").size().to_dict()


@pytest.mark.parametrize(
    ("name", "day", "by_hour"),
    # Porto Alegre's buses have times at their ends alone, which only ours fills in.
    [("poa_eptc", date(2019, 5, 2), False), ("trimet-2routes", date(2021, 11, 10), True)],
)
def test_departures_per_line_are_those_of_gtfs_parquet(real_data, name, day, by_hour):
    import gtfs_parquet

    path = real_data / "gtfs" / f"{name}.zip"
    frames = ours(path)
    feed = gtfs_parquet.parse_gtfs_zip(path)
    weekday = pl.col(day.strftime("%A").lower()).cast(pl.Int8)
    weekly = feed.calendar.filter(pl.lit(day).is_between("start_date", "end_date") & (weekday == 1))
    listed = feed.calendar_dates.filter(date=day)
    kind = listed["exception_type"].cast(pl.Int8)
    runs = set(weekly["service_id"]) | set(listed.filter(kind == 1)["service_id"])
    runs -= set(listed.filter(kind == 2)["service_id"])
    trips = feed.trips.filter(pl.col("service_id").is_in(list(runs))).select("trip_id", "route_id")
    ordered = feed.stop_times.sort("trip_id", "stop_sequence")
    goes_on = ordered.filter(pl.col("trip_id") == pl.col("trip_id").shift(-1)).join(trips, on="trip_id")
    hour = pl.col("departure_time").dt.total_hours() if by_hour else pl.lit(0)
    counts = goes_on.group_by("stop_id", "route_id", hour.alias("hour")).agg(pl.len())
    pattern = frames["service_day"].filter(service_date=day)["pattern_id"].item()
    band = pl.col("band_start_s") // 3600 if by_hour else pl.lit(0)
    rows = frames["service"].filter(pattern_id=pattern)
    found = rows.group_by("spot_id", "route_id", band.alias("hour")).agg(pl.col("departures").sum())
    assert {row[:3]: row[3] for row in found.iter_rows()} == {row[:3]: row[3] for row in counts.iter_rows()}


def test_headways_of_sao_paulo_make_as_many_departures_as_they_say(real_data):
    import gtfs_parquet

    path = real_data / "gtfs" / "spo.zip"
    feed = gtfs_parquet.parse_gtfs_zip(path)
    wanted: dict[tuple[str, str], int] = {}
    windows = feed.frequencies.select(
        "trip_id",
        pl.col("start_time").dt.total_seconds(),
        pl.col("end_time").dt.total_seconds(),
        pl.col("headway_secs").cast(pl.Int64),
    )
    runs = {}
    for trip, start, end, headway in windows.iter_rows():
        runs[trip] = runs.get(trip, 0) + len(range(start, end, headway))
    lines = dict(feed.trips.select("trip_id", "route_id").iter_rows())
    rows = feed.stop_times.sort("trip_id", "stop_sequence").select("trip_id", "stop_id").rows()
    for (trip, stop), (after, _) in pairwise(rows):
        if trip == after:
            wanted[stop, lines[trip]] = wanted.get((stop, lines[trip]), 0) + runs.get(trip, 1)
    frames = ours(path)
    # 2012-02-10 is a Friday on which every service of the feed runs.
    pattern = frames["service_day"].filter(service_date=date(2012, 2, 10))["pattern_id"].item()
    found = frames["service"].filter(pattern_id=pattern).group_by("spot_id", "route_id").agg(pl.col("departures").sum())
    assert {tuple(row[:2]): row[2] for row in found.iter_rows()} == wanted


def test_a_city_out_of_a_larger_feed_is_what_a_filter_afterwards_would_leave(real_data):
    path = real_data / "gtfs" / "poa_eptc.zip"
    whole = ours(path)
    west, south, east, north = -51.24, -30.05, -51.20, -30.02
    part = read("gtfs", path, zone="UTC", bbox=[west, south, east, north], start="2019-05-02", end="2019-05-02")
    inside = whole["spot"].filter(pl.col("lon").is_between(west, east) & pl.col("lat").is_between(south, north))
    day = whole["service_day"].filter(service_date=date(2019, 5, 2))["pattern_id"].item()
    wanted = whole["service"].filter(pattern_id=day).join(inside, on="spot_id", how="semi").drop("pattern_id")
    assert part["service"].drop("pattern_id").sort(pl.all()).equals(wanted.sort(pl.all()))
    assert set(part["spot"]["spot_id"]) <= set(inside["spot_id"])
