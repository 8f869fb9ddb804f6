"""Delays and headways follow the last report of each visit that has happened, in whatever order reports arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from mtgpt.ingest.adapters import adapters
from mtgpt.lake.derived.visits import delays_and_headways, derive_visits, happened, rederive
from mtgpt.lake.table import Table
from tests.ingest.gtfs_rt_feed import NOW, STAMP, message, timetable, trip

if TYPE_CHECKING:
    from tests.lake.conftest import City

SERVICE_DAY = "20240514"


def report(city: City, name: str, at_s: int, *trips: tuple[str, str, int, int], **more: Any) -> None:
    """A message made ``at_s`` after now: trips as (id, stop, time after now, delay)."""
    feed = message(STAMP + at_s)
    for trip_id, stop, time_s, delay in trips:
        facts = {"start_date": SERVICE_DAY, "route_id": "R1", "direction_id": 0} | more
        trip(feed, trip_id, {"stop_id": stop, "departure": {"time": time_s, "delay": delay}}, **facts)
    city.write(name).parent.mkdir(parents=True, exist_ok=True)
    city.write(name).write_bytes(feed.SerializeToString())


def ingest(city: City, **more: Any) -> list:
    if not city.sources:
        city.sources.append({"id": "live", "kind": "gtfs_rt", "path": "*.pb", **more})
    return [one for one in city.ingest(kinds=adapters()) if one.status != "replay"]


def derived(city: City) -> dict[tuple[str, str, int], float]:
    """Value by variable, stop and seconds from now of the interval."""
    rows = city.lake.scan("observation").select("variable", "spot_id", "time_start", "value").collect()
    return {(name, spot, int(at.timestamp()) - STAMP): value for name, spot, at, value in rows.iter_rows()}


def test_only_the_last_report_of_a_visit_counts_and_only_once_its_time_has_passed(city: City) -> None:
    report(city, "1.pb", 0, ("t1", "A", 100, 10), ("t2", "A", 400, 0))
    report(city, "2.pb", 60, ("t1", "A", 130, 40), ("t2", "A", 400, 0))
    ingest(city)
    assert derived(city) == {}
    report(city, "3.pb", 200, ("t2", "A", 430, 30))
    ingest(city)
    assert derived(city) == {("delay", "A", 0): 40.0}
    report(city, "4.pb", 500, ("t3", "A", 1000, 0))
    ingest(city)
    assert derived(city) == {("delay", "A", 0): 40.0, ("delay", "A", 300): 30.0, ("headway", "A", 300): 300.0}


def test_a_visit_that_moved_to_another_interval_leaves_none_behind(city: City) -> None:
    report(city, "1.pb", 0, ("t1", "A", -20, 0))
    ingest(city)
    assert derived(city) == {("delay", "A", -300): 0.0}
    report(city, "2.pb", 400, ("t1", "A", 330, 350))
    ingest(city)
    assert derived(city) == {("delay", "A", 300): 350.0}


def test_a_visit_that_was_canceled_after_all_is_taken_back(city: City) -> None:
    report(city, "1.pb", 0, ("t1", "A", -20, 0), ("t2", "A", -10, 60))
    ingest(city)
    assert derived(city) == {("delay", "A", -300): 30.0, ("headway", "A", -300): 10.0}
    report(city, "2.pb", 30, ("t1", "A", 0, 0), schedule_relationship=3)
    ingest(city)
    assert derived(city) == {("delay", "A", -300): 60.0}


def test_headways_are_of_one_line_and_direction_and_of_no_night(city: City) -> None:
    hour = 3600
    report(city, "1.pb", 0, ("t1", "A", -7 * hour, 0), ("t2", "A", -2 * hour, 0), ("t3", "A", -hour, 0))
    report(city, "2.pb", 1, ("u1", "A", -hour - 600, 0), ("u2", "A", -300, 0), direction_id=1)
    ingest(city)
    headways = {key[2]: value for key, value in derived(city).items() if key[0] == "headway"}
    assert headways == {-hour: 3600.0, -300: 3900.0}


def test_reports_that_come_late_give_what_reports_in_order_give(city: City, tmp_path) -> None:
    reports = [
        ("1.pb", 0, [("t1", "A", -100, 0), ("t2", "A", 200, 20), ("t3", "B", 500, 0)]),
        ("2.pb", 300, [("t2", "A", 250, 70), ("t3", "B", 450, -50)]),
        ("3.pb", 600, [("t3", "B", 580, 80), ("t4", "A", 599, 9)]),
        ("4.pb", 900, [("t5", "A", 890, 1)]),
    ]
    for name, at_s, trips in (reports[3], reports[1], reports[0], reports[2]):
        report(city, name, at_s, *trips)
        ingest(city)
    step_by_step = derived(city)
    derive_visits(city.lake, "testville", interval_s=900)
    derive_visits(city.lake, "testville", interval_s=300)
    assert derived(city) == step_by_step
    assert step_by_step == {
        ("delay", "A", -300): 0.0, ("delay", "A", 0): 70.0, ("headway", "A", 0): 350.0, ("delay", "B", 300): 80.0,
        ("delay", "A", 300): 9.0, ("headway", "A", 300): 349.0, ("delay", "A", 600): 1.0, ("headway", "A", 600): 291.0,
    }  # fmt: skip


def test_nothing_is_derived_again_where_no_message_is_new(city: City) -> None:
    report(city, "1.pb", 0, ("t1", "A", -20, 0))
    ingest(city)
    version = city.lake.version("observation")
    assert ingest(city) == []
    assert rederive(city.lake, "testville") == []
    assert city.lake.version("observation") == version


def test_another_interval_replaces_everything_and_back_again_too(city: City) -> None:
    report(city, "1.pb", 0, ("t1", "A", -400, 10), ("t2", "A", -20, 30))
    ingest(city)
    for interval_s, rows in ((3600, 2), (300, 3), (900, 2)):
        (result,) = derive_visits(city.lake, "testville", interval_s=interval_s)
        assert (result.source_id, result.rows_good) == ("derived:visit:live", rows)
        assert city.lake.scan("observation").select(pl.col("interval_s").unique()).collect().item() == interval_s


def test_a_run_stopped_before_the_ledger_does_not_derive_twice(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    report(city, "1.pb", 0, ("t1", "A", -20, 0))
    commit = Table.commit

    def stops(self, *args, **more):
        if self.name == "batch" and more["facts"]["source"].startswith("derived"):
            raise KeyboardInterrupt
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        ingest(city)
    monkeypatch.undo()
    version = city.lake.version("observation")
    (result,) = ingest(city)
    assert result.status == "committed"
    assert city.lake.version("observation") == version
    assert derived(city) == {("delay", "A", -300): 0.0}


def test_two_sources_of_one_stop_give_one_value(city: City) -> None:
    report(city, "1.pb", 0, ("t1", "A", -20, 10))
    city.sources.append({"id": "other", "kind": "gtfs_rt", "path": "1.pb"})
    city.sources.append({"id": "live", "kind": "gtfs_rt", "path": "*.pb"})
    city.ingest(kinds=adapters())
    rows = city.lake.scan("observation").select("spot_id", "variable", "time_start").collect()
    assert rows.height == rows.unique().height == 1


def test_a_trip_that_passes_a_stop_twice_visits_it_twice(city: City) -> None:
    feed = message()
    stops = [{"stop_id": "A", "stop_sequence": place, "departure": {"time": -600 + 500 * place}} for place in (0, 1)]
    trip(feed, "t1", *stops, start_date=SERVICE_DAY, route_id="R1")
    city.write("1.pb").parent.mkdir(parents=True)
    city.write("1.pb").write_bytes(feed.SerializeToString())
    ingest(city)
    assert derived(city) == {("headway", "A", -300): 500.0}


def test_delays_come_from_the_timetable_where_the_feed_gives_times_only(city: City) -> None:
    feed = message(STAMP + 900)
    trip(feed, "t1", {"stop_id": "B", "departure": {"time": 660}}, start_date=SERVICE_DAY)
    city.write("1.pb").parent.mkdir(parents=True)
    city.write("1.pb").write_bytes(feed.SerializeToString())
    city.write("static.zip").write_bytes(timetable({"t1": [("A", "11:00:00"), ("B", "11:10:00")]}))
    ingest(city, files={"static": "static.zip"})
    assert derived(city) == {("delay", "B", 600): 60.0}


def test_means_are_over_the_visits_of_an_interval() -> None:
    rows = [("A", "R1", "0", NOW + timedelta(seconds=at), delay) for at, delay in ((0, 10.0), (60, None), (200, 30.0))]
    visits = pl.DataFrame(rows, schema=["spot_id", "route_id", "direction", "time", "delay_s"], orient="row")
    found = delays_and_headways(visits, 300)
    assert found.select("variable", "value").rows() == [("delay", 20.0), ("headway", 100.0)]
    assert found["time_start"].unique().to_list() == [NOW]


def test_what_lies_ahead_has_not_happened() -> None:
    at = datetime(2024, 5, 14, 12, tzinfo=UTC)
    facts = {"trip_id": "t", "service_date": at.date(), "spot_id": "A", "reported_at": at, "status": "scheduled"}
    rows = [{**facts, "stop_sequence": place, "time": at + timedelta(seconds=place)} for place in (-1, 0, 1)]
    assert happened(pl.DataFrame(rows), at)["stop_sequence"].to_list() == [-1, 0]
