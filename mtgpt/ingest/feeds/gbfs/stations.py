"""Stations of GBFS: where they are (table spot) and what stands there (table observation).

A station that rents nothing just now has no row of ``bikes_available``, rather than a zero: that nobody may take a bike
says nothing of how many there are. The same for returns and ``docks_available``.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.adapter import FAULT, RAW, ROW, Chunk
from mtgpt.ingest.feeds.gbfs.document import count, flag, floored, identifier, moment, number, one_text
from mtgpt.ingest.rows.events import raw_json
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import MESSAGE, NUMBER_UNREADABLE
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATION_STALE = "station_stale"
STATION_CLOCK = "station_clock"
STATION_TWICE = "station_twice"
MORE_THAN_FITS = "more_than_fits"
ITEM_UNREADABLE = "item_unreadable"

MESSAGES: Mapping[str, str] = {
    STATION_STALE: "the station has not reported for longer than stale_s before the file was written, or never",
    STATION_CLOCK: "the station reports from a time after the file was written",
    STATION_TWICE: "the station stands in the file more than once, with different facts",
    MORE_THAN_FITS: "far more than the station has room for",
    NUMBER_UNREADABLE: "the count is no whole number",
    ITEM_UNREADABLE: "no JSON object",
}
# Stations that never reported carry 0, 86400 or the like.
_EARLIEST = datetime(2007, 1, 1, tzinfo=UTC)
_CLOCK_TOLERANCE = timedelta(minutes=10)
# Bikes are parked beside full docks; a thousandfold count is no parking habit.
_CROWDING = 3
_CROWD = 20
_COUNTS = (
    ("bikes_available", ("num_bikes_available", "num_vehicles_available"), "is_renting"),
    ("docks_available", ("num_docks_available",), "is_returning"),
)
_FACTS = ("short_name", "address", "station_type", "is_virtual_station", "is_valet_station", "parking_type")
_LONGEST_FACT = 200
_OBSERVATION = {
    "spot_id": pl.String,
    "variable": pl.String,
    "time_start": UTC_TIME,
    "interval_s": pl.Int32,
    "value": pl.Float64,
    ROW: pl.UInt64,
    FAULT: pl.String,
    MESSAGE: pl.String,
    RAW: pl.String,
}
_SPOT = {
    "spot_id": pl.String,
    "kind": pl.String,
    "mode": pl.String,
    "name": pl.String,
    "lon": pl.Float64,
    "lat": pl.Float64,
    "capacity": pl.Float64,
    "attributes": pl.String,
    "valid_from": UTC_TIME,
    ROW: pl.UInt64,
    FAULT: pl.String,
    MESSAGE: pl.String,
    RAW: pl.String,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What the other files of a system say.

    Attributes:
        language: Of its texts where they do not say.
        name: Of the system.
        regions: Names by id.
    """

    language: str
    name: str | None
    regions: Mapping[str, str]


def station_spots(stations: Sequence[Any], system: System, *, mode: str) -> Chunk:
    """The table spot from ``station_information``."""
    twice = _contradictory(stations)
    rows = []
    for row, given in enumerate(stations):
        station = given if isinstance(given, dict) else {}
        station_id = identifier(station.get("station_id"))
        fault = _item_fault(given, station_id, twice)
        name = one_text(station.get("name"), system.language)
        facts = {key: _fact(station[key], system.language) for key in _FACTS if key in station}
        region = identifier(station.get("region_id"))
        facts |= {"region": None if region is None else system.regions.get(region, region), "system": system.name}
        facts = {key: value for key, value in facts.items() if value is not None}
        capacity = number(station.get("capacity"))
        # A place at exactly 0 / 0 is a feed's way to say unknown.
        lon, lat = number(station.get("lon")), number(station.get("lat"))
        lon, lat = (None, None) if lon == lat == 0 else (lon, lat)
        attributes = json.dumps(facts, ensure_ascii=False, sort_keys=True) if facts else None
        rows.append(
            (
                station_id,
                "dock",
                mode,
                name,
                lon,
                lat,
                capacity,
                attributes,
                SINCE_EVER,
                *_marks(row, fault, given),
            )
        )
    return Chunk(table="spot", frame=pl.DataFrame(rows, schema=_SPOT, orient="row", strict=False))


