"""Remakes the raw feeds of the demo city Simulon: ``python -m mtgpt.sim.demo_city --out flows/cities/demo --seed 7``.

Nobody needs to run this: the feeds it makes are in the repository. It needs the extra ``sim`` and takes some minutes.
The same seed and the same UXsim give the same traffic.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import polars as pl
import typer

from mtgpt.sim.bikes import day_trips
from mtgpt.sim.network import build_network
from mtgpt.sim.publish import write_bikes, write_incidents, write_roads, write_weather
from mtgpt.sim.sky import days, make_weather

if TYPE_CHECKING:
    from collections.abc import Callable

DAYS = 28


def make_demo_city(out: Path, *, seed: int, day_count: int = DAYS, say: Callable[[str], None] | None = None) -> Path:
    """Simulates the city and writes its departments' feeds.

    Args:
        out: Folder that gets ``roads``, ``bikes`` and ``weather``.
        seed: Of demand, weather, incidents and faults; the streets are always the same.
        day_count: Local days from 11 March 2024.
        say: Called with a line per simulated day.

    Returns:
        ``out``.
    """
    # Here and not above: publishing and serving the feeds must work where UXsim is not installed.
    from mtgpt.sim.traffic import draw_incidents, simulate_day  # noqa: PLC0415

    network, period = build_network(), days(day_count)
    weather_seed, road_seed, bike_seed, fault_seed = np.random.SeedSequence(seed).spawn(4)
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
    return out


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
