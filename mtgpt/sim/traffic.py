"""Road traffic of one simulated day: UXsim moves the platoons, detectors look on.

UXsim (https://github.com/toruseo/UXsim) is a mesoscopic simulator of Newell's car-following model; queues spill back
and shockwaves travel. Needs the extra ``sim``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from uxsim import World

from mtgpt.sim.demand import PLATOON, WARM_UP_S, Departures, day_departures
from mtgpt.sim.network import STEP_S

if TYPE_CHECKING:
    from datetime import datetime

    from mtgpt.sim.network import Network, Street
    from mtgpt.sim.sky import Day, Weather

_REACTION_S = 1.4
_JAM_VEH_M = 0.12
# The simulator counts every vehicle; a detector sees a prior of free traffic where hardly anyone passes.
_PRIOR_VEHICLES = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A crash or a breakdown on one street.

    Attributes:
        street: Key of the street.
        start: UTC.
        end: UTC.
        left: Share of the capacity that is left.
        kind: What happened.
    """

    street: str
    start: datetime
    end: datetime
    left: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTraffic:
    """What the detectors saw.

    Attributes:
        speed_kmh: [steps, detectors].
        flow_veh_h: [steps, detectors].
        vehicles: Vehicles that set out.
        late: Vehicles still under way at midnight.
    """

    speed_kmh: np.ndarray
    flow_veh_h: np.ndarray
    vehicles: int
    late: int


def draw_incidents(network: Network, day: Day, weather: Weather, rng: np.random.Generator) -> list[Incident]:
    """About three a day on workdays, more in the rain and at busy hours; they last from ten minutes to two hours."""
    streets = [s for s in network.streets if s.discharge_veh_h > 1300 and s.detector is not None]
    hours = np.arange(day.hours)
    clock = day.clock(hours * 3600.0 + 1800.0)
    wet = np.array([min(weather.rain_at(day.start + timedelta(hours=int(h))), 3.0) for h in hours])
    peaks = 0.6 * np.exp(-(((clock - 8) / 2) ** 2)) + 0.7 * np.exp(-(((clock - 17) / 2.5) ** 2))
    rate = (0.15 + peaks) * (1 + 0.5 * wet)
    rate *= (1.6 if day.day_off else 3.4) / 8.8
    found: list[Incident] = []
    for hour in hours:
        for _ in range(int(rng.poisson(rate[hour]))):
            street = streets[int(rng.integers(len(streets)))]
            start = day.start + timedelta(hours=int(hour), seconds=float(rng.integers(3600)))
            lasts = timedelta(minutes=float(np.clip(rng.lognormal(3.4, 0.5), 10, 120)))
            left = float(rng.uniform(0.25, 0.6)) * (1.0 if street.lanes > 1 else 0.8)
            kind = str(rng.choice(["crash", "breakdown", "works"], p=[0.5, 0.35, 0.15]))
            found.append(Incident(street=street.key, start=start, end=start + lasts, left=round(left, 2), kind=kind))
    return sorted(found, key=lambda incident: incident.start)


def simulate_day(
    network: Network, day: Day, weather: Weather, incidents: list[Incident], rng: np.random.Generator
) -> DayTraffic:
    """One local day at five minutes; some seconds of work."""
    departures = day_departures(network, day, weather, rng)
    world = _build_world(network, day, departures, seed=int(rng.integers(2**31 - 1)))
    for until_s in _changes(day, incidents):
        _set_conditions(world, network, day, weather, incidents)
        world.exec_simulation(until_t=min(until_s, world.TMAX))
    detectors = network.detectors
    steps = day.hours * 3600 // STEP_S
    speed, flow = np.zeros((steps, len(detectors))), np.zeros((steps, len(detectors)))
    rain = np.array([weather.rain_at(day.start + timedelta(seconds=(i + 0.5) * STEP_S)) for i in range(steps)])
    for i, street in enumerate(detectors):
        speed[:, i], flow[:, i] = _detect(world, street, steps, rain, rng)
    late = len(world.VEHICLES_LIVING) * PLATOON
    return DayTraffic(speed_kmh=speed, flow_veh_h=flow, vehicles=len(departures.time_s) * PLATOON, late=late)


