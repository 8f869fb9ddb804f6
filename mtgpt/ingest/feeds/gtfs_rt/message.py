"""One GTFS-Realtime message: is it whole, is it sound, and what does it hold.

Nothing in a message says how long it should be: cut between two entities it reads as well as the whole one. What can
be seen here is a cut anywhere else, bytes that belong to no entity, two messages after one another, a header that is
missing or odd, and fields that the specification requires. A cut between two entities is for the transfer to see (see
:class:`~mtgpt.ingest.adapter.Roles`, ``measured``) and for the lake, which knows how many entities there were before.

Source: GTFS Realtime Reference (https://gtfs.org/documentation/realtime/reference/), messages FeedMessage, FeedHeader
and FeedEntity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.transit import gtfs_realtime_pb2 as pb

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.feeds.gtfs_rt.wire import TEXT, after_field, torn, varint
from mtgpt.ingest.guard.archive import open_guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.ingest.adapter import FeedFile

MAX_BYTES = 50_000_000
MAX_ENTITIES = 200_000
MAX_ENTITY_BYTES = 2_000_000
_HEADER, _ENTITY = 1 * 8 + TEXT, 2 * 8 + TEXT
_ENTITY_KEY = bytes((_ENTITY,))
_ANY_HEADER = b"\x0a\x03\x0a\x011"  # a header of version "1", so that a group of entities is a message of its own
_GROUP_BYTES = 1_000_000
_EXTENSIONS = (range(1000, 2000), range(9000, 10_000))
_VERSION = re.compile(r"[12](\.\d{1,3}){0,2}")
_OLDEST = datetime(2006, 1, 1, tzinfo=UTC)
_MILLISECONDS = 100_000_000_000
_AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message whose header was read and whose entities were found.

    Attributes:
        data: Its bytes.
        name: What to call it in errors.
        feed_time: When it was made, UTC; None where it does not say.
        spans: First byte and byte after the last of each entity.
    """

    data: bytes = field(repr=False)
    name: str
    feed_time: datetime | None
    spans: list[tuple[int, int]] = field(repr=False)

    def entities(self) -> Iterator[tuple[int, Any]]:
        """Position and entity; a hostile message is never in memory as objects all at once.

        Raises:
            FeedError: An entity is damaged, or lacks what the specification requires.
            SourceRefused: An entity is larger than any feed's.
        """
        view = memoryview(self.data)
        for first, last in self._groups():
            group = pb.FeedMessage()  # pyright: ignore[reportAttributeAccessIssue] - made at run time
            try:
                group.ParseFromString(b"".join(self._framed(view, first, last)))
                sound = group.IsInitialized() and len(group.entity) == last - first
            except DecodeError:
                sound = False
            yield from enumerate(group.entity if sound else self._one_by_one(view, first, last), first)

    def _groups(self) -> Iterator[tuple[int, int]]:
        # One call per entity costs as much again as the parsing; one call for all would cost a hostile one gigabytes.
        first, size = 0, 0
        for position, (start, end) in enumerate(self.spans):
            size += end - start
            if size > _GROUP_BYTES and position > first:
                yield first, position
                first, size = position, end - start
        if first < len(self.spans):
            yield first, len(self.spans)

    def _framed(self, view: memoryview, first: int, last: int) -> Iterator[bytes | memoryview]:
        yield _ANY_HEADER
        for start, end in self.spans[first:last]:
            if end - start > MAX_ENTITY_BYTES:
                raise _too_large(self.name, end - start)
            yield _ENTITY_KEY + _varint_of(end - start)
            yield view[start:end]

    def _one_by_one(self, view: memoryview, first: int, last: int) -> Iterator[Any]:
        """The same, to name the one that is at fault."""
        for position, (start, end) in enumerate(self.spans[first:last], first):
            entity = pb.FeedEntity()  # pyright: ignore[reportAttributeAccessIssue] - made at run time
            yield _parse(entity, view[start:end], f"{self.name}: entity {position + 1} of {len(self.spans)}")


def read_message(file: FeedFile, *, received_at: datetime) -> Message:
    """Reads and checks a message, entities aside.

    Args:
        file: The raw file; may be gzipped or zipped.
        received_at: When it arrived, UTC.

    Raises:
        FeedError: Not such a message; cut or damaged; holds changes only; its clock is off.
        SourceRefused: Larger than :data:`MAX_BYTES`, or more than :data:`MAX_ENTITIES` entities.
    """
    with open_guarded(file.path, file.name) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SourceRefused("the message is too large", where=file.name, expected=f"at most {MAX_BYTES:,} bytes")
    header, spans = _parts(data, file.name)
    if header.incrementality == header.DIFFERENTIAL:
        raise FeedError(
            "the feed sends changes only",
            where=file.name,
            got="incrementality DIFFERENTIAL",
            expected="FULL_DATASET",
            next_step="ask its publisher for the address of the full data set",
        )
    version = header.gtfs_realtime_version
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise FeedError("an unknown version of GTFS-Realtime", where=file.name, got=version, expected="1.0 or 2.0")
    return Message(data=data, name=file.name, feed_time=_feed_time(header, file.name, received_at), spans=spans)


