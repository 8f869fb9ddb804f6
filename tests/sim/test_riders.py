"""Who enters the metro of the simulated city."""

from dataclasses import replace

import numpy as np
import pytest

from mtgpt.sim.demand import MATCHES
from mtgpt.sim.network import build_network
from mtgpt.sim.riders import day_entries
from mtgpt.sim.sky import days, make_weather
from mtgpt.sim.transit import build_transit

PERIOD = days(28)
DRY = make_weather(PERIOD, np.random.default_rng(0))
NETWORK = build_network()
TRANSIT = build_transit(NETWORK)
NAMES = [stop.name for stop in TRANSIT.stations]


def entries(index: int, *, rain_mm: float = 0.0) -> np.ndarray:
    weather = replace(DRY, rain_mm=np.full_like(DRY.rain_mm, rain_mm))
    return day_entries(NETWORK, TRANSIT, PERIOD[index], weather, np.random.default_rng(5))


def by_hour(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(-1, 12, counts.shape[1]).sum(axis=1)


def test_the_gates_are_shut_at_night_and_longer_on_weekday_nights():
    assert by_hour(entries(1))[1:4].sum() == 0
    assert by_hour(entries(6))[1:4].sum() > 0, "trains run through the night after a Saturday"


def test_people_enter_near_their_homes_in_the_morning_and_near_their_work_in_the_evening():
    hours = by_hour(entries(1))
    homes, work = NAMES.index("Campus North"), NAMES.index("Town Hall")
    assert hours[7, homes] > 2 * hours[17, homes]
    assert hours[17, work] > 2 * hours[7, work]


def test_rain_fills_the_metro():
    assert entries(1, rain_mm=3.0).sum() == pytest.approx(1.15 * entries(1).sum(), rel=0.03)


def test_the_stadium_empties_into_its_station_after_football():
    match = next(i for i, day in enumerate(PERIOD) if day.date == MATCHES[1])
    stadium = NAMES.index("Stadium")
    late = by_hour(entries(match))[21, stadium]
    assert late > 10 * by_hour(entries(match - 1))[21, stadium]


def test_the_short_day_has_an_hour_less():
    assert entries(20).shape == (276, len(NAMES))
