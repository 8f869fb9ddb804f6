"""Changes of schedule as events: what an operator's new feed says differently from the one before.

Nothing has to be asked for: whenever a timetable is ingested again after its operator published a new one, the two are
compared. Lines and stops that come or go, stops that move by more than 50 m, and lines whose departures a day change
by more than 10 % become events of kind ``schedule_change`` that start on the new timetable's first day.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.errors import LakeError
from mtgpt.ingest.adapter import FeedFile
from mtgpt.ingest.feeds.gtfs.adapter import GtfsAdapter
from mtgpt.ingest.feeds.gtfs.links import great_circle_m
from mtgpt.ingest.feeds.gtfs.time import service_time
from mtgpt.ingest.rows.events import Event, events
from mtgpt.ingest.rows.shapes import Shape
from mtgpt.lake.batch import Batch
from mtgpt.lake.derived.timetables import DAY, ROUTE, SPOT, FeedVersion, change_between, feed_versions, places
from mtgpt.lake.disk import refusals
from mtgpt.lake.landing import land
from mtgpt.lake.reading import Judged
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.derived.timetables import Change
    from mtgpt.lake.lake import Lake

KIND = "schedule_changes"
VERSION = 1
MOVED_M = 50.0
CHANGED_SHARE = 0.1
_DAYS_A_WEEK = {"workday": 5, "Saturday": 1, "Sunday": 1}
_MOST_NAMES = 200
_LONGEST_ID = 180
_event = partial(Event, row=0, kind="schedule_change", language="en", severity="info")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Names for people by id."""

    lines: dict[str, str]
    spots: dict[str, str]


