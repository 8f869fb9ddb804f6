"""GTFS-Realtime: trip updates, vehicle positions and alerts, one message per batch.

The zip of the timetable (role ``static``) fills in delays where the feed gives times only, times where it gives delays
only, the stops to which a delay carries on, service days, lines and directions. Without it, what the feed says is
all there is.

Source: GTFS Realtime Reference, https://gtfs.org/documentation/realtime/reference/.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.adapter import DATA, FAULT, Chunk, Roles
from mtgpt.ingest.feeds.gtfs_rt.alerts import alert_parts, alert_rows, canceled_rows
from mtgpt.ingest.feeds.gtfs_rt.message import read_message
from mtgpt.ingest.feeds.gtfs_rt.report import Report
from mtgpt.ingest.feeds.gtfs_rt.timetable import read_timetable
from mtgpt.ingest.feeds.gtfs_rt.trips import TripRows
from mtgpt.ingest.feeds.gtfs_rt.vehicles import vehicle_row, vehicles
from mtgpt.ingest.feeds.gtfs_rt.visits import stop_visits
from mtgpt.ingest.rows.events import Event, events
from mtgpt.ingest.rows.marks import TIME_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile
    from mtgpt.ingest.feeds.gtfs_rt.message import Message

STATIC = "static"
_ROWS = 500_000
_PARTS = 300_000


class GtfsRtOptions(BaseModel):
    """Options of a ``gtfs_rt`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Least share of the entities (trips and vehicles) that the messages of the last half hour had; "
        "a message with fewer is held. 0 takes any.",
    )
    prefix: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.:-]{0,32}$",
        description="Put before every stop id, as in the source of the timetable.",
    )


class GtfsRtAdapter:
    """Reads ``gtfs_rt`` sources."""

    kind: str = "gtfs_rt"
    version: int = 1
    roles: Roles = Roles(optional=frozenset({STATIC}), measured=frozenset({DATA}))
    Options: type[BaseModel] = GtfsRtOptions

    def read(self, files: Mapping[str, FeedFile], options: GtfsRtOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields visits, vehicles and events.

        Raises:
            FeedError: Not such a message, a cut or damaged one, changes only, or delays that no timetable explains.
            SourceRefused: Larger than any feed.
        """
        message = read_message(files[DATA], received_at=context.received_at)
        static = files.get(STATIC)
        timetable = None if static is None else read_timetable(static)
        report = Report(
            feed_time=message.feed_time or _newest(message) or context.received_at,
            zone=(timetable.zone if timetable else None) or context.time_zone,
            timetable=timetable,
            prefix=options.prefix,
        )
        trips, positions, alerts, room = TripRows(), [], list[Event](), _PARTS
        for position, entity in message.entities():
            if entity.is_deleted:
                continue
            if entity.HasField("trip_update"):
                trips.add(position, entity.trip_update, message.spans[position])
            if entity.HasField("vehicle"):
                positions.append(vehicle_row(position, entity, report))
            if entity.HasField("alert"):
                room -= alert_parts(entity.alert)
                if room < 0:
                    raise SourceRefused(
                        "alerts with too many parts", where=message.name, expected=f"at most {_PARTS:,}"
                    )
                alerts += alert_rows(position, entity, prefix=options.prefix)
        facts = {
            "entities": len(message.spans),
            "watched": len(trips.rows) + len(positions),
            "min_share": options.min_share,
            "feed_time": report.feed_time.isoformat(),
        }
        visits = stop_visits(trips.trips(), trips.stops(message), report)
        alerts += canceled_rows(trips.trips(), visits)
        if timetable is None:
            _refuse_unexplained(visits, message.name)
        chunks = [Chunk(table="stop_visit", frame=part) for part in visits.iter_slices(_ROWS) if part.height]
        if positions:
            chunks.append(vehicles(positions))
        if alerts or not chunks:
            # Even when it is empty: no alerts, and at night no trips, are what a sound feed says.
            chunks.append(events(alerts))
        yield replace(chunks[0], facts=facts)
        yield from chunks[1:]


def _newest(message: Message) -> Any:
    """The newest time that an entity gives, for a header that gives none."""
    stamps = (max(one.trip_update.timestamp, one.vehicle.timestamp) for _, one in message.entities())
    newest = max((stamp for stamp in stamps if stamp < 1 << 33), default=0)
    return pl.from_epoch(pl.Series([newest]), time_unit="s").dt.replace_time_zone("UTC")[0] if newest else None


def _refuse_unexplained(visits: pl.DataFrame, name: str) -> None:
    if FAULT not in visits.columns:
        return
    unknown = (visits[FAULT] == TIME_UNKNOWN).sum()
    if 2 * unknown > visits.height:
        raise FeedError(
            "the feed gives delays and no times",
            where=name,
            got=f"{unknown} of {visits.height} stop updates without a time",
            next_step="name the zip of its timetable under files: static",
        )
