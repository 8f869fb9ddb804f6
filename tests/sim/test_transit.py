"""Public transport of the simulated city: lines, timetable, and how a day really went."""

import itertools
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from mtgpt.sim.alerts import alerts_of, metro_failure
from mtgpt.sim.network import build_network
from mtgpt.sim.operations import run_day
from mtgpt.sim.sky import days
from mtgpt.sim.timetable import build_timetable, clock_text, departures_of, service_start, services_on
from mtgpt.sim.transit import build_transit

WEDNESDAY = days(28)[2]


@pytest.fixture(scope="module")
def network():
    return build_network()


@pytest.fixture(scope="module")
def transit(network):
    return build_transit(network)


@pytest.fixture(scope="module")
def timetable(transit):
    return build_timetable(transit)


def free(network) -> np.ndarray:
    return np.tile([street.free_kmh for street in network.detectors], (288, 1))


def run(network, timetable, speed_kmh, **more):
    return run_day(network, timetable, WEDNESDAY, speed_kmh, np.random.default_rng(1), disturbances=[], **more)


def test_there_is_a_metro_a_tram_ring_and_three_bus_lines_with_stops_of_their_own(transit):
    assert [(line.route_id, line.mode) for line in transit.lines] == [
        ("M1", "metro"), ("T", "tram"), ("10", "bus"), ("20", "bus"), ("30", "bus"),
    ]  # fmt: skip
    assert len({stop.stop_id for stop in transit.stops}) == len(transit.stops)
    assert all(stop.parent in {s.stop_id for s in transit.stations} for stop in transit.stops if stop.parent)
    ring = transit.lines[1].ways[0].stops
    assert ring[0] == ring[-1]


def test_buses_run_on_streets_that_lead_on_to_each_other(network, transit):
    streets = {street.key: street for street in network.streets}
    for line in transit.lines:
        for way in line.ways:
            assert len(way.legs) == len(way.stops) - 1
            keys = [leg.street for leg in way.legs]
            if line.mode != "bus":
                assert set(keys) == {None}
                continue
            for a, b in itertools.pairwise(keys):
                assert streets[a].end == streets[b].start


def test_trips_have_ids_of_their_own_and_times_that_go_forward(timetable):
    assert len({trip.trip_id for trip in timetable.trips}) == len(timetable.trips)
    for trip in timetable.trips:
        times = list(itertools.chain.from_iterable(zip(trip.arrive_s, trip.depart_s, strict=True)))
        assert times == sorted(times)
        assert len(trip.arrive_s) == len(trip.way.stops)


def test_no_vehicle_is_in_two_places_at_once(timetable):
    blocks: dict[str, list] = {}
    for trip in timetable.trips:
        blocks.setdefault(trip.block, []).append(trip)
    for trips in blocks.values():
        trips.sort(key=lambda trip: trip.depart_s[0])
        for a, b in itertools.pairwise(trips):
            assert a.arrive_s[-1] < b.depart_s[0]
            assert a.way.stops[-1].junction == b.way.stops[0].junction


def test_nights_after_fridays_run_past_four_and_a_holiday_runs_as_a_sunday(timetable):
    assert services_on(date(2024, 4, 1)) == {"SU"} == services_on(date(2024, 3, 17))
    assert services_on(date(2024, 4, 5)) == {"WD", "NIGHT"}
    last = max(trip.arrive_s[-1] for trip in timetable.trips if trip.service == "NIGHT")
    assert clock_text(last) > "28:00:00"


def test_the_service_day_of_the_clock_change_begins_an_hour_before_its_midnight():
    assert service_start(date(2024, 3, 30)) == datetime(2024, 3, 29, 23, tzinfo=UTC)
    assert service_start(date(2024, 3, 31)) == datetime(2024, 3, 30, 22, tzinfo=UTC)


def test_a_headway_promises_evenly_spaced_departures(timetable):
    tram = next(f for f in timetable.frequencies if f.headway_s == 480)
    found = departures_of(tram)
    assert {b - a for a, b in itertools.pairwise(found)} == {480}
    assert found[-1] < tram.end_s


