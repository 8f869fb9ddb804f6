"""The streets of the simulated city: a ring road, six approaches, an inner city, and where its people live and work.

Plain geometry without a simulator, so that tests and readers need not install one. Positions are metres east and north
of the centre; :func:`place` turns them into degrees. The city lies in a forest where no city is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CENTRE_LON, CENTRE_LAT = 15.250, 48.580
"""Degrees (EPSG:4326) of the fictional centre."""

STEP_S = 300
"""How often a detector reports."""

_SECTORS = 12
_APPROACHES = ("North Road", "Airport Way", "Mill Road", "Station Road", "Harbour Road", "University Road")
_METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Junction:
    """Where streets meet and trips begin and end.

    Attributes:
        name: Unique.
        x_m: Metres east of the centre.
        y_m: Metres north of the centre.
        homes: People who live around it, relative weight.
        jobs: People who work around it, relative weight.
        shops: What draws people outside work, relative weight.
    """

    name: str
    x_m: float
    y_m: float
    homes: float
    jobs: float
    shops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Street:
    """One direction of a street between two junctions.

    Attributes:
        detector: Id of its detector, or None where the roads department has none.
        road: Named road and direction; its streets act together (a corridor).
        name: What a person calls this place.
        start: Junction where traffic enters.
        end: Junction where traffic leaves.
        length_m: Length.
        free_kmh: Speed of free traffic on a dry day.
        lanes: Number of lanes.
        discharge_veh_h: Most vehicles that can leave at its end on a dry day: signals and merges, not lanes, decide.
    """

    detector: str | None
    road: str
    name: str
    start: str
    end: str
    length_m: float
    free_kmh: float
    lanes: int
    discharge_veh_h: float

    @property
    def key(self) -> str:
        """Unique name of the street."""
        return f"{self.start}>{self.end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All junctions and streets."""

    junctions: tuple[Junction, ...]
    streets: tuple[Street, ...]

    @property
    def detectors(self) -> tuple[Street, ...]:
        """The streets with a detector, in order of their ids."""
        return tuple(street for street in self.streets if street.detector is not None)

    def junction(self, name: str) -> Junction:
        """The junction of this name."""
        return next(junction for junction in self.junctions if junction.name == name)


def place(x_m: float, y_m: float) -> tuple[float, float]:
    """Longitude and latitude in degrees (EPSG:4326) of a point in metres from the centre."""
    lat = CENTRE_LAT + y_m / _METRES_PER_DEGREE
    return CENTRE_LON + x_m / (_METRES_PER_DEGREE * math.cos(math.radians(CENTRE_LAT))), lat


def detector_place(network: Network, street: Street) -> tuple[float, float]:
    """Longitude and latitude of a street's detector: half way, a little to the right of the centre line."""
    a, b = network.junction(street.start), network.junction(street.end)
    dx, dy = b.x_m - a.x_m, b.y_m - a.y_m
    length = math.hypot(dx, dy)
    aside_m = 110.0  # so that the two directions of a street are two dots on a map
    return place((a.x_m + b.x_m) / 2 + aside_m * dy / length, (a.y_m + b.y_m) / 2 - aside_m * dx / length)


def detector_links(network: Network) -> list[tuple[str, str, float, float]]:
    """Which detector feeds which, wherever one street leads into the next.

    Returns:
        From, to, metres between them, and how strongly they hang together: 1 straight on, 0.5 for a turn.
    """
    return [
        (a.detector, b.detector, (a.length_m + b.length_m) / 2, 1.0 if a.road == b.road else 0.5)
        for a in network.detectors
        for b in network.detectors
        if a.end == b.start and a.start != b.end and a.detector is not None and b.detector is not None
    ]


