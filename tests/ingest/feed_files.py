"""Runs an adapter over a few files and judges what it yields, as the lake's intake would."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.contracts.registry import contract
from mtgpt.contracts.verdict import Verdict, judge
from mtgpt.ingest.adapter import DATA, Adapter, FeedContext, FeedFile
from mtgpt.ingest.adapters import adapters

if TYPE_CHECKING:
    from pathlib import Path

RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)


def feed_file(path: Path, role: str = DATA, name: str | None = None) -> FeedFile:
    data = path.read_bytes()
    return FeedFile(
        role=role, path=path, name=name or path.name, sha256=hashlib.sha256(data).hexdigest(), size=len(data)
    )


def read(
    kind: str,
    data: Path,
    /,
    *,
    zone: str = "UTC",
    files: dict[str, Path] | None = None,
    salt: bytes = b"salt",
    name: str | None = None,
    **options,
) -> dict[str, pl.DataFrame]:
    """Frames by table, chunks put together."""
    adapter: Adapter = adapters()[kind]
    context = FeedContext(city_id="town", time_zone=zone, source_id="feed", received_at=RECEIVED, salt=salt)
    roles = {DATA: feed_file(data, name=name)} | {role: feed_file(path, role) for role, path in (files or {}).items()}
    frames: dict[str, list[pl.DataFrame]] = {}
    for chunk in adapter.read(roles, adapter.Options.model_validate_json(json.dumps(options)), context):
        assert chunk.frame.height <= 1_000_000 + 20_000
        frames.setdefault(chunk.table, []).append(chunk.frame)
    return {table: pl.concat(parts, how="diagonal_relaxed") for table, parts in frames.items()}


def judged(table: str, frame: pl.DataFrame) -> Verdict:
    """The verdict on a frame, with the columns that intake adds."""
    known = contract(table).polars_schema
    added = {"city_id": "town", "source_id": "feed", "batch_id": "batch"}
    frame = frame.with_columns(**{name: pl.lit(text) for name, text in added.items() if name in known})
    verdict = judge(frame, contract(table))
    assert verdict.good.height + verdict.bad.height + verdict.duplicates == frame.height
    return verdict