def _build_world(network: Network, day: Day, departures: Departures, *, seed: int) -> Any:
    world: Any = World(
        name="",
        deltan=PLATOON,
        reaction_time=_REACTION_S,
        tmax=WARM_UP_S + day.hours * 3600,
        duo_update_time=300,
        duo_update_weight=0.12,
        random_seed=seed,
        vehicle_logging_timestep_interval=-1,
        print_mode=0,
        save_mode=0,
        show_mode=0,
        show_progress=0,
        cpp=True,
    )
    for junction in network.junctions:
        world.addNode(junction.name, junction.x_m, junction.y_m)
    for street in network.streets:
        world.addLink(
            street.key,
            street.start,
            street.end,
            length=street.length_m,
            free_flow_speed=street.free_kmh / 3.6,
            jam_density_per_lane=_JAM_VEH_M,
            number_of_lanes=street.lanes,
            capacity_out=street.discharge_veh_h / 3600,
            merge_priority=street.lanes,
        )
    names = [junction.name for junction in network.junctions]
    # 1.2 platoons over two time steps make exactly one, however the simulator rounds the steps.
    width = 2 * world.DELTAT
    # Without the recorder of scenario files around it, which costs more than the simulation.
    add = inspect.unwrap(type(world).adddemand)
    for at, origin, target in zip(departures.time_s, departures.origin, departures.target, strict=True):
        t = float(at) + WARM_UP_S
        add(world, names[origin], names[target], t, t + width, volume=1.2 * PLATOON)
    world.finalize_scenario()
    assert len(world.VEHICLES) == len(departures.time_s)
    return world


def _changes(day: Day, incidents: list[Incident]) -> list[float]:
    # Seconds of simulated time at which weather or incidents change a street.
    end = float(WARM_UP_S + day.hours * 3600)
    times = {WARM_UP_S + 900.0 * quarter for quarter in range(4 * day.hours)} | {end + 60}
    for incident in incidents:
        for moment in (incident.start, incident.end):
            times.add((moment - day.start).total_seconds() + WARM_UP_S)
    return sorted(time for time in times if time > 0)


def _set_conditions(world: Any, network: Network, day: Day, weather: Weather, incidents: list[Incident]) -> None:
    now = day.start + timedelta(seconds=world.TIME - WARM_UP_S + 1)
    slow, thin = rain_effect(weather.rain_at(now))
    left = {i.street: i.left for i in incidents if i.start <= now < i.end}
    for street in network.streets:
        link = world.get_link(street.key)
        speed = street.free_kmh / 3.6 * slow
        if abs(link.u - speed) > 1e-6:
            link.change_free_flow_speed(speed)
        link.capacity_out = street.discharge_veh_h / 3600 * thin * left.get(street.key, 1.0)


def rain_effect(rain_mm: float) -> tuple[float, float]:
    """Factors on free speed and on capacity: up to −14 % and −20 % in a downpour."""
    wet = 1 - np.exp(-rain_mm / 1.2)
    return float(1 - 0.14 * wet), float(1 - 0.20 * wet)


def _detect(
    world: Any, street: Street, steps: int, rain: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    # Cumulative counts at both ends give vehicle-metres and vehicle-seconds of every step (Edie's definitions).
    link = world.get_link(street.key)
    came, went = (np.asarray(c, dtype=np.float64) for c in (link.cum_arrival, link.cum_departure))
    edges = np.arange(steps + 1) * STEP_S + WARM_UP_S
    at = np.arange(len(came)) * world.DELTAT
    half = round(150 / world.DELTAT)
    # Platoons are a device of the simulator: a real stream of vehicles is spread over some minutes.
    kernel = np.hanning(2 * half + 1)
    came, went = (np.convolve(np.pad(c, half, mode="edge"), kernel / kernel.sum(), mode="valid") for c in (came, went))
    inside = np.cumsum(came - went) * world.DELTAT
    vehicle_s = np.maximum(np.diff(np.interp(edges, at, inside)), 0)
    passed = np.maximum(np.diff(np.interp(edges, at, (came + went) / 2)), 0)
    free = street.free_kmh / 3.6 * np.array([rain_effect(r)[0] for r in rain])
    metres = (passed + _PRIOR_VEHICLES) * street.length_m
    speed = metres / (vehicle_s + _PRIOR_VEHICLES * street.length_m / free)
    # In Newell's model traffic runs free up to capacity; real drivers slow down before (the shape is that of BPR).
    busy = np.minimum(passed * (3600 / STEP_S) / (street.lanes * 1900.0), 1.0)
    speed = np.minimum(speed, free * (1 - 0.2 * busy**1.7)) * 3.6
    counted = rng.poisson(np.maximum(passed, 0) * 0.2) + passed * 0.8
    scatter = 0.09 / np.sqrt(np.maximum(passed, 3.0)) + 0.008
    speed = speed * rng.normal(1.01, scatter)
    return np.maximum(speed, 3.0), np.round(counted) * (3600 / STEP_S)