def build_network() -> Network:
    """The one city there is: 37 junctions, 120 streets, 108 of them with a detector."""
    # The city's shape is a fact like its name: a change of the demand's seed must not move a street.
    rng = np.random.default_rng(4)
    junctions = _junctions(rng)
    at = {junction.name: junction for junction in junctions}
    streets: list[Street] = []

    def both(road: tuple[str, str], a: str, b: str, **facts: float) -> None:
        for label, start, end in ((road[0], a, b), (road[1], b, a)):
            crow_m = math.hypot(at[a].x_m - at[b].x_m, at[a].y_m - at[b].y_m)
            number = sum(street.road == label for street in streets) + 1
            streets.append(
                Street(
                    detector=None if label.startswith("Suburb") else f"D{101 + len(streets)}",
                    road=label,
                    name=f"{label}, {number}",
                    start=start,
                    end=end,
                    length_m=round(crow_m * 1.06),
                    free_kmh=facts["free_kmh"] + float(rng.integers(-3, 4)),
                    lanes=int(facts["lanes"]),
                    discharge_veh_h=facts["discharge"] * float(rng.uniform(0.82, 1.2)),
                )
            )

    for i, road in enumerate(_APPROACHES):
        k = 2 * i
        ways = (f"{road} inbound", f"{road} outbound")
        both(ways, f"gate{k}", f"outer{k}", free_kmh=96, lanes=2, discharge=2500)
        both(ways, f"outer{k}", f"ring{k}", free_kmh=84, lanes=2, discharge=1900)
        both(ways, f"ring{k}", f"mid{k}", free_kmh=57, lanes=1, discharge=1480)
        both(ways, f"mid{k}", f"inner{k}", free_kmh=48, lanes=1, discharge=1420)
    for i in range(_SECTORS):
        both(("Ring Road clockwise", "Ring Road anticlockwise"), f"ring{i}", f"ring{(i + 1) % _SECTORS}",
             free_kmh=88, lanes=3, discharge=3400)  # fmt: skip
    for i in range(0, _SECTORS, 2):
        k = (i + 2) % _SECTORS
        both(("Boulevard clockwise", "Boulevard anticlockwise"), f"inner{i}", f"inner{k}",
             free_kmh=44, lanes=2, discharge=1750)  # fmt: skip
        both(("Park Belt clockwise", "Park Belt anticlockwise"), f"mid{i}", f"mid{k}",
             free_kmh=50, lanes=1, discharge=800)  # fmt: skip
    for i in range(0, _SECTORS, 2):
        both(("Old Town in", "Old Town out"), f"inner{i}", "centre", free_kmh=36, lanes=1, discharge=950)
    for i in range(1, _SECTORS, 2):
        both(("Suburb streets", "Suburb streets back"), f"suburb{i}", f"ring{i}", free_kmh=60, lanes=2, discharge=1700)
    return Network(junctions=junctions, streets=tuple(streets))


def _junctions(rng: np.random.Generator) -> tuple[Junction, ...]:
    made = [Junction(name="centre", x_m=0.0, y_m=0.0, homes=0.5, jobs=3.0, shops=3.0)]

    def add(name: str, sector: int, radius_m: float, *, homes: float, jobs: float, shops: float) -> None:
        # A slightly squashed, tilted and shaken circle: a drawing-board city would look like one.
        angle = math.pi / 2 - 2 * math.pi * sector / _SECTORS + float(rng.normal(0, 0.045))
        radius = radius_m * float(rng.uniform(0.93, 1.07))
        x, y = 1.22 * radius * math.cos(angle), 0.92 * radius * math.sin(angle)
        tilt = 0.16
        made.append(
            Junction(
                name=f"{name}{sector}",
                x_m=round(x * math.cos(tilt) - y * math.sin(tilt)),
                y_m=round(x * math.sin(tilt) + y * math.cos(tilt)),
                homes=homes,
                jobs=jobs,
                shops=shops,
            )
        )

    for sector in range(0, _SECTORS, 2):
        add("inner", sector, 1350, homes=0.9, jobs=2.2, shops=1.6)
        add("mid", sector, 2700, homes=1.8, jobs=0.9, shops=0.9)
        add("outer", sector, 6100, homes=1.3, jobs=0.4, shops=0.3)
        add("gate", sector, 8300, homes=2.3, jobs=0.9, shops=0.4)
    business = {2: 2.6, 7: 2.0}  # the airport's offices and an industrial estate
    for sector in range(_SECTORS):
        add("ring", sector, 4200, homes=0.5, jobs=business.get(sector, 0.4), shops=1.6 if sector == 5 else 0.3)
    for sector in range(1, _SECTORS, 2):
        add("suburb", sector, 5900, homes=2.6, jobs=0.4, shops=0.5)
    return tuple(made)
