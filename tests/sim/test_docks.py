"""What stands in the docks of the simulated city."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mtgpt.sim.bikes import day_trips, stations
from mtgpt.sim.docks import stock
from mtgpt.sim.network import build_network
from mtgpt.sim.sky import days, make_weather

NETWORK = build_network()
PLACES = stations(NETWORK)


@pytest.fixture(scope="module")
def trips() -> pl.DataFrame:
    period = days(2)
    rng = np.random.default_rng(1)
    weather = make_weather(period, np.random.default_rng(0))
    return pl.concat([day_trips(NETWORK, day, weather, rng) for day in period])


def test_no_station_is_ever_beyond_its_docks_or_below_none(trips):
    docks = stock(PLACES, trips)
    assert (docks.bikes > 0).all()
    assert (docks.bikes < docks.capacity).all()


def test_between_two_moments_the_stock_changes_by_the_trips_unless_the_van_came(trips):
    docks = stock(PLACES, trips)
    begin = datetime(2024, 3, 11, 11, tzinfo=UTC)
    agreed = 0
    for minutes in range(0, 240, 10):
        first, last = (begin + timedelta(minutes=minutes + more) for more in (0, 10))
        stamps = {
            end: pl.col(end)
            .str.to_datetime("%Y-%m-%d %H:%M:%S")
            .dt.replace_time_zone("Europe/Vienna")
            .dt.convert_time_zone("UTC")
            .is_between(first, last, closed="right")
            for end in ("started_at", "ended_at")
        }
        left = trips.filter(stamps["started_at"])["start_station_id"].to_list()
        came = trips.filter(stamps["ended_at"])["end_station_id"].to_list()
        change = docks.at(last)[0] - docks.at(first)[0]
        agreed += sum(
            change[i] == came.count(place.station_id) - left.count(place.station_id) for i, place in enumerate(PLACES)
        )
    assert agreed > 0.97 * 24 * len(PLACES)


def test_a_moment_before_the_first_trip_has_the_first_stock_there_is(trips):
    docks = stock(PLACES, trips)
    bikes, moved = docks.at(datetime(2024, 3, 1, tzinfo=UTC))
    assert (bikes == docks.bikes[0]).all()
    assert moved == docks.at_s[0]
