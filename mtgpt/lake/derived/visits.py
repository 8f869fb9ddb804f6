"""Delays and headways derived from reported visits: per stop and interval, as observations.

Live feeds say many times when a vehicle is going to be at a stop. What counts is the last report of each visit (trip,
service day, stop and its position in the trip), once the time it names has passed at the time of the source's newest
message: a visit that was canceled or skipped by then did not happen. They are derived again wherever new messages
could have changed them, and take the place of what was derived before. Intervals without a visit have no row.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.adapter import DATA, Chunk, FeedFile
from mtgpt.lake.batch import Batch
from mtgpt.lake.disk import refusals
from mtgpt.lake.landing import Landing, land
from mtgpt.lake.reading import Judged
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.lake import Lake

KIND = "visits"
VERSION = 1
_VISIT = "stop_visit"
_OBSERVATION = "observation"
_VARIABLES = ("delay", "headway")
_HAPPENED = ("scheduled", "added", "unscheduled")
_IDENTITY = ("trip_id", "service_date", "spot_id", "stop_sequence")
_LONGEST_HEADWAY = timedelta(hours=4)
"""A longer gap is a night or a feed that was down, not a headway."""

_LONGEST_DAY = timedelta(hours=36)
"""How long after the start of its service day, to which a cancellation without a timetable is dated, a visit may be."""


@dataclass(slots=True, kw_only=True)
class _Books:
    """What the ledger says of one source's visits.

    Attributes:
        landed: Visits that each batch brought.
        counted: Batches that the observations follow from.
        newest: When its newest message was made, as far as the ledger knows.
        until: Up to when the observations go.
        last: The last derived batch.
    """

    landed: dict[str, int] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    newest: datetime | None = None
    until: datetime | None = None
    last: str | None = None


def derive_visits(
    lake: Lake, city_id: str, *, interval_s: int, progress: Callable[[str], None] | None = None
) -> list[BatchResult]:
    """Derives delays and headways from the messages that were not used yet.

    Args:
        lake: Holds the visits; the observations go there too, with source ``derived:visit:<source>``.
        city_id: City.
        interval_s: Length of an interval; where it differs from the last time, everything is derived again.
        progress: Called with what is going on.

    Returns:
        One result per source that had new messages; empty where there is nothing new.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    results = []
    for source_id, books in sorted(_books(lake, city_id, interval_s).items()):
        pending = {name: rows for name, rows in books.landed.items() if name not in books.counted}
        if not pending:
            continue
        if progress is not None:
            progress(f"{source_id}: delays and headways per {interval_s} s")
        results.append(_derive(lake, city_id, source_id, books, pending=pending, interval_s=interval_s))
    return results


def rederive(lake: Lake, city_id: str) -> list[BatchResult]:
    """Derives with the interval used last; nothing where nothing was derived yet (the next ingest does it)."""
    rows = lake.ledger(city_id).filter(pl.col("kind") == KIND)
    if not rows.height:
        return []
    return derive_visits(lake, city_id, interval_s=json.loads(rows["files"][-1])[0]["interval_s"])


def delays_and_headways(visits: pl.DataFrame, interval_s: int) -> pl.DataFrame:
    """Mean delay and mean headway per stop and interval.

    Args:
        visits: What happened, a row per visit: spot_id, route_id, direction, time, delay_s.
        interval_s: Length of an interval; intervals start at multiples of it since 1970 UTC.

    Returns:
        Columns spot_id, variable, time_start, interval_s, value (s). A headway belongs to the interval of the later of
        the two visits; gaps of more than four hours are none.
    """
    gap = pl.col("time").diff().over("spot_id", "route_id", "direction")
    timed = visits.sort("time").with_columns(
        pl.when(gap <= _LONGEST_HEADWAY).then(gap.dt.total_microseconds() / 1e6).alias("headway"),
        pl.col("delay_s").alias("delay"),
        pl.col("time").dt.truncate(f"{interval_s}s").alias("time_start"),
    )
    means = timed.group_by("spot_id", "time_start").agg(pl.col(_VARIABLES).mean())
    return (
        means.unpivot(_VARIABLES, index=["spot_id", "time_start"])
        .drop_nulls("value")
        .select(
            "spot_id",
            "variable",
            "time_start",
            pl.lit(interval_s, dtype=pl.Int32).alias("interval_s"),
            pl.col("value").cast(pl.Float32),
        )
        .sort("time_start", "variable", "spot_id")
    )


def happened(reports: pl.DataFrame, newest: datetime) -> pl.DataFrame:
    """The last report of each visit, where it names a time that has passed.

    Args:
        reports: Rows of the table ``stop_visit`` of one source.
        newest: When the source's newest message was made.
    """
    last = reports.sort("reported_at", "time").unique(subset=_IDENTITY, keep="last", maintain_order=True)
    return last.filter(pl.col("status").is_in(_HAPPENED) & (pl.col("time") <= newest))


