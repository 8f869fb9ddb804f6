"""``mtgpt ingest`` says what became of every row, and its exit code says whether anything waits for a person."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mtgpt.errors import LakeError, ManifestError, NotFound, UsageError
from mtgpt.lake.lake import Lake
from mtgpt.settings import settings
from tests.cli.feeds import MANIFEST, app, write_city

pytestmark = pytest.mark.usefixtures("home")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app(), list(arguments), env={"COLUMNS": "80"})


def test_json_holds_every_batch_with_rows_that_add_up(tmp_path: Path) -> None:
    result = _run("ingest", write_city(tmp_path / "feeds", bad_speeds=2), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    speeds, flows = report["batches"]
    assert (speeds["source_id"], speeds["status"], speeds["name"]) == ("speeds", "committed", "speeds.csv")
    assert speeds["rows_quarantined"] == 2
    for one in (speeds, flows):
        assert one["rows_in"] == one["rows_good"] + one["rows_quarantined"] + one["rows_duplicate"]
    assert report["failed"] == []


def test_a_person_sees_the_ledger_as_a_table_in_80_columns(tmp_path: Path) -> None:
    result = _run("ingest", write_city(tmp_path / "feeds", bad_speeds=2))
    assert result.exit_code == 0, result.output
    assert "Smallville: what the feeds brought" in result.stdout
    assert "landed" in result.stdout
    assert "2 rows were put aside: mtgpt lake quarantine --city smallville" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_second_time_everything_is_known(tmp_path: Path) -> None:
    city = write_city(tmp_path / "feeds")
    _run("ingest", city)
    again = json.loads(_run("ingest", city, "--json").stdout)
    assert [one["status"] for one in again["batches"]] == ["replay", "replay"]


def test_a_held_batch_ends_with_code_1_its_reason_and_what_to_do_while_the_other_lands(tmp_path: Path) -> None:
    result = _run("ingest", write_city(tmp_path / "feeds", bad_speeds=30))
    assert result.exit_code == 1
    assert "HELD" in result.stdout
    assert "no table was touched" in result.stdout
    assert "mtgpt lake replay" in result.stdout
    values = Lake.open(settings().lake).scan("observation").collect()
    assert values["variable"].unique().to_list() == ["flow"]


def test_a_source_that_cannot_be_read_ends_with_code_1_while_the_other_lands(tmp_path: Path) -> None:
    city = write_city(tmp_path / "feeds")
    (tmp_path / "feeds" / "speeds.csv").unlink()
    result = _run("ingest", city, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [one["source_id"] for one in report["batches"]] == ["flows"]
    assert report["failed"][0]["source_id"] == "speeds"
    assert "no such file" in report["failed"][0]["sentence"]


def test_only_one_source_is_ingested_where_one_is_named(tmp_path: Path) -> None:
    report = json.loads(_run("ingest", write_city(tmp_path / "feeds"), "--source", "flows", "--json").stdout)
    assert [one["source_id"] for one in report["batches"]] == ["flows"]


def test_a_name_that_is_no_source_lists_those_there_are(tmp_path: Path) -> None:
    result = _run("ingest", write_city(tmp_path / "feeds"), "--source", "speed")
    assert isinstance(result.exception, NotFound)
    assert "speeds, flows" in result.exception.sentence()


def test_a_manifest_with_an_unknown_key_is_refused_before_anything_is_pulled(tmp_path: Path, home: Path) -> None:
    city = write_city(tmp_path / "feeds")
    Path(city).write_text(MANIFEST.replace("time_zone", "timezone"), "utf-8")
    result = _run("ingest", city)
    assert isinstance(result.exception, ManifestError)
    assert list(home.iterdir()) == []


def test_a_lake_that_cannot_be_made_is_one_sentence(tmp_path: Path, home: Path) -> None:
    (home / "lake").write_text("a file where the lake should be", "utf-8")
    result = _run("ingest", write_city(tmp_path / "feeds"))
    assert isinstance(result.exception, LakeError)
    assert "\n" not in result.exception.sentence()


def test_two_cities_are_two_reports_under_one_roof(tmp_path: Path) -> None:
    first = write_city(tmp_path / "feeds")
    second = tmp_path / "feeds" / "otherville.yaml"
    second.write_text(Path(first).read_text("utf-8").replace("smallville", "otherville"), "utf-8")
    done = _run("ingest", first, str(second), "--json")
    reports = json.loads(done.stdout)["cities"]
    assert [(one["city"], len(one["batches"])) for one in reports] == [("smallville", 2), ("otherville", 2)]
    shown = _run("ingest", first, str(second)).stdout
    assert shown.count("what the feeds brought") == 2


def test_sources_are_named_for_one_city_at_a_time(tmp_path: Path) -> None:
    first = write_city(tmp_path / "feeds")
    result = _run("ingest", first, "demo", "--source", "flows")
    assert isinstance(result.exception, UsageError)
