"""Who enters the metro of the simulated city: passengers through each station's gates in five minutes.

They leave home in the morning and work in the evening, take the metro rather than the bike in the rain, and fill it
before and after football.
"""

from __future__ import annotations

import gzip
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from mtgpt.sim.demand import MATCHES
from mtgpt.sim.sky import TIME_ZONE

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.sim.network import Network
    from mtgpt.sim.sky import Day, Weather
    from mtgpt.sim.transit import Stop, Transit

STEP_S = 300
_DAILY = 62_000.0
_STADIUM = "Stadium"
_FANS = 7_500.0
_OPEN_H, _LAST_H, _NIGHT_H = 4.8, 0.5, 4.0


def day_entries(network: Network, transit: Transit, day: Day, weather: Weather, rng: np.random.Generator) -> np.ndarray:
    """int64 [steps, stations] of one local day; zero while the gates are shut."""
    stations = transit.stations
    begin_s = np.arange(day.hours * 3600 // STEP_S) * STEP_S
    clock = day.clock(begin_s + STEP_S / 2) % 24
    rain = np.array([min(weather.rain_at(day.start + timedelta(seconds=float(s))), 3.0) for s in begin_s])
    homes, jobs, fun = _pull(network, stations)
    away, back, leisure = _profiles(day, clock)
    rate = np.outer(away, homes) + np.outer(back, jobs) + np.outer(leisure, fun)
    rate *= _DAILY * float(rng.lognormal(0, 0.035)) * rng.lognormal(0, 0.05, size=(1, len(stations)))
    rate *= (1 + 0.05 * rain)[:, None]
    rate += _football(day, clock, stations, homes)
    mood = np.exp(_wander(len(begin_s), len(stations), rng))
    return rng.poisson(rate * mood * _open(day, clock)[:, None] * (STEP_S / 3600))


def write_entries(
    folder: Path, transit: Transit, period: list[Day], entries: list[np.ndarray], rng: np.random.Generator
) -> None:
    """A file a month: naive local time, a column per station; a gate's controller that is down leaves cells empty."""
    folder.mkdir(parents=True, exist_ok=True)
    zone = ZoneInfo(TIME_ZONE)
    header = ",".join(["time", *(stop.stop_id for stop in transit.stations)])
    months: dict[str, list[str]] = {}
    for day, counts in zip(period, entries, strict=True):
        text = counts.astype("U8")
        for _ in range(int(rng.poisson(0.3))):
            start, station = int(rng.integers(len(text))), int(rng.integers(text.shape[1]))
            text[start : start + int(rng.integers(3, 40)), station] = ""
        for i, row in enumerate(text.tolist()):
            at = (day.start + timedelta(seconds=i * STEP_S)).astimezone(zone)
            months.setdefault(f"{at:%Y-%m}", []).append(",".join([f"{at:%Y-%m-%d %H:%M}", *row]))
    for month, lines in months.items():
        content = "\n".join([header, *lines, ""]).encode()
        (folder / f"metro_entries_{month}.csv.gz").write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def _pull(network: Network, stations: tuple[Stop, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at = [network.junction(stop.junction) for stop in stations]
    shares = np.array([[j.homes, j.jobs, j.shops] for j in at])
    # Park and ride: what the approaches bring is more than who lives at the ring.
    shares[:, 0] += [1.6 if "P+R" in stop.name else 0.0 for stop in stations]
    shares /= shares.sum(axis=0)
    return shares[:, 0], shares[:, 1], shares[:, 2]


def _bump(clock: np.ndarray, weight: float, hour: float, spread: float) -> np.ndarray:
    away = (clock - hour + 12) % 24 - 12
    return weight * np.exp(-0.5 * (away / spread) ** 2) / (spread * np.sqrt(2 * np.pi))


def _profiles(day: Day, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # From home, from work, between leisure: persons per hour whose integrals are shares of a day's passengers.
    if day.day_off:
        outing = _bump(clock, 0.18, 11.5, 2.0) + _bump(clock, 0.22, 16.0, 2.6) + _bump(clock, 0.06, 22.5, 1.6)
        return _bump(clock, 0.07, 9.5, 1.6), _bump(clock, 0.05, 17.8, 2.0), outing
    away = _bump(clock, 0.33, 7.6, 0.7) + _bump(clock, 0.1, 9.0, 1.1)
    back = _bump(clock, 0.31, 17.0, 1.0) + _bump(clock, 0.06, 14.0, 1.8)
    return away, back, _bump(clock, 0.1, 12.5, 2.2) + _bump(clock, 0.09, 19.3, 1.9) + _bump(clock, 0.02, 23.0, 1.0)


def _football(day: Day, clock: np.ndarray, stations: tuple[Stop, ...], homes: np.ndarray) -> np.ndarray:
    rate = np.zeros((len(clock), len(stations)))
    if day.date in MATCHES:
        stadium = next(i for i, stop in enumerate(stations) if stop.name == _STADIUM)
        rate += _FANS * _bump(clock, 1.0, 18.6, 0.4)[:, None] * homes[None]
        rate[:, stadium] = _FANS * _bump(clock, 1.0, 21.55, 0.22)
    return rate


def _open(day: Day, clock: np.ndarray) -> np.ndarray:
    # Gates are open until the last train; on the nights after Fridays and Saturdays trains run until four.
    night = day.date.weekday() in {5, 6}
    return ((clock >= _OPEN_H) | (clock < (_NIGHT_H if night else _LAST_H))).astype(np.float64)


def _wander(steps: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros((steps, columns))
    chance = rng.normal(0, 0.035, size=(steps, columns))
    for i in range(1, steps):
        out[i] = 0.93 * out[i - 1] + chance[i]
    return out
