"""A city of two small CSV matrices for the tests of ingest and lake commands."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import typer

from mtgpt.cli import ingest, lake

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = """\
city: smallville
name: Smallville
time_zone: Europe/Oslo
sources:
  - id: speeds
    kind: matrix
    path: speeds.csv
    options: {variable: speed, mode: road, kind: detector, interval_s: 300, time: time}
  - id: flows
    kind: matrix
    path: flows.csv
    options: {variable: flow, mode: road, kind: detector, interval_s: 300, time: time}
"""


def app() -> typer.Typer:
    """The two commands under test, as the program has them."""
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command("ingest")(ingest.command)
    program.add_typer(lake.app, name="lake")
    return program


def matrix(path: Path, *, steps: int = 40, bad: int = 0, value: float = 50.0) -> Path:
    """Five minutes × three detectors; the first ``bad`` lines hold a number that no detector can measure."""
    start = datetime(2024, 3, 4)  # noqa: DTZ001 - local time, as such files have it
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["time", "d1", "d2", "d3"])
        for step in range(steps):
            first = -7.0 if step < bad else value
            writer.writerow([(start + timedelta(minutes=5 * step)).isoformat(), first, value, value + step % 5])
    return path


def write_city(folder: Path, *, bad_speeds: int = 0, bad_flows: int = 0) -> str:
    """Writes manifest and feeds; returns the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix(folder / "speeds.csv", bad=bad_speeds)
    matrix(folder / "flows.csv", bad=bad_flows, value=600.0)
    (folder / "smallville.yaml").write_text(MANIFEST, "utf-8")
    return str(folder / "smallville.yaml")
