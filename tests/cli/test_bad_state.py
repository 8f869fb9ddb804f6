"""Whatever became of the lake, a panel, a model or an option: one clear sentence before anything is written."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mtgpt.lake.lake import Lake
from mtgpt.settings import settings
from tests.cli.broken_feeds import GRID, feed, matrix_csv
from tests.cli.command_line import Feed, assert_whole, mtgpt

_ROOT_TYPER = "import sys; from mtgpt.cli.main import run; sys.argv = ['mtgpt', *sys.argv[1:]]; run()"


@pytest.fixture
def city(home: Path, tmp_path: Path) -> Feed:
    """A city that was ingested."""
    assert home.is_dir()
    made = feed("csv", tmp_path / "feed")
    made.ingest()
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a week's panel and a model of a few steps; copied by who breaks it."""
    home = tmp_path_factory.mktemp("trained")
    grid = np.tile(GRID, (34, 1))
    lines = matrix_csv().decode().split("\n")[:1]
    start = np.datetime64("2024-03-04T00:00")
    lines += [
        f"{start + np.timedelta64(5 * at, 'm')},{','.join(f'{v:.1f}' for v in row)}" for at, row in enumerate(grid)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTGPT_HOME", str(home))
        made = feed("csv", home / "feed")
        made.ingest(("\n".join(lines) + "\n").encode())
        assert mtgpt("panel", "build", home / "feed" / "town.yaml").code == 0
        assert mtgpt("train", "town", "--recipe", "quick", "--set", "steps=2", "--name", "m", "--json").code == 0
    return home


@pytest.fixture
def workspace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained workspace."""
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    monkeypatch.setenv("MTGPT_HOME", str(copy))
    return copy


def _log(table: str = "observation") -> list[Path]:
    return sorted((settings().lake / "tables" / table / "_delta_log").glob("*.json"))


@pytest.mark.parametrize(
    "command", [("lake", "status"), ("lake", "show", "observation"), ("ingest",), ("panel", "build")]
)
def test_a_table_that_lost_what_the_ledger_promises_is_said_by_every_command(
    city: Feed, command: tuple[str, ...]
) -> None:
    for entry in _log():
        entry.unlink()
    place = [city.folder / "town.yaml"] if command[0] in {"ingest", "panel"} else []
    assert "the table lost what the ledger says is there" in mtgpt(*command, *place).sentence()


@pytest.mark.parametrize("command", [("lake", "show", "observation"), ("panel", "build")])
@pytest.mark.parametrize("kept", [None, 200])
def test_a_data_file_that_is_gone_or_cut_off_is_named(city: Feed, command: tuple[str, ...], kept: int | None) -> None:
    for file in (settings().lake / "tables" / "observation").rglob("*.parquet"):
        if kept is None:
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:kept])
    place = [city.folder / "town.yaml"] if command[0] == "panel" else []
    sentence = mtgpt(*command, *place, "--json").sentence()
    assert ("is missing" if kept is None else "got 200 bytes") in sentence
    assert ".parquet" in sentence


@pytest.mark.parametrize("damage", [b"garbage", b'{"add":{"pa'])
def test_a_damaged_log_of_a_table_is_one_sentence(city: Feed, damage: bytes) -> None:
    _log()[-1].write_bytes(damage)
    assert mtgpt("lake", "status").sentence().startswith("observation: ")
    assert mtgpt("ingest", city.folder / "town.yaml", "--json").sentence().startswith("observation: ")


@pytest.mark.parametrize(
    "command", [("lake", "status"), ("train", "town"), ("forecast", "town"), ("evaluate", "city", "town")]
)
def test_a_home_that_is_a_file_is_one_sentence(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("x")
    monkeypatch.setenv("MTGPT_HOME", str(tmp_path / "home"))
    assert mtgpt(*command).sentence()
    assert (tmp_path / "home").read_text() == "x"


def test_a_failing_source_is_said_on_standard_error(city: Feed) -> None:
    done = mtgpt("ingest", city.write(b"time,d0\n"))
    assert done.code == 1
    assert "feed: could not be read. s.csv: the file has no steps" in done.err
    assert "could not be read" not in done.out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps=abc", "wrong type (got abc, expected a whole number)"),
        ("steps=1.5", "wrong type"),
        ("steps=true", "wrong type"),
        ("steps=-1", "out of range (got -1"),
        ("steps=0", "out of range"),
        ("learning_rate=NaN", "out of range (got nan"),
        ("learning_rate=fast", "expected a number"),
        ("model=5", "expected a JSON object"),
        ("train_share=2", "out of range"),
        ("seed=x", "expected a whole number"),
        ("checkpoint_every=0", "out of range"),
        ("size=huge", "no such size"),
        ("colour=red", "no such field"),
        ("steps", "not a change"),
    ],
)
def test_a_field_of_a_recipe_that_means_nothing_is_refused_before_a_folder_is_made(
    change: str, words: str, workspace: Path
) -> None:
    assert words in mtgpt("train", "town", "--name", "new", "--set", change, "--json").sentence()
    assert [folder.name for folder in (workspace / "models").iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--at", "0001-01-01T00:00"), "does not reach there"),
        (("--at", "9999-12-31T23:59"), "does not reach there"),
        (("--at", "soon"), "not a time"),
        (("--at", "2024-03-31T02:30"), "clocks skipped"),
        (("--horizon", "0"), "too short or too long"),
        (("--horizon", "-5"), "not a horizon"),
        (("--horizon", "1000000000"), "not a horizon"),
        (("--horizon", "999999999d"), "too short or too long"),
        (("--spot", "nobody"), "no spot or series"),
        (("--model", "nowhere"), "there is no model"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_a_question_that_cannot_be_answered_is_refused(options: tuple[str, ...], words: str) -> None:
    assert words in mtgpt("forecast", "town", *options).sentence()


@pytest.mark.usefixtures("workspace")
def test_a_device_is_never_replaced_by_a_picture(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for place in (Path("/dev/null"), tmp_path / "folder"):
        assert "not a file" in mtgpt("forecast", "town", "--format", "json", "--out", place).sentence()
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hidden_size": 4096}', "\x00"])
def test_a_configuration_that_is_not_the_model_s_is_refused_before_memory_is_taken(text: str, workspace: Path) -> None:
    (workspace / "models" / "m" / "config.json").write_text(text)
    assert "the model cannot be loaded" in mtgpt("forecast", "town", "--format", "json").sentence()


def test_sizes_that_the_weights_cannot_have_are_refused_before_memory_is_taken(workspace: Path) -> None:
    place = workspace / "models" / "m" / "config.json"
    facts = json.loads(place.read_text())
    for change in ({"hidden_size": 65_536}, {"num_hidden_layers": 10**9}, {"model_type": "qwen3"}):
        place.write_text(json.dumps(facts | change))
        assert "not that of these weights" in mtgpt("forecast", "town", "--format", "json").sentence()


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_weights_and_panels_that_were_cut_off_are_refused(kept: float, workspace: Path) -> None:
    panel = next((workspace / "panels").rglob("values.arrow"))
    for file, command in (
        (panel, ("panel", "info", "town")),
        (workspace / "models" / "m" / "model.safetensors", ("forecast", "town", "--format", "json")),
    ):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * kept if kept < 1 else kept)])
        assert "cannot be" in mtgpt(*command).sentence()
        file.write_bytes(whole)
        assert mtgpt(*command).code == 0


def _interrupted(*arguments: object, after: float) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", _ROOT_TYPER, *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # from here on the command is at work
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, first + err)


def test_ctrl_c_in_an_ingest_ends_with_130_and_the_next_one_completes_it(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    made = feed("csv", tmp_path / "feed")
    manifest = made.write()
    lines = made.good.decode().split("\n")
    for year in range(2000, 2020):
        body = "\n".join(lines).replace("2024-", f"{year}-")
        (made.folder / f"s{year}.csv").write_text(body)
    manifest.write_text(manifest.read_text().replace("s.csv", "s*.csv"))
    stopped = _interrupted("ingest", manifest, after=0.3)
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stderr.strip().splitlines()[-1].startswith("Stopped.")
    assert mtgpt("ingest", manifest).code == 0
    assert assert_whole(Lake.open(settings().lake)).height == 21


def test_two_ingests_at_once_land_every_batch_once(home: Path, tmp_path: Path) -> None:
    assert home.is_dir()
    manifest = feed("csv", tmp_path / "feed").write()
    words = [sys.executable, "-c", _ROOT_TYPER, "ingest", str(manifest), "--json"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    done = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], done
    statuses = sorted(json.loads(out)["batches"][0]["status"] for out, _ in done)
    assert statuses == ["committed", "replay"]
    assert assert_whole(Lake.open(settings().lake)).height == 1


def test_the_query_of_an_address_is_never_shown(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home.is_dir()
    monkeypatch.setenv("FEED_KEY", "hunter2")
    place = feed("csv", tmp_path / "feed").write()
    manifest = json.loads(place.read_text())
    source = manifest["sources"][0]
    del source["path"]
    # No such scheme of address is public: nothing is sent anywhere.
    source["url"] = "http://192.168.0.1/feed.csv?key=${ENV:FEED_KEY}&plain=hunter3"
    place.write_text(json.dumps(manifest))
    done = mtgpt("ingest", place)
    assert done.code == 1
    assert "not public" in done.err
    for secret in ("hunter2", "hunter3", "FEED_KEY"):
        assert secret not in done.err + done.out
