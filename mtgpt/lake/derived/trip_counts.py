"""Counts derived from trips: departures and arrivals per place and interval, as observations.

They are derived again wherever new trips landed, from all trips of that time, and take the place of what was derived
before; so trips that come late, or twice, count once. Intervals without a trip have no row: panels read counted
variables as zero inside covered time.
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

from mtgpt.ingest.adapter import Chunk, FeedFile
from mtgpt.lake.batch import Batch
from mtgpt.lake.disk import refusals
from mtgpt.lake.landing import Landing, land
from mtgpt.lake.reading import Judged
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.lake import Lake

KIND = "trip_counts"
VERSION = 1
_TRIP = "trip"
_OBSERVATION = "observation"
# A history of more trips than this is counted month by month, so that memory grows with a month and not with it.
_AT_ONCE = 5_000_000
_ENDS = (("departures", "from_spot", "start_time"), ("arrivals", "to_spot", "end_time"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time: ``start <= t < end``."""

    start: datetime
    end: datetime

    def holds(self, name: str) -> pl.Expr:
        """True where the column's time lies inside."""
        return pl.col(name).is_between(self.start, self.end, closed="left")

    def months(self) -> Iterator[Window]:
        """The same span in calendar months."""
        start = self.start
        while start < self.end:
            after = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(
                day=1
            )
            yield Window(start=start, end=min(after, self.end))
            start = after


@dataclass(slots=True, kw_only=True)
class _Books:
    """What the ledger says of one city's trips.

    Attributes:
        landed: Trips that each batch brought.
        counted: Modes for which a batch is counted.
        wanted: Modes that the batch has, as far as known.
        last: The last derived batch by source.
    """

    landed: dict[str, int] = field(default_factory=dict)
    counted: dict[str, set[str]] = field(default_factory=dict)
    wanted: dict[str, set[str]] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)

    def pending(self) -> dict[str, int]:
        """Batches whose trips are not counted, or not for all of their modes."""
        return {
            name: rows
            for name, rows in self.landed.items()
            if name not in self.counted or self.counted[name] != self.wanted[name]
        }


