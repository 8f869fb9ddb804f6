"""One writer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mtgpt.errors import LakeError
from mtgpt.lake.lock import locked, locked_all, try_lock

if TYPE_CHECKING:
    from pathlib import Path

_HOLDER = """
import sys
from pathlib import Path
from mtgpt.lake.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_gives_up_with_a_sentence(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "trip.lock"),
        pytest.raises(LakeError, match="trip: another process is writing"),
        locked(tmp_path / "trip.lock", wait_s=0.05),
    ):
        pass


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "trip.lock", wait_s=0):
            pass


def test_a_lock_is_free_again_after_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "trip.lock"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        holder.kill()
        holder.wait()
        with locked(path, wait_s=0):
            pass


def test_locks_named_twice_are_taken_once(tmp_path: Path) -> None:
    with locked_all([tmp_path / "b", tmp_path / "a", tmp_path / "b"], wait_s=0):
        assert try_lock(tmp_path / "a") is None
    handle = try_lock(tmp_path / "a")
    assert handle is not None
    os.close(handle)
