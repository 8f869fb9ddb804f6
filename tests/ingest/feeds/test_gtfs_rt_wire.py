"""Columns read in lockstep are, field by field, what the bindings read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.transit import gtfs_realtime_pb2 as pb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.gtfs_rt.message import Message
from mtgpt.ingest.feeds.gtfs_rt.trips import TripRows
from mtgpt.ingest.feeds.gtfs_rt.wire import MAX_FIELDS, after_field, fields, varint
from tests.ingest.gtfs_rt_feed import a_city, message, trip

if TYPE_CHECKING:
    import polars as pl

INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)


def key(number: int, wire: int) -> bytes:
    return written(number << 3 | wire)


def written(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def sized(number: int, content: bytes) -> bytes:
    return key(number, 2) + written(len(content)) + content


# Fields of any message as they may stand on the wire: known ones with any number, unknown ones of every wire type.
VARINTS = st.builds(lambda n, v: key(n, 0) + written(v), st.sampled_from([1, 2, 3, 4, 5, 7, 99, 1001]), INT64)
FIXED = st.builds(lambda n, v: key(n, 1) + v, st.sampled_from([1, 2, 4, 900]), st.binary(min_size=8, max_size=8))
FIXED_32 = st.builds(lambda n, v: key(n, 5) + v, st.sampled_from([1, 2, 5, 900]), st.binary(min_size=4, max_size=4))
TEXTS = st.builds(sized, st.sampled_from([4, 900, 1001]), st.text(max_size=6).map(str.encode) | st.binary(max_size=4))
ODD = VARINTS | FIXED | FIXED_32
EVENTS = st.lists(ODD, max_size=4).map(b"".join)
PROPERTIES = st.lists(st.builds(lambda t: sized(1, t.encode()), st.text(max_size=4)) | ODD, max_size=3).map(b"".join)
STOPS = st.lists(
    st.builds(sized, st.sampled_from([2, 3]), EVENTS) | st.builds(lambda c: sized(6, c), PROPERTIES) | TEXTS | ODD,
    max_size=6,
).map(b"".join)
UPDATES = st.lists(
    st.builds(lambda c: sized(2, c), STOPS) | st.builds(lambda n: sized(900, b"x" * n), st.integers(0, 9)), max_size=4
)
ENTITIES = UPDATES.map(lambda parts: sized(1, b"e") + sized(3, sized(1, b"") + b"".join(parts)))


def columns(entities: list[bytes]) -> pl.DataFrame:
    rows, data, spans = TripRows(), b"", []
    for content in entities:
        spans.append((len(data), len(data) + len(content)))
        data += content
    for position, (start, end) in enumerate(spans):
        rows.add(position, pb.FeedEntity.FromString(data[start:end]).trip_update, (start, end))
    return rows.stops(Message(data=data, name="x", feed_time=None, spans=spans))


def by_the_bindings(entities: list[bytes]) -> list[dict]:
    rows = []
    for number, content in enumerate(entities):
        for update in pb.FeedEntity.FromString(content).trip_update.stop_time_update:
            texts = {"stop_id": update.stop_id, "assigned": update.stop_time_properties.assigned_stop_id}
            row = {"trip": number, "stop_sequence": update.stop_sequence if update.HasField("stop_sequence") else None}
            row |= {name: None if isinstance(text, bytes) else text or None for name, text in texts.items()}
            row |= {"relation": update.schedule_relationship}
            for name in ("arrival", "departure"):
                event = getattr(update, name)
                row[f"{name}_time"] = event.time if event.time > 0 else None
                row[f"{name}_delay"] = event.delay if event.HasField("delay") else None
                row[f"{name}_planned"] = event.scheduled_time if event.scheduled_time > 0 else None
            row["unreadable"] = any(isinstance(text, bytes) for text in texts.values())
            rows.append(row)
    return rows


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ENTITIES, min_size=1, max_size=4))
def test_stop_updates_are_what_the_bindings_read(entities):
    try:
        expected = by_the_bindings(entities)
    except DecodeError:
        return  # such a message is refused before it comes here
    assert columns(entities).to_dicts() == expected


def test_a_whole_city_is_what_the_bindings_read():
    feed = a_city(200, 25)
    entities = [one.SerializeToString() for one in feed.entity if one.HasField("trip_update")]
    assert columns(entities).to_dicts() == by_the_bindings(entities)


def test_a_message_that_stands_twice_is_merged_and_the_last_number_counts():
    first, second = key(1, 0) + written(5), key(2, 0) + written(7) + key(1, 0) + written(9)
    entity = sized(1, b"e") + sized(3, sized(1, b"") + sized(2, sized(2, second) + sized(2, first)))
    (row,) = columns([entity]).to_dicts()
    assert (row["arrival_delay"], row["arrival_time"]) == (5, 7)


def test_more_fields_than_any_trip_has_are_refused():
    many = np.frombuffer((key(9, 0) + b"\0") * (MAX_FIELDS + 1), np.uint8)
    for most, size, said in ((10**9, many.size, "too many fields"), (10, 40, "than any feed has")):
        with pytest.raises(FeedError, match=said):
            fields(many, np.zeros(1, np.int64), np.array([size]), most=most)


@given(st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_fields_or_refused_within_their_bounds(data):
    array = np.frombuffer(data, np.uint8)
    try:
        found = fields(array, np.zeros(1, np.int64), np.array([array.size]), most=1000)
    except FeedError:
        return
    inside = found.value[found.size > 0].astype(np.int64) + found.size[found.size > 0]
    assert (inside <= array.size).all()
    at = 0
    while at < len(data):
        number, at = varint(data, at, len(data))
        at = after_field(data, at, len(data), number)
    assert at == len(data)


def test_no_trips_give_no_rows():
    empty = TripRows()
    assert empty.trips().height == 0
    assert empty.stops(Message(data=message().SerializeToString(), name="x", feed_time=None, spans=[])).height == 0
    without = message()
    trip(without, "t1")
    assert columns([without.entity[0].SerializeToString()]).height == 0


def test_groups_are_refused():
    group = key(20, 3) + key(1, 0) + b"\1" + key(20, 4)
    with pytest.raises(FeedError, match="cut or damaged"):
        columns([sized(1, b"e") + sized(3, sized(1, b"") + sized(2, group))])
