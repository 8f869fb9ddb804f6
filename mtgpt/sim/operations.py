"""How a day of public transport really went: every trip's arrivals and departures, and why some were late.

A bus takes as long as the street's traffic of that minute lets it; the metro has its own tunnel and its own failures. A
vehicle that arrives too late leaves too late on its next trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.sim.network import STEP_S
from mtgpt.sim.timetable import LAYOVER_S, service_start, services_on
from mtgpt.sim.transit import DWELL_S

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mtgpt.sim.network import Network
    from mtgpt.sim.sky import Day
    from mtgpt.sim.timetable import Timetable, Trip
    from mtgpt.sim.transit import Leg

_CANCELLED = 0.012
_LEAST_DWELL = 0.6
_SLOWEST_M_S = 4.5  # bus lanes lead past the worst queues
_MOST_BEHIND_S = 300.0  # beyond it a spare vehicle takes the trip over
_RECOVERED_S = 1.04  # a late metro train makes up so much of a leg's planned time


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """Something on a line's own tracks that holds its trips up.

    Attributes:
        route_id: The line.
        stop: Name of the station where trains wait.
        start: UTC.
        end: UTC.
        wait_s: What a train loses there.
    """

    route_id: str
    stop: str
    start: datetime
    end: datetime
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A trip as it went.

    Attributes:
        trip: As planned.
        vehicle: The number on its side.
        arrive_s: [stops] seconds of the service day; empty where the trip was cancelled.
        depart_s: [stops] as ``arrive_s``.
    """

    trip: Trip
    vehicle: str
    arrive_s: np.ndarray
    depart_s: np.ndarray

    @property
    def cancelled(self) -> bool:
        """Whether nobody drove it."""
        return self.arrive_s.size == 0

    @property
    def delay_s(self) -> np.ndarray:
        """[stops] lateness: at the departure, at the last stop at the arrival."""
        late = self.depart_s - np.array(self.trip.depart_s)
        late[-1] = self.arrive_s[-1] - self.trip.arrive_s[-1]
        return late


def run_day(
    network: Network,
    timetable: Timetable,
    day: Day,
    speed_kmh: np.ndarray,
    rng: np.random.Generator,
    *,
    disturbances: list[Disturbance],
) -> list[Run]:
    """Drives the trips of one service day, in order of their planned start.

    Args:
        network: The streets.
        timetable: What was planned.
        day: The day; trips past midnight meet the traffic of its last minutes.
        speed_kmh: [steps, detectors] of the day.
        rng: For passengers, drivers and everything else that differs from trip to trip.
        disturbances: On the lines' own tracks.
    """
    streets = {street.key: i for i, street in enumerate(network.detectors)}
    offset_s = (day.start - service_start(day.date)) / timedelta(seconds=1)
    today = [trip for trip in timetable.trips if trip.service in services_on(day.date)]
    behind: dict[str, float] = {}
    spares: dict[str, int] = {}
    runs = []
    for trip in sorted(today, key=lambda trip: (trip.depart_s[0], trip.trip_id)):
        if trip.line.mode == "bus" and rng.random() < _CANCELLED:
            runs.append(Run(trip=trip, vehicle="", arrive_s=np.empty(0), depart_s=np.empty(0)))
            continue
        if behind.get(trip.block, 0.0) > _MOST_BEHIND_S:
            spares[trip.block] = spares.get(trip.block, 0) + 1
            behind[trip.block] = 0.0
        traffic = _Traffic(speed_kmh=speed_kmh, column=streets, offset_s=offset_s)
        run = _drive(
            trip,
            traffic,
            rng,
            vehicle=_vehicle(trip, spares.get(trip.block, 0)),
            behind_s=behind.get(trip.block, 0.0),
            waits=_waits(trip, day, disturbances),
        )
        behind[trip.block] = max(0.0, float(run.delay_s[-1]) - LAYOVER_S)
        runs.append(run)
    return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traffic:
    speed_kmh: np.ndarray
    column: Mapping[str, int]
    offset_s: float

    def seconds(self, leg: Leg, at_s: float) -> float:
        """What a bus needs for a leg that it enters now, without chance."""
        column = self.column.get(leg.street or "")
        if column is None:
            return leg.free_s
        step = int(np.clip((at_s - self.offset_s) // STEP_S, 0, len(self.speed_kmh) - 1))
        speed = max(float(self.speed_kmh[step, column]) / 3.6 * 0.9, _SLOWEST_M_S)
        return max(leg.free_s, leg.length_m / speed + 12.0)


def _vehicle(trip: Trip, spares: int) -> str:
    # The line, the position in the day's work, and a letter for each spare that took it over.
    return f"{trip.line.route_id}-{trip.block.rsplit('-', 1)[-1]}{'' if spares == 0 else f'S{spares}'}"


def _waits(trip: Trip, day: Day, disturbances: list[Disturbance]) -> list[tuple[int, float, float, float]]:
    # Index of the stop, from and until when (seconds of the service day), seconds lost.
    zero = service_start(day.date)
    names = [stop.name for stop in trip.way.stops]
    return [
        (
            names.index(one.stop),
            (one.start - zero) / timedelta(seconds=1),
            (one.end - zero) / timedelta(seconds=1),
            one.wait_s,
        )
        for one in disturbances
        if one.route_id == trip.line.route_id
    ]


def _drive(
    trip: Trip,
    traffic: _Traffic,
    rng: np.random.Generator,
    *,
    vehicle: str,
    behind_s: float,
    waits: list[tuple[int, float, float, float]],
) -> Run:
    mode = trip.line.mode
    dwell = DWELL_S[mode]
    now = trip.depart_s[0] + behind_s + float(rng.exponential(6.0 if mode == "metro" else 20.0))
    arrive, depart = [float(trip.depart_s[0])], [now]
    last = len(trip.way.legs)
    for i, leg in enumerate(trip.way.legs, start=1):
        planned = trip.arrive_s[i] - trip.depart_s[i - 1]
        if mode == "metro":
            late = now > trip.depart_s[i - 1] + 20
            now += planned / (_RECOVERED_S if late else 1.0) * float(rng.normal(1.0, 0.012))
        else:
            now += traffic.seconds(leg, now) * float(rng.lognormal(0.0, 0.05))
        arrive.append(now)
        if i < last:
            now += dwell * float(rng.uniform(_LEAST_DWELL, 1.7))
            now += sum(wait for stop, start, end, wait in waits if stop == i and start <= now < end)
            # Nobody leaves before time.
            now = max(now, float(trip.depart_s[i]))
        depart.append(now)
    return Run(trip=trip, vehicle=vehicle, arrive_s=np.array(arrive), depart_s=np.array(depart))
