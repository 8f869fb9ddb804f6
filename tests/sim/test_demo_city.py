"""Making the demo city anew; needs the simulator (extra ``sim``)."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uxsim", reason="the simulator is not installed: pip install mtgpt[sim]")

from mtgpt.sim import traffic
from mtgpt.sim.demo_city import make_demo_city
from mtgpt.sim.network import build_network
from mtgpt.sim.sky import days, make_weather
from mtgpt.sim.traffic import DayTraffic, Incident, draw_incidents, rain_effect, simulate_day


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_rain_takes_speed_and_capacity_and_more_rain_takes_more():
    assert rain_effect(0.0) == (1.0, 1.0)
    assert rain_effect(5.0) < rain_effect(0.5) < (1.0, 1.0)


def test_incidents_fall_into_their_day_and_leave_some_capacity():
    network, period = build_network(), days(28)
    weather = make_weather(period, np.random.default_rng(1))
    rng = np.random.default_rng(2)
    drawn = [(day, incident) for day in period for incident in draw_incidents(network, day, weather, rng)]
    assert 28 < len(drawn) < 28 * 8
    keys = {street.key for street in network.streets}
    for day, incident in drawn:
        assert day.start <= incident.start < incident.end
        assert 0 < incident.left < 1
        assert incident.street in keys


def test_the_same_seed_publishes_the_same_bytes_and_another_seed_others(tmp_path, monkeypatch):
    def quick(network, day, weather, incidents, rng):
        shape = (day.hours * 12, len(network.detectors))
        return DayTraffic(speed_kmh=rng.uniform(5, 90, shape), flow_veh_h=rng.poisson(400, shape), vehicles=0, late=0)

    monkeypatch.setattr(traffic, "simulate_day", quick)
    first, again, other = (
        hashes(make_demo_city(tmp_path / name, seed=seed, day_count=8))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first.keys() == other.keys()
    changed = {name for name in first if first[name] != other[name]}
    facts_of_the_city = {
        "roads/detectors.csv", "roads/distances.csv", "roads/turns.csv", "transit/gtfs.zip",
        "bikes/gbfs/station_information.json", "bikes/gbfs/system_information.json",
    }  # fmt: skip
    assert changed == first.keys() - facts_of_the_city
    assert sum(name.startswith("transit/realtime/") for name in first) == 26
    assert sum(name.startswith("roads/speed_kmh_") for name in first) == 2


@pytest.mark.slow
def test_an_incident_slows_its_street_down_and_the_rest_of_the_day_is_the_same_simulation():
    network, period = build_network(), days(2)
    weather = make_weather(period, np.random.default_rng(1))
    # The first six hours of a workday: some thousand vehicles.
    day = replace(period[1], hours=6)
    index, street = next((i, s) for i, s in enumerate(network.detectors) if s.road == "Ring Road clockwise")
    blocked = Incident(street=street.key, start=day.start, end=day.start + timedelta(hours=20), left=0.03, kind="works")
    calm, jam = (simulate_day(network, day, weather, found, np.random.default_rng(2)) for found in ([], [blocked]))
    assert calm.vehicles == jam.vehicles > 3000
    assert calm.speed_kmh.shape == (72, len(network.detectors))
    last_hour = slice(60, 72)
    assert jam.speed_kmh[last_hour, index].mean() < 0.7 * calm.speed_kmh[last_hour, index].mean()
    assert (calm.flow_veh_h >= 0).all()
    assert (calm.speed_kmh > 0).all()
