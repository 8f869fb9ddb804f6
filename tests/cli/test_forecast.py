"""``mtgpt forecast`` on a small panel and a small, untrained model: what a person types and what comes back."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from mtgpt.cli.forecast import command, moment_of, steps_of
from mtgpt.cli.sentences import as_sentences
from mtgpt.errors import UsageError
from mtgpt.model.checkpoint import save_model
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT
from mtgpt.panel.store import save_panel
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panel():
    return small_panel()


@pytest.fixture(scope="module")
def workspace(panel, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_panel(panel, home / "panels" / "line")
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "intermediate_size": 32,
    }
    save_model(MTGPT(size("nano", **small)), home / "models" / "tiny", training={"exposures": [{"city": "line"}]})
    return home


@pytest.fixture
def run(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("MTGPT_HOME", str(workspace))
    monkeypatch.setenv("MTGPT_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    app = typer.Typer()
    app.command()(command)

    def call(*words: str):
        class Run:
            code, out, err = 0, "", ""

        def body():
            with as_sentences():
                app(list(words), standalone_mode=False)

        # The runner takes a click command; sentences are printed around it, as mtgpt.cli.main.run does.
        outer = typer.Typer()
        outer.command()(body)
        result = CliRunner().invoke(outer, [])
        Run.code, Run.out, Run.err = result.exit_code, result.stdout, result.stderr
        assert not result.exception or isinstance(result.exception, SystemExit), result.exception
        return Run

    return call


def test_a_forecast_of_the_network_is_a_table_in_local_time(run):
    answer = run("line", "--level", "network", "--horizon", "2h")
    assert answer.code == 0
    assert "speed, km/h" in answer.out
    assert "80 % band" in answer.out
    assert answer.out.count(" … ") == 2 * 8
    assert "Simulated city · data until Wed 13 Mar 2024 01:00 EDT" in answer.out


def test_json_is_the_same_by_either_name_and_holds_what_was_asked_for(run):
    answer = run("line", "--at", "2024-03-08T08:00", "--horizon", "3", "--spot", "d2", "--json")
    facts = json.loads(answer.out)
    assert facts["at_local"] == "2024-03-08T08:00:00-05:00"
    assert facts["at_utc"] == "2024-03-08T13:00:00Z"
    assert [one["spot_id"] for one in facts["series"]] == ["d2"]
    assert len(facts["series"][0]["median"]) == 3
    other = json.loads(
        run("line", "--at", "2024-03-08T13:00Z", "--horizon", "45min", "--spot", "d2", "--format", "json").out
    )
    assert other["series"] == facts["series"]


def test_scales_in_the_answer_add_up(run, panel):
    series = json.loads(run("line", "--json").out)["series"]
    median = np.array([one["median"] for one in series])
    n = panel.n_spot
    np.testing.assert_allclose(median[n:], panel.aggregation @ median[:n], rtol=1e-6)


def test_pictures_and_parquet_go_to_a_file_that_is_named(run, tmp_path):
    answer = run("line", "--format", "png", "--level", "network")
    assert answer.out == "wrote line-20240313T0100.png\n"
    with Image.open(tmp_path / "line-20240313T0100.png") as png:
        assert png.text["Title"] == "line forecast"
    assert run("line", "--map", "--out", "map.png").out == "wrote map.png\n"
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert run("line", "--out", "deep/f.parquet", "--horizon", "4").code == 0
    assert pl.read_parquet(tmp_path / "deep" / "f.parquet").height == 11 * 4
    assert run("line", "--out", "f.json").out == "wrote f.json\n"
    assert json.loads((tmp_path / "f.json").read_text())["city"] == "line"
    assert run("line", "--out", "f.txt").code == 0
    assert "80 % band" in (tmp_path / "f.txt").read_text()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere"], 2, "this city has no panel yet"),
        (["line", "--spot", "d99"], 2, "no spot or series of this name (got d99"),
        (["line", "--variable", "flow"], 2, "no series with this variable (got flow, expected speed)"),
        (["line", "--at", "yesterday"], 2, "--at: not a time (got yesterday, expected 2024-03-04T00:00 to"),
        (["line", "--at", "2031-01-01"], 2, "--at: the panel does not reach there (got 2031-01-01"),
        (["line", "--at", "2024-03-04T02:00"], 1, "less than one day of data before this moment"),
        (["line", "--horizon", "0"], 2, "--horizon: the horizon is too short or too long"),
        (["line", "--horizon", "3 weeks"], 2, "--horizon: not a horizon (got 3 weeks"),
        (["line", "--horizon", "15d"], 2, "the horizon is too short or too long (got 15d, expected 1 to 1344 steps"),
        (["line", "--model", "gone"], 1, "there is no model"),
        (["line", "--json", "--format", "png"], 2, "two formats at once"),
        (["line", "--map", "--format", "table"], 2, "a map is a picture"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(run, words, code, says):
    answer = run(*words)
    assert answer.code == code
    assert says in answer.err.replace("\n", " ")
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_city_without_a_model_is_told_how_to_train_one(run, workspace, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "panels").symlink_to(workspace / "panels")
    monkeypatch.setenv("MTGPT_HOME", str(tmp_path / "home"))
    answer = run("line")
    assert answer.code == 2
    assert "mtgpt train line" in answer.err.replace("\n", " ")


def test_an_hour_that_clocks_skipped_is_refused_with_the_next_one(panel):
    with pytest.raises(UsageError, match=r"clocks skipped this hour.*2024-03-10T03:30"):
        moment_of("2024-03-10T02:30", panel)


def test_local_times_and_times_with_an_offset_are_the_same_moment(panel):
    due = np.datetime64("2024-03-08T13:00:00", "s")
    assert moment_of("2024-03-08T08:00", panel) == due
    assert moment_of("2024-03-08 08:00", panel) == due
    assert moment_of("2024-03-08T14:00+01:00", panel) == due
    assert moment_of("last", panel) is None


@pytest.mark.parametrize(
    ("text", "steps"), [("1", 1), ("12", 12), ("45min", 3), ("50m", 4), ("2h", 8), ("1.5 h", 6), ("1d", 96)]
)
def test_a_horizon_is_steps_or_a_time_rounded_up(panel, text, steps):
    assert steps_of(text, panel) == steps
