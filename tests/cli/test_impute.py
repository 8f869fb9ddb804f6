"""``mtgpt impute`` and ``mtgpt forecast --place`` on a small panel and a small, untrained model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
import typer
from typer.testing import CliRunner

from mtgpt.cli import forecast, impute
from mtgpt.cli.sentences import as_sentences
from mtgpt.model.checkpoint import save_model
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT
from mtgpt.panel.store import save_panel
from tests.synthetic import small_panel

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}


@pytest.fixture(scope="module")
def panel():
    whole = small_panel(gaps=0)
    values = np.array(whole.values)
    values[300:330, 2] = np.nan
    values[:, 6] = np.nan
    return replace(whole, values=values)


@pytest.fixture(scope="module")
def workspace(panel, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_panel(panel, home / "panels" / "line")
    torch.manual_seed(0)
    save_model(MTGPT(size("nano", **SHAPE)), home / "models" / "tiny", training={"exposures": [{"city": "line"}]})
    return home


@pytest.fixture
def run(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("MTGPT_HOME", str(workspace))
    monkeypatch.setenv("MTGPT_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    app = typer.Typer()
    app.command("impute")(impute.command)
    app.command("forecast")(forecast.command)

    def call(*words: str):
        class Run:
            code, out, err = 0, "", ""

        def body():
            with as_sentences():
                app(list(words), standalone_mode=False)

        outer = typer.Typer()
        outer.command()(body)
        result = CliRunner().invoke(outer, [])
        Run.code, Run.out, Run.err = result.exit_code, result.stdout, result.stderr
        assert not result.exception or isinstance(result.exception, SystemExit), result.exception
        return Run

    return call


def test_a_summary_says_how_much_was_filled_and_what_was_left(run, panel):
    answer = run("impute", "line")
    assert answer.code == 0
    assert "values filled in 2 series" in answer.out
    assert panel.series["name"][6] in answer.out


def test_values_in_json_and_parquet_are_the_same(run, tmp_path):
    facts = json.loads(run("impute", "line", "--from", "2024-03-07T00:00", "--until", "2024-03-07T06:00", "--json").out)
    assert facts["filled"] == len(facts["values"])
    assert facts["provenance"]["city"] == "line"
    answer = run("impute", "line", "--from", "2024-03-07T00:00", "--until", "2024-03-07T06:00", "--out", "f.parquet")
    assert answer.out == "wrote f.parquet\n"
    kept = pl.read_parquet(tmp_path / "f.parquet")
    assert kept.columns == ["series_id", "time", "spot_id", "name", "variable", "unit", "value", "low", "high"]
    np.testing.assert_allclose(kept["value"], [row["value"] for row in facts["values"]], rtol=1e-6)


def test_a_place_between_sensors_is_forecast_as_if_one_stood_there(run):
    answer = run("forecast", "line", "--place", "-73.965,40.7", "--json")
    assert answer.code == 0
    (one,) = json.loads(answer.out)["series"]
    assert one["spot_id"] == "virtual"
    assert 20 < np.mean(one["median"]) < 140


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["impute", "line", "--spot", "d99"], "no spot or series of this name (got d99"),
        (["impute", "line", "--out", "f.csv"], "values are kept as Parquet"),
        (["impute", "line", "--from", "2024-03-08T00:00", "--until", "2024-03-07T00:00"], "nothing lies between"),
        (["forecast", "line", "--place", "here"], "not a place (got here"),
        (["forecast", "line", "--place", "40.7,-73.9"], "the place lies outside the city"),
        (["forecast", "line", "--place", "-73.9,40.7", "--level", "network"], "a place is a spot of its own"),
    ],
)
def test_a_mistake_is_one_sentence(run, words, says):
    answer = run(*words)
    assert answer.code != 0
    assert says in answer.err.replace("\n", " ")
    assert "Traceback" not in answer.err
