"""Whole GTFS-Realtime messages are read, others are refused in a sentence that says why."""

from __future__ import annotations

import gzip
from datetime import timedelta

import pytest

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.feeds.gtfs_rt import message as gtfs_rt_message
from mtgpt.ingest.feeds.gtfs_rt.message import read_message
from tests.ingest.gtfs_rt_feed import NOW, STAMP, a_city, file, message, trip


def opened(tmp_path, data: bytes):
    found = read_message(file(tmp_path, data), received_at=NOW)
    return found, list(found.entities())


def test_entities_come_in_order_with_their_time(tmp_path):
    feed = a_city()
    found, entities = opened(tmp_path, feed.SerializeToString())
    assert found.feed_time == NOW
    assert [(position, one.id) for position, one in entities] == [
        (place, one.id) for place, one in enumerate(feed.entity)
    ]


def test_entities_are_the_same_in_groups_of_any_size(tmp_path, monkeypatch):
    data = a_city().SerializeToString()
    whole = [one.SerializeToString() for _, one in opened(tmp_path, data)[1]]
    for size in (1, 500, 5000):
        monkeypatch.setattr(gtfs_rt_message, "_GROUP_BYTES", size)
        assert [one.SerializeToString() for _, one in opened(tmp_path, data)[1]] == whole


def test_a_gzipped_message_is_read(tmp_path):
    assert len(opened(tmp_path, gzip.compress(a_city().SerializeToString()))[1]) == len(a_city().entity)


def test_extensions_are_tolerated_at_every_level(tmp_path):
    feed = message()
    one = trip(feed, "t1", {"stop_id": "A", "departure": {"time": 60}})
    extension = b"\xca\x3e\x03\x0a\x01N"  # field 1001 of the New York subway
    update = one.trip_update.SerializeToString() + extension
    entity = b"\x0a\x01e\x1a" + bytes([len(update)]) + update
    data = message().SerializeToString() + b"\x12" + bytes([len(entity)]) + entity + extension
    assert [one.trip_update.trip.trip_id for _, one in opened(tmp_path, data)[1]] == ["t1"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not valid pb data", "not a GTFS-Realtime message"),
        (b"<html><body>503</body></html>", "not a GTFS-Realtime message"),
        (b'{"header": {"gtfsRealtimeVersion": "2.0"}}', "not a GTFS-Realtime message"),
        (b"\x12\x03\x0a\x01e", "not a GTFS-Realtime message"),
        (message().SerializeToString() * 2, "two messages after one another"),
        (message().SerializeToString() + b"\n", "cut or damaged"),
        (message().SerializeToString() + b"\0\0", "belong to no entity .got field 0"),
        (message().SerializeToString() + b"\x1a\x02ok", "belong to no entity .got field 3"),
        (a_city(2).SerializeToString()[:-1], "cut or damaged .got 3 whole entities"),
        (
            message().SerializeToString() + b"\x12\x02\x18\x00",
            "entity 1 of 1: required fields are missing .expected id",
        ),
        (message().SerializeToString() + b"\x12\x05\x0a\x01e\x1a\x09", "entity 1 of 1: damaged"),
        (message(version="9").SerializeToString(), "unknown version of GTFS-Realtime .got 9, expected 1.0 or 2.0"),
        (message(STAMP * 1000).SerializeToString(), "time of the message is off .got milliseconds"),
        (message(STAMP + 3700).SerializeToString(), "time of the message is off .got 2024-05-14T16"),
        (message(86_400).SerializeToString(), "time of the message is off .got 1970"),
        (message(2**64 - 1).SerializeToString(), "time of the message is off"),
    ],
)
def test_what_is_no_whole_message_is_refused(tmp_path, data, said):
    with pytest.raises(FeedError, match=said) as refused:
        opened(tmp_path, data)
    assert refused.value.sentence().startswith("feed.pb")


def test_a_feed_of_changes_is_refused_with_what_to_do(tmp_path):
    feed = message()
    feed.header.incrementality = feed.header.DIFFERENTIAL
    with pytest.raises(FeedError, match=r"sends changes only .*FULL_DATASET.*Ask its publisher"):
        opened(tmp_path, feed.SerializeToString())


@pytest.mark.parametrize(("name", "most"), [("MAX_BYTES", 100), ("MAX_ENTITIES", 10), ("MAX_ENTITY_BYTES", 60)])
def test_what_is_larger_than_any_feed_is_refused(tmp_path, monkeypatch, name, most):
    monkeypatch.setattr(gtfs_rt_message, name, most)
    with pytest.raises(SourceRefused, match=r"too (large|many)"):
        opened(tmp_path, a_city().SerializeToString())


def test_a_message_without_a_time_takes_the_newest_of_its_entities(tmp_path):
    from tests.ingest.gtfs_rt_feed import read

    feed = message(0)
    trip(feed, "t1", {"stop_id": "A", "departure": {"time": 60}}, timestamp=STAMP - 40)
    trip(feed, "t2", {"stop_id": "A", "departure": {"time": 90}})
    rows = read(tmp_path, feed.SerializeToString(), received_at=NOW + timedelta(days=900))["stop_visit"]
    assert rows["reported_at"].to_list() == [NOW - timedelta(seconds=40)] * 2
