"""Runs the whole command line, errors and exit codes as a person meets them, without a new process."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import polars as pl

from mtgpt.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.lake.lake import Lake

MATRIX = {"variable": "speed", "mode": "road", "kind": "detector", "interval_s": 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left on the screen."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line on standard error of a command that failed."""
        assert self.code != 0, self.out
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def mtgpt(*arguments: object) -> Outcome:
    """One command; an exception that is not a sentence passes through and fails the test."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", ["mtgpt", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One source of a city, whose file can be damaged and mended."""

    folder: Path
    kind: str
    name: str
    good: bytes
    options: dict[str, Any]
    files: dict[str, str]
    zone: str = "Europe/Oslo"

    def write(self, data: bytes | None = None, *, options: dict[str, Any] | None = None, **files: bytes) -> Path:
        """Puts the feed and its manifest there; the path of the manifest."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / self.name).write_bytes(self.good if data is None else data)
        for role, text in self.files.items():
            (self.folder / f"{role}.csv").write_bytes(files.get(role, text.encode()))
        source = {
            "id": "feed",
            "kind": self.kind,
            "path": self.name,
            "files": {role: f"{role}.csv" for role in self.files},
            "options": self.options | (options or {}),
        }
        # JSON is YAML.
        manifest = {"city": "town", "name": "Town", "time_zone": self.zone, "sources": [source]}
        (self.folder / "town.yaml").write_text(json.dumps(manifest, indent=1))
        return self.folder / "town.yaml"

    def ingest(self, data: bytes | None = None, **changes: Any) -> tuple[dict[str, Any] | None, str]:
        """Ingests; the batch's line in the report, or None and the sentence why it could not be read."""
        done = mtgpt("ingest", self.write(data, **changes), "--json")
        assert done.err == ""
        report = json.loads(done.out)
        batch = next((one for one in report["batches"] if one["source_id"] == "feed"), None)
        sentence = report["failed"][0]["sentence"] if report["failed"] else ""
        held = batch is not None and batch["status"] == "held"
        assert done.code == (1 if sentence or held else 0)
        assert "\n" not in sentence
        return batch, sentence


def assert_whole(lake: Lake) -> pl.DataFrame:
    """Every table can be read, every batch adds up, every raw object is what its name says.

    Returns:
        The ledger of the feed, without what was derived from it.
    """
    ledger = lake.ledger()
    parts = ledger["rows_good"] + ledger["rows_quarantined"] + ledger["rows_duplicate"]
    assert ledger["rows_in"].to_list() == parts.to_list()
    for table in lake.versions():
        lake.scan(table).collect()
    assert lake.bronze.verify() == []
    assert list(lake.staging.glob("run-*")) == []
    return ledger.filter(pl.col("source_id") == "feed")
