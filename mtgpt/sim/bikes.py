"""Bike-share trips of the simulated city, in the thirteen columns in which Citi Bike publishes.

Demand follows the hour, the kind of day, rain and temperature; a trip goes where people go, less likely far or uphill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from mtgpt.sim.network import place
from mtgpt.sim.sky import TIME_ZONE

if TYPE_CHECKING:
    from mtgpt.sim.network import Network
    from mtgpt.sim.sky import Day, Weather

_SLOT_S = 900
_SPEED_M_S = 3.6
_TRIPS_PER_DAY = 2300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A bike-share station.

    Attributes:
        station_id: The operator's id.
        name: What riders call it.
        x_m: Metres east of the centre.
        y_m: Metres north of the centre.
        homes: Relative weight of people who live near.
        jobs: Relative weight of people who work near.
        fun: Relative weight of leisure near.
    """

    station_id: str
    name: str
    x_m: float
    y_m: float
    homes: float
    jobs: float
    fun: float


_STATIONS = (
    ("Central Station", "inner6", 0.7, 2.6, 1.0),
    ("Town Hall", "centre", 0.3, 2.2, 1.6),
    ("Market Square", "inner0", 0.6, 1.3, 2.0),
    ("Opera", "inner2", 0.6, 1.2, 1.8),
    ("Old Harbour", "inner8", 0.8, 1.1, 1.9),
    ("University", "inner10", 0.9, 2.4, 1.0),
    ("Science Park", "mid10", 0.5, 2.0, 0.4),
    ("Stadium", "mid4", 1.4, 0.6, 1.0),
    ("Hospital", "inner4", 0.7, 1.6, 0.5),
    ("North Gate", "mid0", 1.9, 0.5, 0.7),
    ("Mill Meadows", "mid6", 2.2, 0.3, 1.2),
    ("Harbour Quarter", "mid8", 2.4, 0.5, 1.1),
    ("Airport Way / Park Belt", "mid2", 1.7, 0.6, 0.6),
    ("Botanical Garden", "ring11", 0.9, 0.2, 1.9),
)


def stations(network: Network) -> list[Station]:
    """All stations, a short walk from a junction."""
    found = []
    for i, (name, junction, homes, jobs, fun) in enumerate(_STATIONS):
        at = network.junction(junction)
        angle = 2.4 * i
        found.append(
            Station(
                station_id=f"SB{i + 1:03d}",
                name=name,
                x_m=at.x_m + 170 * math.cos(angle),
                y_m=at.y_m + 170 * math.sin(angle),
                homes=homes,
                jobs=jobs,
                fun=fun,
            )
        )
    return found


def day_trips(network: Network, day: Day, weather: Weather, rng: np.random.Generator) -> pl.DataFrame:
    """Trips that start on one day, in order of their start; naive local times, as published."""
    places = stations(network)
    slots = day.hours * 3600 // _SLOT_S
    begin_s = np.arange(slots) * _SLOT_S
    clock = day.clock(begin_s + _SLOT_S / 2)
    at = [day.start + timedelta(seconds=float(s)) for s in begin_s]
    rain = np.array([weather.rain_at(t) for t in at])
    warm = np.array([weather.temperature_at(t) for t in at])
    ride = np.exp(-0.75 * np.minimum(rain, 4)) * np.clip(0.62 + 0.035 * warm, 0.4, 1.25)
    out, back, fun = _pairs(places)
    rate = np.zeros((slots, len(places), len(places)))
    for pairs, profile in ((out, _morning(day, clock)), (back, _evening(day, clock)), (fun, _leisure(day, clock))):
        rate += pairs[None] * profile[:, None, None]
    rate *= _TRIPS_PER_DAY * float(rng.lognormal(0, 0.07)) * ride[:, None, None]
    count = rng.poisson(rate * (_SLOT_S / 3600))
    slot, start, end = (np.repeat(axis, count[np.nonzero(count)]) for axis in np.nonzero(count))
    start_s = begin_s[slot] + rng.integers(0, _SLOT_S, size=len(slot))
    order = np.argsort(start_s, kind="stable")
    start_s, start, end = start_s[order], start[order], end[order]
    return _published(places, day, rng, start_s=start_s, start=start, end=end)


