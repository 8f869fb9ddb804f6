"""Public transport of the simulated city: one metro line, a tram ring and three bus lines, their stops and ways.

Buses share the streets with everybody else, so that their delays come from the same queues that the detectors see; the
tram has its own bed on the Boulevard, the metro its own tunnel.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mtgpt.sim.network import Network

TransitMode = Literal["metro", "tram", "bus"]

DWELL_S = {"metro": 25, "tram": 22, "bus": 18}
"""Seconds at a stop."""

_METRO_M_S, _TRAM_M_S, _BUS_M_S = 14.5, 7.2, 13.3
_PULL_OUT_S = 12.0
_ASIDE_M = 35.0

_METRO = (
    ("gate10", "Campus North"), ("outer10", "Observatory"), ("ring10", "University Road P+R"),
    ("mid10", "Science Park"), ("inner10", "University"), ("centre", "Town Hall"), ("inner4", "Hospital"),
    ("mid4", "Stadium"), ("ring4", "Mill Road P+R"), ("outer4", "Weir"), ("gate4", "Millbrook"),
)  # fmt: skip
_TRAM = (
    ("inner0", "Market Square"), ("inner2", "Opera"), ("inner4", "Hospital"), ("inner6", "Central Station"),
    ("inner8", "Old Harbour"), ("inner10", "University"),
)  # fmt: skip
_TRAM_BETWEEN = ("Theatre Lane", "Law Courts", "Nurses' Garden", "Customs House", "Fish Quay", "Library")
_BUSES = {
    "10": (
        ("gate0", "Northfield"), ("outer0", "Birch Hill"), ("ring0", "North Ring"), ("mid0", "North Gate"),
        ("inner0", "Market Square"), ("centre", "Town Hall"), ("inner6", "Central Station"),
        ("mid6", "Mill Meadows"), ("ring6", "South Ring"), ("outer6", "Brickworks"), ("gate6", "Southfield"),
    ),
    "20": (
        ("gate2", "Airport"), ("outer2", "Cargo City"), ("ring2", "East Ring"), ("mid2", "Park Belt East"),
        ("inner2", "Opera"), ("centre", "Town Hall"), ("inner8", "Old Harbour"), ("mid8", "Harbour Quarter"),
        ("ring8", "West Ring"), ("outer8", "Lock"), ("gate8", "Ferry Pier"),
    ),
    "30": (
        ("suburb7", "Larchwood"), ("ring7", "Estate Seven"), ("ring6", "South Ring"), ("mid6", "Mill Meadows"),
        ("mid4", "Stadium"), ("mid2", "Park Belt East"), ("ring2", "East Ring"), ("ring1", "Observatory Hill"),
        ("suburb1", "Maple End"),
    ),
}  # fmt: skip
_LONG_NAMES = {
    "M1": "Campus North – Town Hall – Millbrook",
    "T": "Boulevard Ring",
    "10": "Northfield – Town Hall – Southfield",
    "20": "Airport – Town Hall – Ferry Pier",
    "30": "Larchwood – Stadium – Maple End",
}
_COLOURS = {"M1": "B3261E", "T": "14703A", "10": "0B62A4", "20": "7A5195", "30": "B7791F"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A stop, a platform, or a metro station that holds platforms.

    Attributes:
        stop_id: The operator's id.
        name: What riders call it.
        junction: Junction of the network where it lies, or nearest to it.
        x_m: Metres east of the centre.
        y_m: Metres north of the centre.
        parent: Id of the station that a platform belongs to.
        station: Whether it is a station and no place where a vehicle stops.
    """

    stop_id: str
    name: str
    junction: str
    x_m: float
    y_m: float
    parent: str | None = None
    station: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """From one stop to the next.

    Attributes:
        street: Key of the street that a bus shares with other traffic; None on a bed of its own or in a tunnel.
        length_m: Length.
        free_s: Seconds without traffic in the way.
    """

    street: str | None
    length_m: float
    free_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One direction of a line: n stops, n − 1 legs.

    Attributes:
        direction: 0 or 1, as GTFS numbers them.
        headsign: What the front of the vehicle says.
        stops: In order.
        legs: Between them.
    """

    direction: int
    headsign: str
    stops: tuple[Stop, ...]
    legs: tuple[Leg, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line and its two directions."""

    route_id: str
    mode: TransitMode
    long_name: str
    colour: str
    ways: tuple[Way, Way]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transit:
    """All stops and lines."""

    stops: tuple[Stop, ...]
    lines: tuple[Line, ...]

    @property
    def stations(self) -> tuple[Stop, ...]:
        """The metro's stations, along the line."""
        return tuple(stop for stop in self.stops if stop.station)


