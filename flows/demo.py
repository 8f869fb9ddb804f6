"""The whole road on the demo city: its departments' feeds over HTTP, to a report that a person would open.

``python -m flows.demo`` (or ``make demo``). The city is simulated, and every output says so.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.city import name_of_run
from flows.ingest import ingest
from flows.panel import panel
from flows.train import train
from mtgpt.eval.report import write_report
from mtgpt.eval.report_feeds import read_feeds
from mtgpt.eval.score import evaluate
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.panel.store import latest_panel
from mtgpt.serve.render import as_png
from mtgpt.settings import settings
from mtgpt.sim.departments import serve_departments, snapshots, write_demo_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.panel.panel import Panel

CITY = "demo"
HOURS = (8, 17)  # of the last working day: when a planner looks
SCORED = 400  # windows at most: every n-th of the test days, n as small as that allows


@task(cache_policy=NO_CACHE)
def follow(manifest: str, polls: dict[str, int]) -> None:
    """Asks each live source again until its recorded day is over: every answer is the next snapshot.

    Args:
        manifest: Path of the manifest.
        polls: Snapshots by source; the first of each is there already.
    """
    now = settings()
    city, lake = load_manifest(manifest, settings=now), Lake.open(now.lake)
    for poll in range(1, max(polls.values(), default=0)):
        ingest_city(city, lake, settings=now, only=[source for source, count in polls.items() if poll < count])


@task(cache_policy=NO_CACHE)
def report(folder: str, model: str, timings: dict[str, float]) -> str:
    """Forecasts, scores against the baselines, and writes ``report.html`` with pictures beside it.

    Args:
        folder: Where to.
        model: The model's folder.
        timings: Seconds of the stages before; what this one took is added.

    Returns:
        Path of the report.
    """
    now, place = settings(), Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    city, net, lake = latest_panel(now, CITY), MTGPT.from_pretrained(model), Lake.open(now.lake)
    started = time.monotonic()
    forecaster = Forecaster(net, city)
    forecasts = [forecaster.forecast(at) for at in moments(city)]
    timings = timings | {"forecast": time.monotonic() - started}
    started = time.monotonic()
    scores = evaluate(city, net, stride=max(1, city.n_step // 5 // SCORED)).frame()
    timings |= {"score": time.monotonic() - started}
    as_png(forecasts[0], place / "forecast.png")
    as_png(forecasts[0], place / "map.png", kind="map")
    path = write_report(
        place / "report.html",
        manifest=load_manifest(CITY, settings=now),
        ledger=lake.ledger(CITY),
        quarantine=lake.quarantine(CITY),
        panel=city,
        forecasts=forecasts,
        scores=scores,
        timings=timings,
        feeds=read_feeds(lake, CITY, forecasts),
    )
    return str(path)


def moments(city: Panel) -> list[np.datetime64]:
    """Ends of visible history at :data:`HOURS` of the last working day whose outcome is known, UTC."""
    calendar, interval_s = city.calendar, city.meta.interval_s
    whole = np.bincount(calendar.day) == calendar.slots_per_day
    day = np.flatnonzero(whole & ~calendar.day_off)[-1]
    at = (calendar.day == day) & np.isin(calendar.slot, [hour * 3600 // interval_s for hour in HOURS])
    return list(city.time[at])


@flow(flow_run_name="demo", result_serializer="json")
def demo(folder: str, changes: dict[str, Any] | None = None) -> str:
    """Runs the road on the demo city.

    Args:
        folder: Where the report goes.
        changes: Fields of the recipe ``quick`` to set differently.

    Returns:
        Path of the report.
    """
    now = settings()
    timings: dict[str, float] = {}
    with serve_departments(now.cities / CITY) as base_url:
        manifest = str(write_demo_manifest(now.cities / f"{CITY}.yaml", base_url, now.home / "cities" / f"{CITY}.yaml"))
        with _timed("ingest", timings):
            ingest(manifest)
            follow(manifest, snapshots(now.cities / f"{CITY}.yaml"))
        with _timed("panel", timings):
            panel(manifest)
    with _timed("train", timings):
        model = train([CITY], "quick", name_of_run(CITY, "quick"), changes)
    return report(folder, model, timings)


@contextmanager
def _timed(stage: str, timings: dict[str, float]) -> Iterator[None]:
    started = time.monotonic()
    yield
    timings[stage] = time.monotonic() - started


def main(
    folder: Annotated[Path, typer.Option(help="Where the report goes.")] = Path(".demo"),
) -> None:
    """Run the whole road on the simulated demo city and leave a report."""
    started = time.monotonic()
    path = demo(str(folder))
    sys.stdout.write(
        f"\nThe road from feeds to forecasts took {time.monotonic() - started:.0f} s. The city is simulated.\n"
        f"Open {path} in a browser. Then try: {os.path.relpath(Path(sys.executable).parent)}/mtgpt forecast {CITY}\n"
    )


if __name__ == "__main__":
    runtime.program(main)