def _parts(data: bytes, name: str) -> tuple[Any, list[tuple[int, int]]]:
    """The header, and where the entities lie."""
    parts = _Parts()
    try:
        for key, begin, start, after in _top_level(data):
            if not parts.take(key, begin, (start, after)):
                break
    except FeedError as error:
        if not parts.headers:
            raise _no_message(data, name) from None
        got = f"{len(parts.entities)} whole entities, then no further"
        raise FeedError(error.what, where=name, got=got, next_step=error.next_step) from None
    if parts.odd:
        number, begin = parts.odd[0]
        if not parts.headers:
            raise _no_message(data, name)
        raise FeedError("bytes that belong to no entity", where=name, got=f"field {number} at byte {begin}")
    if len(parts.entities) > MAX_ENTITIES or parts.further > MAX_ENTITIES:
        raise SourceRefused("too many entities", where=name, expected=f"at most {MAX_ENTITIES:,}")
    if not parts.headers:
        raise _no_message(data, name)
    if len(parts.headers) > 1:
        raise FeedError("two messages after one another", where=name, got="a second header")
    start, end = parts.headers[0]
    header = pb.FeedHeader()  # pyright: ignore[reportAttributeAccessIssue] - made at run time
    return _parse(header, data[start:end], f"{name}: header"), parts.entities


@dataclass(slots=True)
class _Parts:
    headers: list[tuple[int, int]] = field(default_factory=list)
    entities: list[tuple[int, int]] = field(default_factory=list)
    odd: list[tuple[int, int]] = field(default_factory=list)
    further: int = 0

    def take(self, key: int, begin: int, span: tuple[int, int]) -> bool:
        """Files one field; false where enough was seen to refuse the message."""
        if key == _ENTITY:
            self.entities.append(span)
            return len(self.entities) <= MAX_ENTITIES
        if key == _HEADER:
            self.headers.append(span)
            return len(self.headers) == 1
        if any(key >> 3 in known for known in _EXTENSIONS):
            self.further += 1
            return self.further <= MAX_ENTITIES
        self.odd.append((key >> 3, begin))
        return False


def _top_level(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Key, place, content's first byte and byte after the last of each field of the message itself."""
    at, end = 0, len(data)
    while at < end:
        begin = at
        key, at = varint(data, at, end)
        if key & 7 == TEXT:
            size, at = varint(data, at, end)
            after = at + size
            if after > end:
                raise torn()
        else:
            after = after_field(data, at, end, key)
        yield key, begin, at, after
        at = after


def _no_message(data: bytes, name: str) -> FeedError:
    return FeedError(
        "not a GTFS-Realtime message",
        where=name,
        got=data[:40].decode("latin-1"),
        expected="protobuf: a FeedMessage with a header",
        next_step="look at what the feed sent; its address may want a key, or give JSON or text",
    )


def _parse(message: Any, data: bytes | memoryview, where: str) -> Any:
    if len(data) > MAX_ENTITY_BYTES:
        raise _too_large(where, len(data))
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise FeedError("damaged", where=where, got="bytes that are no protobuf", next_step="pull it again") from None
    if not message.IsInitialized():
        missing = ", ".join(message.FindInitializationErrors()[:3])
        raise FeedError("required fields are missing", where=where, expected=missing, next_step="pull it again")
    return message


def _too_large(where: str, size: int) -> SourceRefused:
    expected = f"at most {MAX_ENTITY_BYTES:,} bytes"
    return SourceRefused("an entity or header is too large", where=where, got=size, expected=expected)


def _varint_of(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*made, number))


def _feed_time(header: Any, name: str, received_at: datetime) -> datetime | None:
    stamp = header.timestamp
    if not stamp:
        return None
    if stamp >= _MILLISECONDS:
        got = "milliseconds, it seems" if stamp < _MILLISECONDS * 1000 else stamp
        raise FeedError("the time of the message is off", where=name, got=got, expected="seconds since 1970")
    moment = datetime.fromtimestamp(stamp, UTC)
    if not _OLDEST <= moment <= received_at + _AHEAD:
        raise FeedError(
            "the time of the message is off",
            where=name,
            got=moment.isoformat(),
            expected=f"at most an hour after it arrived, {received_at.isoformat(timespec='seconds')}",
        )
    return moment
