"""Departures and arrivals follow the trips, however often and in whatever order these arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.lake.derived.trip_counts import Window, derive_trip_counts, recount
from mtgpt.lake.table import Table
from tests.lake.feeds import START, TRIP, trips, write_rows

if TYPE_CHECKING:
    from tests.lake.conftest import City


def _counts(city: City, variable: str = "departures") -> dict[datetime, float]:
    rows = city.lake.scan("observation").filter(pl.col("variable") == variable)
    return dict(rows.select("time_start", "value").sort("time_start").collect().iter_rows())


def test_intervals_with_trips_have_a_row_and_the_others_have_none(city: City) -> None:
    trips(city.write("t.csv"), [0, 1, 2, 21])
    city.add("bikes", "t.csv", table="trip")
    city.ingest()
    assert _counts(city) == {START: 3.0, START + timedelta(minutes=20): 1.0}
    assert _counts(city, "arrivals") == {START + timedelta(minutes=10): 3.0, START + timedelta(minutes=30): 1.0}


def test_trips_that_come_late_are_added_to_the_interval_they_belong_to(city: City) -> None:
    trips(city.write("t1.csv"), [0, 1, 60])
    city.add("bikes", "t*.csv", table="trip")
    city.ingest()
    trips(city.write("t2.csv"), [1, 2, 3])
    *_, derived = city.ingest()
    assert (derived.source_id, derived.rows_good) == ("derived:trip:bike", 2)
    assert _counts(city) == {START: 4.0, START + timedelta(minutes=60): 1.0}


def test_nothing_is_derived_again_where_no_trip_is_new(city: City) -> None:
    trips(city.write("t.csv"), range(5))
    city.add("bikes", "t.csv", table="trip")
    city.ingest()
    version = city.lake.version("observation")
    assert derive_trip_counts(city.lake, "testville", interval_s=300) == []
    assert recount(city.lake, "testville") == []
    assert city.lake.version("observation") == version


def test_another_interval_replaces_everything_and_back_again_too(city: City) -> None:
    trips(city.write("t.csv"), range(30))
    city.add("bikes", "t.csv", table="trip")
    city.ingest()
    for interval_s, rows in ((900, 2), (300, 6), (1800, 1)):
        derive_trip_counts(city.lake, "testville", interval_s=interval_s)
        assert len(_counts(city)) == rows
        assert sum(_counts(city).values()) == 30
        assert city.lake.scan("observation").select(pl.col("interval_s").unique()).collect().item() == interval_s


def test_a_run_stopped_between_two_modes_counts_the_second_mode_next_time(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        (mode, f"{mode}{key}", START.isoformat(), START.isoformat(), "a", "b")
        for mode in ("bike", "taxi")
        for key in range(3)
    ]
    write_rows(city.write("t.csv"), TRIP, rows)
    city.add("all", "t.csv", table="trip")
    commit, derived = Table.commit, []

    def stops(self, *args, **more):
        if self.name == "observation":
            derived.append(more["facts"]["source"])
            if len(derived) == 2:
                raise KeyboardInterrupt
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        city.ingest()
    monkeypatch.undo()
    assert derived == ["derived:trip:bike", "derived:trip:taxi"]
    city.ingest()
    found = city.lake.scan("observation").group_by("source_id").agg(pl.col("value").sum()).collect()
    assert dict(found.iter_rows()) == {"derived:trip:bike": 6.0, "derived:trip:taxi": 6.0}


def test_a_run_stopped_before_the_ledger_does_not_derive_twice(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    trips(city.write("t.csv"), range(10))
    city.add("bikes", "t.csv", table="trip")
    commit = Table.commit

    def stops(self, *args, **more):
        if self.name == "batch" and more["facts"]["source"].startswith("derived"):
            raise KeyboardInterrupt
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        city.ingest()
    monkeypatch.undo()
    version = city.lake.version("observation")
    *_, derived = city.ingest()
    assert derived.status == "committed"
    assert city.lake.version("observation") == version
    assert sum(_counts(city).values()) == 10


def test_a_window_is_cut_at_calendar_months() -> None:
    window = Window(start=datetime(2023, 11, 15, 3, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))
    parts = list(window.months())
    assert [(part.start.month, part.start.day) for part in parts] == [(11, 15), (12, 1), (1, 1)]
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert parts[-1].end == window.end
