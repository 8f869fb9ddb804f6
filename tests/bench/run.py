"""``make bench``: a row per figure against its bar; ``.bench/results.json`` keeps the last value of each."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtgpt.errors import MTGPTError, UsageError
from mtgpt.settings import settings, share_cores
from tests.bench import bench_demo, bench_forecast, bench_gtfs, bench_gtfs_rt, bench_ingest
from tests.bench.row import Bench, Context, Row, not_measured

REPO = Path(__file__).resolve().parents[2]
RESULTS = REPO / ".bench" / "results.json"

BENCHES: tuple[Bench, ...] = (
    *bench_forecast.BENCHES,
    *bench_ingest.BENCHES,
    *bench_gtfs.BENCHES,
    *bench_gtfs_rt.BENCHES,
    *bench_demo.BENCHES,
)


def chosen(only: str | None, benches: tuple[Bench, ...] = BENCHES) -> list[Bench]:
    """The benchmarks that give a row of that name, or all.

    Raises:
        UsageError: No row has that name.
    """
    found = [bench for bench in benches if only is None or only in bench.rows]
    if not found:
        names = ", ".join(name for bench in benches for name in bench.rows)
        raise UsageError("no such row", where="ONLY", got=only, expected=names)
    return found


def measure(bench: Bench, *, real_data: Path, say: Console) -> list[Row]:
    """Runs one benchmark; a failure is a row that did not pass, so that the others still run."""
    missing = [name for name in bench.needs if not (real_data / name).exists()]
    if missing:
        return [not_measured(name, f"no data: {', '.join(missing)} (MTGPT_REAL_DATA)") for name in bench.rows]
    with tempfile.TemporaryDirectory(prefix="mtgpt-bench-") as scratch:
        context = Context(
            real_data=real_data, scratch=Path(scratch), say=lambda text: say.print(Text(text, style="dim"))
        )
        try:
            return list(bench.run(context))
        except Exception as error:  # noqa: BLE001 - whatever it is, the row failed and says why
            text = error.sentence() if isinstance(error, MTGPTError) else f"{type(error).__name__}: {error}"
            return [Row(name=name, value=None, bar="", unit="", passed=False, detail=text) for name in bench.rows]


def keep(rows: list[Row], file: Path = RESULTS) -> None:
    """Merges rows into the results file, written whole or not at all. What was not measured replaces nothing."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    stamp = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "torch": version("torch"),
    }
    for row in rows:
        if row.value is not None or row.passed is not None or row.name not in known:
            known[row.name] = asdict(row) | stamp
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    half.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", "utf-8")
    half.replace(file)


def shown(rows: list[Row]) -> Table:
    """The rows as a table for people."""
    table = Table(box=None, header_style="bold")
    for name in ("row", "value", "bar", "unit", "pass", "detail"):
        table.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for row in rows:
        verdict = {True: Text("pass", "green"), False: Text("FAIL", "bold red"), None: Text("–", "dim")}[row.passed]
        value = "" if row.value is None else f"{row.value:,.4g}"
        table.add_row(row.name, value, row.bar, row.unit, verdict, Text(row.detail, "dim"))
    return table


def main(arguments: list[str] | None = None) -> int:
    """Runs what was asked for; 1 where a bar is missed, 2 where a row has no such name."""
    share_cores()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="one row")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    options = parser.parse_args(arguments)
    out, aside = Console(highlight=False), Console(stderr=True, highlight=False)
    if options.list:
        out.print("\n".join(name for bench in BENCHES for name in bench.rows))
        return 0
    try:
        benches = chosen(options.only)
    except UsageError as error:
        aside.print(Text(error.sentence(), "red"))
        return error.exit_code
    rows: list[Row] = []
    for bench in benches:
        aside.print(Text(", ".join(bench.rows), "dim"))
        measured = measure(bench, real_data=(REPO / settings().real_data).resolve(), say=aside)
        keep(measured)
        rows += measured
    out.print(shown(rows))
    return int(any(row.passed is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
