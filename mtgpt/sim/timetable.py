"""The timetable of the simulated city's public transport: which trips run on which days, and by which vehicle.

Times are seconds of the service day as GTFS counts them, from noon minus twelve hours: a night's last trips lie past
86,400, and the two days on which clocks change need no exception.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mtgpt.sim.sky import HOLIDAYS, TIME_ZONE
from mtgpt.sim.transit import DWELL_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mtgpt.sim.transit import Line, Transit, Way

WORKDAYS, SATURDAYS, SUNDAYS, NIGHTS = "WD", "SA", "SU", "NIGHT"
WEEK: Mapping[str, tuple[int, ...]] = {
    WORKDAYS: (0, 1, 2, 3, 4),
    SATURDAYS: (5,),
    SUNDAYS: (6,),
    NIGHTS: (4, 5),
}
"""Days of the week (Monday is 0) of each service; the nights after Fridays and Saturdays have trips of their own."""

LAYOVER_S = 300
"""Rest at the end of the line; a delay beyond it passes on to the vehicle's next trip."""

_Bands = tuple[tuple[float, float, float], ...]
# From hour, to hour, minutes between departures.
_HEADWAYS: Mapping[str, Mapping[str, _Bands]] = {
    "metro": {
        WORKDAYS: ((5, 6.5, 10), (6.5, 9.5, 5), (9.5, 15, 7.5), (15, 19, 5), (19, 22, 10), (22, 24.5, 15)),
        SATURDAYS: ((5, 9, 15), (9, 20, 7.5), (20, 24.5, 10)),
        SUNDAYS: ((5, 9, 15), (9, 22, 10), (22, 24.5, 15)),
        NIGHTS: ((24.5, 28, 20),),
    },
    "tram": {
        WORKDAYS: ((5, 6.5, 15), (6.5, 19.5, 8), (19.5, 24, 15)),
        SATURDAYS: ((5.5, 9, 15), (9, 20, 10), (20, 24.5, 15)),
        SUNDAYS: ((6, 10, 20), (10, 20, 12), (20, 24, 20)),
    },
    "bus": {
        WORKDAYS: ((4.75, 6.5, 20), (6.5, 9, 10), (9, 15, 15), (15, 19, 10), (19, 24.2, 30)),
        SATURDAYS: ((5.5, 9, 30), (9, 19, 15), (19, 24.6, 30)),
        SUNDAYS: ((6.5, 10, 30), (10, 19, 20), (19, 23.6, 30)),
    },
}
# Line 30 goes around the centre and runs half as often; its last trips arrive after midnight.
_SPARSE = {"30": 2.0}
# What the planners allow for traffic on workdays, by hour of departure: in the morning on the way to the centre, in the
# evening on the way out of it.
_ALLOWANCE_IN = ((6.5, 1.02), (7.25, 1.3), (9.25, 1.9), (10.25, 1.25), (99, 1.05))
_ALLOWANCE_OUT = ((6.5, 1.02), (15.25, 1.05), (18.25, 1.3), (20, 1.08), (99, 1.02))
_ALLOWANCE_QUIET = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One scheduled run of a vehicle.

    Attributes:
        trip_id: The operator's id.
        line: Its line.
        way: Its direction.
        service: Key of :data:`WEEK`.
        arrive_s: One per stop, seconds of the service day.
        depart_s: One per stop.
        block: The vehicle's work that it belongs to.
    """

    trip_id: str
    line: Line
    way: Way
    service: str
    arrive_s: tuple[int, ...]
    depart_s: tuple[int, ...]
    block: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency:
    """A line that promises a headway instead of times.

    Attributes:
        trip: Its pattern: times between stops, from 0.
        start_s: First departure.
        end_s: Before this no further one.
        headway_s: Between two.
    """

    trip: Trip
    start_s: int
    end_s: int
    headway_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """All trips, and the frequencies of the lines that have no fixed ones."""

    trips: tuple[Trip, ...]
    frequencies: tuple[Frequency, ...]


def build_timetable(transit: Transit) -> Timetable:
    """The timetable of spring 2024."""
    trips: list[Trip] = []
    frequencies: list[Frequency] = []
    for line in transit.lines:
        for service, bands in _HEADWAYS[line.mode].items():
            if line.mode == "tram":
                frequencies += _promised(line, service, bands)
            else:
                trips += _runs(line, service, bands)
    return Timetable(trips=tuple(trips), frequencies=tuple(frequencies))


def services_on(day: date) -> set[str]:
    """Services of a day; a public holiday runs as a Sunday."""
    weekday = 6 if day in HOLIDAYS else day.weekday()
    return {service for service, weekdays in WEEK.items() if weekday in weekdays}


def service_start(day: date) -> datetime:
    """UTC of second 0 of a service day: noon minus twelve hours, as GTFS counts.

    Reference: GTFS Schedule, stop_times.txt, type Time.
    """
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
    return noon - timedelta(hours=12)


def departures_of(frequency: Frequency) -> list[int]:
    """Departures from the first stop, seconds of the service day."""
    return list(range(frequency.start_s, frequency.end_s, frequency.headway_s))


def clock_text(seconds: int) -> str:
    """``25:10:00``."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _promised(line: Line, service: str, bands: _Bands) -> list[Frequency]:
    made = []
    for way in line.ways:
        name = f"{line.route_id}-{service}-{way.direction}"
        arrive, depart = _times(line, way, 0, service)
        trip = Trip(
            trip_id=name, line=line, way=way, service=service, arrive_s=arrive, depart_s=depart, block=""
        )  # fmt: skip
        made += [
            Frequency(trip=trip, start_s=round(a * 3600), end_s=round(b * 3600), headway_s=round(minutes * 60))
            for a, b, minutes in bands
        ]
    return made


