"""A GTFS zip becomes spots, routes, links, departures and days; what cannot be read is put aside, never lost."""

from __future__ import annotations

import json

import polars as pl
import pytest

from mtgpt.errors import FeedError
from tests.ingest.gtfs_files import BASE, departures, gtfs, judged, refused, tables

MONDAY, SATURDAY = "2024-03-04", "2024-03-09"


def attributes(frame: pl.DataFrame, key: str) -> dict[str, dict]:
    return {row[0]: json.loads(row[1] or "{}") for row in frame.select(key, "attributes").iter_rows()}


def test_a_sound_feed_keeps_every_contract(tmp_path):
    verdicts = judged(gtfs(tmp_path))
    assert {table: verdict.good.height for table, verdict in verdicts.items()} == {
        "route": 2, "spot": 5, "link": 3, "service": 5, "service_day": 14
    }  # fmt: skip
    assert all(not verdict.bad.height and not verdict.duplicates for verdict in verdicts.values())


def test_stops_have_the_mode_and_line_that_serve_them_most_and_stations_those_of_their_platforms(tmp_path):
    spot = tables(gtfs(tmp_path))["spot"]
    assert dict(spot.select("spot_id", "mode").iter_rows()) == {
        "s1": "metro", "s2": "metro", "s3": "metro", "s4": "bus", "S": "metro"
    }  # fmt: skip
    assert dict(spot.select("spot_id", "kind").iter_rows())["S"] == "station"
    facts = attributes(spot, "spot_id")
    assert facts["s1"] == {"line": "M1", "parent": "S"}
    assert facts["s3"] == {"line": "M1", "lines": ["7", "M1"]}
    assert facts["S"] == {"line": "M1"}


def test_entrances_and_nodes_are_counted_in_their_station_and_refused_without_one(tmp_path):
    text = BASE["stops.txt"] + (
        "e1,North,40.7,-74.0,2,S\ne2,South,40.7,-74.0,2,S\nn1,,,,3,S\nb1,,,,4,s1\ne9,Nowhere,40.7,-74.0,2,X\n"
    )
    path = gtfs(tmp_path, stops=text)
    facts = attributes(tables(path)["spot"], "spot_id")
    assert facts["S"] == {"entrances": 2, "nodes": 1, "line": "M1"}
    assert facts["s1"]["boarding_areas"] == 1
    assert "e1" not in facts
    assert refused(path) == [("spot", 9, "station_unknown")]


def test_stops_without_a_place_or_a_readable_one_are_refused_with_their_row(tmp_path):
    text = BASE["stops.txt"] + "a,A,,,0,\nb,B,x,1,0,\nc,C,0,0,0,\nd,D,91,0,0,\n,E,1,1,0,\nf,F,1,1,7,\n"
    path = gtfs(tmp_path, stops=text)
    assert refused(path) == [
        ("spot", 5, "place_missing"),
        ("spot", 6, "number_unreadable"),
        ("spot", 7, "place"),
        ("spot", 8, "lat.range"),
        ("spot", 9, "id_missing"),
        ("spot", 10, "number_unreadable"),
    ]
    bad = judged(path)["spot"].bad.filter(pl.col("rule_id") == "place_missing")
    assert json.loads(bad["raw"].item()) == {
        "file": "stops.txt", "stop_id": "a", "stop_name": "A", "stop_lat": None, "stop_lon": None,
        "location_type": "0", "parent_station": None,
    }  # fmt: skip
    assert bad["message"].item() == "stops.txt: a stop or station without coordinates"


def test_names_in_another_encoding_are_refused(tmp_path):
    path = gtfs(tmp_path, stops=BASE["stops.txt"].replace("Second", "Zweite Straße").encode("latin-1"))
    assert refused(path) == [("spot", 1, "text_unreadable")]


def test_routes_have_mode_agency_and_colour_and_an_unknown_type_is_refused(tmp_path):
    text = BASE["routes.txt"] + "R3,A,F,Ferry,1000,#00ff00\nR4,A,X,Space,9999,\nR5,A,G,Gondola,6,blue\n"
    path = gtfs(tmp_path, routes=text)
    route = tables(path)["route"].filter(pl.col("route_id").is_not_null())
    assert route.select("route_id", "mode", "colour").rows() == [
        ("R1", "metro", "FF0000"), ("R2", "bus", None), ("R3", "ferry", "00ff00"), ("R5", "cable", None)
    ]  # fmt: skip
    assert set(route["agency"]) == {"Metro"}
    assert refused(path) == [("route", 3, "mode_unknown")]


