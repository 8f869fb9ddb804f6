"""Small GTFS zips for tests: a metro line of four stations and a bus, and whatever a test makes of them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import polars as pl

from tests.ingest import feed_files
from tests.ingest.feed_files import read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mtgpt.contracts.verdict import Verdict

BASE: Mapping[str, str] = {
    "agency.txt": "agency_id,agency_name,agency_url,agency_timezone\nA,Metro,http://m.example,America/New_York\n",
    "stops.txt": (
        "stop_id,stop_name,stop_lat,stop_lon,location_type,parent_station\n"
        "s1,First,40.70,-74.00,0,S\n"
        "s2,Second,40.71,-74.00,0,\n"
        "s3,Third,40.72,-74.00,0,\n"
        "s4,Fourth,40.73,-74.00,0,\n"
        "S,First Station,40.70,-74.00,1,\n"
    ),
    "routes.txt": (
        "route_id,agency_id,route_short_name,route_long_name,route_type,route_color\n"
        "R1,A,M1,Metro One,1,FF0000\n"
        "R2,A,7,Bus Seven,3,\n"
    ),
    "trips.txt": (
        "route_id,service_id,trip_id,direction_id\nR1,WK,t1,0\nR1,WK,t2,0\nR1,WE,t3,0\nR2,WK,b1,\n"  # no direction
    ),
    "stop_times.txt": (
        "trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
        "t1,08:00:00,08:00:00,s1,1\nt1,08:05:00,08:06:00,s2,2\nt1,08:10:00,08:10:00,s3,3\n"
        "t2,08:20:00,08:20:00,s1,1\nt2,08:25:00,08:26:00,s2,2\nt2,08:30:00,08:30:00,s3,3\n"
        "t3,25:10:00,25:10:00,s1,1\nt3,25:15:00,25:15:00,s2,2\nt3,25:20:00,25:20:00,s3,3\n"
        "b1,09:00:00,09:00:00,s3,1\nb1,09:30:00,09:30:00,s4,2\n"
    ),
    "calendar.txt": (
        "service_id,monday,tuesday,wednesday,thursday,friday,saturday,sunday,start_date,end_date\n"
        "WK,1,1,1,1,1,0,0,20240304,20240317\n"
        "WE,0,0,0,0,0,1,1,20240304,20240317\n"
    ),
}


def gtfs(folder: Path, name: str = "feed.zip", **files: str | bytes | None) -> Path:
    """A zip of :data:`BASE`, in which ``stops="…"`` takes the place of ``stops.txt`` and None takes it out."""
    members = dict(BASE) | {f"{key}.txt": text for key, text in files.items()}
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            if text is not None:
                archive.writestr(member, text)
    return path


def tables(path: Path, **options) -> dict[str, pl.DataFrame]:
    """Frames by table, as the adapter made them."""
    return read("gtfs", path, zone="America/New_York", **options)


def judged(path: Path, **options) -> dict[str, Verdict]:
    """Verdicts by table; nothing is lost on the way."""
    return {table: feed_files.judged(table, frame) for table, frame in tables(path, **options).items()}


def refused(path: Path, **options) -> list[tuple[str, int, str]]:
    """Table, row and rule of everything that was refused."""
    return sorted(
        (table, row, rule)
        for table, verdict in judged(path, **options).items()
        for row, rule in verdict.bad.select("row", "rule_id").iter_rows()
    )


def departures(frames: Mapping[str, pl.DataFrame], day: str) -> dict[str, int]:
    """Departures a day by stop."""
    pattern = frames["service_day"].filter(pl.col("service_date").cast(pl.String) == day)["pattern_id"].item()
    rows = frames["service"].filter(pl.col("pattern_id") == pattern)
    return dict(rows.group_by("spot_id").agg(pl.col("departures").sum()).iter_rows())
