"""A timetable of 2.1 million passing times: how fast into Delta, in how much memory, and beside other readers."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.row import Bench, Context, Row, at_most, for_comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).resolve().parents[2]
FEED = "gtfs"
SOURCE = f"{FEED}/la_metro_rail_2024-02-22.zip"
ROWS = 2_100_000
ROUNDS = 5
_COPIED = ("stops.txt", "trips.txt", "stop_times.txt", "transfers.txt")
_IDS = ("stop_id", "parent_station", "trip_id", "from_stop_id", "to_stop_id")


def scaled(source: Path, target: Path, rows: int) -> int:
    """Writes a feed of at least so many passing times: copies of a real one's trips and stops under ids of their own.

    Returns:
        How many it has.
    """
    with zipfile.ZipFile(source) as feed, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        lines = {name: list(csv.reader(io.StringIO(feed.read(name).decode("utf-8-sig")))) for name in feed.namelist()}
        once = len(lines["stop_times.txt"]) - 1
        copies = -(-rows // once)
        for name, (header, *body) in lines.items():
            ids = [header.index(one) for one in _IDS if one in header]
            with out.open(name, "w") as member, io.TextIOWrapper(member, "utf-8", newline="") as text:
                writer = csv.writer(text)
                writer.writerow(header)
                for copy in range(copies if name in _COPIED else 1):
                    for row in body:
                        for place in ids if name in _COPIED else ():
                            row[place] = f"{row[place].partition('~')[0]}~{copy}" if row[place] else ""
                    writer.writerows(body)
    return copies * once


def gtfs_2m(feed: Path, scratch: Path) -> dict[str, Any]:
    """Zip to Delta in a process of its own that does nothing else: seconds, CPU seconds and peak of memory."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_gtfs", str(feed), str(scratch)],
        cwd=REPO,
        env=os.environ | {"POLARS_MAX_THREADS": "2"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def beside_others(feed: Path, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Our reading of the feed against gtfs-parquet's and gtfs-kit's, in turns, in this process.

    The job is the same for all: from the zip to departures, first and last of them, per service of the calendar, stop,
    line, direction and hour. gtfs-parquet and gtfs-kit load every file of the zip and one join and one grouping (of
    Polars, of pandas) do the rest. Ours leaves out the files that it has no use for, and does more with the others:
    every row is checked, gaps are interpolated, and spots, lines, links, headways and the timetable of each day are
    made of them.
    """
    ours, parquet = [], []
    kit = _timed(_gtfs_kit, feed)
    for _ in range(rounds + 1):
        parquet.append(_timed(_gtfs_parquet, feed))
        ours.append(_timed(_ours, feed))
    load = _timed(_gtfs_parquet_load, feed)
    best = min(kit, median(parquet[1:]))
    value = median(a / min(b, kit) for a, b in zip(ours[1:], parquet[1:], strict=True))
    detail = (
        f"median of {rounds} pairs; ours {median(ours[1:]):.2f} s, gtfs-parquet {median(parquet[1:]):.2f} s, "
        f"gtfs-kit {kit:.1f} s (once)"
    )
    return {"value": value, "load": median(ours[1:]) / load, "best": best, "detail": detail}


def _timed(read: Any, feed: Path) -> float:
    started = time.perf_counter()
    read(feed)
    return time.perf_counter() - started


def _ours(feed: Path) -> int:
    from mtgpt.ingest.adapter import DATA, FeedContext, FeedFile
    from mtgpt.ingest.feeds.gtfs.adapter import GtfsAdapter

    file = FeedFile(role=DATA, path=feed, name=feed.name, sha256="0" * 64, size=feed.stat().st_size)
    context = FeedContext(
        city_id="c", time_zone="America/Los_Angeles", source_id="s", received_at=datetime.now(UTC), salt=b""
    )
    adapter = GtfsAdapter()
    chunks = adapter.read({DATA: file}, adapter.Options(), context)
    return sum(chunk.frame.height for chunk in chunks if chunk.table == "service")


def _gtfs_parquet_load(feed: Path) -> Any:
    import gtfs_parquet

    return gtfs_parquet.parse_gtfs_zip(feed)


def _gtfs_parquet(feed: Path) -> int:
    import polars as pl

    tables = _gtfs_parquet_load(feed)
    times = tables.stop_times.sort("trip_id", "stop_sequence")
    trips = tables.trips.select("trip_id", "service_id", "route_id", "direction_id")
    departing = times.filter(pl.col("trip_id") == pl.col("trip_id").shift(-1)).join(trips, on="trip_id")
    hour = pl.col("departure_time").dt.total_hours().alias("hour")
    cells = departing.group_by("service_id", "stop_id", "route_id", "direction_id", hour).agg(
        pl.len(), first=pl.col("departure_time").min(), last=pl.col("departure_time").max()
    )
    return cells.height


def _gtfs_kit(feed: Path) -> int:
    import gtfs_kit

    tables = gtfs_kit.read_feed(feed, dist_units="km")
    times = tables.stop_times.sort_values(["trip_id", "stop_sequence"])
    departing = times[times["trip_id"] == times["trip_id"].shift(-1)].merge(
        tables.trips[["trip_id", "service_id", "route_id", "direction_id"]], on="trip_id"
    )
    departing["hour"] = departing["departure_time"].str[:2]
    keys = ["service_id", "stop_id", "route_id", "direction_id", "hour"]
    return len(departing.groupby(keys, observed=True)["departure_time"].agg(["size", "min", "max"]))


def _report(feed: Path, scratch: Path) -> None:
    from mtgpt.ingest.manifest import CityManifest
    from mtgpt.lake.intake import ingest_city
    from mtgpt.lake.lake import Lake
    from mtgpt.settings import Settings

    source = {"id": "feed", "kind": "gtfs", "path": str(feed)}
    city = {"city": "scaled", "name": "Scaled", "time_zone": "America/Los_Angeles", "sources": (source,)}
    settings = Settings(home=scratch / "home")
    manifest = CityManifest.model_validate(city)
    before = _cpu_s()
    started = time.perf_counter()
    results = ingest_city(manifest, Lake.open(settings.lake), settings=settings)
    facts = {
        "seconds": time.perf_counter() - started,
        "cpu_s": _cpu_s() - before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "rows": sum(one.rows_good for one in results),
        "status": [one.status for one in results],
    }
    sys.stdout.write(json.dumps(facts))
    shutil.rmtree(scratch / "home")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _large(context: Context) -> Iterator[Row]:
    feed = context.scratch / "scaled.zip"
    passings = scaled(context.real_data / SOURCE, feed, ROWS)
    facts = gtfs_2m(feed, context.scratch)
    if set(facts["status"]) != {"committed"}:
        raise RuntimeError(f"not committed: {facts['status']}")
    detail = f"{passings:,} passing times to {facts['rows']:,} rows, {facts['cpu_s']:.1f} s of CPU"
    yield at_most("gtfs_2m_seconds", facts["seconds"], 8, "s", detail)
    yield at_most("gtfs_2m_peak_mb", facts["peak_mb"], 1000, "MB", "a process of its own, imports included")
    found = beside_others(feed)
    yield at_most("gtfs_ratio", found["value"], 1.5, "×", found["detail"])
    yield for_comparison("gtfs_load_ratio", found["load"], "×", "all of our reading over gtfs-parquet's loading alone")


BENCHES = (Bench(rows=("gtfs_2m_seconds", "gtfs_2m_peak_mb", "gtfs_ratio"), run=_large, needs=(FEED,)),)


if __name__ == "__main__":
    _report(Path(sys.argv[1]), Path(sys.argv[2]))
