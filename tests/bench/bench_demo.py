"""How long a newcomer waits for ``make demo`` where dependencies are installed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.bench.row import Bench, Context, Row, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator


def demo_seconds(context: Context) -> Iterator[Row]:
    """Runs the demo as a program of its own, in an empty workspace, so that nothing is warm."""
    report = context.scratch / "demo" / "report.html"
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "flows.demo", "--folder", str(report.parent)],
        env=os.environ | {"MTGPT_HOME": str(context.scratch / "home")},
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=900,
    )
    seconds = time.monotonic() - started
    size = report.stat().st_size / 1e6
    yield at_most("demo_seconds", seconds, 180, "s", f"feeds to report ({size:.1f} MB), empty workspace")


BENCHES = (Bench(rows=("demo_seconds",), run=demo_seconds),)
