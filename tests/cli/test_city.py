"""``mtgpt city`` as a person and as a program meet it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mtgpt.cli.city import app
from mtgpt.cli.sentences import as_sentences
from mtgpt.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

CITY = """\
city: oslo
name: Oslo
time_zone: Europe/Oslo
country: NO
licence: NLOD-2.0
sources:
  - id: taxis
    kind: tlc
    path: taxis-*.csv
panel: {interval_s: 900}
"""


def through_the_front_door() -> None:
    with as_sentences():
        app()


@pytest.fixture
def mtgpt(tmp_path, monkeypatch, capsys):
    """Runs ``mtgpt city …`` in a folder of manifests of its own; gives exit code, output and errors."""
    monkeypatch.setenv("MTGPT_CITIES", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mtgpt city", *arguments])
        with pytest.raises(SystemExit) as stopped:
            through_the_front_door()
        code = stopped.value.code
        out, err = capsys.readouterr()
        return (code if isinstance(code, int) else 0), out, err

    return run


def write(folder: Path, name: str = "oslo", text: str = CITY) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("city: oslo", f"city: {name}"), encoding="utf-8")
    return path


def test_an_empty_folder_of_cities_is_said(mtgpt, tmp_path):
    assert mtgpt("list") == (0, f"no manifest in {tmp_path}\n", "")
    assert json.loads(mtgpt("list", "--json")[1]) == []


def test_the_list_names_each_city_and_marks_the_faulty_one(mtgpt, tmp_path):
    write(tmp_path)
    write(tmp_path, "bergen", CITY.replace("name: Oslo", "nmae: Bergen"))
    code, out, _ = mtgpt("list")
    assert code == 0
    assert "Europe/Oslo" in out
    bergen, oslo = json.loads(mtgpt("list", "--json")[1])
    assert bergen == {
        "city": "bergen",
        "fault": f"{tmp_path}/bergen.yaml:1: name: missing (expected Name for people.).",
    }
    assert "name: missing" in out
    assert oslo | {"kinds": "tlc", "sources": 1, "step_min": 15, "simulated": False, "fault": None} == oslo


def test_a_city_is_shown_with_its_sources_batches_and_what_is_missing(mtgpt, tmp_path):
    write(tmp_path)
    shown = json.loads(mtgpt("show", "oslo", "--json")[1])
    assert shown["sources"][0]["batches"] == 0
    assert "no file matches" in shown["sources"][0]["missing"]
    for month in ("01", "02"):
        (tmp_path / f"taxis-{month}.csv").write_bytes(b"")
    shown = json.loads(mtgpt("show", "oslo", "--json")[1])
    assert (shown["sources"][0]["batches"], shown["sources"][0]["missing"]) == (2, None)
    assert shown["panel"]["interval_s"] == 900
    code, out, _ = mtgpt("show", str(tmp_path / "oslo.yaml"))
    assert code == 0
    assert all(word in out for word in ("Oslo (oslo), Europe/Oslo, NO", "taxis-*.csv", "NLOD-2.0", "panel: 15 min"))


def test_an_unknown_city_is_one_sentence_and_a_code(mtgpt, tmp_path):
    write(tmp_path)
    code, out, err = mtgpt("show", "olso")
    assert (code, out) == (2, "")
    assert err == f"{tmp_path}: no such city (got olso, expected oslo). Perhaps oslo is meant.\n"


def test_check_names_every_fault_of_every_city_and_fails(mtgpt, tmp_path):
    write(tmp_path)
    assert mtgpt("check") == (0, "oslo: ok\n", "")
    path = write(tmp_path, "bergen", CITY.replace("kind: tlc", "kind: tcl").replace("900", "901"))
    write(tmp_path, "voss", CITY.replace("kind: tlc", "kind: tcl"))
    code, out, err = mtgpt("check")
    assert (code, out) == (2, "oslo: ok\n")
    assert f"{path}:10: panel.interval_s: wrong value (got 901" in err
    assert f"{tmp_path}/voss.yaml:8: sources[0].kind: unknown kind (got tcl, expected tlc)." in err
    code, out, _ = mtgpt("check", "voss", "--json")
    (result,) = json.loads(out)
    assert code == 2
    assert (result["facts"][0]["line"], result["facts"][0]["key"]) == (8, "sources[0].kind")


def test_check_looks_for_files_only_when_asked(mtgpt, tmp_path):
    write(tmp_path)
    assert mtgpt("check", "oslo")[0] == 0
    code, _, err = mtgpt("check", "oslo", "--files")
    assert code == 2
    assert "no file matches (got taxis-*.csv)" in err


def test_the_committed_schema_is_the_generated_one(repo):
    result = CliRunner().invoke(app, ["schema"])
    assert result.exit_code == 0, result.output
    assert (repo / "flows/cities/city.schema.json").read_text(encoding="utf-8") == result.stdout, (
        "run: mtgpt city schema -o flows/cities/city.schema.json"
    )


def test_the_schema_can_be_written_to_a_file(mtgpt, tmp_path):
    assert mtgpt("schema", "-o", str(tmp_path / "s.json"))[0] == 0
    assert json.loads((tmp_path / "s.json").read_text())["title"] == "MT-GPT city manifest"


def test_every_committed_manifest_refers_to_the_schema():
    for path in Settings().cities.glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=city.schema.json\n"), path
