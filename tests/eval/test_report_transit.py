"""What a report tells of public transport, alerts and docks: only what was known, in the city's own time."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mtgpt.eval.report_feeds import (
    CityFeeds,
    docks_at,
    lateness_at,
    lines_at,
    read_feeds,
    service_start,
    told_about,
    window,
)
from mtgpt.eval.report_transit import transit_parts
from tests.eval.test_report import EVIL, Reader, a_forecast, a_ledger, written
from tests.synthetic import small_panel

ZONE = "America/New_York"
DAY = date(2024, 3, 12)
AT = datetime(2024, 3, 12, 12, tzinfo=UTC)
"""Eight o'clock in New York, two days after clocks went forward."""


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def visit(trip: str, stop: str, delay_s: float | None, *, due: float = 5, told: float = -1, **more) -> dict:
    row = {
        "city_id": "line", "source_id": "live", "trip_id": trip, "service_date": DAY, "spot_id": stop, "route_id": "r1",
        "time": AT + minutes(due), "stop_sequence": 1, "delay_s": delay_s, "status": "scheduled",
        "reported_at": AT + minutes(told),
    }  # fmt: skip
    return row | more


def event(event_id: str, start: float | None, end: float | None, **more) -> dict:
    row = {
        "city_id": "line", "source_id": "live", "event_id": event_id, "language": "en", "title": event_id, "text": None,
        "start": None if start is None else AT + minutes(start), "end": None if end is None else AT + minutes(end),
        "routes": None, "valid_from": datetime(1970, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    return row | more


def band(start_h: float, departures: int, *, stop: str = "a", headway_s: float | None = 600.0) -> dict:
    return {
        "source_id": "plan", "pattern_id": "p", "spot_id": stop, "route_id": "r1", "direction": "0",
        "band_start_s": int(start_h * 3600), "band_s": 3600, "departures": departures, "headway_s": headway_s,
        "service_date": DAY, "city_id": "line",
    }  # fmt: skip


SINCE = datetime(1970, 1, 1, tzinfo=UTC)
SPOTS = [
    {"city_id": "line", "spot_id": s, "kind": kind, "mode": mode, "name": name, "valid_from": SINCE}
    for s, kind, mode, name in (
        ("a", "stop", "bus", "Alpha"), ("b", "stop", "metro", "Beta"), ("d1", "dock", "bike", "Beta"),
        ("d2", "dock", "bike", "Far"), ("x", "detector", "road", "X"),
    )
]  # fmt: skip
ROUTES = [{
    "city_id": "line", "source_id": "plan", "route_id": "r1", "mode": "bus", "name": "7", "long_name": "Alpha – Beta",
    "valid_from": SINCE,
}]  # fmt: skip
LINKS = [
    {"city_id": "line", "from_spot": a, "to_spot": b, "kind": "transfer", "distance_m": m}
    for a, b, m in (("d1", "b", 40.0), ("d1", "a", 120.0), ("b", "d1", 40.0), ("d1", "x", 1.0))
]


def stock(dock: str, bikes: float, docks: float, ago: float) -> list[dict]:
    return [
        {"city_id": "line", "spot_id": dock, "variable": variable, "time_start": AT - minutes(ago), "interval_s": 300,
         "value": value}
        for variable, value in (("bikes_available", bikes), ("docks_available", docks))
    ]  # fmt: skip


def feeds(**changes) -> CityFeeds:
    tables = {
        "route": ROUTES, "service": [band(8, 6), band(9, 3)], "visit": [visit("t1", "a", 90.0)],
        "event": [event("Crash", -10, 20)], "spot": SPOTS, "transfer": LINKS, "stock": stock("d1", 3, 9, 10),
    }  # fmt: skip
    made = {name: pl.DataFrame(rows, infer_schema_length=None) for name, rows in (tables | changes).items()}
    defaults = feeds() if changes else None
    for name, frame in made.items():
        if not frame.width and defaults is not None:
            made[name] = getattr(defaults, name).clear()
    return CityFeeds(zone=ZONE, **made)


def test_the_service_day_of_the_clock_change_counts_from_noon():
    assert service_start(datetime(2024, 3, 10, 16, tzinfo=UTC), ZONE) == datetime(2024, 3, 10, 4, tzinfo=UTC)
    assert service_start(AT, ZONE) == datetime(2024, 3, 12, 4, tzinfo=UTC)


def test_a_lines_supply_is_that_of_the_band_the_moment_lies_in_at_its_busiest_stop():
    found = lines_at(feeds(service=[band(7, 99), band(8, 6), band(8, 2, stop="b"), band(9, 3)]), AT)
    assert found.select("route_id", "departures", "headway_s").rows() == [("r1", 6, 600.0)]
    assert lines_at(feeds(), AT + timedelta(days=1)).is_empty()


def test_lateness_is_what_had_been_reported_by_then_and_no_later_report():
    told = [visit("t1", "a", 60.0, told=-9), visit("t1", "a", 300.0, told=-2), visit("t1", "a", 900.0, told=3)]
    assert lateness_at(feeds(visit=told), AT).select("trips", "worst_s", "worst_at").rows() == [(1, 300.0, "Alpha")]


def test_a_vehicle_counts_once_at_its_next_stop_and_not_at_those_behind_it():
    told = [
        visit("t1", "b", 500.0, due=-3),
        visit("t1", "a", 120.0, due=2),
        visit("t1", "b", 700.0, due=9),
        visit("t2", "b", 30.0, due=4),
    ]
    found = lateness_at(feeds(visit=told), AT).row(0, named=True)
    assert (found["trips"], found["median_s"], found["worst_s"], found["worst_at"]) == (2, 75.0, 120.0, "Alpha")


def test_cancelled_trips_are_counted_and_are_not_late():
    told = [visit("t1", "a", 60.0), visit("t2", "a", None, status="canceled")]
    found = lateness_at(feeds(visit=told), AT).row(0, named=True)
    assert (found["trips"], found["cancelled"], found["worst_s"]) == (1, 1, 60.0)
    typed = feeds(visit=told)
    nothing_runs = lateness_at(replace(typed, visit=typed.visit[1:]), AT).row(0, named=True)
    assert (nothing_runs["trips"], nothing_runs["cancelled"], nothing_runs["worst_at"]) == (0, 1, None)


@pytest.mark.parametrize(
    ("start", "end", "there"),
    [(-60, 0, False), (-60, 1, True), (59, 90, True), (60, 90, False), (None, None, True), (-900, None, True)],
)
def test_an_event_is_told_where_it_overlaps_the_window(start, end, there):
    found = told_about(feeds(event=[event("one", start, end)]), AT, AT + minutes(60))
    assert (found.height == 1) is there


def test_an_event_is_told_once_in_the_readers_language_where_there_is_one():
    texts = [
        event("one", -5, 5, language="de", title="Unfall"),
        event("one", -5, 5, language="en-GB", title="Crash"),
        event("two", -4, 5, language="de", title="Stau"),
    ]
    assert told_about(feeds(event=texts), AT, AT + minutes(60))["title"].to_list() == ["Stau", "Crash"]


def test_docks_near_stops_show_their_last_report_before_the_moment_and_the_nearest_stop_first():
    reports = [*stock("d1", 5, 7, 30), *stock("d1", 3, 9, 10), *stock("d1", 99, 0, 2), *stock("d2", 1, 1, 10)]
    found = docks_at(feeds(stock=reports), AT)
    assert found.select("name", "bikes", "docks").rows() == [("Beta", 3.0, 9.0)]
    assert [one["name"] for one in found["near"][0]] == ["Beta", "Alpha"]


def text_of(*parts) -> str:
    return re.sub(r"\s+", " ", Reader("".join(map(str, parts))).text)


def the_forecast(panel):
    """A forecast from eight o'clock."""
    at = np.datetime64(AT.replace(tzinfo=None), "s")
    return a_forecast(panel, step=int(np.searchsorted(panel.time, at)))


@pytest.fixture(scope="module")
def panel():
    return small_panel()


def test_a_planner_reads_lines_alerts_and_docks_in_words(panel):
    forecast = the_forecast(panel)
    assert window(forecast)[0] == AT
    text = text_of(*transit_parts(feeds(), [forecast]))
    for words in ("6 an hour each way, every 10 min", "1.5 min late at Alpha", "Crash", "07:50 to 08:20", "metro 40 m"):
        assert words in text
    assert "bus Alpha 120 m" in text


def test_a_line_without_reports_says_so(panel):
    assert "no times reported" in text_of(*transit_parts(feeds(visit=[]), [the_forecast(panel)]))


def test_nothing_known_around_the_forecasts_is_no_part_at_all(panel):
    nothing = feeds(service=[], visit=[], event=[], stock=[])
    assert transit_parts(nothing, [the_forecast(panel)]) == []


def test_hostile_texts_of_feeds_stay_texts_in_the_report(tmp_path, panel):
    hostile = feeds(
        event=[event(EVIL, -5, 5, text=EVIL, routes=f'["{"r1"}", 7]'), event("bad", -5, 5, routes="{")],
        route=[ROUTES[0] | {"name": EVIL, "long_name": EVIL, "mode": EVIL}],
        spot=[spot | {"name": EVIL} for spot in SPOTS],
    )
    page = written(tmp_path, panel, feeds=hostile, forecasts=[the_forecast(panel)])
    reader = Reader(page)
    assert not reader.all("script")
    assert not reader.all("img")
    assert reader.open == []
    assert {"id": "transit"} in reader.all("section")


def test_many_batches_of_a_polled_source_are_one_line_and_a_held_one_stays_visible(tmp_path, panel):
    landed = a_ledger()[:1]
    polls = pl.concat([landed.with_columns(batch_id=pl.lit(f"p{i}")) for i in range(9)])
    text = text_of(written(tmp_path, panel, ledger=pl.concat([polls, a_ledger()[1:]])))
    assert "9 batches: speed_w11.csv.gz" in text
    assert f"{9 * 12345:,}" in text
    assert "held: 9 % of the rows are bad" in text


def test_two_polls_that_are_off_do_not_make_a_sum_that_fits(tmp_path, panel):
    landed = a_ledger()[:1]
    more, less = (landed.with_columns(pl.col("rows_good") + change) for change in (5, -5))
    text = text_of(written(tmp_path, panel, ledger=pl.concat([landed] * 7 + [more, less])))
    assert "✗ no" in text


class StubLake:
    """Answers scans from frames."""

    def __init__(self, **tables: pl.DataFrame) -> None:
        self._tables = tables

    def scan(self, name: str, *, city_id: str) -> pl.LazyFrame:
        return self._tables[name].lazy().filter(pl.col("city_id") == city_id)


def test_only_what_may_matter_is_read_and_the_newest_version_of_it(panel):
    whole = feeds()
    service = whole.service.drop("service_date")
    other = service.with_columns(pattern_id=pl.lit("another"))
    days = pl.DataFrame(
        [
            {"city_id": "line", "source_id": "plan", "service_date": DAY, "pattern_id": p, "valid_from": since}
            for p, since in (("another", SINCE), ("p", SINCE + timedelta(days=9)))
        ]
    )
    newer = whole.route.with_columns(name=pl.lit("8"), valid_from=pl.lit(SINCE + timedelta(days=9)))
    lake = StubLake(
        service=pl.concat([service, other]),
        service_day=days,
        route=pl.concat([newer, whole.route]),
        stop_visit=pl.concat([whole.visit, whole.visit.with_columns(pl.col("time") + timedelta(days=1))]),
        event=whole.event,
        spot=whole.spot,
        link=pl.concat([whole.transfer, whole.transfer.with_columns(kind=pl.lit("road"))]),
        observation=whole.stock,
    )
    read = read_feeds(lake, "line", [replace(the_forecast(panel), time_zone=ZONE)])
    assert read is not None
    assert set(read.service["pattern_id"]) == {"p"}
    assert read.route["name"].to_list() == ["8"]
    assert read.visit.height == 1
    assert set(read.transfer["kind"]) == {"transfer"}
    assert read_feeds(lake, "elsewhere", [the_forecast(panel)]) is None
    assert read_feeds(lake, "line", []) is None
