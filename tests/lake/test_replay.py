"""After a contract fix the raw bytes are judged again: what is good now lands once, and the books say so."""

from __future__ import annotations

import shutil
from dataclasses import replace as changed
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.errors import NotFound, UsageError
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.lake.replay import replay, replay_many, waiting
from mtgpt.lake.table import Table
from tests.lake.feeds import KINDS, RowsAdapter, observations, trips

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lake.conftest import City


@pytest.fixture
def mended(city: City, repo: Path, tmp_path: Path) -> Lake:
    """The same lake, opened after someone allowed speeds up to 10000 km/h."""
    folder = tmp_path / "contracts"
    shutil.copytree(repo / "data_contracts", folder)
    vocabulary = folder / "variables.yaml"
    text = vocabulary.read_text("utf-8")
    start = text.index("speed")
    at = text.index("250", start)
    vocabulary.write_text(text[:at] + "10000" + text[at + 3 :], "utf-8")
    lake = Lake.open(city.lake.root, contracts_folder=folder)
    assert lake.contracts["observation"].sha256 != city.lake.contracts["observation"].sha256
    return lake


def _replay(batch_id: str, lake: Lake, city: City):
    return replay(batch_id, lake, settings=city.settings, kinds=KINDS)


def test_a_held_batch_lands_after_the_fix(city: City, mended: Lake) -> None:
    observations(city.write("a.csv"), bad=4)
    city.add("detectors", "a.csv")
    [held] = city.ingest()
    result = _replay(held.batch_id, mended, city)
    assert (result.status, result.rows_in, result.rows_good, result.rows_quarantined) == ("committed", 12, 12, 0)
    assert mended.scan("observation").collect()["batch_id"].unique().to_list() == [result.batch_id]
    statuses = dict(mended.ledger().select("batch_id", "status").iter_rows())
    assert statuses == {held.batch_id: "replayed", result.batch_id: "committed"}
    assert mended.quarantine()["replayed_in"].unique().to_list() == [result.batch_id]
    assert waiting(mended, held=True, quarantined=True) == []


def test_refused_rows_land_after_the_fix_and_the_others_are_not_there_twice(city: City, mended: Lake) -> None:
    observations(city.write("a.csv"), spots=10, steps=10, bad=3)
    city.add("detectors", "a.csv")
    [first] = city.ingest()
    [result] = replay_many(mended, settings=city.settings, quarantined=True, kinds=KINDS)
    assert (result.rows_good, result.rows_duplicate, result.rows_quarantined) == (3, 97, 0)
    rows = mended.scan("observation").collect()
    assert rows.height == rows.select("spot_id", "time_start").n_unique() == 100
    assert first.batch_id in rows["batch_id"].to_list()


def test_the_same_replay_again_changes_nothing(city: City, mended: Lake) -> None:
    observations(city.write("a.csv"), bad=4)
    city.add("detectors", "a.csv")
    [held] = city.ingest()
    first = _replay(held.batch_id, mended, city)
    versions = mended.versions()
    second = _replay(held.batch_id, mended, city)
    assert (second.status, second.batch_id) == ("replay", first.batch_id)
    assert mended.versions() == versions


def test_without_a_fix_a_replay_reads_nothing_and_says_what_stands(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    observations(city.write("a.csv"), bad=4)
    city.add("detectors", "a.csv")
    [held] = city.ingest()
    monkeypatch.setattr(RowsAdapter, "read", lambda *_: pytest.fail("the raw file was read"))
    result = _replay(held.batch_id, city.lake, city)
    assert (result.status, result.batch_id, result.reason) == ("held", held.batch_id, held.reason)


def test_a_fix_that_is_none_leaves_the_batch_held_and_writes_nothing(city: City) -> None:
    observations(city.write("a.csv"), bad=4)
    city.add("detectors", "a.csv")
    [held] = city.ingest()
    versions = city.lake.versions()
    result = replay(held.batch_id, city.lake, settings=city.settings, kinds={"rows": RowsAdapter(version=2)})
    assert result.status == "held"
    assert city.lake.versions() == versions
    assert city.lake.ledger()["status"].to_list() == ["held"]


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_replay_stopped_between_two_commits_is_completed_by_the_next(
    city: City, mended: Lake, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    observations(city.write("a.csv"), spots=10, steps=10, bad=3)
    city.add("detectors", "a.csv")
    [first] = city.ingest()
    commit, commits = Table.commit, []

    def stops(self, *args, **more):
        if len(commits) == survived:
            raise KeyboardInterrupt
        commits.append(self.name)
        return commit(self, *args, **more)

    monkeypatch.setattr(Table, "commit", stops)
    with pytest.raises(KeyboardInterrupt):
        _replay(first.batch_id, mended, city)
    monkeypatch.undo()
    result = _replay(first.batch_id, mended, city)
    assert (result.status, result.rows_good, result.rows_duplicate) == ("committed", 3, 97)
    assert mended.scan("observation").collect().height == 100
    assert mended.quarantine().height == 3
    assert sorted(mended.ledger()["status"].to_list()) == ["committed", "replayed"]


def test_a_replay_needs_nothing_but_the_lake(city: City, mended: Lake) -> None:
    observations(city.write("a.csv"), bad=4)
    city.add("detectors", "a.csv", options={"chunk": 5})
    [held] = city.ingest()
    city.write("a.csv").unlink()
    assert _replay(held.batch_id, mended, city).rows_good == 12


def test_after_a_replay_the_feed_itself_is_still_known(city: City, mended: Lake) -> None:
    observations(city.write("a.csv"), bad=4)
    city.add("detectors", "a.csv")
    [held] = city.ingest()
    _replay(held.batch_id, mended, city)
    [again] = ingest_city(city.manifest(), mended, settings=city.settings, kinds=KINDS)
    assert (again.status, again.batch_id) == ("replay", held.batch_id)


def test_what_cannot_be_replayed_is_said_in_one_sentence(city: City) -> None:
    trips(city.write("t.csv"), range(3))
    city.add("bikes", "t.csv", table="trip")
    landed, derived = city.ingest()
    with pytest.raises(UsageError, match="derived from others"):
        _replay(derived.batch_id, city.lake, city)
    with pytest.raises(NotFound, match="no such batch"):
        _replay("f" * 64, city.lake, city)
    raw = city.lake.ledger().filter(pl.col("batch_id") == landed.batch_id)["files"][0]
    city.lake.bronze.path(raw.split('"sha256": "')[1][:64]).unlink()
    with pytest.raises(NotFound, match="no such raw object"):
        _replay(landed.batch_id, city.lake, city)


def test_trips_of_a_replay_are_counted_by_the_next_ingest(city: City, repo: Path, tmp_path: Path) -> None:
    trips(city.write("t.csv"), range(10))
    text = city.write("t.csv").read_text("utf-8")
    city.write("t.csv").write_text(text.replace("bike", "bicycle"), "utf-8")
    city.add("bikes", "t.csv", table="trip")
    [held] = city.ingest()
    assert held.status == "held"
    folder = tmp_path / "contracts"
    shutil.copytree(repo / "data_contracts", folder)
    contract = folder / "trip.odcs.yaml"
    contract.write_text(contract.read_text("utf-8").replace("bike", "bicycle"), "utf-8")
    lake = changed(Lake.open(city.lake.root, contracts_folder=folder))
    assert _replay(held.batch_id, lake, city).rows_good == 10
    *_, derived = ingest_city(city.manifest(), lake, settings=city.settings, kinds=KINDS)
    assert derived.source_id == "derived:trip:bicycle"
    assert derived.rows_good == 4