def _runs(line: Line, service: str, bands: _Bands) -> list[Trip]:
    starts = []
    for way in line.ways:
        offset = 0 if way.direction == 0 else 150
        for a, b, minutes in bands:
            headway = minutes * 60 * _SPARSE.get(line.route_id, 1.0)
            starts += [(round(s) + offset, way) for s in _steps(a * 3600, b * 3600, headway)]
    starts.sort(key=lambda start: (start[0], start[1].direction))
    return _blocked(line, service, starts)


def _blocked(line: Line, service: str, starts: Sequence[tuple[int, Way]]) -> list[Trip]:
    # First in, first out: who has rested longest at this end takes the next departure.
    waiting: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    vehicles = itertools.count(1)
    made = []
    for start_s, way in starts:
        arrive, depart = _times(line, way, start_s, service)
        queue = waiting[way.direction]
        number = queue.pop(0)[1] if queue and queue[0][0] <= start_s else next(vehicles)
        waiting[1 - way.direction].append((arrive[-1] + LAYOVER_S, number))
        waiting[1 - way.direction].sort()
        made.append(
            Trip(
                trip_id=f"{line.route_id}-{service}-{way.direction}-{start_s // 3600:02d}{start_s // 60 % 60:02d}",
                line=line,
                way=way,
                service=service,
                arrive_s=arrive,
                depart_s=depart,
                block=f"{line.route_id}-{service}-{number:02d}",
            )
        )
    return made


def _times(line: Line, way: Way, start_s: int, service: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    dwell = DWELL_S[line.mode]
    arrive, depart, now = [start_s], [start_s], float(start_s)
    for i, leg in enumerate(way.legs):
        now += leg.free_s * (_allowance(now, service, inward=2 * i < len(way.legs)) if line.mode == "bus" else 1.0)
        arrive.append(round(now))
        now += dwell if i + 1 < len(way.legs) else 0
        depart.append(round(now))
    return tuple(arrive), tuple(depart)


def _allowance(at_s: float, service: str, *, inward: bool) -> float:
    if service != WORKDAYS:
        return _ALLOWANCE_QUIET
    return next(factor for until, factor in (_ALLOWANCE_IN if inward else _ALLOWANCE_OUT) if at_s / 3600 < until)


def _steps(start: float, end: float, step: float) -> list[float]:
    return [start + k * step for k in range(int((end - start) / step - 1e-9) + 1)]