def build_transit(network: Network) -> Transit:
    """The one network there is: 11 stations with two platforms each, and 38 stops of trams and buses."""
    stations, platforms = _metro_stops(network)
    ring = _tram_stops(network)
    poles = _bus_stops(network)
    lines = [
        _line("M1", "metro", [*platforms[0]], [*reversed(platforms[1])], network),
        _line("T", "tram", [*ring, ring[0]], [ring[0], *reversed(ring)], network),
    ]
    for route, way in _BUSES.items():
        stops = [poles[junction] for junction, _ in way]
        lines.append(_line(route, "bus", stops, stops[::-1], network))
    flat = [stop for group in zip(stations, *platforms, strict=True) for stop in group]
    return Transit(stops=(*flat, *ring, *poles.values()), lines=tuple(lines))


def _metro_stops(network: Network) -> tuple[list[Stop], tuple[list[Stop], list[Stop]]]:
    stations, north, south = [], [], []
    for i, (junction, name) in enumerate(_METRO):
        at = network.junction(junction)
        x, y = at.x_m + 60 * math.cos(1.9 * i), at.y_m + 60 * math.sin(1.9 * i)
        number = f"M{i + 1:02d}"
        stations.append(Stop(stop_id=number, name=name, junction=junction, x_m=x, y_m=y, station=True))
        for platforms, side, aside in ((north, "a", 9.0), (south, "b", -9.0)):
            platforms.append(
                Stop(
                    stop_id=f"{number}{side}", name=name, junction=junction, x_m=x + aside, y_m=y + aside, parent=number
                )
            )
    return stations, (north, south)


def _tram_stops(network: Network) -> list[Stop]:
    corners = [network.junction(junction) for junction, _ in _TRAM]
    stops = []
    for i, (corner, following) in enumerate(zip(corners, corners[1:] + corners[:1], strict=True)):
        middle = ((corner.x_m + following.x_m) / 2, (corner.y_m + following.y_m) / 2)
        for name, (x, y) in ((_TRAM[i][1], (corner.x_m, corner.y_m)), (_TRAM_BETWEEN[i], middle)):
            # The tracks lie inside the Boulevard.
            reach = math.hypot(x, y)
            inside = (reach - 2 * _ASIDE_M) / reach
            number = f"T{len(stops) + 1:02d}"
            stops.append(Stop(stop_id=number, name=name, junction=corner.name, x_m=x * inside, y_m=y * inside))
    return stops


def _bus_stops(network: Network) -> dict[str, Stop]:
    found: dict[str, Stop] = {}
    for junction, name in itertools.chain.from_iterable(_BUSES.values()):
        if junction not in found:
            at, k = network.junction(junction), len(found)
            x, y = at.x_m + _ASIDE_M * math.cos(2.4 * k), at.y_m + _ASIDE_M * math.sin(2.4 * k)
            found[junction] = Stop(stop_id=f"B{k + 1:03d}", name=name, junction=junction, x_m=x, y_m=y)
    return found


def _line(route: str, mode: TransitMode, there: list[Stop], back: list[Stop], network: Network) -> Line:
    clockwise = ("clockwise", "anticlockwise") if mode == "tram" else (there[-1].name, back[-1].name)
    ways = [
        Way(direction=k, headsign=clockwise[k], stops=tuple(stops), legs=_legs(mode, stops, network))
        for k, stops in enumerate((there, back))
    ]
    return Line(
        route_id=route, mode=mode, long_name=_LONG_NAMES[route], colour=_COLOURS[route], ways=(ways[0], ways[1])
    )


def _legs(mode: TransitMode, stops: list[Stop], network: Network) -> tuple[Leg, ...]:
    streets = {street.key: street for street in network.streets}
    legs = []
    for a, b in itertools.pairwise(stops):
        crow_m = math.hypot(a.x_m - b.x_m, a.y_m - b.y_m)
        if mode == "bus":
            street = streets[f"{a.junction}>{b.junction}"]
            speed = min(street.free_kmh / 3.6 * 0.85, _BUS_M_S)
            legs.append(Leg(street=street.key, length_m=street.length_m, free_s=street.length_m / speed + _PULL_OUT_S))
        else:
            speed = _METRO_M_S if mode == "metro" else _TRAM_M_S
            legs.append(Leg(street=None, length_m=crow_m * 1.03, free_s=crow_m * 1.03 / speed + _PULL_OUT_S))
    return tuple(legs)