def _published(
    places: list[Station],
    day: Day,
    rng: np.random.Generator,
    *,
    start_s: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> pl.DataFrame:
    n = len(start_s)
    xy = np.array([[p.x_m, p.y_m] for p in places])
    metres = np.hypot(*(xy[start] - xy[end]).T) * 1.3
    loop_s = rng.gamma(2.2, 620.0, size=n)
    ride_s = np.where(start == end, loop_s, metres / _SPEED_M_S * rng.lognormal(0, 0.22, size=n)) + 75
    end_s = start_s + np.ceil(np.maximum(ride_s, 70)).astype(np.int64)
    lonlat = np.round([place(p.x_m, p.y_m) for p in places], 5)
    member = rng.random(n) < (0.62 if day.day_off else 0.84)
    electric = rng.random(n) < 0.38
    names, ids = (np.array([getattr(p, what) for p in places]) for what in ("name", "station_id"))
    # A lost bike ends nowhere; the operator leaves the end empty.
    lost = rng.random(n) < 0.002
    return pl.DataFrame(
        {
            "ride_id": [f"{value:016X}" for value in rng.integers(2**63, size=n, dtype=np.uint64)],
            "rideable_type": np.where(electric, "electric_bike", "classic_bike"),
            "started_at": _local(day, start_s),
            "ended_at": _local(day, end_s),
            "start_station_name": names[start],
            "start_station_id": ids[start],
            "end_station_name": pl.Series([None if gone else v for v, gone in zip(names[end], lost, strict=True)]),
            "end_station_id": pl.Series([None if gone else v for v, gone in zip(ids[end], lost, strict=True)]),
            "start_lat": lonlat[start, 1],
            "start_lng": lonlat[start, 0],
            "end_lat": pl.Series([None if gone else v for v, gone in zip(lonlat[end, 1], lost, strict=True)]),
            "end_lng": pl.Series([None if gone else v for v, gone in zip(lonlat[end, 0], lost, strict=True)]),
            "member_casual": np.where(member, "member", "casual"),
        }
    )


def _local(day: Day, seconds: np.ndarray) -> list[str]:
    zone = ZoneInfo(TIME_ZONE)
    return [(day.start + timedelta(seconds=int(s))).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") for s in seconds]


def _pairs(places: list[Station]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    xy = np.array([[p.x_m, p.y_m] for p in places])
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    near = np.exp(-distance / 1900.0)
    np.fill_diagonal(near, 0.0)
    homes, jobs, fun = (np.array([getattr(p, what) for p in places]) for what in ("homes", "jobs", "fun"))
    work = homes[:, None] * jobs[None] * near
    # Leisure rides may end where they began.
    leisure = fun[:, None] * fun[None] * (near + 0.35 * np.eye(len(places)))
    work, leisure = work / work.sum(), leisure / leisure.sum()
    return work, work.T, leisure


def _bump(clock: np.ndarray, weight: float, hour: float, spread: float) -> np.ndarray:
    away = (clock - hour + 12) % 24 - 12
    return weight * np.exp(-0.5 * (away / spread) ** 2) / (spread * math.sqrt(2 * math.pi))


def _morning(day: Day, clock: np.ndarray) -> np.ndarray:
    return _bump(clock, 0.04, 9.5, 1.5) if day.day_off else _bump(clock, 0.36, 8.0, 0.8)


def _evening(day: Day, clock: np.ndarray) -> np.ndarray:
    return _bump(clock, 0.05, 18.0, 2.0) if day.day_off else _bump(clock, 0.37, 17.4, 1.2)


def _leisure(day: Day, clock: np.ndarray) -> np.ndarray:
    if day.day_off:
        return _bump(clock, 0.72, 14.8, 2.6) + _bump(clock, 0.1, 22.5, 2.2)
    return _bump(clock, 0.16, 12.6, 2.0) + _bump(clock, 0.2, 19.0, 2.0) + _bump(clock, 0.03, 0.0, 1.8)
