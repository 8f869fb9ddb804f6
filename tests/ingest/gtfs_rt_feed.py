"""GTFS-Realtime messages and their timetable, made for tests."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.transit import gtfs_realtime_pb2 as pb

from mtgpt.ingest.adapter import FeedContext, FeedFile
from mtgpt.ingest.feeds.gtfs_rt.adapter import GtfsRtAdapter, GtfsRtOptions

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

NOW = datetime(2024, 5, 14, 15, 0, tzinfo=UTC)  # a Tuesday, 11:00 in New York
STAMP = int(NOW.timestamp())
ZONE = "America/New_York"


def message(stamp: int = STAMP, version: str = "2.0") -> Any:
    made = pb.FeedMessage()
    made.header.gtfs_realtime_version = version
    made.header.timestamp = stamp
    return made


def trip(feed: Any, trip_id: str = "t1", *stops: dict[str, Any], entity: str | None = None, **facts: Any) -> Any:
    """Adds a trip update; a stop is {"stop_id", "stop_sequence", "relation", "arrival", "departure"}, times in s from now."""
    one = feed.entity.add()
    one.id = entity or f"e{len(feed.entity)}"
    update = one.trip_update
    if trip_id:
        update.trip.trip_id = trip_id
    for name, value in facts.items():
        if name in {"delay", "timestamp"}:
            setattr(update, name, value)
        else:
            setattr(update.trip, name, value)
    update.SetInParent()
    update.trip.SetInParent()
    for stop in stops:
        made = update.stop_time_update.add()
        for name in ("stop_id", "stop_sequence"):
            if name in stop:
                setattr(made, name, stop[name])
        if "relation" in stop:
            made.schedule_relationship = stop["relation"]
        for name in ("arrival", "departure"):
            if name not in stop:
                continue
            event = getattr(made, name)
            event.SetInParent()
            for key, value in stop[name].items():
                setattr(event, key, value + STAMP if key in {"time", "scheduled_time"} and value else value)
    return one


def a_city(trips: int = 30, stops: int = 12, *, seed: int = 0) -> Any:
    """A message such as an operator sends: trips, vehicles, alerts."""
    draw = random.Random(seed)
    feed = message()
    for number in range(trips):
        late = draw.randrange(-60, 600)
        trip(
            feed,
            f"trip_{number:06d}_WKDY",
            *(
                {
                    "stop_sequence": place + 1,
                    "stop_id": f"stop_{(number * 7 + place) % 900:05d}",
                    "arrival": {"time": place * 90 + late, "delay": late},
                    "departure": {"time": place * 90 + late + 20, "delay": late},
                }
                for place in range(stops)
            ),
            route_id=f"R{number % 120}",
            start_date="20240514",
            direction_id=number % 2,
        )
        if number % 3 == 0:
            one = feed.entity.add()
            one.id = f"v{number}"
            one.vehicle.trip.trip_id = f"trip_{number:06d}_WKDY"
            one.vehicle.vehicle.id = f"bus{number}"
            one.vehicle.position.latitude = 40.7 + number / 1e3
            one.vehicle.position.longitude = -73.9
            one.vehicle.timestamp = STAMP - 10
    one = feed.entity.add()
    one.id = "a1"
    one.alert.header_text.translation.add(text="Delays on R1", language="en")
    one.alert.informed_entity.add(route_id="R1")
    return feed


def file(folder: Path, data: bytes, name: str = "feed.pb", role: str = "data") -> FeedFile:
    path = folder / name
    path.write_bytes(data)
    return FeedFile(role=role, path=path, name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def context(received_at: datetime = NOW, zone: str = ZONE) -> FeedContext:
    return FeedContext(city_id="testville", time_zone=zone, source_id="live", received_at=received_at, salt=b"")


def read(
    folder: Path, data: bytes, *, static: bytes | None = None, received_at: datetime = NOW
) -> dict[str, pl.DataFrame]:
    """Tables of a message."""
    files = {"data": file(folder, data)}
    if static is not None:
        files["static"] = file(folder, static, "static.zip", "static")
    chunks = GtfsRtAdapter().read(files, GtfsRtOptions(), context(received_at))
    return {chunk.table: chunk.frame for chunk in chunks}


def visits(folder: Path, feed: Any, *, static: bytes | None = None) -> list[dict[str, Any]]:
    """Rows of stop_visit, times in seconds from now."""
    rows = read(folder, feed.SerializeToString(), static=static)["stop_visit"].to_dicts()
    for row in rows:
        row["time"] = None if row["time"] is None else int(row["time"].timestamp()) - STAMP
    return rows


def timetable(stop_times: dict[str, list[tuple[str, str]]], **tables: str) -> bytes:
    """A GTFS zip: trip → (stop, time) in order; routes, days and further tables may be given as text."""
    trips = tables.pop("trips", None) or "route_id,service_id,trip_id,direction_id\n" + "".join(
        f"R1,all,{name},1\n" for name in stop_times
    )
    rows = [
        f"{name},{at},{at},{stop},{place}\n"
        for name, visits_ in stop_times.items()
        for place, (stop, at) in enumerate(visits_, start=1)
    ]
    files = {
        "agency.txt": f"agency_id,agency_name,agency_url,agency_timezone\nA,A,http://a,{ZONE}\n",
        "trips.txt": trips,
        "stop_times.txt": "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n" + "".join(rows),
        "calendar.txt": "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
        "all,1,1,1,1,1,1,1,20240101,20241231\n",
        **{f"{name}.txt": text for name, text in tables.items()},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()
