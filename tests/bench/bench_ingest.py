"""From published files to Delta: how fast, in how much memory, and what is left after kills."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.bench.row import Bench, Context, Row, at_most, for_comparison

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

REPO = Path(__file__).resolve().parents[2]
GREEN = "trips_nyc_green"
LOOPS = "road_pems07m"
ROUNDS = 7
_TEXT = ("store_and_fwd_flag",)
_TIMES = ("lpep_pickup_datetime", "lpep_dropoff_datetime")
_WHOLE = ("VendorID", "RatecodeID", "PULocationID", "DOLocationID", "passenger_count", "payment_type", "trip_type")


def green_taxi_ratio(real_data: Path, scratch: Path, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """The four green-taxi months, pulled, judged and landed, against a bare read-cast-write of the same files.

    ``value`` is until the trips are in Delta with their ledger; ``with_counts`` also counts them into departures and
    arrivals per zone and hour, which the bare way has no part of.

    Both run in turns in this process, after one round that is not counted, so that they meet the same machine. The
    disk is at rest before each: ours syncs what it writes and must not pay for what the other left in the cache.
    """
    bare, ours, counts = [], [], []
    for number in range(rounds + 1):
        os.sync()
        bare.append(_bare_polars(real_data / GREEN, scratch / f"bare-{number}"))
        os.sync()
        seconds, counting = _ingest("nyc_green_taxi", real_data, scratch / f"ours-{number}")
        ours.append(seconds - counting)
        counts.append(counting)
        shutil.rmtree(scratch / f"bare-{number}")
        shutil.rmtree(scratch / f"ours-{number}")
    value = median(b / a for a, b in zip(bare[1:], ours[1:], strict=True))
    detail = f"median of {rounds} pairs; ingest {median(ours[1:]):.2f} s, bare Polars {median(bare[1:]):.2f} s"
    whole = median((b + c) / a for a, b, c in zip(bare[1:], ours[1:], counts[1:], strict=True))
    return {"value": value, "with_counts": whole, "detail": detail}


def green_taxi_peak_mb(real_data: Path, scratch: Path) -> dict[str, Any]:
    """Peak resident memory of a process that does nothing but ingest the four months."""
    facts = _alone("nyc_green_taxi", real_data, scratch)
    return {"value": facts["peak_mb"], "detail": f"a process of its own, imports included; {facts['rows']:,} rows"}


def pemsd7_seconds(real_data: Path, scratch: Path) -> dict[str, Any]:
    """PEMSD7(M)'s speeds, spots and links into an empty lake."""
    facts = _alone("pems07m", real_data, scratch)
    return {"value": facts["seconds"], "detail": f"{facts['rows']:,} rows, peak {facts['peak_mb']:.0f} MB"}


def crash_kills(n: int, scratch: Path, *, seed: int = 0) -> dict[str, Any]:
    """Faults found after ``n`` SIGKILLs at random moments of an ingest with replays."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.crash.killing", str(scratch), str(n), str(seed)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        return {"value": 1, "detail": run.stderr.strip().splitlines()[-1]}
    outcome = json.loads(run.stdout)
    done = f"{outcome['kills']} kills, {outcome['batches']} batches in the ledger, {outcome['seconds']:.0f} s"
    return {"value": len(outcome["faults"]), "detail": "; ".join([done, *outcome["faults"][:3]])}


def _bare_polars(files: Path, target: Path) -> float:
    import polars as pl

    started = time.perf_counter()
    for file in sorted(files.glob("*.csv.gz")):
        rows = pl.scan_csv(file, infer_schema=False).select(_cast(pl)).collect()
        rows.write_delta(target, mode="append")
    return time.perf_counter() - started


def _cast(polars: Any) -> list[pl.Expr]:
    times = [polars.col(name).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False) for name in _TIMES]
    zone = [
        one.dt.replace_time_zone("America/New_York", ambiguous="earliest", non_existent="null").dt.convert_time_zone(
            "UTC"
        )
        for one in times
    ]
    whole = polars.col(_WHOLE).cast(polars.Float64, strict=False).cast(polars.Int32, strict=False)
    return [
        *zone,
        whole,
        polars.col(_TEXT),
        polars.exclude(*_TIMES, *_WHOLE, *_TEXT).cast(polars.Float64, strict=False),
    ]


def _ingest(city: str, real_data: Path, home: Path) -> tuple[float, float]:
    """Seconds of the whole ingest, and of those the ones that count trips into observations."""
    from mtgpt.ingest.manifest import load_manifest
    from mtgpt.lake.intake import ingest_city
    from mtgpt.lake.lake import Lake
    from mtgpt.settings import Settings

    settings = Settings(home=home, real_data=real_data)
    manifest = load_manifest(city, settings=settings)
    started = time.perf_counter()
    results = ingest_city(manifest, Lake.open(settings.lake), settings=settings)
    seconds = time.perf_counter() - started
    if any(result.status != "committed" for result in results):
        raise RuntimeError(f"{city}: {[(result.source_id, result.status, result.reason) for result in results]}")
    return seconds, sum(result.seconds for result in results if result.source_id.startswith("derived:"))


def _alone(city: str, real_data: Path, scratch: Path) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.bench_ingest", city, str(real_data), str(scratch)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def _report(city: str, real_data: Path, scratch: Path) -> None:
    from mtgpt.lake.lake import Lake

    seconds, _ = _ingest(city, real_data, scratch / "alone")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = int(Lake.open(scratch / "alone" / "lake").ledger()["rows_in"].sum())
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_mb": peak_mb, "rows": rows}))
    shutil.rmtree(scratch / "alone")


def _ratio(context: Context) -> Iterator[Row]:
    found = green_taxi_ratio(context.real_data, context.scratch)
    yield at_most("green_taxi_ratio", found["value"], 2.5, "×", found["detail"])
    yield for_comparison(
        "green_taxi_ratio_with_counts", found["with_counts"], "×", "and counted into departures and arrivals"
    )


def _peak(context: Context) -> Iterator[Row]:
    found = green_taxi_peak_mb(context.real_data, context.scratch)
    yield at_most("green_taxi_peak_mb", found["value"], 1500, "MB", found["detail"])


def _loops(context: Context) -> Iterator[Row]:
    found = pemsd7_seconds(context.real_data, context.scratch)
    yield at_most("pemsd7_seconds", found["value"], 10, "s", found["detail"])


def _kills(context: Context) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        found = crash_kills(200, Path(folder))
    yield at_most("crash_kills", found["value"], 0, "faults", found["detail"])


BENCHES = (
    Bench(rows=("green_taxi_ratio",), run=_ratio, needs=(GREEN, "geo")),
    Bench(rows=("green_taxi_peak_mb",), run=_peak, needs=(GREEN, "geo")),
    Bench(rows=("pemsd7_seconds",), run=_loops, needs=(LOOPS,)),
    Bench(rows=("crash_kills",), run=_kills),
)


if __name__ == "__main__":
    _report(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
