"""Trip updates of a GTFS-Realtime message as two frames: a row per trip, and a row per stop update.

Source: GTFS Realtime Reference, messages TripUpdate, StopTimeUpdate, StopTimeEvent, TripDescriptor, TripProperties.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.gtfs_rt.wire import TEXT, VARINT, Fields, fields, numbers, texts

if TYPE_CHECKING:
    from mtgpt.ingest.feeds.gtfs_rt.message import Message

MAX_STOPS = 1_000_000
_MASK = (1 << 62) - 1
_MOST_FIELDS = 10 * MAX_STOPS

CANCELED, DELETED = 3, 7
ADDED, UNSCHEDULED, DUPLICATED, NEW = 1, 2, 6, 8
SKIPPED, NO_DATA, STOP_UNSCHEDULED = 1, 2, 3

TRIPS = pl.Schema(
    {
        "entity": pl.UInt32(),
        "trip_id": pl.String(),
        "route_id": pl.String(),
        "direction": pl.String(),
        "start_time": pl.String(),
        "start_date": pl.String(),
        "relation": pl.Int32(),
        "timestamp": pl.Int64(),
        "trip_delay": pl.Int32(),
        "unreadable": pl.Boolean(),
    }
)


@dataclass(slots=True)
class TripRows:
    """Collects trips entity by entity; stop updates are read for all of them together in the end."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)

    def add(self, position: int, update: Any, span: tuple[int, int]) -> None:
        """Takes one entity's trip update.

        Args:
            position: Of the entity in the message.
            update: The TripUpdate.
            span: Where the entity lies in the bytes.
        """
        trip = update.trip
        trip_id, route_id, start_time, start_date = named = (*trip_texts(trip), trip.start_time, trip.start_date)
        if trip.schedule_relationship == DUPLICATED and update.HasField("trip_properties"):
            # The copy has a name of its own; under its original's it would be taken for that.
            made = update.trip_properties
            named = (*named, made.trip_id, made.start_date, made.start_time)
            trip_id, start_date, start_time = (
                made.trip_id or trip_id,
                made.start_date or start_date,
                made.start_time or start_time,
            )
        self.spans.append(span)
        self.rows.append(
            (
                position,
                text(trip_id),
                text(route_id),
                str(trip.direction_id) if trip.HasField("direction_id") else None,
                text(start_time),
                text(start_date),
                trip.schedule_relationship,
                update.timestamp & _MASK,
                update.delay if update.HasField("delay") else None,
                bytes in map(type, named),
            )
        )

    def trips(self) -> pl.DataFrame:
        """A row per trip: columns of :data:`TRIPS`."""
        return pl.DataFrame(self.rows, schema=TRIPS, orient="row")

    def stops(self, message: Message) -> pl.DataFrame:
        """A row per stop update, in the message's order.

        Returns:
            Columns trip (row of :meth:`trips`), stop_sequence, stop_id, assigned (another stop or platform than
            planned), unreadable, relation, and of arrival and departure each time, delay (s) and planned time
            (``arrival_time``, …), null where absent.

        Raises:
            FeedError: More than :data:`MAX_STOPS` of them, or far more fields than any feed has.
        """
        try:
            return self._stops(np.frombuffer(message.data, np.uint8))
        except FeedError as error:
            raise FeedError(
                error.what, where=message.name, expected=error.expected, next_step=error.next_step
            ) from None

    def _stops(self, data: np.ndarray) -> pl.DataFrame:
        start, end = (np.array(side, np.int64) for side in (zip(*self.spans, strict=True) if self.spans else ([], [])))
        update = fields(data, start, end, most=10 * (start.size + 1000)).only(3, TEXT)
        found = fields(data, *update.spans, most=MAX_STOPS + 10 * (start.size + 1000)).only(2, TEXT)
        if found.owner.size > MAX_STOPS:
            raise FeedError("too many stop updates", expected=f"at most {MAX_STOPS:,}")
        stop = fields(data, *found.spans, most=_MOST_FIELDS)
        count = found.owner.size
        sequence, known = numbers(stop.only(1, VARINT), count, bits=32)
        relation, _ = numbers(_known(stop.only(5, VARINT), (0, SKIPPED, NO_DATA, STOP_UNSCHEDULED)), count, bits=32)
        columns: dict[str, Any] = {
            "trip": pl.Series(update.owner[found.owner].astype(np.uint32)),
            "stop_sequence": _nullable(sequence & 0xFFFF_FFFF, known),
            "stop_id": texts(data, stop.only(4, TEXT), count),
            "assigned": _assigned(data, stop, count),
            "relation": pl.Series(relation.astype(np.int8)),
        }
        for number, name in ((2, "arrival"), (3, "departure")):
            columns |= _event(data, stop.only(number, TEXT), count, name)
        unreadable = pl.repeat(value=False, n=count, eager=True)
        for name in ("stop_id", "assigned"):
            read = _utf8(columns[name])
            unreadable |= read.is_null() & columns[name].is_not_null()
            columns[name] = read
        return pl.DataFrame(columns).with_columns(
            unreadable.alias("unreadable"), pl.col("stop_id", "assigned").replace("", None)
        )


def trip_texts(trip: Any) -> tuple[Any, Any]:
    """Trip and route of a TripDescriptor as they stand; of a modified trip, the one that it takes the place of."""
    return trip.trip_id or trip.modified_trip.affected_trip_id, trip.route_id


def text(value: str | bytes) -> str | None:
    """A text of a message, None where empty; the bindings give bytes where it is not UTF-8."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or None


def _event(data: np.ndarray, event: Fields, count: int, name: str) -> dict[str, pl.Series]:
    inner = fields(data, *event.spans, most=_MOST_FIELDS)
    found = {}
    for number, what, bits in ((2, "time", 64), (1, "delay", 32), (4, "planned", 64)):
        values, there = numbers(_of_outer(inner.only(number, VARINT), event), count, bits=bits)
        # A time of 0 is how feeds say that they know none.
        found[f"{name}_{what}"] = _nullable(values, there if what == "delay" else there & (values > 0))
    return found


def _assigned(data: np.ndarray, stop: Fields, count: int) -> pl.Series:
    properties = stop.only(6, TEXT)
    if not properties.owner.size:
        return pl.Series(dtype=pl.Binary).extend_constant(None, count)
    inner = fields(data, *properties.spans, most=_MOST_FIELDS)
    return texts(data, _of_outer(inner.only(1, TEXT), properties), count)


def _of_outer(inner: Fields, outer: Fields) -> Fields:
    """Fields of messages as fields of the messages that hold those."""
    order = slice(None)
    if (outer.owner[1:] == outer.owner[:-1]).any():
        # A message that stands twice: what the second one says comes after what the first one says.
        order = np.argsort(inner.owner, kind="stable")
    return Fields(
        owner=outer.owner[inner.owner[order]], key=inner.key[order], value=inner.value[order], size=inner.size[order]
    )


def _known(found: Fields, values: tuple[int, ...]) -> Fields:
    # A number that an enumeration does not have leaves the field as it was.
    kept = np.isin(found.value.view(np.int64).astype(np.int32), values)
    return Fields(owner=found.owner[kept], key=found.key[kept], value=found.value[kept], size=found.size[kept])


def _utf8(found: pl.Series) -> pl.Series:
    """Bytes as text; null where they are none."""
    try:
        return found.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series([_text_or_none(one) for one in found], dtype=pl.String)


def _text_or_none(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _nullable(values: np.ndarray, there: np.ndarray) -> pl.Series:
    return pl.select(pl.when(pl.lit(pl.Series(there))).then(pl.lit(pl.Series(values)))).to_series()