def test_a_departure_is_a_stop_with_a_stop_after_it_on_the_days_of_its_service(tmp_path):
    frames = tables(gtfs(tmp_path))
    assert departures(frames, MONDAY) == {"s1": 2, "s2": 2, "s3": 1}
    assert departures(frames, SATURDAY) == {"s1": 1, "s2": 1}
    days = frames["service_day"].sort("service_date")
    assert days["trips"].to_list() == [3] * 5 + [1] * 2 + [3] * 5 + [1] * 2
    assert days["pattern_id"].n_unique() == 2


def test_rows_have_direction_band_and_mean_headway_and_hours_past_midnight(tmp_path):
    service = tables(gtfs(tmp_path))["service"].select(
        "spot_id", "route_id", "direction", "band_start_s", "departures", "headway_s"
    )
    assert service.sort(pl.all()).rows() == [
        ("s1", "R1", "0", 28_800, 2, 1200.0),
        ("s1", "R1", "0", 90_000, 1, None),
        ("s2", "R1", "0", 28_800, 2, 1200.0),
        ("s2", "R1", "0", 90_000, 1, None),
        ("s3", "R2", "-", 32_400, 1, None),
    ]
    bands = tables(gtfs(tmp_path), band_s=900)["service"].filter(pl.col("spot_id") == "s1", direction="0")
    assert bands.select("band_start_s", "headway_s").sort("band_start_s").rows() == [
        (28_800, None), (29_700, 1200.0), (90_000, None)
    ]  # fmt: skip


def test_the_same_timetable_has_the_same_pattern_whatever_else_the_feed_holds(tmp_path):
    first = tables(gtfs(tmp_path))["service_day"]
    more = BASE["stops.txt"].replace("s1,First", "a0,New,40,-74,0,\ns1,First")
    other = gtfs(tmp_path, "b.zip", stops=more, trips=BASE["trips.txt"].replace("t1", "x1"),
                 stop_times=BASE["stop_times.txt"].replace("t1,", "x1,"))  # fmt: skip
    assert tables(other)["service_day"]["pattern_id"].to_list() == first["pattern_id"].to_list()
    later = gtfs(tmp_path, "c.zip", stop_times=BASE["stop_times.txt"].replace("t2,08:2", "t2,08:4"))
    assert tables(later)["service_day"]["pattern_id"][0] != first["pattern_id"][0]


def test_links_join_consecutive_stops_by_share_and_great_circle(tmp_path):
    links = tables(gtfs(tmp_path))["link"].sort("from_spot")
    assert links.select("from_spot", "to_spot", "kind", "weight").rows() == [
        ("s1", "s2", "transit", 1.0), ("s2", "s3", "transit", 1.0), ("s3", "s4", "transit", 1.0)
    ]  # fmt: skip
    assert links["distance_m"].to_list() == pytest.approx([1112] * 3, abs=1)
    assert "link" not in tables(gtfs(tmp_path), links=False)


def test_ids_get_the_prefix_everywhere(tmp_path):
    frames = tables(gtfs(tmp_path), prefix="m:")
    assert set(frames["spot"]["spot_id"]) == {"m:s1", "m:s2", "m:s3", "m:s4", "m:S"}
    assert set(frames["service"]["spot_id"]) <= set(frames["spot"]["spot_id"])
    assert set(frames["link"]["from_spot"]) <= set(frames["spot"]["spot_id"])
    assert attributes(frames["spot"], "spot_id")["m:s1"]["parent"] == "m:S"