def test_without_traffic_nothing_is_late_and_nobody_leaves_early(network, timetable):
    runs = [one for one in run(network, timetable, free(network)) if not one.cancelled]
    late = np.concatenate([one.delay_s[:-1] for one in runs])
    assert late.min() >= 0
    assert np.percentile(late, 95) < 90


def test_a_jam_on_a_street_delays_the_buses_on_it_and_no_other_line(network, timetable):
    jam = free(network)
    column = next(i for i, street in enumerate(network.detectors) if street.key == "gate0>outer0")
    jam[12 * 12 : 14 * 12, column] = 6.0

    def lateness(speed_kmh, route: str) -> float:
        found = [
            one.delay_s[1]
            for one in run(network, timetable, speed_kmh)
            if not one.cancelled
            and one.trip.line.route_id == route
            and one.trip.way.direction == 0
            and 12.1 * 3600 < one.trip.depart_s[0] < 13.5 * 3600
        ]
        return float(np.mean(found))

    assert lateness(jam, "10") > lateness(free(network), "10") + 240
    assert lateness(jam, "20") == pytest.approx(lateness(free(network), "20"), abs=20)


def test_a_late_vehicle_is_late_on_its_next_trip_until_a_spare_one_takes_over(network, timetable):
    blocks: dict[str, list] = {}
    for one in run(network, timetable, free(network) * 0.6):
        if one.trip.line.mode == "bus" and not one.cancelled:
            blocks.setdefault(one.trip.block, []).append(one)
    later = np.array([one.delay_s[0] for runs in blocks.values() for one in runs[1:]])
    assert np.percentile(later, 90) > 200
    assert later.max() < 600
    spares = [one for runs in blocks.values() for a, one in itertools.pairwise(runs) if a.vehicle != one.vehicle]
    assert spares
    assert np.median([one.delay_s[0] for one in spares]) < 60


def test_a_failure_on_the_metro_holds_its_trains_up_while_it_lasts(network, timetable):
    failure = metro_failure(WEDNESDAY.date)
    runs = run_day(network, timetable, WEDNESDAY, free(network), np.random.default_rng(1), disturbances=[failure])
    zero = service_start(WEDNESDAY.date)
    during, before = [], []
    for one in runs:
        if one.trip.line.route_id == "M1" and one.trip.way.direction == 0:
            at = zero + timedelta(seconds=float(one.arrive_s[4]))
            wanted = during if failure.start <= at < failure.end - timedelta(minutes=5) else before
            if at < failure.end:
                wanted.append(one.delay_s[4])
    assert min(during) > 120
    assert np.median(before) < 60


def test_incidents_are_told_to_the_lines_on_their_street_or_crossing_its_end_and_to_nobody_else(network, transit):
    pytest.importorskip("uxsim", reason="the simulator is not installed: pip install mtgpt[sim]")
    from mtgpt.sim.traffic import Incident

    start = WEDNESDAY.start + timedelta(hours=8)

    def told(street: str) -> list[tuple[tuple[str, ...], str]]:
        incident = Incident(street=street, start=start, end=start + timedelta(minutes=20), left=0.3, kind="crash")
        found = alerts_of(WEDNESDAY.date, network, transit, [incident], [])
        return [(tuple(a.routes), a.effect) for a in found if a.alert_id.startswith("jam")]

    assert told("gate0>outer0") == [(("10",), "SIGNIFICANT_DELAYS")]
    assert told("inner2>inner4") == [(("20",), "OTHER_EFFECT")]
    assert told("ring10>mid10") == []


def test_football_is_announced_two_days_ahead_and_lifts_are_out_without_an_end(network, transit):
    def ids(day: date) -> set[str]:
        return {alert.alert_id for alert in alerts_of(day, network, transit, [], [])}

    assert "football-20240406" in ids(date(2024, 4, 4))
    assert "football-20240406" not in ids(date(2024, 4, 3))
    lift = next(a for a in alerts_of(date(2024, 4, 4), network, transit, [], []) if a.alert_id.startswith("lift"))
    assert lift.end is None
    assert set(lift.title) == {"en", "de"}
