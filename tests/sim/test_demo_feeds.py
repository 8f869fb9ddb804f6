"""The committed feeds of the demo city, read the way any city's feeds are read."""

import itertools
import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import settings
from mtgpt.sim.demand import MATCHES
from mtgpt.sim.departments import serve_departments, write_demo_manifest
from mtgpt.sim.network import build_network


@pytest.fixture(scope="module")
def feeds(repo: Path) -> Path:
    return repo / "flows" / "cities" / "demo"


def read_weeks(feeds: Path, what: str) -> pl.DataFrame:
    files = sorted((feeds / "roads").glob(f"{what}_*.csv.gz"))
    return pl.concat([pl.read_csv(file, infer_schema_length=None) for file in files])


def test_the_feeds_stay_below_five_megabytes(feeds):
    assert sum(file.stat().st_size for file in feeds.rglob("*") if file.is_file()) < 5e6


def test_the_roads_department_publishes_a_hundred_detectors_for_three_weeks_and_more(feeds):
    speed = read_weeks(feeds, "speed_kmh")
    assert speed.columns[1:] == [street.detector for street in build_network().detectors]
    assert speed.width - 1 >= 100
    assert speed.height >= 21 * 288


def test_rush_hours_are_slow_and_nights_are_fast(feeds):
    speed = read_weeks(feeds, "speed_kmh").with_columns(pl.col("time").str.to_datetime("%Y-%m-%d %H:%M"))
    workday = speed.filter((pl.col("time").dt.weekday() <= 5) & (pl.col("time") < pl.datetime(2024, 4, 1)))
    hour = workday["time"].dt.hour()
    values = workday.drop("time").to_numpy()
    slow = values < 0.6 * np.nanpercentile(values, 90, axis=0)
    assert slow[(hour == 8).to_numpy()].mean() > 10 * slow[(hour == 3).to_numpy()].mean()


def test_rain_slows_the_city_down_at_quiet_hours(feeds):
    weather = pl.read_csv(feeds / "weather" / "hourly.csv").filter(pl.col("rain_mm") >= 0)
    weather = weather.with_columns(hour=pl.col("time_utc").str.to_datetime("%Y-%m-%dT%H:%M:%SZ"))
    speed = read_weeks(feeds, "speed_kmh").with_columns(
        hour=pl.col("time").str.to_datetime("%Y-%m-%d %H:%M").dt.replace_time_zone("Europe/Vienna", non_existent="null")
        .dt.convert_time_zone("UTC").dt.replace_time_zone(None).dt.truncate("1h")
    )  # fmt: skip
    both = speed.with_columns(mean=pl.mean_horizontal(pl.selectors.starts_with("D"))).join(weather, on="hour")
    quiet = both.filter(pl.col("hour").dt.hour().is_in([0, 1, 2, 3, 10, 11]))
    wet, dry = quiet.filter(pl.col("rain_mm") > 1)["mean"], quiet.filter(pl.col("rain_mm") == 0)["mean"]
    assert wet.mean() < 0.97 * dry.mean()


def test_the_docks_hold_what_the_trips_between_two_snapshots_leave(feeds):
    """Not where the van came: most stations, most of the time."""
    trips = pl.read_csv(feeds / "bikes" / "202404-simulon-tripdata.csv.gz", infer_schema_length=0).unique("ride_id")
    stamp = "%Y%m%dT%H%MZ"
    files = sorted((feeds / "bikes" / "gbfs").glob("station_status_*.json"))
    taken = [datetime.strptime(file.stem.removeprefix("station_status_"), stamp).replace(tzinfo=UTC) for file in files]
    bikes = [
        {one["station_id"]: one["num_bikes_available"] for one in json.loads(file.read_bytes())["data"]["stations"]}
        for file in files
    ]
    agreed = total = 0
    for (first, before), (last, after) in itertools.pairwise(zip(taken, bikes, strict=True)):
        if (last - first).total_seconds() > 600:
            continue
        moved = dict.fromkeys(before, 0)
        for column, station, step in (("started_at", "start_station_id", -1), ("ended_at", "end_station_id", 1)):
            at = pl.col(column).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False).dt.replace_time_zone("Europe/Vienna")
            inside = at.dt.convert_time_zone("UTC").is_between(first, last, closed="right")
            for one in trips.filter(inside)[station].drop_nulls():
                moved[one] += step
        agreed += sum(after[one] - before[one] == moved[one] for one in before)
        total += len(before)
    assert total == 24 * 14
    assert agreed > 0.8 * total


def test_football_fills_the_stadiums_station_and_rain_the_whole_metro(feeds):
    files = sorted((feeds / "transit").glob("metro_entries_*.csv.gz"))
    gates = pl.concat([pl.read_csv(file) for file in files]).with_columns(
        at=pl.col("time").str.to_datetime("%Y-%m-%d %H:%M")
    )
    stadium = gates.filter(pl.col("at").dt.hour() == 21).group_by(day=pl.col("at").dt.date()).agg(pl.col("M08").sum())
    matches = stadium.filter(pl.col("day").is_in(MATCHES))["M08"]
    assert matches.min() > 10 * stadium.filter(~pl.col("day").is_in(MATCHES))["M08"].max()


@pytest.mark.slow
def test_every_row_of_every_department_is_good_or_quarantined_or_a_duplicate(feeds, home):
    now = settings()
    with serve_departments(feeds) as base_url:
        manifest = write_demo_manifest(feeds.with_suffix(".yaml"), base_url, home / "demo.yaml")
        city = load_manifest(manifest, settings=now)
        lake = Lake.open(now.lake)
        results = ingest_city(city, lake, settings=now)
    assert city.simulated
    assert {result.status for result in results} == {"committed"}
    for result in results:
        assert result.rows_in == result.rows_good + result.rows_quarantined + result.rows_duplicate
    rules = dict(lake.quarantine("demo").group_by("rule_id").len().iter_rows())
    assert {"value.variable_range", "time_start.not_future", "time_outside_file_period"} <= rules.keys()
    assert sum(rules.values()) < 1000
    assert sum(result.rows_duplicate for result in results) > 0
    spots = dict(lake.scan("spot", city_id="demo").unique("spot_id").group_by("kind").len().collect().iter_rows())
    assert spots == {"detector": 108, "dock": 14, "stop": 60, "station": 11}
    measured = set(lake.scan("observation", city_id="demo").select(pl.col("variable").unique()).collect()["variable"])
    assert {"speed", "flow", "departures", "entries", "bikes_available", "delay"} <= measured
    assert lake.scan("event", city_id="demo").select(pl.col("event_id").n_unique()).collect().item() >= 1
    days = lake.scan("service_day", city_id="demo").collect()
    easter, sunday = (
        days.filter(pl.col("service_date") == day)["pattern_id"][0] for day in (date(2024, 4, 1), date(2024, 3, 17))
    )
    assert easter == sunday, "a holiday runs as a Sunday"