def test_faulty_passing_times_are_refused_one_by_one_and_the_rest_counts(tmp_path):
    text = BASE["stop_times.txt"] + (
        "t9,08:00:00,08:00:00,s1,1\n"  # no such trip
        "t1,08:12:00,08:12:00,s9,4\n"  # no such stop
        "t1,8 o'clock,08:13:00,s4,5\n"
        "t1,08:14:00,08:14:00,s4,x\n"
        "t1,07:00:00,07:00:00,s4,7\n"  # before it left
        "t2,09:00:00,09:00:00,s4,3\n"  # sequence again
        "b1,09:40:00,09:39:00,s1,3\n"  # leaves before it arrives
        ",08:00:00,08:00:00,s1,1\n"
        "t2,,,s4,9\n"  # no time after the last one
    )
    path = gtfs(tmp_path, stop_times=text)
    assert refused(path) == [
        ("service", 11, "trip_unknown"),
        ("service", 12, "stop_unknown"),
        ("service", 13, "time_unreadable"),
        ("service", 14, "number_unreadable"),
        ("service", 15, "times_decrease"),
        ("service", 16, "id_repeated"),
        ("service", 17, "times_decrease"),
        ("service", 18, "trip_unknown"),
        ("service", 19, "time_missing"),
    ]
    frames = tables(path)
    assert departures(frames, MONDAY) == {"s1": 2, "s2": 2, "s3": 1}
    raw = judged(path)["service"].bad.filter(pl.col("row") == 13)["raw"].item()
    assert json.loads(raw) == {
        "file": "stop_times.txt", "trip_id": "t1", "arrival_time": "8 o'clock", "departure_time": "08:13:00",
        "stop_id": "s4", "stop_sequence": "5",
    }  # fmt: skip


def test_passing_times_of_a_refused_trip_are_told_by_the_trip_alone(tmp_path):
    text = BASE["trips.txt"] + "R9,WK,t1,0\nR1,XX,t9,0\nR1,WK,t2,0\nR1,WK,,0\n"
    path = gtfs(tmp_path, trips=text, stop_times=BASE["stop_times.txt"] + "t9,08:00:00,08:00:00,s1,1\n")
    assert refused(path) == [
        ("service", 4, "route_unknown"),
        ("service", 5, "service_unknown"),
        ("service", 6, "id_repeated"),
        ("service", 7, "id_missing"),
    ]


def test_calendar_rows_that_cannot_be_read_are_refused(tmp_path):
    text = BASE["calendar.txt"] + (
        "A,1,1,1,1,1,0,0,2024-03-04,20240317\nB,1,1,1,1,1,0,2,20240304,20240317\nC,1,1,1,1,1,0,0,20240317,20240304\n"
    )
    listed = "service_id,date,exception_type\nWK,20240305,2\nWK,2024-03-06,2\nWK,20240307,3\n"
    path = gtfs(tmp_path, calendar=text, calendar_dates=listed)
    assert refused(path) == [("service_day", row, "date_unreadable") for row in (1, 2, 2, 3, 4)]
    assert dict(tables(path)["service_day"].drop_nulls("trips").select("service_date", "trips").iter_rows())[
        pl.Series(["2024-03-05"]).str.to_date().item()
    ] == 0  # fmt: skip


def test_the_only_agency_runs_routes_that_name_none_even_without_a_name(tmp_path):
    text = "route_id,route_short_name,route_type\nR1,M1,1\nR2,7,3\n"
    assert set(tables(gtfs(tmp_path, routes=text))["route"]["agency"]) == {"Metro"}
    nameless = gtfs(tmp_path, agency="agency_id,agency_name\nA,\n")
    assert tables(nameless)["route"]["agency"].null_count() == 2


@pytest.mark.parametrize("missing", ["agency", "calendar"])
def test_files_that_the_standard_lets_out_may_be_missing(tmp_path, missing):
    dates = "service_id,date,exception_type\nWK,20240304,1\nWE,20240309,1\n"
    frames = tables(gtfs(tmp_path, calendar_dates=dates, **{missing: None}))
    assert departures(frames, MONDAY) == {"s1": 2, "s2": 2, "s3": 1}
    assert departures(frames, SATURDAY) == {"s1": 1, "s2": 1}


@pytest.mark.parametrize("missing", ["stops", "routes", "trips", "stop_times"])
def test_a_zip_without_a_file_that_every_feed_has_is_refused_by_name(tmp_path, missing):
    with pytest.raises(FeedError, match=rf"{missing}\.txt"):
        tables(gtfs(tmp_path, **{missing: None}))