def station_counts(
    stations: Sequence[Any],
    *,
    updated: datetime | None,
    capacities: Mapping[str, float],
    interval_s: int,
    stale_s: int,
    own_clock: bool,
) -> Chunk:
    """The table observation from ``station_status``.

    Args:
        stations: As in the file.
        updated: When the file was written; None where it does not say.
        capacities: Of stations where known.
        interval_s: Time is floored to it.
        stale_s: How old a report may be when the file is written.
        own_clock: Whether a value is of the time of the station's report; otherwise the file's, and no report is stale.
    """
    twice = _contradictory(stations)
    rows = []
    for row, given in enumerate(stations):
        station = given if isinstance(given, dict) else {}
        station_id = identifier(station.get("station_id"))
        item_fault = _item_fault(given, station_id, twice)
        if item_fault == ITEM_UNREADABLE:
            rows.append((None, "bikes_available", None, interval_s, None, *_marks(row, item_fault, given)))
        reported = moment(station.get("last_reported"))
        fault = item_fault or (_clock_fault(reported, updated, stale_s) if own_clock else None)
        at = reported if own_clock else updated
        start = None if at is None else floored(at, interval_s)
        for variable, names, switch in _COUNTS:
            written = next((station[name] for name in names if name in station), None)
            open_now = flag(station.get("is_installed"), default=True) and flag(station.get(switch), default=True)
            if written is None or not open_now:
                continue
            value = count(written)
            room = capacities.get(station_id or "")
            crowded = value is not None and room and value > _CROWDING * room + _CROWD
            this = fault or (NUMBER_UNREADABLE if value is None else MORE_THAN_FITS if crowded else None)
            rows.append((station_id, variable, start, interval_s, value, *_marks(row, this, given)))
    return Chunk(table="observation", frame=pl.DataFrame(rows, schema=_OBSERVATION, orient="row", strict=False))


def capacities(stations: Sequence[Any]) -> dict[str, float]:
    """How much fits into the stations that say so."""
    found = {}
    for station in stations:
        if isinstance(station, dict):
            station_id, capacity = identifier(station.get("station_id")), number(station.get("capacity"))
            if station_id is not None and capacity is not None and capacity > 0:
                found[station_id] = capacity
    return found


def _clock_fault(reported: datetime | None, updated: datetime | None, stale_s: int) -> str | None:
    if reported is None or reported < _EARLIEST:
        return STATION_STALE
    if updated is None:
        return None
    if reported > updated + _CLOCK_TOLERANCE:
        return STATION_CLOCK
    return STATION_STALE if updated - reported > timedelta(seconds=stale_s) else None


def _contradictory(stations: Sequence[Any]) -> frozenset[str]:
    """Ids of stations that stand in a file several times and not alike; equal repetitions are mere duplicates."""
    ids = [identifier(one.get("station_id")) if isinstance(one, dict) else None for one in stations]
    repeated = {name for name, times in Counter(ids).items() if times > 1 and name is not None}
    versions: dict[str, set[str]] = {}
    for name, station in zip(ids, stations, strict=True):
        if name in repeated:
            versions.setdefault(name, set()).add(json.dumps(station, sort_keys=True))
    return frozenset(name for name, found in versions.items() if len(found) > 1)


def _item_fault(given: Any, station_id: str | None, twice: frozenset[str]) -> str | None:
    if not isinstance(given, dict):
        return ITEM_UNREADABLE
    return STATION_TWICE if station_id in twice else None


def _marks(row: int, fault: str | None, given: Any) -> tuple[int, str | None, str | None, str | None]:
    return (row, None, None, None) if fault is None else (row, fault, MESSAGES[fault], raw_json(given))


def _fact(value: Any, language: str) -> Any:
    if isinstance(value, bool | int | float):
        return value
    text = one_text(value, language)
    return None if text is None else text[:_LONGEST_FACT]
