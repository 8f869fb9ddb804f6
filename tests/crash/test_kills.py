"""An ingest or a watch may be killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def killed(repo: Path, *words: object, seconds: float = 240) -> dict[str, Any]:
    """The outcome of a series of kills in a process of its own; nothing of it outlives the time limit."""
    with subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        try:
            out, err = run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            raise
    assert run.returncode == 0, err
    return json.loads(out)


def test_twelve_kills_lose_nothing_show_nothing_twice_and_leave_every_file_readable(tmp_path: Path, repo: Path) -> None:
    outcome = killed(repo, "tests.crash.killing", tmp_path, 12)
    assert outcome["kills"] == 12
    assert outcome["batches"] > 0
    assert outcome["faults"] == []


@pytest.mark.slow
def test_twenty_killed_watches_lose_nothing_and_show_nothing_twice(tmp_path: Path, repo: Path) -> None:
    outcome = killed(repo, "tests.crash.killing_many", "watch", tmp_path, 20)
    assert outcome["kills"] == 20
    assert outcome["acknowledged"] > 10
    assert outcome["faults"] == []


@pytest.mark.slow
def test_twenty_kills_of_ingests_side_by_side_lose_nothing_and_show_nothing_twice(tmp_path: Path, repo: Path) -> None:
    outcome = killed(repo, "tests.crash.killing_many", "beside", tmp_path, 20)
    assert outcome["kills"] >= 20
    assert outcome["acknowledged"] > 10
    assert outcome["faults"] == []


def test_no_child_outlives_a_parent_that_was_killed(tmp_path: Path, repo: Path) -> None:
    code = (
        "import os, time\n"
        "from tests.crash.killing import Child\n"
        "child = Child(lambda: (print(os.getpid(), flush=True), time.sleep(60)))\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=repo, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    until = time.monotonic() + 5
    while _lives(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - it may be gone by now
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
