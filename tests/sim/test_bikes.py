"""Bike-share trips of the simulated city."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl

from mtgpt.sim.bikes import day_trips, stations
from mtgpt.sim.network import build_network
from mtgpt.sim.sky import days, make_weather

COLUMNS = [
    "ride_id", "rideable_type", "started_at", "ended_at", "start_station_name", "start_station_id", "end_station_name",
    "end_station_id", "start_lat", "start_lng", "end_lat", "end_lng", "member_casual",
]  # fmt: skip


def a_day(index: int = 1, *, rain_mm: float = 0.0, seed: int = 1) -> pl.DataFrame:
    period = days(28)
    weather = make_weather(period, np.random.default_rng(0))
    weather = replace(weather, rain_mm=np.full_like(weather.rain_mm, rain_mm))
    return day_trips(build_network(), period[index], weather, np.random.default_rng(seed))


def test_trips_have_the_thirteen_columns_of_citi_bike_and_start_in_order():
    trips = a_day()
    assert trips.columns == COLUMNS
    assert trips["started_at"].is_sorted()
    assert trips["ride_id"].is_unique().all()


def test_nobody_arrives_before_leaving():
    trips = a_day()
    start, end = (trips[column].str.to_datetime("%Y-%m-%d %H:%M:%S") for column in ("started_at", "ended_at"))
    assert ((end - start).dt.total_seconds() >= 70).all()


def test_rain_keeps_people_off_their_bikes():
    assert a_day(rain_mm=3.0).height < 0.4 * a_day().height


def test_workdays_peak_in_the_morning_and_days_off_do_not():
    def morning(trips: pl.DataFrame) -> float:
        hour = trips["started_at"].str.slice(11, 2).cast(pl.Int32)
        return (hour.is_between(7, 9)).mean()

    assert morning(a_day(1)) > 2 * morning(a_day(5))


def test_no_trip_starts_in_the_hour_that_does_not_exist():
    trips = a_day(20)
    hours = {datetime.fromisoformat(text).hour for text in trips["started_at"]}
    assert trips["started_at"][0].startswith("2024-03-31")
    assert 2 not in hours
    assert {1, 3} <= hours


def test_stations_have_names_and_ids_of_their_own():
    found = stations(build_network())
    assert len({s.station_id for s in found}) == len({s.name for s in found}) == len(found) >= 12
