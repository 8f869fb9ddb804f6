"""A GTFS-Realtime message of 7,000 trips: how fast bytes become rows."""

from __future__ import annotations

import gc
import hashlib
import random
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.row import Bench, Context, Row, at_most, for_comparison

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRIPS, STOPS, ROUNDS = 7000, 20, 9
STAMP = 1_700_000_000
_NAMES = ("trip_id", "stop_sequence", "stop_id", "relation", "arrival", "arrival_delay", "departure", "departure_delay")


def a_message(trips: int = TRIPS, stops: int = STOPS) -> bytes:
    """A large operator at rush hour: ids of usual length, half of the trips late, a few early."""
    from google.transit import gtfs_realtime_pb2 as pb

    draw = random.Random(0)
    feed = pb.FeedMessage()
    feed.header.gtfs_realtime_version = "2.0"
    feed.header.timestamp = STAMP
    for number in range(trips):
        entity = feed.entity.add(id=f"e{number}")
        update = entity.trip_update
        update.trip.trip_id = f"trip_{number:06d}_WKDY"
        update.trip.route_id = f"R{number % 120}"
        update.trip.start_date = "20231114"
        update.trip.direction_id = number % 2
        update.vehicle.id = f"bus{number % 3000}"
        update.timestamp = STAMP - draw.randrange(60)
        late = draw.randrange(-60, 600)
        for place in range(stops):
            stop = update.stop_time_update.add(stop_sequence=place + 1)
            stop.stop_id = f"stop_{(number * 7 + place) % 9000:05d}"
            late += draw.randrange(-15, 20)
            stop.arrival.time, stop.arrival.delay = STAMP + place * 90 + late, late
            stop.departure.time, stop.departure.delay = stop.arrival.time + 20, late
    return feed.SerializeToString()


def _bindings(data: bytes) -> Any:
    """The same rows by the bindings alone: parse, walk, frame; nothing is checked, nothing is derived."""
    import polars as pl
    from google.transit import gtfs_realtime_pb2 as pb

    feed = pb.FeedMessage.FromString(data)
    rows = []
    for entity in feed.entity:
        if not entity.HasField("trip_update"):
            continue
        trip_id = entity.trip_update.trip.trip_id
        for stop in entity.trip_update.stop_time_update:
            came, left = stop.arrival, stop.departure
            rows.append(
                (
                    trip_id,
                    stop.stop_sequence,
                    stop.stop_id,
                    stop.schedule_relationship,
                    came.time if came.HasField("time") else None,
                    came.delay if came.HasField("delay") else None,
                    left.time if left.HasField("time") else None,
                    left.delay if left.HasField("delay") else None,
                )
            )
    return pl.DataFrame(rows, schema=list(_NAMES), orient="row")


def _to_dict(data: bytes) -> Any:
    """The way of the bindings' own guide, parsed into nested dicts; no frame yet."""
    from google.protobuf.json_format import MessageToDict
    from google.transit import gtfs_realtime_pb2 as pb

    return MessageToDict(pb.FeedMessage.FromString(data))


def _speed(context: Context) -> Iterator[Row]:
    from datetime import UTC, datetime

    from mtgpt.ingest.adapter import FeedContext, FeedFile
    from mtgpt.ingest.feeds.gtfs_rt.adapter import GtfsRtAdapter, GtfsRtOptions

    data = a_message()
    path = context.scratch / "trip_updates.pb"
    path.write_bytes(data)
    files = {
        "data": FeedFile(
            role="data", path=path, name=path.name, sha256=hashlib.sha256(data).hexdigest(), size=len(data)
        )
    }
    where = FeedContext(
        city_id="bench",
        time_zone="America/New_York",
        source_id="live",
        received_at=datetime.fromtimestamp(STAMP + 5, UTC),
        salt=b"",
    )

    def ours() -> int:
        return sum(chunk.frame.height for chunk in GtfsRtAdapter().read(files, GtfsRtOptions(), where))

    if ours() != TRIPS * STOPS or _bindings(data).height != TRIPS * STOPS:
        raise RuntimeError("rows are missing")
    mine, theirs = [], []
    for _ in range(ROUNDS):
        mine.append(_timed_ms(ours))
        theirs.append(_timed_ms(lambda: _bindings(data)))
    size = f"{TRIPS:,} entities, {TRIPS * STOPS:,} stop updates, {len(data) / 1e6:.1f} MB"
    yield at_most("gtfs_rt_7000_ms", median(mine), 400, "ms", f"bytes to checked rows, median of {ROUNDS}; {size}")
    yield at_most(
        "gtfs_rt_ratio",
        median(a / b for a, b in zip(mine, theirs, strict=True)),
        1.5,
        "×",
        f"of gtfs-realtime-bindings into Polars by a plain loop ({median(theirs):.0f} ms), in turns",
    )
    yield for_comparison(
        "gtfs_rt_to_dict_ms", _timed_ms(lambda: _to_dict(data)), "ms", "gtfs-realtime-bindings with MessageToDict, once"
    )


def _timed_ms(work: Callable[[], Any]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


BENCHES = (Bench(rows=("gtfs_rt_7000_ms", "gtfs_rt_ratio"), run=_speed),)
