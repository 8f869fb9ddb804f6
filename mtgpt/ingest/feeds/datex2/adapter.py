"""DATEX II, the European standard of road authorities: measured data and situations, as XML.

Read are ``MeasuredDataPublication``, ``MeasurementSiteTablePublication`` and ``SituationPublication`` of version 3, and
the same of version 2.3, in any wrapping: ``d2:payload``, ``messageContainer``, ``d2LogicalModel``, a SOAP envelope.
Elements are known by their local names, so the letter of a namespace does not matter. Checked by samples written after
the schemas: 3.x with one or more payloads, the ways in which the Netherlands (NDW) and Finland (Digitraffic) write
measured data, 2.3 measured data. Files are streamed: memory does not grow with them.

Values become observations in km/h, veh/h, shares, veh/km and seconds. What the feed itself calls faulty, and values at
least half of whose inputs are incomplete, are quarantined.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from mtgpt.ingest.adapter import DATA, Chunk, Roles
from mtgpt.ingest.feeds.datex2.measured import MeasuredRows
from mtgpt.ingest.feeds.datex2.options import Datex2Options
from mtgpt.ingest.feeds.datex2.sites import SITE_RECORDS, SiteTable, SpotRows, read_sites
from mtgpt.ingest.feeds.datex2.situations import situation_events
from mtgpt.ingest.guard.archive import open_guarded
from mtgpt.ingest.guard.xml_stream import records
from mtgpt.ingest.rows.events import Event, events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic import BaseModel

    from mtgpt.ingest.adapter import FeedContext, FeedFile
    from mtgpt.ingest.guard.xml_stream import Node, Record

SITES = "sites"
_WANTED = ("siteMeasurements", "situationRecord", "overallSeverity", *SITE_RECORDS)
_ROWS_A_CHUNK = 50_000


class Datex2Adapter:
    """Reads ``datex2`` sources; the role ``sites`` is the measurement site table."""

    kind: str = "datex2"
    version: int = 1
    roles: Roles = Roles(optional=frozenset({SITES}))
    Options: type[BaseModel] = Datex2Options

    def read(self, files: Mapping[str, FeedFile], options: Datex2Options, context: FeedContext) -> Iterator[Chunk]:
        """Yields the sites, then values or events in the order of the file.

        Raises:
            FeedError: No XML, or damaged, or cut off.
            SourceRefused: A document type, an entity, or more of anything than a feed has.
        """
        table = SiteTable()
        if SITES in files:
            file = files[SITES]
            table, spots = _sites(file.path, file.name, file.sha256, options.vehicles, lon_first=options.lon_first)
            yield from spots
        yield from _publication(files[DATA], table, options, ZoneInfo(context.time_zone))


class _Gathered:
    """Rows of one file on their way into chunks."""

    def __init__(self, table: SiteTable, options: Datex2Options, zone: ZoneInfo) -> None:
        # The table of another file is cached, and a site in this file holds for this file only.
        self._table = SiteTable(layouts=dict(table.layouts))
        self._options = options
        self._zone = zone
        self._spots = SpotRows(vehicles=options.vehicles, lon_first=options.lon_first)
        self._values = MeasuredRows(options, self._table, zone)
        self._events: list[Event] = []
        self._records = 0
        self._severity: tuple[Node, str] | None = None

    def add(self, record: Record) -> None:
        """One element of the file."""
        node = record.node
        if node.name == "siteMeasurements":
            self._values.add(node)
        elif node.name in SITE_RECORDS:
            self._spots.add(node, self._table.add(node))
        elif record.ancestors and node.name == "overallSeverity":
            self._severity = record.ancestors[-1], node.text
        elif node.name == "situationRecord":
            known = self._severity is not None and record.ancestors and self._severity[0] is record.ancestors[-1]
            overall = self._severity[1] if self._severity is not None and known else None
            self._events += situation_events(record, overall, self._options, self._zone, self._records)
            self._records += 1

    def take(self, least: int) -> Iterator[Chunk]:
        """Chunks of the tables of which ``least`` rows are there."""
        for rows in (self._spots, self._values):
            if len(rows) >= least:
                yield rows.take()
        if len(self._events) >= least:
            yield events(self._events)
            self._events.clear()


def _publication(file: FeedFile, table: SiteTable, options: Datex2Options, zone: ZoneInfo) -> Iterator[Chunk]:
    gathered = _Gathered(table, options, zone)
    with open_guarded(file.path, file.name) as stream:
        for record in records(stream, _WANTED, where=file.name):
            gathered.add(record)
            yield from gathered.take(_ROWS_A_CHUNK)
    yield from gathered.take(1)


# Measurements come every minute, their site table, fifty times as large, once a day.
@lru_cache(maxsize=1)
def _sites(
    path: Path,
    name: str,
    sha256: str,  # noqa: ARG001 - the cache's key
    vehicles: Literal["any", "all"],
    *,
    lon_first: bool,
) -> tuple[SiteTable, tuple[Chunk, ...]]:
    table = SiteTable()
    return table, tuple(read_sites(path, name, SpotRows(vehicles=vehicles, lon_first=lon_first), table))
