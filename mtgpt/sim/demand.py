"""Who drives where and when in the simulated city: trips of a day, as platoons of vehicles.

Gravity between homes, jobs and shops; workday and weekend profiles; noise from day to day, within the day and by
origin; rain and football. Rates are vehicles per day and purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mtgpt.sim.network import Network
    from mtgpt.sim.sky import Day, Weather

PLATOON = 3
"""Vehicles that UXsim moves together."""

SLOT_S = 900
WARM_UP_S = 3600
"""A day's simulation starts an hour before midnight, so that the streets are not empty at 00:00."""

MATCHES = (date(2024, 3, 16), date(2024, 3, 27), date(2024, 4, 6))
"""Football evenings: the stadium fills before 19:30 and empties after 21:20."""

_SCALE = 1.12
_STADIUM = "mid4"
_MATCH_VEHICLES = 5200.0
_WORKDAY_FACTOR = (0.975, 1.0, 1.01, 1.02, 1.035)


@dataclass(frozen=True, slots=True, kw_only=True)
class Departures:
    """Platoons of one day, in order of departure.

    Attributes:
        time_s: Seconds after local midnight; negative in the warm-up hour.
        origin: Index of the junction.
        target: Index of the junction.
    """

    time_s: np.ndarray
    origin: np.ndarray
    target: np.ndarray


def day_departures(network: Network, day: Day, weather: Weather, rng: np.random.Generator) -> Departures:
    """Draws all platoons of a day."""
    slots = (WARM_UP_S + day.hours * 3600) // SLOT_S
    begin_s = np.arange(slots) * SLOT_S - WARM_UP_S
    clock = day.clock(begin_s + SLOT_S / 2) % 24
    commute, errand, through = _gravity(network)
    wet = np.array([min(weather.rain_at(day.start + timedelta(seconds=float(s))), 3.0) / 3.0 for s in begin_s])
    mood = 1 + _noise(slots, rng, hold=0.85, spread=0.05)
    level = float(rng.lognormal(0, 0.04))
    parts = [
        (commute, _to_work(day, clock)),
        (commute.T, _from_work(day, clock)),
        (errand, _errands(day, clock) * 0.55),
        (errand.T, _errands(day, (clock - 1.4) % 24) * 0.45),
        (through, _through(day, clock)),
        *_football(network, day, clock),
    ]
    J = len(network.junctions)
    rate = np.zeros((slots, J, J))
    for pairs, profile in parts:
        size = float(rng.lognormal(0, 0.035))
        rate += pairs[None] * (profile * size)[:, None, None]
    rate *= (_SCALE * level * mood * (1 + 0.06 * wet))[:, None, None]
    rate *= rng.lognormal(0, 0.08, size=(1, J, 1)) * rng.lognormal(0, 0.05, size=(1, 1, J))
    count = rng.poisson(rate * (SLOT_S / 3600.0) / PLATOON)
    slot, origin, target = np.nonzero(count)
    repeat = count[slot, origin, target]
    time_s = np.repeat(begin_s[slot], repeat) + rng.uniform(0, SLOT_S, size=int(repeat.sum()))
    order = np.argsort(time_s, kind="stable")
    return Departures(
        time_s=time_s[order], origin=np.repeat(origin, repeat)[order], target=np.repeat(target, repeat)[order]
    )


def _gravity(network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.array([[j.x_m, j.y_m] for j in network.junctions])
    distance = np.hypot(*(x[:, None] - x[None]).transpose(2, 0, 1))
    homes, jobs, shops = (
        np.array([getattr(j, what) for j in network.junctions]) for what in ("homes", "jobs", "shops")
    )
    gate = np.array([j.name.startswith("gate") for j in network.junctions], dtype=np.float64)

    def share(out: np.ndarray, back: np.ndarray, decay_m: float) -> np.ndarray:
        pairs = out[:, None] * back[None] * np.exp(-distance / decay_m)
        # Trips of under 900 m are walked.
        pairs[distance < 900] = 0
        return pairs / pairs.sum()

    return share(homes, jobs, 9000.0), share(homes, shops, 4200.0), share(gate, gate, 20_000.0)


def _bump(clock: np.ndarray, *peaks: tuple[float, float, float]) -> np.ndarray:
    # Vehicles per hour whose integral over the day is the sum of the weights.
    total = np.zeros_like(clock)
    for weight, hour, spread in peaks:
        away = (clock - hour + 12) % 24 - 12
        total += weight * np.exp(-0.5 * (away / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    return total


def _to_work(day: Day, clock: np.ndarray) -> np.ndarray:
    if day.day_off:
        return 9_000 * _bump(clock, (0.7, 8.6, 1.8), (0.3, 14, 3))
    size = 66_000 * _WORKDAY_FACTOR[day.date.weekday()]
    return size * _bump(clock, (0.60, 7.6, 0.75), (0.25, 8.9, 1.0), (0.11, 13, 2.6), (0.04, 5.2, 0.6))


def _from_work(day: Day, clock: np.ndarray) -> np.ndarray:
    if day.day_off:
        return 9_000 * _bump(clock, (0.7, 17.4, 2.0), (0.3, 22, 1.4))
    size = 66_000 * _WORKDAY_FACTOR[day.date.weekday()]
    if day.date.weekday() == 4:
        return size * _bump(clock, (0.5, 15.4, 1.3), (0.38, 17.3, 1.2), (0.12, 21.5, 1.6))
    return size * _bump(clock, (0.62, 17.1, 1.0), (0.24, 15.4, 1.4), (0.14, 20.5, 2.0))


def _errands(day: Day, clock: np.ndarray) -> np.ndarray:
    if day.day_off and day.date.weekday() != 5:
        return 82_000 * _bump(clock, (0.3, 11.0, 1.6), (0.48, 15.5, 2.2), (0.18, 19.4, 1.8), (0.04, 1.0, 1.6))
    if day.day_off:
        return 112_000 * _bump(clock, (0.42, 11.2, 1.6), (0.32, 15.2, 2.1), (0.19, 19.4, 1.7), (0.07, 0.8, 1.8))
    return 70_000 * _bump(clock, (0.3, 10.6, 1.9), (0.32, 16.2, 2.2), (0.32, 18.9, 1.6), (0.06, 23.0, 1.9))


def _through(day: Day, clock: np.ndarray) -> np.ndarray:
    size = 17_000 if day.day_off else 34_000
    return size * _bump(clock, (0.38, 8.6, 2.4), (0.44, 15.6, 3.0), (0.18, 2.0, 5.0))


def _football(network: Network, day: Day, clock: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    if day.date not in MATCHES:
        return []
    homes = np.array([j.homes for j in network.junctions])
    to_stadium = np.zeros((len(homes), len(homes)))
    to_stadium[:, [j.name for j in network.junctions].index(_STADIUM)] = homes / homes.sum()
    there, back = _bump(clock, (1.0, 18.7, 0.45)), _bump(clock, (1.0, 21.6, 0.28))
    return [(to_stadium, _MATCH_VEHICLES * there), (to_stadium.T, _MATCH_VEHICLES * back)]


def _noise(n: int, rng: np.random.Generator, *, hold: float, spread: float) -> np.ndarray:
    out = np.zeros(n)
    for i in range(1, n):
        out[i] = hold * out[i - 1] + rng.normal(0, spread * np.sqrt(1 - hold**2))
    return out
