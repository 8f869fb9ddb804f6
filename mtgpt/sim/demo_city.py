"""Remakes the raw feeds of the demo city Simulon: ``python -m mtgpt.sim.demo_city --out flows/cities/demo --seed 7``.

Nobody needs to run this: the feeds it makes are in the repository. It needs the extra ``sim`` and takes some minutes.
The same seed and the same UXsim give the same traffic.
"""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import polars as pl
import typer

from mtgpt.sim.alerts import alerts_of, metro_failure
from mtgpt.sim.bikes import day_trips, stations
from mtgpt.sim.docks import stock, write_gbfs
from mtgpt.sim.network import build_network
from mtgpt.sim.operations import run_day
from mtgpt.sim.publish import write_bikes, write_incidents, write_roads, write_weather
from mtgpt.sim.publish_transit import write_gtfs
from mtgpt.sim.realtime import ServiceDay, write_realtime
from mtgpt.sim.riders import day_entries, write_entries
from mtgpt.sim.sky import days, make_weather
from mtgpt.sim.timetable import build_timetable
from mtgpt.sim.transit import build_transit

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mtgpt.sim.network import Network
    from mtgpt.sim.sky import Day, Weather
    from mtgpt.sim.traffic import Incident

DAYS = 28
RECORDED_H = ((7, 9), (16, 18))
"""Local hours of the last working day in which the live feeds were recorded."""

RECORDED_EVERY_MIN = 10


def make_demo_city(out: Path, *, seed: int, day_count: int = DAYS, say: Callable[[str], None] | None = None) -> Path:
    """Simulates the city and writes its departments' feeds.

    Args:
        out: Folder that gets ``roads``, ``bikes``, ``weather`` and ``transit``.
        seed: Of demand, weather, incidents and faults; the streets are always the same.
        day_count: Local days from 11 March 2024.
        say: Called with a line per simulated day.

    Returns:
        ``out``.
    """
    # Here and not above: publishing and serving the feeds must work where UXsim is not installed.
    from mtgpt.sim.traffic import draw_incidents, simulate_day  # noqa: PLC0415

    network, period = build_network(), days(day_count)
    weather_seed, road_seed, bike_seed, fault_seed, transit_seed = np.random.SeedSequence(seed).spawn(5)
    weather = make_weather(period, np.random.default_rng(weather_seed))
    incidents, traffic = [], []
    for day, day_seed in zip(period, road_seed.spawn(day_count), strict=True):
        began = time.monotonic()
        rng = np.random.default_rng(day_seed)
        found = draw_incidents(network, day, weather, rng)
        incidents += found
        seen = simulate_day(network, day, weather, found, rng)
        traffic.append(seen)
        if say is not None:
            say(
                f"{day.date:%a %d %b}: {seen.vehicles:,} vehicles, {len(found)} incidents, "
                f"{seen.late} late at midnight, {time.monotonic() - began:.1f} s"
            )
    bike_rng = np.random.default_rng(bike_seed)
    trips = pl.concat([day_trips(network, day, weather, bike_rng) for day in period])
    fault_rng = np.random.default_rng(fault_seed)
    write_roads(out / "roads", network, period, traffic, fault_rng)
    write_incidents(out / "roads", incidents, network)
    write_bikes(out / "bikes", trips, fault_rng)
    write_weather(out / "weather", weather)
    live = _live_day(period)
    write_gbfs(out / "bikes" / "gbfs", stations(network), stock(stations(network), trips), _moments(live))
    _write_transit(
        out / "transit",
        network,
        period,
        weather,
        np.random.default_rng(transit_seed),
        live=live,
        speed_kmh=traffic[period.index(live)].speed_kmh,
        incidents=[one for one in incidents if live.start <= one.start < live.start + timedelta(hours=live.hours)],
    )
    return out


def _write_transit(
    folder: Path,
    network: Network,
    period: list[Day],
    weather: Weather,
    rng: np.random.Generator,
    *,
    live: Day,
    speed_kmh: np.ndarray,
    incidents: list[Incident],
) -> None:
    transit = build_transit(network)
    timetable = build_timetable(transit)
    write_gtfs(folder / "gtfs.zip", transit, timetable)
    entries = [day_entries(network, transit, day, weather, rng) for day in period]
    write_entries(folder, transit, period, entries, rng)
    failures = [metro_failure(live.date)]
    runs = run_day(network, timetable, live, speed_kmh, rng, disturbances=failures)
    told = alerts_of(live.date, network, transit, incidents, failures)
    day = ServiceDay(date=live.date, runs=runs, timetable=timetable, alerts=told)
    write_realtime(folder / "realtime", day, _moments(live))


def _live_day(period: list[Day]) -> Day:
    """The last working day: the live feeds were recorded then, in both rush hours."""
    return next((day for day in reversed(period) if not day.day_off), period[-1])


def _moments(day: Day) -> list[datetime]:
    """When the live feeds were recorded, UTC."""
    # No clock changes on a working day.
    minutes = [m for first, last in RECORDED_H for m in range(60 * first, 60 * last + 1, RECORDED_EVERY_MIN)]
    return [day.start + timedelta(minutes=m) for m in minutes]


def _command(
    out: Annotated[Path, typer.Option(help="Folder for the feeds.")] = Path("flows/cities/demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything but the streets.")] = 7,
    days: Annotated[int, typer.Option(help="Days to simulate.", min=1)] = DAYS,
) -> None:
    """Remakes the raw feeds of the demo city."""
    make_demo_city(out, seed=seed, day_count=days, say=typer.echo)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(_command)
