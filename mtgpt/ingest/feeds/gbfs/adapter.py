"""GBFS, the General Bikeshare Feed Specification, versions 2 and 3: docks, vehicles without docks, alerts.

The source's own file is ``station_status.json``, or ``free_bike_status.json`` / ``vehicle_status.json`` of a system
without docks, or the auto-discovery file ``gbfs.json``; the others are further files of the same batch, by the names
that the specification gives them. An adapter pulls nothing: ``gbfs.json`` alone is refused with the addresses to name.

Checked with Bay Wheels (2.x, files of 2022) and with samples written after the specification (2.3, 3.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, Chunk, Roles
from mtgpt.ingest.feeds.gbfs.alerts import alert_events, zone_events
from mtgpt.ingest.feeds.gbfs.document import Document, floored, identifier, number, one_text, read_document
from mtgpt.ingest.feeds.gbfs.stations import System, capacities, station_counts, station_spots
from mtgpt.ingest.feeds.gbfs.vehicles import mode_of, vehicle_cells
from mtgpt.ingest.rows.events import language_tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

STATION_STATUS = "station_status"
STATION_INFORMATION = "station_information"
VEHICLES = ("vehicle_status", "free_bike_status")
SYSTEM, TYPES, REGIONS = "system_information", "vehicle_types", "system_regions"
ALERTS, ZONES = "system_alerts", "geofencing_zones"
_ROLES = frozenset({STATION_STATUS, STATION_INFORMATION, *VEHICLES, SYSTEM, TYPES, REGIONS, ALERTS, ZONES})
_VEHICLE_LISTS = ("vehicles", "bikes")


class GbfsOptions(BaseModel):
    """Options of a ``gbfs`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    interval_s: int = Field(
        default=300, ge=60, le=86_400, description="Interval that reports are booked in; the first report in it counts."
    )
    stale_s: int = Field(
        default=3600, ge=60, description="A station that has not reported for so long is quarantined, in seconds."
    )
    clock: Literal["station", "file"] = Field(
        default="station",
        description="Whose time a station's counts are of: its last_reported, or the file's last_updated, for systems "
        "whose stations have no clock or tell when their counts last changed.",
    )
    cell_m: int = Field(
        default=500, ge=100, le=10_000, description="Side of the cells that free vehicles are counted in."
    )
    mode: Literal["bike", "scooter"] = Field(
        default="bike", description="What the system rents, where vehicle_types does not say."
    )

    @field_validator("interval_s")
    @classmethod
    def _divides_the_day(cls, value: int) -> int:
        if 86_400 % value:
            raise ValueError("expected seconds that divide the day, such as 300")
        return value


class GbfsAdapter:
    """Reads ``gbfs`` sources."""

    kind: str = "gbfs"
    version: int = 1
    roles: Roles = Roles(optional=_ROLES)
    Options: type[BaseModel] = GbfsOptions

    def read(self, files: Mapping[str, FeedFile], options: GbfsOptions, context: FeedContext) -> Iterator[Chunk]:  # noqa: ARG002 - GBFS has no local times
        """Yields stations and their counts, cells and their counts, then alerts.

        Raises:
            FeedError: A file is no GBFS, damaged, or not the one that its role says; or only ``gbfs.json`` is given.
            SourceRefused: A file is too large.
        """
        feed = _feed(files)
        yield from _stations(feed, options)
        yield from _vehicles(feed, options)
        if ALERTS in feed.documents:
            yield alert_events(feed.documents[ALERTS].required("alerts"), feed.system.language)
        if ZONES in feed.documents:
            zones = feed.documents[ZONES]
            yield zone_events(zones.data.get("geofencing_zones"), feed.system.language, name=zones.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Feed:
    documents: Mapping[str, Document]
    system: System


def _feed(files: Mapping[str, FeedFile]) -> _Feed:
    documents = {role: read_document(file) for role, file in files.items() if role in {DATA, *_ROLES}}
    own = documents.pop(DATA)
    role = _role(own)
    if role is not None:
        documents.setdefault(role, own)
    elif not own.feeds:
        own.required("stations", *_VEHICLE_LISTS)
    if not documents.keys() & {STATION_STATUS, *VEHICLES}:
        raise FeedError(
            "the auto-discovery file alone holds no counts",
            where=own.name,
            expected="files: station_status, station_information, … with the addresses that it lists",
            next_step=_addresses(own),
        )
    about = documents.get(SYSTEM)
    language = language_tag(_language(about))
    regions = documents[REGIONS].items("regions") if REGIONS in documents else None
    return _Feed(
        documents=documents,
        system=System(
            language=language,
            name=None if about is None else one_text(about.data.get("name"), language),
            regions={
                name: one_text(one.get("name"), language) or name
                for one in regions or ()
                if isinstance(one, dict) and (name := identifier(one.get("region_id"))) is not None
            },
        ),
    )


def _role(document: Document) -> str | None:
    """Which file of the specification it is, by what it holds; None for auto-discovery and the like."""
    if document.items("stations") is not None:
        return STATION_STATUS
    return VEHICLES[0] if document.items(*_VEHICLE_LISTS) is not None else None


def _stations(feed: _Feed, options: GbfsOptions) -> Iterator[Chunk]:
    known: dict[str, float] = {}
    if STATION_INFORMATION in feed.documents:
        stations = feed.documents[STATION_INFORMATION].required("stations")
        known = capacities(stations)
        if stations:
            yield station_spots(stations, feed.system, mode=options.mode)
    if STATION_STATUS in feed.documents:
        status = feed.documents[STATION_STATUS]
        stations = status.required("stations")
        if stations:
            yield station_counts(
                stations,
                updated=status.last_updated,
                capacities=known,
                interval_s=options.interval_s,
                stale_s=options.stale_s,
                own_clock=options.clock == "station",
            )


def _vehicles(feed: _Feed, options: GbfsOptions) -> Iterator[Chunk]:
    document = next((feed.documents[role] for role in VEHICLES if role in feed.documents), None)
    if document is None:
        return
    types = feed.documents[TYPES].required("vehicle_types") if TYPES in feed.documents else []
    stations = feed.documents[STATION_INFORMATION].required("stations") if STATION_INFORMATION in feed.documents else []
    yield from vehicle_cells(
        document.required(*_VEHICLE_LISTS),
        start=None if document.last_updated is None else floored(document.last_updated, options.interval_s),
        interval_s=options.interval_s,
        size_m=options.cell_m,
        modes={
            str(one.get("vehicle_type_id")): mode_of(one.get("form_factor"), options.mode)
            for one in types
            if isinstance(one, dict)
        },
        default_mode=options.mode,
        stations=_places(stations),
    )


def _places(stations: list[object]) -> Iterator[tuple[float, float]]:
    for station in stations:
        if isinstance(station, dict):
            lon, lat = number(station.get("lon")), number(station.get("lat"))
            if lon is not None and lat is not None and abs(lon) <= 180 and abs(lat) <= 85 and (lon or lat):
                yield lon, lat


def _language(about: Document | None) -> object:
    if about is None:
        return None
    languages = about.data.get("languages")
    return languages[0] if isinstance(languages, list) and languages else about.data.get("language")


def _addresses(own: Document) -> str | None:
    known = [f"{name}: {url}" for name, url in own.feeds.items() if name in _ROLES]
    return f"under files, name {'; '.join(known)[:1000]}" if known else None
