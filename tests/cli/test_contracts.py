"""``mtgpt contracts``."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from mtgpt.cli.contracts import app
from mtgpt.contracts.registry import contracts
from mtgpt.errors import MTGPTError


def run(*arguments: object):
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments: object) -> MTGPTError:
    """The error that ``mtgpt`` prints as one sentence."""
    error = run(*arguments).exception
    assert isinstance(error, MTGPTError)
    return error


HEADER = "city_id,time_start,interval_s,temperature_c,source_id,batch_id\n"


def weather(path, temperatures: list[object]):
    rows = [f"riga,2025-01-01T{hour:02d}:00:00Z,3600,{value},s,b\n" for hour, value in enumerate(temperatures)]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["list", "show", "check", "diff"])
def test_every_command_teaches_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert "--json" in result.output


def test_list_names_every_contract_with_version_and_key():
    answer = json.loads(run("list", "--json").output)
    keys = {one["name"]: one["key"] for one in answer}
    assert list(keys) == list(contracts())
    assert keys["observation"] == ["city_id", "spot_id", "variable", "time_start"]
    assert all(one["name"] in run("list").output for one in answer)


def test_show_prints_units_ranges_and_rules():
    text = run("show", "observation").output
    for part in ("key 4", "UTC", "value.variable_range", "holds the batch", "1 to 604800 s"):
        assert part in text
    facts = json.loads(run("show", "observation", "--json").output)
    assert facts["fields"][4]["unit"] == "s"
    assert {"speed", "delay"} <= {one["name"] for one in facts["variables"]}


def test_show_variables_prints_the_vocabulary():
    assert "veh/h" in run("show", "variables").output
    assert json.loads(run("show", "variables", "--json").output)[0]["name"] == "speed"


def test_an_unknown_contract_is_refused_with_those_that_exist(tmp_path):
    for arguments in (
        ("show", "tripp"),
        ("diff", "tripp"),
        ("check", weather(tmp_path / "a.csv", []), "--contract", "t"),
    ):
        error = refusal(*arguments)
        assert error.exit_code == 2
        assert "observation" in error.expected


def test_check_takes_a_contract_file(repo):
    folder = repo / "data_contracts"
    assert "a contract, trip version" in run("check", folder / "trip.odcs.yaml").output
    assert "a vocabulary, version" in run("check", folder / "variables.yaml").output
    assert json.loads(run("check", folder / "trip.odcs.yaml", "--json").output)["name"] == "trip"


def test_check_names_line_key_got_and_expected_of_a_faulty_contract(repo, tmp_path):
    text = (repo / "data_contracts" / "trip.odcs.yaml").read_text(encoding="utf-8")
    path = tmp_path / "trip.odcs.yaml"
    path.write_text(text.replace("status: active", "status: lively"), encoding="utf-8")
    sentence = refusal("check", path).sentence()
    assert f"{path}:7: status: The value is not allowed (got lively, expected 'proposed', 'draft', 'active'" in sentence


def test_check_judges_a_data_file(tmp_path):
    path = weather(tmp_path / "a.csv", [-3.5] * 19 + ["cold"])
    result = run("check", path, "--contract", "weather")
    assert result.exit_code == 0
    assert "19 good, 1 bad, 0 duplicates" in result.output
    assert "temperature_c: got cold, expected float64" in result.output
    assert run("check", path, "--contract", "weather", "--strict").exit_code == 1
    answer = json.loads(run("check", path, "--contract", "weather", "--json").output)
    assert answer["by_rule"] == {"temperature_c.type": 1}
    assert answer["examples"][0]["row"] == 19
    assert answer["held"] is None


def test_check_fails_where_the_lake_would_hold_the_batch(tmp_path):
    result = run("check", weather(tmp_path / "a.csv", [300.0] * 4), "--contract", "weather")
    assert result.exit_code == 1
    assert "The lake would hold this batch: bad_share: 4 of 4 (100.0 %)" in result.output


def test_check_refuses_what_it_cannot_judge(tmp_path, repo):
    path = weather(tmp_path / "a.csv", [1.0])
    assert "A data file needs a contract" in refusal("check", path).sentence()
    assert "There is no such file" in refusal("check", tmp_path / "b.csv", "--contract", "weather").sentence()
    contract = repo / "data_contracts" / "trip.odcs.yaml"
    assert "not judged by another" in refusal("check", contract, "--contract", "trip").sentence()
    path.write_text("city,temp\nriga,1\n", encoding="utf-8")
    assert "weather: There is no such column" in refusal("check", path, "--contract", "weather").sentence()


def test_diff_finds_the_checkout_releasable():
    result = run("diff")
    assert result.exit_code == 0
    assert "observation: " in result.output
    answer = json.loads(run("diff", "trip", "--json").output)
    assert [(one["name"], one["problem"]) for one in answer] == [("trip", None)]


def test_diff_refuses_a_breaking_change_and_shows_it(repo, tmp_path, monkeypatch):
    folder = shutil.copytree(repo / "data_contracts", tmp_path / "contracts")
    monkeypatch.setenv("MTGPT_CONTRACTS", str(folder))
    path = folder / "weather.odcs.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("value: mm", "value: inch"), encoding="utf-8")
    result = run("diff", "weather")
    assert "the unit changed" in result.output
    error = result.exception
    assert isinstance(error, MTGPTError)
    assert "weather rain_mm: A breaking change needs a new major version" in error.sentence()
    assert run("diff", "trip").exit_code == 0
    assert json.loads(run("diff", "weather", "--json").output)[0]["problem"]["where"] == "weather rain_mm"