def derive_schedule_changes(
    lake: Lake, city_id: str, *, time_zone: str, progress: Callable[[str], None] | None = None
) -> list[BatchResult]:
    """Compares every timetable that landed with the one before it from the same source, once.

    Args:
        lake: Holds the timetables; the events go there too, with source ``derived:schedule:<source>``.
        city_id: City.
        time_zone: Its IANA zone.
        progress: Called with what is going on.

    Returns:
        One result per pair that was compared now.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    ledger = lake.ledger(city_id)
    done = set(ledger.filter(pl.col("kind") == KIND)["batch_id"])
    results = []
    for source_id, versions in feed_versions(ledger, GtfsAdapter.kind).items():
        for old, new in pairwise(versions):
            batch = _batch(city_id, old, new)
            if batch.batch_id in done:
                continue
            if progress is not None:
                progress(f"{source_id}: comparing {new.name} with the timetable before it")
            result = _derive(lake, batch, old, new, time_zone=time_zone)
            if result is not None:
                results.append(result)
    return results


def _derive(lake: Lake, batch: Batch, old: FeedVersion, new: FeedVersion, *, time_zone: str) -> BatchResult | None:
    started = time.monotonic()
    try:
        lines = _lines(lake, batch.city_id, new.source_id)
        change = change_between(lake, batch.city_id, old, new, lines=lines)
        found = [] if change is None else _events(lake, batch.city_id, change, (old, new), lines, zone=time_zone)
    except LakeError:
        if _is_gone(lake, old, new):
            # Vacuumed versions cannot be compared any more; what landed since is not held up by that.
            return None
        raise
    with workspace(lake.staging) as folder:
        judged = Judged(staged=Staging(folder=folder))
        if found:
            judged.take(events(found), batch, lake)
        judged.finish(lake)
        return replace(land(batch, judged, lake), seconds=time.monotonic() - started)


def _is_gone(lake: Lake, *feeds: FeedVersion) -> bool:
    for feed in feeds:
        for table, version in feed.versions.items():
            try:
                lake.scan(table, version=version)
            except LakeError:
                return True
    return False


def _lines(lake: Lake, city_id: str, source_id: str) -> dict[str, str]:
    with refusals(ROUTE):
        routes = lake.scan(ROUTE, city_id=city_id).filter(pl.col("source_id") == source_id).sort("valid_from")
        named = routes.select("route_id", pl.coalesce("name", "long_name", "route_id")).collect()
    return dict(named.iter_rows())


def _events(
    lake: Lake,
    city_id: str,
    change: Change,
    feeds: tuple[FeedVersion, FeedVersion],
    lines: dict[str, str],
    *,
    zone: str,
) -> list[Event]:
    before, after = (places(lake, city_id, feed.versions[SPOT]) for feed in feeds)
    spots = pl.concat([before, after]).drop_nulls("name")
    names = _Names(lines=lines, spots=dict(spots.select("spot_id", "name").iter_rows()))
    new = feeds[1]
    found = [
        *_lines_come_and_go(change, names),
        *_departures(change, names),
        *_stops_come_and_go(change, names),
        *_moves(change, before, after, names),
    ]
    start = service_time(change.start, 0, zone)
    return [
        replace(event, event_id=f"{str(event.event_id)[:_LONGEST_ID]}:{new.batch_id[:12]}", start=start, row=number)
        for number, event in enumerate(found)
    ]


def _lines_come_and_go(change: Change, names: _Names) -> Iterator[Event]:
    for effect, what, lines in (
        ("line_added", "runs from now on", change.new_lines - change.old_lines),
        ("line_removed", "runs no more", change.old_lines - change.new_lines),
    ):
        for line in sorted(lines):
            title = f"Line {names.lines.get(line, line)} {what}"
            yield _event(event_id=f"{effect}:{line}", effect=effect, title=title, routes=(line,))


def _departures(change: Change, names: _Names) -> Iterator[Event]:
    weight = pl.col("kind").replace_strict(_DAYS_A_WEEK, return_dtype=pl.Float64)
    both = change.lines.filter(pl.col("route_id").is_in(list(change.old_lines & change.new_lines)))
    weekly = both.group_by("route_id").agg(
        ((pl.col(side) * weight).sum() / weight.sum()).alias(side) for side in ("before", "after")
    )
    kinds = {key[0]: rows.sort("kind") for key, rows in both.group_by("route_id")}
    for line, old, new in weekly.sort("route_id").iter_rows():
        if not old or abs(new / old - 1) <= CHANGED_SHARE:
            continue
        more = "more" if new > old else "fewer"
        per_kind = "; ".join(
            f"{kind}: {was:.0f} to {now:.0f}"
            for kind, was, now in kinds[line].select("kind", "before", "after").iter_rows()
        )
        yield _event(
            event_id=f"departures:{line}",
            effect="departures_changed",
            title=f"Line {names.lines.get(line, line)}: {100 * abs(new / old - 1):.0f} % {more} departures",
            text=f"Departures a day at all stops together, by kind of day. {per_kind}.",
            routes=(line,),
            attributes={"before": round(old, 1), "after": round(new, 1)},
        )


def _stops_come_and_go(change: Change, names: _Names) -> Iterator[Event]:
    for effect, what, spots in (
        ("stops_added", "served from now on", change.new_spots - change.old_spots),
        ("stops_removed", "served no more", change.old_spots - change.new_spots),
    ):
        if spots:
            ids = sorted(spots)
            yield _event(
                event_id=effect,
                effect=effect,
                title=f"{len(ids)} {'stop is' if len(ids) == 1 else 'stops are'} {what}",
                text=_list(names.spots.get(spot, spot) for spot in ids[:_MOST_NAMES]),
                spots=tuple(ids[:_MOST_NAMES]),
                attributes={"stops": len(ids)},
            )


def _moves(change: Change, before: pl.DataFrame, after: pl.DataFrame, names: _Names) -> Iterator[Event]:
    served = after.filter(pl.col("spot_id").is_in(list(change.new_spots & change.old_spots)))
    both = served.join(before, on="spot_id", suffix="_before").drop_nulls(["lon", "lat", "lon_before", "lat_before"])
    axes = (both[name].to_numpy() for name in ("lon_before", "lat_before", "lon", "lat"))
    moved = both.with_columns(metres=pl.lit(great_circle_m(*axes))).filter(pl.col("metres") > MOVED_M)
    for spot, lon, lat, metres in moved.select("spot_id", "lon", "lat", "metres").sort("spot_id").iter_rows():
        yield _event(
            event_id=f"stop_moved:{spot}",
            effect="stop_moved",
            title=f"Stop {names.spots.get(spot, spot)} moves by {metres:.0f} m",
            spots=(spot,),
            shape=Shape(wkt=f"POINT ({lon} {lat})", lon=lon, lat=lat),
            attributes={"metres": round(metres)},
        )


def _list(texts: Iterable[str]) -> str:
    return ", ".join(texts)[:10_000]


def _batch(city_id: str, old: FeedVersion, new: FeedVersion) -> Batch:
    text = json.dumps([KIND, VERSION, city_id, new.source_id, old.batch_id, new.batch_id])
    name = hashlib.sha256(text.encode()).hexdigest()
    file = FeedFile(role=DAY, path=Path(name), name=f"{old.name} → {new.name}", sha256=name, size=0)
    return Batch(
        batch_id=name,
        city_id=city_id,
        source_id=f"derived:schedule:{new.source_id}",
        kind=KIND,
        adapter_version=VERSION,
        received_at=datetime.now(UTC),
        files=(file,),
        facts={},
    )
