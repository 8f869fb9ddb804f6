"""An ingest may be killed at any moment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_twelve_kills_lose_nothing_show_nothing_twice_and_leave_every_file_readable(tmp_path: Path, repo: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.crash.killing", str(tmp_path), "12"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    outcome = json.loads(run.stdout)
    assert outcome["kills"] == 12
    assert outcome["batches"] > 0
    assert outcome["faults"] == []
