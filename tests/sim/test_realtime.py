"""What the control centre of the simulated city publishes, read back with the reference bindings."""

import itertools
import zipfile
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from google.transit import gtfs_realtime_pb2 as pb

from mtgpt.sim.alerts import alerts_of, metro_failure
from mtgpt.sim.network import build_network
from mtgpt.sim.operations import run_day
from mtgpt.sim.publish_transit import write_gtfs
from mtgpt.sim.realtime import ServiceDay, snapshot
from mtgpt.sim.sky import days
from mtgpt.sim.timetable import build_timetable
from mtgpt.sim.transit import build_transit

WEDNESDAY = days(28)[2]
NETWORK = build_network()
TRANSIT = build_transit(NETWORK)
TIMETABLE = build_timetable(TRANSIT)


@pytest.fixture(scope="module")
def day() -> ServiceDay:
    speed = np.tile([street.free_kmh for street in NETWORK.detectors], (288, 1)) * 0.3
    failures = [metro_failure(WEDNESDAY.date)]
    runs = run_day(NETWORK, TIMETABLE, WEDNESDAY, speed, np.random.default_rng(1), disturbances=failures)
    alerts = alerts_of(WEDNESDAY.date, NETWORK, TRANSIT, [], failures)
    return ServiceDay(date=WEDNESDAY.date, runs=runs, timetable=TIMETABLE, alerts=alerts)


@pytest.fixture(scope="module")
def hour(day) -> list[pb.FeedMessage]:
    """Snapshots of 16:00 to 17:00, each read back from its bytes."""
    found = []
    for minutes in range(0, 61, 10):
        content = snapshot(day, WEDNESDAY.start + timedelta(hours=16, minutes=minutes)).SerializeToString()
        found.append(pb.FeedMessage.FromString(content))
    return found


@pytest.fixture(scope="module")
def static(tmp_path_factory) -> dict[str, pl.DataFrame]:
    path = tmp_path_factory.mktemp("gtfs") / "gtfs.zip"
    write_gtfs(path, TRANSIT, TIMETABLE)
    with zipfile.ZipFile(path) as feed:
        return {
            name.removesuffix(".txt"): pl.read_csv(feed.read(name), infer_schema_length=0) for name in feed.namelist()
        }


def updates(message: pb.FeedMessage):
    return [entity.trip_update for entity in message.entity if entity.HasField("trip_update")]


def test_every_trip_and_stop_that_is_named_is_in_the_timetable(hour, static):
    trips, stops = set(static["trips"]["trip_id"]), set(static["stops"]["stop_id"])
    for message in hour:
        for entity in message.entity:
            for part in (entity.trip_update, entity.vehicle):
                assert not part.trip.trip_id or part.trip.trip_id in trips
            assert {one.stop_id for one in entity.trip_update.stop_time_update} <= stops
            assert {one.stop_id for one in entity.alert.informed_entity if one.stop_id} <= stops


def test_a_time_is_the_timetable_and_the_delay(hour, static):
    planned = {
        (trip, int(number)): departure
        for trip, departure, number in static["stop_times"].select("trip_id", "departure_time", "stop_sequence").rows()
    }
    checked = 0
    for update in updates(hour[3]):
        for one in update.stop_time_update:
            if one.HasField("departure"):
                h, m, s = map(int, planned[update.trip.trip_id, one.stop_sequence].split(":"))
                zero = WEDNESDAY.start.timestamp()
                assert one.departure.time == zero + 3600 * h + 60 * m + s + one.departure.delay
                checked += 1
    assert checked > 200


def test_the_ids_of_a_message_are_unique_and_its_times_do_not_lie_ahead(hour):
    for message in hour:
        ids = [entity.id for entity in message.entity]
        assert len(set(ids)) == len(ids)
        stamps = [e.vehicle.timestamp or e.trip_update.timestamp for e in message.entity if not e.HasField("alert")]
        assert max(stamps) <= message.header.timestamp


def test_what_was_forecast_for_a_stop_comes_near_to_what_became_of_it(hour):
    told: dict[tuple[str, int], list[int]] = {}
    for message in hour:
        for update in updates(message):
            for one in update.stop_time_update:
                if one.HasField("departure"):
                    told.setdefault((update.trip.trip_id, one.stop_sequence), []).append(one.departure.time)
    last = [abs(times[-1] - times[-2]) for times in told.values() if len(times) > 1]
    assert np.median(last) <= 60


def test_vehicles_are_between_the_stops_that_they_are_between(hour):
    places = {stop.stop_id: stop for stop in TRANSIT.stops}
    seen = 0
    for entity in hour[0].entity:
        if entity.HasField("vehicle") and entity.vehicle.position.latitude:
            assert entity.vehicle.stop_id in places
            assert 0 <= entity.vehicle.position.bearing < 360
            seen += 1
    assert seen > 25
    vehicles = [e.vehicle.vehicle.id for e in hour[0].entity if e.HasField("vehicle")]
    assert len(set(vehicles)) == len(vehicles)


def test_alerts_come_when_they_are_noticed_and_go_when_they_are_over(hour):
    def signal(message: pb.FeedMessage) -> bool:
        return any(entity.id.startswith("signal") for entity in message.entity)

    # It fails at 16:20 and is noticed four minutes later.
    assert [signal(message) for message in hour] == [False, False, False, True, True, True, True]
    alert = next(entity.alert for entity in hour[-1].entity if entity.id.startswith("signal"))
    assert {one.language for one in alert.header_text.translation} == {"en", "de"}
    assert alert.active_period[0].end > alert.active_period[0].start


def test_trams_have_positions_and_no_times(hour):
    tram = {e.vehicle.trip.trip_id for m in hour for e in m.entity if e.vehicle.trip.route_id == "T"}
    assert tram
    assert not any(update.trip.route_id == "T" for update in itertools.chain.from_iterable(map(updates, hour)))


def test_the_timetable_says_which_days_are_which_and_begins_its_stops_with_a_byte_order_mark(static, tmp_path):
    assert static["calendar_dates"].rows() == [("WD", "20240401", "2"), ("SU", "20240401", "1")]
    assert max(static["stop_times"]["departure_time"]) > "28:00:00"
    write_gtfs(tmp_path / "gtfs.zip", TRANSIT, TIMETABLE)
    with zipfile.ZipFile(tmp_path / "gtfs.zip") as feed:
        assert feed.read("stops.txt").startswith(b"\xef\xbb\xbf")
        assert feed.testzip() is None
