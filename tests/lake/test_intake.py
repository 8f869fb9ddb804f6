"""A batch lands once, whole, and every one of its rows is accounted for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtgpt.errors import FeedError, LakeError, MTGPTError, NotFound
from mtgpt.lake import landing
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.lake.table import Table
from tests.lake.conftest import City
from tests.lake.feeds import KINDS, RowsAdapter, observations, spots, trips, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.ingest.manifest import Source


def _books_balance(lake: Lake) -> None:
    ledger = lake.ledger()
    kinds = ledger.select(pl.col("rows_good") + pl.col("rows_quarantined") + pl.col("rows_duplicate"), "rows_in")
    assert kinds.to_series(0).to_list() == kinds.to_series(1).to_list()
    assert ledger["batch_id"].is_unique().all()
    for name in ("observation", "trip", "weather"):
        there = dict(lake.scan(name).group_by("batch_id").len().collect().iter_rows())
        said = {
            row["batch_id"]: json.loads(row["tables"]).get(name, {}).get("good", 0)
            for row in ledger.filter(pl.col("status") != "held").iter_rows(named=True)
        }
        assert there == {batch: rows for batch, rows in said.items() if rows}


def test_good_rows_land_bad_rows_are_put_aside_and_the_ledger_says_both(city: City) -> None:
    observations(city.write("a.csv"), spots=5, steps=20, bad=2)
    city.add("detectors", "a.csv")
    [result] = city.ingest()
    assert (result.status, result.rows_in, result.rows_good, result.rows_quarantined) == ("committed", 100, 98, 2)
    assert city.lake.scan("observation").collect().height == 98
    refused = city.lake.quarantine("testville", result.batch_id)
    assert refused["rule_id"].to_list() == ["value.variable_range"] * 2
    assert refused["row"].to_list() == [0, 1]
    assert json.loads(refused["raw"][0])["value"] == "9999.0"
    raw = city.lake.bronze.path(refused["bronze_sha256"][0])
    assert raw.read_bytes() == city.write("a.csv").read_bytes()
    _books_balance(city.lake)


def test_the_same_file_again_is_the_same_batch(city: City) -> None:
    observations(city.write("a.csv"))
    city.add("detectors", "a.csv")
    [first] = city.ingest()
    versions = city.lake.versions()
    [second] = city.ingest()
    assert (second.status, second.batch_id, second.rows_good) == ("replay", first.batch_id, first.rows_good)
    assert city.lake.versions() == versions


def test_a_newer_adapter_makes_a_new_batch_whose_old_rows_are_duplicates(city: City) -> None:
    observations(city.write("a.csv"))
    city.add("detectors", "a.csv")
    [first] = city.ingest()
    [second] = city.ingest(kinds={"rows": RowsAdapter(version=2)})
    assert second.batch_id != first.batch_id
    assert (second.rows_good, second.rows_duplicate) == (0, 12)
    _books_balance(city.lake)


def test_rows_that_another_batch_brought_are_duplicates_and_the_new_ones_land(city: City) -> None:
    observations(city.write("a.csv"), steps=10)
    observations(city.write("b.csv"), steps=10, first=7)
    city.add("detectors", "*.csv")
    first, second = city.ingest()
    assert (first.rows_good, second.rows_good, second.rows_duplicate) == (30, 21, 9)
    rows = city.lake.scan("observation").collect()
    assert rows.height == rows.select("spot_id", "variable", "time_start").n_unique() == 51
    _books_balance(city.lake)


def test_files_that_do_not_overlap_in_time_are_never_read_for_duplicates(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations(city.write("a.csv"))
    observations(city.write("b.csv"), first=500)
    city.add("detectors", "*.csv")
    monkeypatch.setattr(pl, "scan_parquet", lambda *_, **__: pytest.fail("an old file was read"))
    assert [result.rows_good for result in city.ingest()] == [12, 12]


def test_a_batch_with_too_many_bad_rows_is_held_and_touches_no_table(city: City) -> None:
    observations(city.write("a.csv"), bad=2)
    city.add("detectors", "a.csv")
    [result] = city.ingest()
    assert result.status == "held"
    assert result.reason is not None
    assert "2 of 12 (16.7 %) rows are bad" in result.reason
    assert city.lake.version("observation") is None
    assert city.lake.quarantine().height == 2
    assert city.lake.ledger()["status"].to_list() == ["held"]
    assert city.ingest()[0].status == "held"
    assert city.lake.quarantine().height == 2


def test_a_batch_without_keys_is_held_for_its_key(city: City) -> None:
    write_rows(
        city.write("a.csv"),
        ("variable", "time_start", "interval_s", "value"),
        [("speed", "2024-01-01T00:00:00Z", 300, 1)],
    )
    city.add("detectors", "a.csv")
    [result] = city.ingest()
    assert result.status == "held"
    assert str(result.reason).startswith("key_or_time")


def test_spots_and_values_of_one_batch_land_in_both_tables(city: City) -> None:
    observations(city.write("a.csv"))
    spots(city.write("spots.csv"), {"s0": "North", "s1": "South", "s2": "East"})
    city.add("detectors", "a.csv", files={"spots": "spots.csv"})
    [result] = city.ingest()
    assert {name: one["good"] for name, one in result.tables.items()} == {"spot": 3, "observation": 12}
    assert city.lake.versions() == {"batch": 1, "observation": 1, "spot": 1}


def test_a_spot_that_changed_becomes_a_new_version_and_one_that_did_not_is_a_duplicate(city: City) -> None:
    city.add("places", "spots.csv", table="spot")
    spots(city.write("spots.csv"), {"s0": "North", "s1": "South"})
    city.ingest()
    spots(city.write("spots.csv"), {"s0": "North", "s1": "South Gate", "s2": "East"})
    [result] = city.ingest()
    assert (result.rows_good, result.rows_duplicate) == (2, 1)
    rows = city.lake.scan("spot").sort("spot_id", "valid_from").collect()
    assert rows["name"].to_list() == ["North", "South", "South Gate", "East"]
    assert rows["valid_from"].dt.year().to_list() == [1970, 1970, result_year(city), 1970]
    spots(city.write("spots.csv"), {"s1": "South"})
    [back] = city.ingest()
    assert back.rows_good == 1


def result_year(city: City) -> int:
    return city.lake.ledger()["received_at"].dt.year()[-1]


def test_an_empty_feed_is_refused_and_leaves_nothing(city: City) -> None:
    write_rows(city.write("a.csv"), ("spot_id", "value"), [])
    city.add("detectors", "a.csv")
    with pytest.raises(FeedError, match="holds no rows"):
        city.ingest()
    assert city.lake.versions() == {}


def test_a_source_that_breaks_off_is_reported_and_the_others_go_on(city: City) -> None:
    city.write("bad.csv").parent.mkdir(parents=True)
    city.write("bad.csv").write_text("spot_id,value\ns0,1\n!\n")
    observations(city.write("good.csv"))
    city.add("broken", "bad.csv")
    city.add("missing", "absent.csv")
    city.add("sound", "good.csv")
    failures: list[tuple[str, MTGPTError]] = []

    def failed(source: Source, error: MTGPTError) -> None:
        failures.append((source.id, error))

    [result] = city.ingest(failed=failed)
    assert result.source_id == "sound"
    assert [(name, type(error)) for name, error in failures] == [("broken", FeedError), ("missing", NotFound)]
    assert list(city.lake.staging.glob("run-*")) == []


def test_only_the_named_source_is_ingested_and_an_unknown_name_is_refused(city: City) -> None:
    observations(city.write("a.csv"))
    observations(city.write("b.csv"), first=50)
    city.add("a", "a.csv")
    city.add("b", "b.csv")
    assert [result.source_id for result in city.ingest(only=["b"])] == ["b"]
    with pytest.raises(NotFound, match="no such source"):
        city.ingest(only=["c"])


@pytest.mark.parametrize("survived", [0, 1, 2, 3])
def test_a_run_stopped_between_two_commits_is_completed_by_the_next(
    city: City, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations(city.write("a.csv"), spots=10, steps=10, bad=1)
    spots(city.write("spots.csv"), {f"s{number}": str(number) for number in range(10)})
    city.add("detectors", "a.csv", files={"spots": "spots.csv"})
    commit, commits = Table.commit, []

    def stops(self, *args, **more):
        if len(commits) == survived:
            raise KeyboardInterrupt
        commits.append(self.name)
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        city.ingest()
    assert commits == ["spot", "observation", "quarantine"][:survived]
    assert city.lake.ledger().height == 0
    monkeypatch.undo()
    [result] = city.ingest()
    assert (result.status, result.rows_in, result.rows_good, result.rows_duplicate) == ("committed", 110, 109, 0)
    assert city.lake.scan("observation").collect().height == 99
    assert city.lake.scan("spot").collect().height == 10
    assert city.lake.quarantine().height == 1
    _books_balance(city.lake)


def test_a_batch_that_was_begun_is_completed_even_if_today_it_would_be_held(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations(city.write("a.csv"), spots=10, steps=10, bad=1)
    spots(city.write("spots.csv"), {"s0": "North"})
    city.add("detectors", "a.csv", files={"spots": "spots.csv"})
    commit = Table.commit

    def stops(self, *args, **more):
        if self.name == "observation":
            raise KeyboardInterrupt
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        city.ingest()
    monkeypatch.undo()
    monkeypatch.setattr("mtgpt.lake.reading.hold_reason", lambda *_: "stricter than before")
    [result] = city.ingest()
    assert (result.status, result.rows_good) == ("committed", 100)


def test_rows_that_do_not_add_up_are_never_acknowledged(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    observations(city.write("a.csv"))
    city.add("detectors", "a.csv")
    counts = landing._counts

    def loses_one(*args, **more):
        found = counts(*args, **more)
        return landing.TableCounts(rows_in=found.rows_in + 1, good=found.good, quarantined=0, duplicate=0)

    monkeypatch.setattr(landing, "_counts", loses_one)
    with pytest.raises(LakeError, match="rows do not add up"):
        city.ingest()
    assert city.lake.ledger().height == 0


def test_every_commit_names_its_source_and_batch(city: City) -> None:
    observations(city.write("a.csv"))
    city.add("detectors", "a.csv")
    [result] = city.ingest()
    for name in ("observation", "batch"):
        entry = city.lake.table(name).open().history(1)[0]
        assert json.loads(entry["mtgpt"]) == {"batch": result.batch_id, "city": "testville", "source": "detectors"}


def test_an_earlier_version_shows_what_was_there_then(city: City) -> None:
    observations(city.write("a.csv"))
    observations(city.write("b.csv"), first=50)
    city.add("detectors", "*.csv")
    city.ingest()
    assert city.lake.scan("observation", version=1).collect().height == 12
    assert city.lake.scan("observation").collect().height == 24
    with pytest.raises(LakeError, match="no such table version"):
        city.lake.scan("observation", version=99).collect()


def test_compacting_changes_files_and_no_row(city: City) -> None:
    for index in range(4):
        observations(city.write(f"{index}.csv"), first=50 * index)
    city.add("detectors", "*.csv")
    city.ingest()
    before = city.lake.scan("observation").collect().sort(pl.all())
    done = city.lake.table("observation").compact()
    assert (done["files_before"], done["files_after"]) == (4, 1)
    assert city.lake.scan("observation").collect().sort(pl.all()).equals(before)
    assert [result.status for result in city.ingest()] == ["replay"] * 4
    assert city.lake.table("observation").vacuum(keep_days=1) == 0


def test_trips_of_two_months_keep_one_row_each_and_count_as_departures_and_arrivals(city: City) -> None:
    trips(city.write("t1.csv"), range(100))
    trips(city.write("t2.csv"), range(90, 200))
    city.add("bikes", "t*.csv", table="trip")
    *landed, derived = city.ingest()
    assert [result.rows_duplicate for result in landed] == [0, 10]
    assert derived.source_id == "derived:trip:bike"
    counts = city.lake.scan("observation").group_by("variable").agg(pl.col("value").sum()).collect()
    assert dict(counts.iter_rows()) == {"departures": 200.0, "arrivals": 200.0}
    _books_balance(city.lake)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 6), st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=3
    )
)
def test_rows_in_are_good_quarantined_or_duplicate_whatever_arrives(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, int, int, int]]
) -> None:
    folder: Path = tmp_path_factory.mktemp("any")
    here = City(folder=folder, lake=Lake.open(folder / "lake"), settings=_settings(folder))
    for index, (first, steps, bad, chunk) in enumerate(files):
        observations(folder / f"{index}.csv", first=first, steps=steps, bad=bad, value=40 + index)
        here.add(f"s{index}", f"{index}.csv", options={"chunk": chunk})
    results = ingest_city(here.manifest(), here.lake, settings=here.settings, kinds=KINDS)
    for result, (_, steps, *_) in zip(results, files, strict=True):
        assert result.rows_in == 3 * steps
        assert result.rows_in == result.rows_good + result.rows_quarantined + result.rows_duplicate
    rows = here.lake.scan("observation").collect()
    assert rows.select("spot_id", "variable", "time_start").is_unique().all()
    _books_balance(here.lake)


def _settings(folder: Path):
    from mtgpt.settings import Settings

    return Settings(home=folder)
