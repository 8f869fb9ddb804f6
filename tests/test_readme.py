"""The README's commands, run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"<!-- (runs|file: (?P<name>[\w.]+)) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)
# Training stops early here: what is tested is the road, not the forecast.
SHORTER = {"mtgpt train demo --recipe quick": "mtgpt train demo --recipe quick --set steps=20"}


@pytest.fixture(scope="module")
def readme(repo):
    return (repo / "README.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_of_the_readme_run_in_an_empty_folder(readme, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MTGPT_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ran = 0
    for block in BLOCK.finditer(readme):
        if block["name"]:
            (tmp_path / block["name"]).write_text(block["text"], "utf-8")
            continue
        for line in block["text"].splitlines():
            command = line.split("  #")[0].strip()
            done = subprocess.run(
                ["bash", "-c", SHORTER.get(command, command)],
                check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            ran += 1
    assert ran >= 10
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    python = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", python],
        check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "table_versions" in done.stdout


def test_the_two_commands_are_targets_of_the_makefile(readme, repo):
    for target in re.findall(r"^make (\w+)", readme, re.MULTILINE):
        done = subprocess.run(
            ["make", "--dry-run", target], check=False, cwd=repo, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr


def test_what_the_readme_links_to_is_there(readme, repo):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert links
    assert [link for link in links if not (repo / link).exists()] == []


def test_the_tree_in_the_readme_names_every_part(readme, repo):
    tree = readme.split("## How it is built")[1].split("```")[1]
    parts = [p.name for p in (repo / "mtgpt").iterdir() if p.is_dir() and p.name[0] not in "_."]
    assert [name for name in parts if f"  {name}/" not in tree] == []


def test_the_figures_in_the_readme_are_rows_of_the_benchmark(readme):
    from tests.bench.run import BENCHES

    table = readme.split("<!-- figures -->")[1].split("<!-- /figures -->")[0]
    rows = {name for bench in BENCHES for name in bench.rows}
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == rows


def test_every_mtgpt_command_of_the_readme_is_one_that_there_is(readme):
    """Those that need published data or a network do not run here; their names and options must be right all the same."""
    import shlex

    from typer.main import get_command

    from mtgpt.cli.main import app

    lines = [line for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    commands = [shlex.split(line.split("  #")[0].split(" > ")[0]) for line in lines if line.startswith("mtgpt ")]
    assert len(commands) >= 15
    for words in commands:
        found, rest = get_command(app), words[1:]
        while hasattr(found, "commands"):
            assert rest[0] in found.commands, words
            found, rest = found.commands[rest[0]], rest[1:]
        known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert given <= known, words
