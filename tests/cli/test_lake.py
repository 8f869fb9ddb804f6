"""``mtgpt lake`` shows what is there and why something is not."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from mtgpt.errors import LakeError, NotFound, UsageError
from mtgpt.lake.lake import Lake
from tests.cli.feeds import app, write_city

if TYPE_CHECKING:
    from pathlib import Path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app(), list(arguments), env={"COLUMNS": "80"})


def _json(*arguments: str) -> Any:
    result = _run(*arguments, "--json")
    assert result.exception is None or result.exit_code == 1, result.exception
    return json.loads(result.stdout)


@pytest.fixture
def landed(tmp_path: Path, home: Path) -> Path:
    """A lake in which speeds are held and flows landed with two refused rows."""
    _run("ingest", write_city(tmp_path / "feeds", bad_speeds=30, bad_flows=2))
    return home / "lake"


@pytest.fixture
def mended(tmp_path: Path, repo: Path, landed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same lake under contracts that allow the numbers that were refused."""
    folder = tmp_path / "contracts"
    shutil.copytree(repo / "data_contracts", folder)
    text = (folder / "variables.yaml").read_text("utf-8")
    for name in ("speed", "flow"):
        at = text.index(f"{name}:") if f"\n{name}:" in text or f" {name}:" in text else text.index(name)
        low = text.index("minimum: 0", at)
        text = text[:low] + "minimum: -9" + text[low + 10 :]
    (folder / "variables.yaml").write_text(text, "utf-8")
    monkeypatch.setenv("MTGPT_CONTRACTS", str(folder))
    return landed


@pytest.mark.usefixtures("landed")
def test_status_names_tables_versions_and_the_latest_batches() -> None:
    report = _json("lake", "status")
    tables = {one["table"]: one for one in report["status"]["tables"]}
    assert tables["observation"]["rows"] == 118
    assert tables["observation"]["version"] == 1
    assert report["status"]["held"] == 1
    assert report["status"]["quarantined"] == 32
    assert [one["source_id"] for one in report["ledger"]] == ["flows", "speeds"]
    shown = _run("lake", "status").stdout
    assert "1 batches are held" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_status_with_verify_finds_raw_bytes_that_changed(landed: Path) -> None:
    assert _json("lake", "status", "--verify")["broken_raw_files"] == []
    raw = next(Lake.open(landed).bronze.objects())
    raw.chmod(0o644)
    raw.write_bytes(b"changed")
    result = _run("lake", "status", "--verify", "--json")
    assert isinstance(result.exception, LakeError)
    assert raw.name in result.exception.sentence()


@pytest.mark.usefixtures("landed")
def test_show_gives_rows_of_a_city_and_of_an_earlier_version() -> None:
    report = _json("lake", "show", "observation", "--city", "smallville", "--limit", "3")
    assert report["version"] == 1
    assert len(report["rows"]) == 3
    assert report["rows"][0]["variable"] == "flow"
    assert _json("lake", "show", "observation", "--version", "0")["rows"] == []
    assert _json("lake", "show", "observation", "--city", "elsewhere")["rows"] == []
    assert _json("lake", "show", "trip") == {"table": "trip", "version": None, "rows": []}
    assert "in all rows: city_id smallville, variable flow" in _run("lake", "show", "observation").stdout


@pytest.mark.usefixtures("landed")
def test_show_lists_the_tables_where_the_name_is_off() -> None:
    result = _run("lake", "show", "observations")
    assert isinstance(result.exception, NotFound)
    assert "observation, quarantine" in result.exception.sentence()
    assert isinstance(_run("lake", "show", "observation", "--version", "9").exception, LakeError)


