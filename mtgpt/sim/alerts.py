"""What the operator of the simulated city tells its passengers: jams on its lines, failures, football, works."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mtgpt.sim.demand import MATCHES
from mtgpt.sim.operations import Disturbance
from mtgpt.sim.sky import TIME_ZONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from mtgpt.sim.network import Network, Street
    from mtgpt.sim.traffic import Incident
    from mtgpt.sim.transit import Transit

_NOTICED = timedelta(minutes=4)
_QUARTER_S = 900
_ANNOUNCED = timedelta(days=2)
_KINDS = {
    "crash": ("ACCIDENT", "a crash", "eines Unfalls"),
    "breakdown": ("TECHNICAL_PROBLEM", "a broken-down vehicle", "eines liegen gebliebenen Fahrzeugs"),
    "works": ("CONSTRUCTION", "works on the road", "Bauarbeiten auf der Straße"),
}
_FOOTBALL_LINES = ("M1", "30")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert.

    Attributes:
        alert_id: The operator's id.
        start: From when it matters, UTC.
        end: Until when, as the operator expects; None while nobody knows.
        told: First snapshot that may carry it.
        withdrawn: No snapshot carries it from here on.
        routes: Lines concerned.
        stops: Stops concerned.
        cause: Of GTFS Realtime's enumeration.
        effect: Of GTFS Realtime's enumeration.
        title: By language.
        text: By language.
    """

    alert_id: str
    start: datetime
    end: datetime | None
    told: datetime
    withdrawn: datetime
    cause: str
    effect: str
    title: Mapping[str, str]
    text: Mapping[str, str]
    routes: Sequence[str] = ()
    stops: Sequence[str] = ()


def metro_failure(day: date) -> Disturbance:
    """A signal at the University fails in the evening rush and each train waits some minutes."""
    return Disturbance(
        route_id="M1", stop="University", start=_local(day, 16, 20), end=_local(day, 17, 25), wait_s=170.0
    )


def alerts_of(
    day: date,
    network: Network,
    transit: Transit,
    incidents: Iterable[Incident],
    disturbances: Iterable[Disturbance],
) -> list[Alert]:
    """Everything that was told on a day, in order of what it is about."""
    lift = next(stop for stop in transit.stations if stop.name == "Science Park")
    return [
        *_jams(network, transit, incidents, day),
        *(_failure(transit, one) for one in disturbances),
        *_matches(transit, day),
        Alert(
            alert_id=f"lift-{lift.stop_id}",
            start=_local(day - timedelta(days=4), 9, 0),
            end=None,
            told=_local(day - timedelta(days=4), 9, 0),
            withdrawn=_local(day + timedelta(days=9), 9, 0),
            stops=(lift.stop_id,),
            cause="MAINTENANCE",
            effect="ACCESSIBILITY_ISSUE",
            title={"en": "Science Park: lift out of order", "de": "Science Park: Aufzug außer Betrieb"},
            text={
                "en": "Step-free access is by the ramp at the north entrance.",
                "de": "Stufenloser Zugang über die Rampe am Nordeingang.",
            },
        ),
    ]


def _jams(network: Network, transit: Transit, incidents: Iterable[Incident], day: date) -> list[Alert]:
    streets = {street.key: street for street in network.streets}
    made = []
    for number, incident in enumerate(incidents, start=1):
        street = streets[incident.street]
        routes, beside = _lines_at(transit, street)
        if not routes:
            continue
        cause, english, german = _KINDS[incident.kind]
        where, lines = street.name, " and ".join(routes)
        # The control centre tells a round time.
        end = datetime.fromtimestamp(-(-incident.end.timestamp() // _QUARTER_S) * _QUARTER_S, UTC)
        made.append(
            Alert(
                alert_id=f"jam-{day:%Y%m%d}-{number}",
                start=incident.start,
                end=end,
                told=incident.start + _NOTICED,
                withdrawn=end,
                routes=routes,
                cause=cause,
                effect="OTHER_EFFECT" if beside else "SIGNIFICANT_DELAYS",
                title={"en": f"Delays on line {lines}: {where}", "de": f"Verspätungen auf Linie {lines}: {where}"},
                text={
                    "en": f"Because of {english} on {where}, buses are delayed. Expect longer travel times.",
                    "de": f"Wegen {german} ({where}) verspäten sich die Busse. Bitte planen Sie mehr Zeit ein.",
                },
            )
        )
    return made


def _lines_at(transit: Transit, street: Street) -> tuple[list[str], bool]:
    """Bus lines on a street, else those that cross one of its ends, and whether it is only these."""
    buses = [(line.route_id, way) for line in transit.lines if line.mode == "bus" for way in line.ways]
    on = {route for route, way in buses if any(leg.street == street.key for leg in way.legs)}
    ends = {street.start, street.end}
    near = {route for route, way in buses if any(stop.junction in ends for stop in way.stops)}
    return sorted(on or near), not on


def _failure(transit: Transit, one: Disturbance) -> Alert:
    station = next(stop for stop in transit.stations if stop.name == one.stop)
    return Alert(
        alert_id=f"signal-{one.start:%Y%m%d%H%M}",
        start=one.start,
        end=one.end,
        told=one.start + _NOTICED,
        withdrawn=one.end,
        routes=(one.route_id,),
        stops=(station.stop_id,),
        cause="TECHNICAL_PROBLEM",
        effect="SIGNIFICANT_DELAYS",
        title={
            "en": f"{one.route_id}: signal failure at {one.stop}",
            "de": f"{one.route_id}: Signalstörung in {one.stop}",
        },
        text={
            "en": "Trains wait up to three minutes and run at irregular intervals.",
            "de": "Züge warten bis zu drei Minuten und fahren unregelmäßig.",
        },
    )


def _matches(transit: Transit, day: date) -> list[Alert]:
    stops = tuple(stop.stop_id for stop in transit.stops if stop.name == "Stadium" and stop.parent is None)
    return [
        Alert(
            alert_id=f"football-{match:%Y%m%d}",
            start=_local(match, 17, 30),
            end=_local(match, 22, 30),
            told=_local(match, 8, 0) - _ANNOUNCED,
            withdrawn=_local(match, 22, 30),
            routes=_FOOTBALL_LINES,
            stops=stops,
            cause="OTHER_CAUSE",
            effect="MODIFIED_SERVICE",
            title={"en": f"Football on {match:%-d %B}: full trains", "de": f"Fußball am {match:%-d.%-m.}: volle Züge"},
            text={
                "en": "Kick-off is at 19:30. M1 and line 30 to the Stadium are crowded before and after the match.",
                "de": "Anpfiff ist um 19:30. M1 und Linie 30 zum Stadion sind vor und nach dem Spiel sehr voll.",
            },
        )
        for match in MATCHES
        if timedelta(0) <= match - day <= _ANNOUNCED
    ]


def _local(day: date, hour: int, minute: int) -> datetime:
    return datetime.combine(day, time(hour, minute), tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