def derive_trip_counts(
    lake: Lake, city_id: str, *, interval_s: int, progress: Callable[[str], None] | None = None
) -> list[BatchResult]:
    """Derives departures and arrivals from the trips that were not counted yet.

    Args:
        lake: Holds the trips; the observations go there too, with source ``derived:trip:<mode>``.
        city_id: City.
        interval_s: Length of an interval; where it differs from the last time, everything is derived again.
        progress: Called with what is going on.

    Returns:
        One result per mode that had new trips; empty where there is nothing new.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    books = _books(lake, city_id, interval_s)
    pending = books.pending()
    if not pending:
        return []
    trips = lake.scan(_TRIP, city_id=city_id)
    new = trips.filter(pl.col("batch_id").is_in(list(pending)))
    with refusals(_TRIP):
        spans = new.group_by("mode").agg(pl.col("start_time").min(), pl.col("end_time").max()).sort("mode").collect()
    modes = spans["mode"].to_list()
    results = []
    for mode, start, end in spans.iter_rows():
        if progress is not None:
            progress(f"counting {mode} trips per {interval_s} s")
        window = Window(start=_floor(start, interval_s), end=_floor(end, interval_s) + timedelta(seconds=interval_s))
        facts = {"interval_s": interval_s, "modes": modes}
        batch = _batch(city_id, mode, pending, facts, previous=books.last.get(_source(mode)))
        predicate = f"city_id = '{city_id}' AND source_id = '{_source(mode)}'"
        if books.counted:
            predicate += f" AND time_start >= '{window.start.isoformat()}' AND time_start < '{window.end.isoformat()}'"
        parts = [window] if sum(books.landed.values()) <= _AT_ONCE else window.months()
        counts = _counts(trips.filter(pl.col("mode") == mode), parts, interval_s)
        results.append(_derive(lake, counts, batch, predicate))
    return results


def recount(lake: Lake, city_id: str) -> list[BatchResult]:
    """Derives anew with the interval used last; nothing where no trips were counted yet (the next ingest does it)."""
    rows = lake.ledger(city_id).filter(pl.col("kind") == KIND)
    if not rows.height:
        return []
    return derive_trip_counts(lake, city_id, interval_s=json.loads(rows["files"][-1])[0]["interval_s"])


def trip_counts(trips: pl.LazyFrame, window: Window, interval_s: int) -> pl.LazyFrame:
    """Departures and arrivals per place and interval, where there are any.

    Args:
        trips: Rows of the table ``trip``.
        window: Departures and arrivals inside it are counted.
        interval_s: Length of an interval; intervals start at multiples of it since 1970 UTC.

    Returns:
        Columns spot_id, variable, time_start, interval_s, value (trips per interval).
    """
    sides = [
        trips.filter(window.holds(moment) & pl.col(spot).is_not_null())
        .select(pl.col(spot).alias("spot_id"), pl.col(moment).dt.truncate(f"{interval_s}s").alias("time_start"))
        .group_by("spot_id", "time_start")
        .agg(pl.len().cast(pl.Float32).alias("value"))
        .select(
            "spot_id",
            pl.lit(variable).alias("variable"),
            "time_start",
            pl.lit(interval_s, dtype=pl.Int32).alias("interval_s"),
            "value",
        )
        for variable, spot, moment in _ENDS
    ]
    return pl.concat(sides)


def _counts(trips: pl.LazyFrame, parts: Iterable[Window], interval_s: int) -> Iterator[pl.DataFrame]:
    for part in parts:
        with refusals(_TRIP):
            counts = trip_counts(trips, part, interval_s).collect(engine="streaming")
        if counts.height:
            yield counts.sort("time_start")


def _derive(lake: Lake, parts: Iterable[pl.DataFrame], batch: Batch, predicate: str) -> BatchResult:
    started = time.monotonic()
    with workspace(lake.staging) as folder:
        judged = Judged(staged=Staging(folder=folder))
        for counts in parts:
            judged.take(Chunk(table=_OBSERVATION, frame=counts), batch, lake)
        judged.finish(lake)
        result = land(batch, judged, lake, landing=Landing(replace={_OBSERVATION: predicate}))
    return replace(result, seconds=time.monotonic() - started)


def _batch(city_id: str, mode: str, pending: dict[str, int], facts: dict[str, Any], *, previous: str | None) -> Batch:
    # The one before is part of the name: counting again after the interval went to 900 s and back is a new batch.
    text = json.dumps([KIND, VERSION, city_id, mode, facts, sorted(pending), previous], sort_keys=True)
    files = [
        FeedFile(role=_TRIP, path=Path(name), name=f"trips per {facts['interval_s']} s", sha256=name, size=rows)
        for name, rows in pending.items()
    ]
    return Batch(
        batch_id=hashlib.sha256(text.encode()).hexdigest(),
        city_id=city_id,
        source_id=_source(mode),
        kind=KIND,
        adapter_version=VERSION,
        received_at=datetime.now(UTC),
        files=tuple(files),
        facts={_TRIP: facts},
    )


def _books(lake: Lake, city_id: str, interval_s: int) -> _Books:
    books = _Books()
    for row in lake.ledger(city_id).iter_rows(named=True):
        if row["kind"] == KIND:
            _note(books, row, interval_s)
            continue
        trips = json.loads(row["tables"]).get(_TRIP)
        if row["status"] != "held" and trips is not None and trips["version"] is not None:
            books.landed[row["batch_id"]] = trips["good"]
    return books


def _note(books: _Books, row: dict[str, Any], interval_s: int) -> None:
    mode = row["source_id"].rsplit(":", 1)[1]
    books.last[row["source_id"]] = row["batch_id"]
    files = json.loads(row["files"])
    if files[0]["interval_s"] != interval_s or row["adapter_version"] != str(VERSION):
        # What is there now was counted otherwise: nothing counted before it holds any more.
        books.counted.clear()
        books.wanted.clear()
        return
    for file in files:
        books.counted.setdefault(file["sha256"], set()).add(mode)
        books.wanted.setdefault(file["sha256"], set()).update(file["modes"])


def _source(mode: str) -> str:
    return f"derived:trip:{mode}"


def _floor(moment: datetime, interval_s: int) -> datetime:
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % interval_s, UTC)