def test_a_zip_without_any_calendar_is_refused(tmp_path):
    with pytest.raises(FeedError, match="no calendar"):
        tables(gtfs(tmp_path, calendar=None))


def test_files_with_a_header_alone_make_no_rows_and_no_trouble(tmp_path):
    heads = {name.removesuffix(".txt"): text.partition("\n")[0] + "\n" for name, text in BASE.items()}
    frames = tables(gtfs(tmp_path, **heads))
    assert sum(frame.height for frame in frames.values()) == 0


def test_flex_trips_are_no_departures_and_mark_their_route_and_stops(tmp_path):
    head = "trip_id,arrival_time,departure_time,stop_id,stop_sequence,location_group_id,start_pickup_drop_off_window\n"
    rows = "t3,,,,1,g1,08:00:00\nt3,,,,2,g1,08:00:00\nb1,,,s3,1,,09:00:00\nb1,,,s4,2,,09:00:00\n"
    fixed = "".join(f"{line},,\n" for line in BASE["stop_times.txt"].splitlines()[1:7])
    path = gtfs(tmp_path, stop_times=head + fixed + rows, location_group_stops="location_group_id,stop_id\ng1,s4\n")
    assert refused(path) == []
    frames = tables(path)
    assert departures(frames, MONDAY) == {"s1": 2, "s2": 2}
    assert attributes(frames["route"], "route_id")["R2"] == {"on_demand": True}
    assert attributes(frames["spot"], "spot_id")["s4"] == {"on_demand": True}


def test_a_feed_that_only_comes_when_called_says_nothing_of_days(tmp_path):
    head = "trip_id,stop_id,stop_sequence,location_id,start_pickup_drop_off_window\n"
    frames = tables(gtfs(tmp_path, stop_times=head + "t1,,1,z1,08:00:00\nt1,,2,z1,08:00:00\n"))
    assert "service_day" not in frames
    assert frames["spot"].height == 5


@pytest.mark.parametrize(
    ("options", "stops", "routes", "departing", "days"),
    [
        ({"start": "2024-03-09", "end": "2024-03-10"}, {"s1", "s2", "s3", "S"}, {"R1"}, {"s1", "s2"}, 2),
        ({"routes": ["7"]}, {"s3", "s4"}, {"R2"}, {"s3"}, 10),
        ({"routes": ["R1"]}, {"s1", "s2", "s3", "S"}, {"R1"}, {"s1", "s2"}, 14),
        ({"agencies": ["Metro"]}, {"s1", "s2", "s3", "s4", "S"}, {"R1", "R2"}, {"s1", "s2", "s3"}, 14),
        ({"bbox": [-75, 40.715, -73, 41]}, {"s3", "s4"}, {"R1", "R2"}, {"s3"}, 14),
        ({"bbox": [-75, 40.69, -73, 40.715]}, {"s1", "s2", "S"}, {"R1"}, {"s1", "s2"}, 14),
    ],
)
def test_a_filter_reaches_every_table(tmp_path, options, stops, routes, departing, days):
    frames = tables(gtfs(tmp_path), **options)
    assert set(frames["spot"]["spot_id"]) == stops
    assert set(frames["route"]["route_id"]) == routes
    assert set(frames["service"]["spot_id"]) == departing
    assert set(frames["link"]["to_spot"]) | set(frames["link"]["from_spot"]) <= stops
    assert (frames["service_day"]["trips"] > 0).sum() == days
    assert refused(gtfs(tmp_path), **options) == []


def test_a_trip_that_leaves_the_box_still_departs_from_its_last_stop_inside(tmp_path):
    frames = tables(gtfs(tmp_path), bbox=[-75, 40.69, -73, 40.715])
    assert departures(frames, MONDAY) == {"s1": 2, "s2": 2}
    assert frames["link"].select("from_spot", "to_spot").rows() == [("s1", "s2")]


def test_a_filter_that_leaves_nothing_leaves_nothing(tmp_path):
    assert sum(frame.height for frame in tables(gtfs(tmp_path), routes=["none"]).values()) == 0


def test_reading_twice_gives_the_same_rows(tmp_path):
    path = gtfs(tmp_path)
    once, again = tables(path), tables(path)
    assert all(once[table].equals(again[table]) for table in once)