@pytest.mark.usefixtures("landed")
def test_quarantine_counts_by_rule_and_shows_raw_rows_of_one_batch() -> None:
    flows = _json("lake", "status")["ledger"][0]["batch_id"]
    report = _json("lake", "quarantine", "--batch", flows[:8])
    assert report["total"] == 2
    (rule,) = report["by_rule"]
    assert (rule["source_id"], rule["table_name"], rule["rows"]) == ("flows", "observation", 2)
    assert rule["rule_id"] == "value.variable_range"
    assert rule["message"] == "value: got -7.0 veh/h, expected 0 to 20000 veh/h for flow"
    assert json.loads(rule["raw"])["value"] == -7.0
    assert json.loads(report["rows"][0]["raw"])["value"] == -7.0
    assert "batch_id" not in json.loads(report["rows"][0]["raw"])
    shown = _run("lake", "quarantine", "--limit", "1").stdout
    assert "32 rows were refused" in shown
    assert "got -7" in shown
    assert "observation value.variable_range (flows), for example" in shown
    assert _run("lake", "quarantine", "--city", "elsewhere").stdout == "Nothing in quarantine.\n"


@pytest.mark.usefixtures("landed")
def test_a_batch_that_is_not_there_or_not_told_apart_is_refused() -> None:
    for start in ("zz", ""):
        assert isinstance(_run("lake", "quarantine", "--batch", start).exception, NotFound)


@pytest.mark.usefixtures("landed")
def test_values_are_accepted_batch_by_batch() -> None:
    assert isinstance(_run("lake", "replay", "--held", "--accept").exception, UsageError)


@pytest.mark.usefixtures("mended")
def test_replay_lands_what_was_held_and_what_was_refused() -> None:
    held = _json("lake", "replay", "--held")["batches"]
    assert [(one["source_id"], one["status"], one["rows_quarantined"]) for one in held] == [("speeds", "committed", 0)]
    refused = _json("lake", "replay", "--quarantined")["batches"]
    assert [(one["source_id"], one["rows_good"]) for one in refused] == [("flows", 2)]
    assert _json("lake", "status")["status"]["quarantined"] == 0
    assert "Nothing waits for a replay." in _run("lake", "replay", "--held").stdout


@pytest.mark.usefixtures("landed")
def test_replay_without_a_fix_leaves_a_held_batch_held_and_says_so_with_code_1() -> None:
    held = _json("lake", "status")["ledger"][1]["batch_id"]
    result = _run("lake", "replay", held[:10])
    assert result.exit_code == 1
    assert "HELD" in result.stdout


@pytest.mark.usefixtures("landed")
def test_replay_wants_to_know_what() -> None:
    assert isinstance(_run("lake", "replay").exception, UsageError)
    assert isinstance(_run("lake", "replay", "abc", "--held").exception, UsageError)


@pytest.mark.usefixtures("landed")
def test_compact_reports_each_table_and_vacuum_deletes_nothing_young() -> None:
    rows = {one["table"]: one for one in _json("lake", "compact", "--vacuum")}
    assert rows["batch"]["files_before"] == 2
    assert rows["batch"]["files_after"] == 1
    assert rows["batch"]["files_deleted"] == 0
    assert isinstance(_run("lake", "compact", "nothing").exception, NotFound)


@pytest.mark.usefixtures("home")
def test_without_a_lake_the_next_step_is_said() -> None:
    for command in (["status"], ["show", "spot"], ["quarantine"], ["replay", "--held"], ["compact"]):
        result = _run("lake", *command)
        assert isinstance(result.exception, LakeError)
        assert "Ingest a city first" in result.exception.sentence()


def test_a_held_batch_is_replaced_where_the_publisher_s_corrected_file_landed(tmp_path: Path, landed: Path) -> None:
    held = _json("lake", "status")["ledger"][1]
    assert (held["source_id"], held["status"]) == ("speeds", "held")
    _run("ingest", write_city(tmp_path / "feeds"))  # the same names, sound values
    report = _json("lake", "status")
    assert report["status"]["superseded"] == [held["batch_id"]]
    assert report["status"]["held"] == 0
    assert next(one for one in report["ledger"] if one["batch_id"] == held["batch_id"])["status"] == "held"
    shown = _run("lake", "status").stdout
    assert "replaced" in shown
    assert "are held" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert Lake.open(landed).ledger().filter(batch_id=held["batch_id"])["status"].to_list() == ["held"]
