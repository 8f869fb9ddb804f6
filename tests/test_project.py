"""What holds for the project as a whole: import directions, the command line's surface, and how quickly it answers."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from tests import cli_surface

HEAVY = ("torch", "transformers", "matplotlib", "deltalake", "geopandas", "h5py", "scipy", "prefect")


def test_imports_go_downward_only(repo):
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        check=False, cwd=repo, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_line_keeps_its_surface():
    """A renamed or removed option breaks scripts: change tests/cli_surface.txt knowingly, and say so in CHANGELOG.md."""
    assert cli_surface.surface() == cli_surface.FILE.read_text("utf-8"), "python -m tests.cli_surface writes it anew"


def test_help_imports_nothing_heavy(repo):
    code = (
        "import sys, json; sys.argv = ['mtgpt', '--help']\n"
        "from mtgpt.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: print('@@' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=60, check=True
    )
    modules = set(json.loads(done.stdout.split("@@")[1]))
    assert modules.isdisjoint(HEAVY)


def test_every_reading_command_takes_json():
    speaks_json_only = {"mtgpt city schema"}
    commands = [line for line in cli_surface.surface().splitlines() if line.count(" ") and "[--version]" not in line]
    groups = {
        other for line in commands for other in [_path(line)] if any(_path(c).startswith(other + " ") for c in commands)
    }
    without = [
        _path(line) for line in commands if "[--json]" not in line and _path(line) not in groups | speaks_json_only
    ]
    assert without == []


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["no-such-command"], {}, "no such command"),
        (["contracts", "show", "no_such_table"], {}, "no_such_table"),
        (["contracts", "list"], {"MTGPT_THREADS": "many"}, "MTGPT_THREADS"),
    ],
)
def test_a_slip_on_the_command_line_ends_without_a_traceback(repo, arguments, environment, says, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-m", "mtgpt", *arguments], check=False, cwd=repo, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_every_dependency_is_bounded(repo):
    project = tomllib.loads((repo / "pyproject.toml").read_text("utf-8"))["project"]
    everything = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    # A calendar of time zones has no incompatible releases.
    unbounded = [one for one in everything if not re.search(r"<|==|^mtgpt\[|^tzdata", one)]
    assert unbounded == []


def _path(line: str) -> str:
    return line.split(" [", maxsplit=1)[0]