def _derive(
    lake: Lake, city_id: str, source_id: str, books: _Books, *, pending: dict[str, int], interval_s: int
) -> BatchResult:
    started = time.monotonic()
    rows = lake.scan(_VISIT, city_id=city_id).filter(pl.col("source_id") == source_id)
    new = rows.filter(pl.col("batch_id").is_in(list(pending)))
    with refusals(_VISIT):
        reported = new.select(pl.col("reported_at").max()).collect().item()
        newest = max(moment for moment in (books.newest, books.until, reported, _EPOCH) if moment is not None)
        start = _start(rows, new, books, newest, interval_s)
        reports = (
            rows.filter(
                (pl.col("time") >= start - _LONGEST_HEADWAY)
                | (~pl.col("status").is_in(_HAPPENED) & (pl.col("time") >= start - _LONGEST_DAY))
            )
            .select(*_IDENTITY, "route_id", "direction", "time", "delay_s", "status", "reported_at")
            .collect(engine="streaming")
        )
    values = delays_and_headways(happened(reports, newest), interval_s).filter(pl.col("time_start") >= start)
    values = _unsaid(lake, city_id, source_id, values, start)
    facts = {"interval_s": interval_s, "until": newest.isoformat()}
    batch = _batch(city_id, source_id, pending, facts, previous=books.last)
    predicate = f"city_id = '{city_id}' AND source_id = '{_source(source_id)}'"
    if books.counted:
        predicate += f" AND time_start >= '{start.isoformat()}'"
    with workspace(lake.staging) as folder:
        judged = Judged(staged=Staging(folder=folder))
        judged.take(Chunk(table=_OBSERVATION, frame=values), batch, lake)
        judged.finish(lake)
        result = land(batch, judged, lake, landing=Landing(replace={_OBSERVATION: predicate}))
    return replace(result, seconds=time.monotonic() - started)


def _start(rows: pl.LazyFrame, new: pl.LazyFrame, books: _Books, newest: datetime, interval_s: int) -> datetime:
    """From when on anything may have changed: what the new reports speak of, and what has passed since."""
    coming = pl.col("status").is_in(_HAPPENED)
    earliest = new.select(pl.col("time").min()).collect().item() or newest
    # With what was said of the same visits before: a visit that moved or is off leaves an interval behind.
    same_days = rows.filter(coming & (pl.col("time") >= earliest - _LONGEST_DAY))
    touched = same_days.join(new.select(_IDENTITY).unique(), on=list(_IDENTITY), how="semi", nulls_equal=True)
    first = touched.select(pl.col("time").min()).collect(engine="streaming").item()
    known = [moment for moment in (first, books.until if books.counted else None) if moment is not None]
    return _floor(min([*known, newest]), interval_s)


def _unsaid(lake: Lake, city_id: str, source_id: str, values: pl.DataFrame, start: datetime) -> pl.DataFrame:
    """Without what another source says of the same stops at the same time: a place has one value."""
    on = ["spot_id", "variable", "time_start"]
    others = lake.scan(_OBSERVATION, city_id=city_id).filter(
        (pl.col("time_start") >= start)
        & pl.col("variable").is_in(_VARIABLES)
        & (pl.col("source_id") != _source(source_id))
    )
    with refusals(_OBSERVATION):
        said = others.select(on).collect(engine="streaming")
    return values.join(said, on=on, how="anti", maintain_order="left") if said.height else values


def _batch(
    city_id: str, source_id: str, pending: dict[str, int], facts: dict[str, Any], *, previous: str | None
) -> Batch:
    # The one before is part of the name: deriving again after the interval went to 900 s and back is a new batch.
    text = json.dumps([KIND, VERSION, city_id, source_id, facts, sorted(pending), previous], sort_keys=True)
    files = [
        FeedFile(role=_VISIT, path=Path(name), name=f"visits per {facts['interval_s']} s", sha256=name, size=rows)
        for name, rows in pending.items()
    ]
    return Batch(
        batch_id=hashlib.sha256(text.encode()).hexdigest(),
        city_id=city_id,
        source_id=_source(source_id),
        kind=KIND,
        adapter_version=VERSION,
        received_at=datetime.now(UTC),
        files=tuple(files),
        facts={_VISIT: facts},
    )


def _books(lake: Lake, city_id: str, interval_s: int) -> dict[str, _Books]:
    found: dict[str, _Books] = {}
    for row in lake.ledger(city_id).iter_rows(named=True):
        if row["kind"] == KIND:
            _note(found.setdefault(row["source_id"].removeprefix(_source("")), _Books()), row, interval_s)
            continue
        visits = json.loads(row["tables"]).get(_VISIT)
        if row["status"] == "held" or visits is None:
            continue
        books = found.setdefault(row["source_id"], _Books())
        books.landed[row["batch_id"]] = visits["good"]
        for file in json.loads(row["files"]):
            if file["role"] == DATA and "feed_time" in file:
                made = datetime.fromisoformat(file["feed_time"])
                books.newest = max(made, books.newest or made)
    return found


def _note(books: _Books, row: dict[str, Any], interval_s: int) -> None:
    books.last = row["batch_id"]
    files = json.loads(row["files"])
    if files[0]["interval_s"] != interval_s or row["adapter_version"] != str(VERSION):
        # What is there now was derived otherwise: nothing counted before it holds any more.
        books.counted.clear()
        return
    books.counted.update(file["sha256"] for file in files)
    books.until = datetime.fromisoformat(files[0]["until"])


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _source(source_id: str) -> str:
    return f"derived:visit:{source_id}"


def _floor(moment: datetime, interval_s: int) -> datetime:
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % interval_s, UTC)
