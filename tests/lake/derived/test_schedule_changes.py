"""A new timetable over an old one: what changed becomes events, once, and nothing else does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.ingest.feeds.gtfs.adapter import GtfsAdapter
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
from tests.ingest.gtfs_files import BASE, gtfs

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.lake.batch import BatchResult
    from tests.lake.conftest import City

NEXT = {"calendar": BASE["calendar.txt"].replace("20240304,20240317", "20240318,20240331")}


@pytest.fixture
def metro(city: City) -> City:
    """A metro whose feed was ingested once."""
    city.folder.mkdir()
    city.sources.append({"id": "metro", "kind": "gtfs", "path": "feed.zip"})
    publish(city)
    return city


def publish(city: City, **files: str | None) -> list[BatchResult]:
    """The operator publishes another zip under the same name, and the city is ingested again."""
    gtfs(city.folder, **files)
    return city.ingest(kinds={"gtfs": GtfsAdapter()})


def events(city: City) -> dict[str, dict]:
    """Events by what changed and where."""
    rows = city.lake.scan("event").collect().iter_rows(named=True)
    return {row["event_id"].rpartition(":")[0]: row for row in rows}


def test_the_first_timetable_is_no_change(metro: City) -> None:
    assert events(metro) == {}


def test_the_same_timetable_for_further_days_is_no_change(metro: City) -> None:
    publish(metro, **NEXT)
    assert events(metro) == {}


def test_lines_and_stops_that_come_and_go_are_events_from_the_first_new_day(metro: City) -> None:
    publish(
        metro,
        **NEXT,
        routes=BASE["routes.txt"].replace("R2,A,7,Bus Seven,3,", "R3,A,F,Ferry,4,"),
        stops=BASE["stops.txt"] + "f1,Pier One,40.75,-74.0,0,\nf2,Pier Two,40.76,-74.0,0,\n",
        trips=BASE["trips.txt"].replace("R2,WK,b1,", "R3,WK,b1,"),
        stop_times=BASE["stop_times.txt"].replace("09:00:00,s3", "09:00:00,f1").replace("09:30:00,s4", "09:30:00,f2"),
    )
    found = events(metro)
    assert set(found) == {"line_added:R3", "line_removed:R2", "stops_added", "stops_removed"}
    assert found["line_added:R3"]["title"] == "Line F runs from now on"
    assert json.loads(found["line_removed:R2"]["routes"]) == ["R2"]
    assert json.loads(found["stops_added"]["spots"]) == ["f1"]
    assert found["stops_added"]["text"] == "Pier One"
    one = found["stops_removed"]
    assert (one["kind"], one["severity"], one["source_id"]) == ("schedule_change", "info", "derived:schedule:metro")
    assert one["start"] == datetime(2024, 3, 18, tzinfo=UTC)


def test_departures_that_change_by_more_than_a_tenth_are_an_event(metro: City) -> None:
    trips = BASE["trips.txt"] + "R1,WK,t4,0\n"
    times = BASE["stop_times.txt"] + "t4,10:00:00,10:00:00,s1,1\nt4,10:05:00,10:05:00,s2,2\nt4,10:10:00,10:10:00,s3,3\n"
    publish(metro, **NEXT, trips=trips, stop_times=times)
    (event,) = events(metro).values()
    assert event["event_id"].startswith("departures:R1")
    assert event["title"] == "Line M1: 42 % more departures"  # 24 a week to 34
    assert "workday: 4 to 6" in event["text"]
    assert json.loads(event["attributes"]) == {"before": 3.4, "after": 4.9}


def test_a_single_day_off_does_not_change_a_line(metro: City) -> None:
    holiday = "service_id,date,exception_type\nWK,20240320,2\n"
    publish(metro, **NEXT, calendar_dates=holiday)
    assert events(metro) == {}


@pytest.mark.parametrize(("lat", "metres"), [("40.7104", None), ("40.7110", 111)])
def test_a_stop_that_moves_by_more_than_fifty_metres_is_an_event(metro: City, lat: str, metres: int | None) -> None:
    publish(metro, **NEXT, stops=BASE["stops.txt"].replace("40.71,", f"{lat},"))
    found = events(metro)
    assert list(found) == ([] if metres is None else ["stop_moved:s2"])
    for event in found.values():
        assert json.loads(event["attributes"]) == {"metres": metres}
        assert (event["lat"], event["geometry"]) == (40.711, "POINT (-74.0 40.711)")
        assert event["title"] == "Stop Second moves by 111 m"


def test_a_line_with_a_new_id_and_the_same_name_is_the_same_line(metro: City) -> None:
    publish(
        metro,
        **NEXT,
        routes=BASE["routes.txt"].replace("R1,", "R1-v2,"),
        trips=BASE["trips.txt"].replace("R1,", "R1-v2,"),
    )
    assert events(metro) == {}


def test_days_that_are_planned_anew_are_compared_with_what_was_planned_for_them(metro: City) -> None:
    publish(metro, trips=BASE["trips.txt"].replace("R1,WK,t2,0\n", ""), stop_times="".join(
        line for line in BASE["stop_times.txt"].splitlines(keepends=True) if not line.startswith("t2")
    ))  # fmt: skip
    (event,) = events(metro).values()
    assert event["title"].endswith("fewer departures")
    assert event["start"] == datetime(2024, 3, 4, tzinfo=UTC)


def test_an_older_feed_that_comes_late_is_no_change(metro: City) -> None:
    old = BASE["calendar.txt"].replace("20240304,20240317", "20230306,20230319")
    publish(metro, calendar=old, trips=BASE["trips.txt"].replace("R2,WK,b1,\n", ""), stop_times="".join(
        line for line in BASE["stop_times.txt"].splitlines(keepends=True) if not line.startswith("b1")
    ))  # fmt: skip
    assert events(metro) == {}


def test_every_pair_is_compared_once_and_is_in_the_ledger(metro: City) -> None:
    results = publish(metro, **NEXT, stops=BASE["stops.txt"].replace("40.71,", "40.72,"))
    assert [one.source_id for one in results] == ["metro", "derived:schedule:metro"]
    version = metro.lake.version("event")
    again = metro.ingest(kinds={"gtfs": GtfsAdapter()})
    assert [(one.source_id, one.status) for one in again] == [("metro", "replay")]
    assert metro.lake.version("event") == version


def test_a_run_that_was_stopped_before_the_comparison_is_completed_by_the_next(
    metro: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtgpt.lake.derived.derive.derive_schedule_changes", stops)
    with pytest.raises(KeyboardInterrupt):
        publish(metro, **NEXT, stops=BASE["stops.txt"].replace("40.71,", "40.72,"))
    monkeypatch.undo()
    metro.ingest(kinds={"gtfs": GtfsAdapter()})
    assert list(events(metro)) == ["stop_moved:s2"]


@pytest.mark.real_data
def test_los_angeles_runs_its_trains_more_often_in_february(real_data: Path, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, real_data=real_data)
    lake = Lake.open(settings.lake)
    results = ingest_city(load_manifest("los_angeles_metro", settings=settings), lake, settings=settings)
    for one in results:
        assert one.status == "committed"
        assert one.rows_in == one.rows_good + one.rows_quarantined + one.rows_duplicate
    titles = lake.scan("event").select(pl.col("title")).collect()["title"].to_list()
    assert sorted(titles) == [
        "Line Metro A Line: 24 % more departures",
        "Line Metro C Line: 15 % more departures",
        "Line Metro E Line: 22 % more departures",
    ]
