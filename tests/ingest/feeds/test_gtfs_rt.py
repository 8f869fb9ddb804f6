"""GTFS-Realtime: what a message says of visits, vehicles and alerts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.gtfs_rt.adapter import GtfsRtAdapter, GtfsRtOptions
from tests.ingest.gtfs_rt_feed import NOW, STAMP, a_city, context, file, message, read, timetable, trip, visits

PLAN = {"t1": [("A", "11:00:00"), ("B", "11:10:00"), ("C", "11:20:00"), ("D", "11:30:00")]}


def test_a_visit_has_the_time_and_delay_of_its_departure_and_at_the_end_those_of_the_arrival(tmp_path):
    feed = message()
    trip(
        feed,
        "t1",
        {"stop_id": "A", "arrival": {"time": 60, "delay": 10}, "departure": {"time": 90, "delay": 0}},
        {"stop_id": "B", "arrival": {"time": 300, "delay": -30}},
        route_id="R1",
        direction_id=0,
        start_date="20240514",
    )
    first, last = visits(tmp_path, feed)
    assert (first["time"], first["delay_s"], last["time"], last["delay_s"]) == (90, 0.0, 300, -30.0)
    assert first["service_date"] == date(2024, 5, 14)
    assert (first["route_id"], first["direction"], first["status"]) == ("R1", "0", "scheduled")
    assert first["reported_at"] == NOW


def test_a_time_of_zero_is_no_time(tmp_path):
    feed = message()
    trip(
        feed,
        "t1",
        {"stop_id": "A", "arrival": {"time": 60}, "departure": {"time": 0}},
        {"stop_id": "B", "arrival": {"time": 0}},
    )
    sound, faulty = visits(tmp_path, feed)
    assert (sound["time"], sound["__fault"]) == (60, None)
    assert (faulty["time"], faulty["__fault"]) == (None, "time_unknown")


def test_what_is_said_of_a_stop_and_of_a_trip_is_its_status(tmp_path):
    feed = message()
    at = {"departure": {"time": 60}}
    trip(
        feed,
        "t1",
        {"stop_id": "A", "relation": 1},
        {"stop_id": "B", "relation": 2},
        {"stop_id": "C", **at},
        start_date="20240514",
    )
    for number, relation in enumerate((1, 2, 3, 6, 7, 8), start=2):
        trip(
            feed,
            f"t{number}",
            {"stop_id": "A", **at},
            schedule_relationship=relation,
            start_date="20240514",
            start_time="11:00:00",
        )
    found = {(row["trip_id"], row["spot_id"]): row["status"] for row in visits(tmp_path, feed)}
    assert found == {
        ("t1", "A"): "skipped",
        ("t1", "B"): "no_data",
        ("t1", "C"): "scheduled",
        ("t2", "A"): "added",
        ("t3@11:00:00", "A"): "unscheduled",
        ("t4", "A"): "canceled",
        ("t5", "A"): "added",
        ("t6", "A"): "canceled",
        ("t7", "A"): "added",
    }


def test_a_skipped_stop_is_dated_alike_in_every_message(tmp_path):
    first, second = message(STAMP - 300), message(STAMP - 270)
    for feed in (first, second):
        trip(feed, "t1", {"stop_id": "A", "relation": 1}, start_date="20240514")
    times = {visits(tmp_path, feed)[0]["time"] for feed in (first, second)}
    assert times == {-11 * 3600}  # the start of the service day in New York


def test_a_copy_of_a_trip_has_the_name_of_the_copy(tmp_path):
    feed = message()
    one = trip(feed, "t1", {"stop_id": "A", "departure": {"time": 60}}, schedule_relationship=6, start_date="20240514")
    one.trip_update.trip_properties.trip_id = "t1-again"
    one.trip_update.trip_properties.start_date = "20240515"
    (row,) = visits(tmp_path, feed)
    assert (row["trip_id"], row["service_date"]) == ("t1-again", date(2024, 5, 15))


def test_a_stop_assigned_in_operation_is_where_the_visit_is(tmp_path):
    feed = message()
    one = trip(feed, "t1", {"stop_id": "A", "departure": {"time": 60}})
    one.trip_update.stop_time_update[0].stop_time_properties.assigned_stop_id = "A2"
    assert [row["spot_id"] for row in visits(tmp_path, feed)] == ["A2"]


@pytest.mark.parametrize(
    ("start_date", "expected", "fault"),
    [("", date(2024, 5, 14), None), ("20240513", date(2024, 5, 13), None), ("2024051", None, "time_unreadable"),
     ("20990101", None, "time_unreadable"), ("20240532", None, "time_unreadable")],
)  # fmt: skip
def test_a_service_day_is_guessed_where_it_is_absent_and_refused_where_it_is_nonsense(
    tmp_path, start_date, expected, fault
):
    feed = message()
    trip(feed, "t1", {"stop_id": "A", "departure": {"time": 60}}, **({"start_date": start_date} if start_date else {}))
    (row,) = visits(tmp_path, feed)
    assert (row["service_date"], row.get("__fault")) == (expected, fault)


def test_the_hours_after_midnight_belong_to_the_day_before(tmp_path):
    feed = message()
    trip(feed, "t1", {"stop_id": "A", "departure": {"time": 14 * 3600}})  # 01:00 on the 15th
    assert visits(tmp_path, feed)[0]["service_date"] == date(2024, 5, 14)


def test_a_time_days_away_is_put_aside(tmp_path):
    feed = message()
    trip(
        feed,
        "t1",
        {"stop_id": "A", "departure": {"time": 3 * 86_400}},
        {"stop_id": "B", "departure": {"time": 60}},
        start_date="20240514",
    )
    faults = {row["spot_id"]: row["__fault"] for row in visits(tmp_path, feed)}
    assert faults == {"A": "time_far_from_report", "B": None}


def test_the_timetable_fills_delay_day_line_and_direction(tmp_path):
    feed = message()
    trip(feed, "t1", {"stop_id": "B", "arrival": {"time": 660}})
    (first, *_) = visits(tmp_path, feed, static=timetable(PLAN))
    assert (first["delay_s"], first["service_date"], first["route_id"], first["direction"]) == (
        60.0,
        date(2024, 5, 14),
        "R1",
        "1",
    )
    assert first["stop_sequence"] == 2


def test_a_delay_holds_for_later_stops_across_skipped_ones_until_the_next_update_or_no_data(tmp_path):
    stops = [(name, f"11:{10 * place:02d}:00") for place, name in enumerate("ABCDEF")]
    feed = message()
    trip(
        feed,
        "t1",
        {"stop_id": "B", "stop_sequence": 2, "departure": {"delay": 120}},
        {"stop_id": "C", "stop_sequence": 3, "relation": 1},
        {"stop_id": "E", "stop_sequence": 5, "relation": 2},
        start_date="20240514",
    )
    rows = visits(tmp_path, feed, static=timetable({"t1": stops}))
    assert [(row["spot_id"], row["time"], row["delay_s"], row["status"]) for row in rows] == [
        ("B", 720, 120.0, "scheduled"),
        ("C", 1200, None, "skipped"),
        ("D", 1920, 120.0, "scheduled"),
        ("E", 2400, None, "no_data"),
    ]


def test_a_delay_of_the_whole_trip_holds_for_the_stops_ahead(tmp_path):
    feed = message()
    trip(feed, "t1", start_date="20240514", delay=-60)
    rows = visits(tmp_path, feed, static=timetable(PLAN))
    assert [(row["spot_id"], row["time"], row["delay_s"]) for row in rows] == [
        ("B", 540, -60.0),
        ("C", 1140, -60.0),
        ("D", 1740, -60.0),
    ]


def test_a_canceled_trip_is_canceled_at_every_stop_of_its_timetable_and_an_event_without_one(tmp_path):
    feed = message()
    trip(feed, "t1", schedule_relationship=3, start_date="20240514", route_id="R1")
    rows = visits(tmp_path, feed, static=timetable(PLAN))
    assert [(row["spot_id"], row["time"], row["status"]) for row in rows] == [
        ("A", 0, "canceled"), ("B", 600, "canceled"), ("C", 1200, "canceled"), ("D", 1800, "canceled"),
    ]  # fmt: skip
    tables = read(tmp_path, feed.SerializeToString())
    assert list(tables) == ["event"]
    (event,) = tables["event"].to_dicts()
    assert (event["event_id"], event["kind"], event["effect"], event["routes"]) == (
        "canceled:20240514:t1",
        "schedule_change",
        "NO_SERVICE",
        '["R1"]',
    )


def test_a_stop_visited_twice_is_paired_from_the_end(tmp_path):
    loop = {"t1": [("A", "10:50:00"), ("B", "11:00:00"), ("A", "11:10:00")]}
    feed = message()
    trip(feed, "t1", {"stop_id": "A", "departure": {"time": 630}})
    (row,) = visits(tmp_path, feed, static=timetable(loop))
    assert (row["delay_s"], row["stop_sequence"]) == (30.0, 3)


def test_a_position_in_the_trip_that_names_another_stop_gives_way_to_the_stop(tmp_path):
    feed = message()
    trip(feed, "t1", {"stop_id": "C", "stop_sequence": 2, "departure": {"time": 1230}})
    first, second = visits(tmp_path, feed, static=timetable(PLAN))
    assert (first["spot_id"], first["delay_s"], second["spot_id"]) == ("C", 30.0, "D")


def test_a_trip_past_midnight_is_of_the_day_on_which_its_timetable_fits(tmp_path):
    feed = message(STAMP - 10 * 3600)  # 01:00 in New York
    trip(feed, "t1", {"stop_id": "B", "departure": {"time": -10 * 3600 + 900}})
    (row,) = visits(tmp_path, feed, static=timetable({"t1": [("A", "25:05:00"), ("B", "25:10:00")]}))
    assert (row["service_date"], row["delay_s"]) == (date(2024, 5, 13), 300.0)


def test_a_trip_of_new_york_is_found_by_the_end_of_its_id_and_the_day_it_runs(tmp_path):
    ids = ["AFA24GEN-1038-Sunday-00_066000_1..S03R", "BFA24GEN-1038-Weekday-00_066000_1..S03R"]
    trips = f"route_id,service_id,trip_id,direction_id\n1,sunday,{ids[0]},0\n1,week,{ids[1]},1\n"
    days = "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
    days += "sunday,0,0,0,0,0,0,1,20240101,20241231\nweek,1,1,1,1,1,0,0,20240101,20241231\n"
    static = timetable({ids[0]: [("103S", "11:00:00")], ids[1]: [("103S", "11:01:00")]}, trips=trips, calendar=days)
    feed = message()
    trip(feed, "066000_1..S03R", {"stop_id": "103S", "arrival": {"time": 90}}, start_date="20240514")
    trip(feed, "066000_1..S", {"stop_id": "103S", "arrival": {"time": 120}}, start_date="20240514")
    rows = visits(tmp_path, feed, static=static)
    assert [(row["delay_s"], row["direction"], row["trip_id"]) for row in rows] == [
        (30.0, "1", "066000_1..S03R"),
        (60.0, "1", "066000_1..S"),
    ]


def test_times_between_timing_points_are_interpolated(tmp_path):
    feed = message()
    trip(feed, "t1", {"stop_id": "B", "departure": {"time": 640}})
    static = timetable({"t1": [("A", "11:00:00"), ("B", ""), ("C", "11:20:00")]})
    assert visits(tmp_path, feed, static=static)[0]["delay_s"] == 40.0


def test_both_clock_changes_keep_the_time_of_the_timetable(tmp_path):
    for day, noon_utc in ((datetime(2024, 3, 10, tzinfo=UTC), 16), (datetime(2024, 11, 3, tzinfo=UTC), 17)):
        stamp = int((day + timedelta(hours=noon_utc)).timestamp())
        feed = message(stamp)
        trip(feed, "t1", {"stop_id": "A", "departure": {"time": stamp - STAMP + 45}}, start_date=f"{day:%Y%m%d}")
        rows = read(
            tmp_path,
            feed.SerializeToString(),
            static=timetable({"t1": [("A", "12:00:00")]}),
            received_at=day + timedelta(days=1),
        )
        assert rows["stop_visit"]["delay_s"].to_list() == [45.0]


def test_delays_without_times_want_a_timetable_and_say_so(tmp_path):
    feed = message()
    trip(feed, "t1", {"stop_id": "A", "departure": {"delay": 60}})
    with pytest.raises(FeedError, match=r"gives delays and no times.*files: static"):
        visits(tmp_path, feed)
    assert visits(tmp_path, feed, static=timetable(PLAN))[0]["time"] == 60


def test_a_vehicle_without_an_id_is_known_by_its_trip_and_unknown_positions_are_null(tmp_path):
    feed = message()
    one = feed.entity.add(id="1")
    one.vehicle.trip.trip_id = "137100_1..N02X017"
    one.vehicle.stop_id = "103N"
    one.vehicle.current_status = 1
    two = feed.entity.add(id="2")
    two.vehicle.vehicle.id = "bus"
    two.vehicle.timestamp = STAMP - 30
    two.vehicle.position.latitude = two.vehicle.position.longitude = 0.0
    two.vehicle.position.speed = -1
    three = feed.entity.add(id="3")
    three.vehicle.vehicle.label = "7"
    three.vehicle.position.latitude, three.vehicle.position.longitude = 37.37046, -121.99604
    rows = read(tmp_path, feed.SerializeToString())["vehicle"].to_dicts()
    assert [(row["vehicle_id"], row["time"], row["lon"], row["status"]) for row in rows] == [
        ("137100_1..N02X017", NOW, None, "stopped"),
        ("bus", NOW - timedelta(seconds=30), None, None),
        ("7", NOW, -121.99604, None),
    ]
    assert rows[1]["speed_m_s"] is None


def test_an_alert_is_a_row_per_language_with_what_it_concerns(tmp_path):
    feed = message()
    alert = feed.entity.add(id="a1").alert
    alert.header_text.translation.add(text="Closed", language="en")
    alert.header_text.translation.add(text="关闭", language="zh_CN")
    alert.description_text.translation.add(text="Until noon", language="en")
    alert.url.translation.add(text="http://x/1")
    alert.active_period.add(start=STAMP, end=STAMP + 60)
    alert.active_period.add(start=STAMP + 600)
    alert.informed_entity.add(stop_id="A")
    alert.informed_entity.add(route_id="R1", agency_id="MTA")
    alert.cause, alert.effect, alert.severity_level = 10, 1, 4
    rows = read(tmp_path, feed.SerializeToString())["event"].to_dicts()
    assert [(row["language"], row["title"], row["text"]) for row in rows] == [
        ("en", "Closed", "Until noon"),
        ("zh-CN", "关闭", None),
    ]
    one = rows[0]
    assert (one["start"], one["end"], one["url"]) == (NOW, None, "http://x/1")
    assert (one["spots"], one["routes"]) == ('["A"]', '["R1"]')
    assert (one["kind"], one["cause"], one["effect"], one["severity"]) == (
        "alert",
        "CONSTRUCTION",
        "NO_SERVICE",
        "high",
    )
    assert '"agencies": ["MTA"]' in one["attributes"]


def test_a_message_without_entities_is_a_sound_one(tmp_path):
    tables = read(tmp_path, message().SerializeToString())
    assert [(name, frame.height) for name, frame in tables.items()] == [("event", 0)]


def test_names_that_are_no_utf8_are_put_aside_and_the_others_kept(tmp_path):
    feed = message()
    trip(
        feed,
        "t1",
        {"stop_id": "SPOTX", "departure": {"time": 60}},
        {"stop_id": "B", "departure": {"time": 90}},
        start_date="20240514",
    )
    trip(feed, "TRIPX", {"stop_id": "A", "departure": {"time": 60}}, start_date="20240514")
    data = feed.SerializeToString().replace(b"SPOTX", b"SPOT\xff").replace(b"TRIPX", b"TRIP\xff")
    rows = read(tmp_path, data)["stop_visit"].to_dicts()
    assert sorted((row["spot_id"] or "-", row["__fault"] or "-") for row in rows) == [
        ("-", "text_unreadable"),
        ("A", "text_unreadable"),
        ("B", "-"),
    ]


def test_reading_the_same_bytes_twice_gives_the_same_rows(tmp_path):
    data = a_city().SerializeToString()
    first, second = read(tmp_path, data), read(tmp_path, data)
    assert all(first[name].equals(second[name]) for name in first)
    assert first["stop_visit"].height == 30 * 12


def test_stop_ids_get_the_prefix_of_the_timetable_s_source(tmp_path):
    feed = message()
    trip(feed, "t1", {"stop_id": "A", "departure": {"time": 60}})
    feed.entity.add(id="v").vehicle.stop_id = "B"
    alert = feed.entity.add(id="a").alert
    alert.header_text.translation.add(text="Closed")
    alert.informed_entity.add(stop_id="C", route_id="R1")
    files = {"data": file(tmp_path, feed.SerializeToString())}
    chunks = GtfsRtAdapter().read(files, GtfsRtOptions(prefix="x:"), context())
    tables = {chunk.table: chunk.frame.row(0, named=True) for chunk in chunks}
    assert (tables["stop_visit"]["spot_id"], tables["vehicle"]["spot_id"]) == ("x:A", "x:B")
    assert (tables["event"]["spots"], tables["event"]["routes"]) == ('["x:C"]', '["R1"]')


def test_a_trip_known_by_a_part_of_its_id_must_run_on_its_day(tmp_path):
    name = "AFA24GEN-1038-Sunday-00_066000_1..S03R"
    days = "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
    static = timetable({name: [("103S", "11:00:00")]}, calendar=f"{days}all,0,0,0,0,0,0,1,20240101,20241231\n")
    feed = message()
    trip(feed, "066000_1..S03R", {"stop_id": "103S", "arrival": {"time": 90}}, start_date="20240514")
    trip(feed, name, {"stop_id": "103S", "arrival": {"time": 90}}, start_date="20240514")
    assert [row["delay_s"] for row in visits(tmp_path, feed, static=static)] == [None, 90.0]
