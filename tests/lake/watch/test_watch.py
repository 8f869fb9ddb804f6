"""A watch asks every feed on its own cadence; what did not change leaves no trace, what did lands once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from mtgpt.errors import UsageError
from mtgpt.lake.lock import locked
from mtgpt.lake.watch.watch import Watch, watched_sources
from tests.ingest.http_feed import Feed, answer, feed_server
from tests.lake.feeds import KINDS, observations, trips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mtgpt.lake.watch.watch import Event
    from tests.lake.conftest import City


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A web server on loopback."""
    with feed_server() as server:
        yield server


class Log(list["Event"]):
    """Events in the order they came."""

    def of(self, *names: str) -> list[Event]:
        return [one for one in self if one.event in names]


def watch(city: City, log: Log | None = None, **more: Any) -> Watch:
    options = {"every_s": 0.2, "derive_s": 0.1} | more
    return Watch(
        city.manifest(),
        city.lake,
        settings=city.settings,
        kinds=KINDS,
        note=(Log() if log is None else log).append,
        **options,
    )


def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def body(city: City, first: int = 0, **more: Any) -> bytes:
    return observations(city.write(f"raw/{first}.csv"), first=first, **more).read_bytes()


def url_source(city: City, feed: Feed, path: str = "/a.csv") -> None:
    city.sources.append({"id": path[1], "kind": "rows", "url": feed.url(path), "allow_loopback": True})


def raw(city: City) -> int:
    return len(list(city.lake.bronze.objects()))


def test_each_snapshot_lands_once_and_an_unchanged_one_leaves_no_trace(city: City, feed: Feed) -> None:
    url_source(city, feed)
    feed.serve("/a.csv", body(city), ETag='"1"')
    log = Log()
    with watch(city, log) as running:
        until(lambda: running.status()[0].landed == 1)
        objects, version = raw(city), city.lake.version("batch")
        until(lambda: running.status()[0].unchanged >= 3)
        assert (raw(city), city.lake.version("batch")) == (objects, version)
        feed.serve("/a.csv", body(city, 50), ETag='"2"')
        until(lambda: running.status()[0].landed == 2)
    assert city.lake.scan("observation").collect().height == 24
    assert city.lake.ledger()["status"].to_list() == ["committed", "committed"]
    assert raw(city) == objects + 1
    assert log.of("failed", "lake", "held") == []
    assert list(city.lake.staging.glob("run-*")) == []


def test_a_server_without_tags_is_believed_by_the_bytes(city: City, feed: Feed) -> None:
    url_source(city, feed)
    feed.serve("/a.csv", body(city))
    with watch(city) as running:
        until(lambda: running.status()[0].unchanged >= 2)
    assert city.lake.ledger().height == 1
    assert raw(city) == 2  # the file and how it was read


def test_a_second_watch_asks_by_the_tags_of_the_first(city: City, feed: Feed) -> None:
    url_source(city, feed)
    feed.serve("/a.csv", body(city), Last_Modified="Mon, 04 Mar 2024 08:00:00 GMT")
    with watch(city, once=True) as running:
        assert running.wait(20)
    feed.answers["/a.csv"] = answer(b"", 304)
    with watch(city, once=True) as running:
        assert running.wait(20)
        assert running.is_well()
    assert feed.requests[-1][1]["If-Modified-Since"] == "Mon, 04 Mar 2024 08:00:00 GMT"
    assert city.lake.ledger().height == 1


def test_bytes_that_are_gone_from_bronze_are_asked_for_anew(city: City, feed: Feed) -> None:
    url_source(city, feed)

    def conditional(request: Any) -> None:
        answer(b"", 304)(request) if request.headers["If-None-Match"] else answer(sent, ETag='"1"')(request)

    sent = body(city)
    feed.answers["/a.csv"] = conditional
    with watch(city) as running:
        until(lambda: running.status()[0].unchanged >= 2)
        for one in city.lake.bronze.objects():
            one.unlink()
        until(lambda: raw(city) == 2)
        assert running.is_well()
    assert city.lake.bronze.verify() == []


def test_new_files_of_a_folder_land_and_a_bad_one_keeps_no_other_from_it(city: City) -> None:
    city.add("files", "in/*.csv")
    with watch(city) as running:
        until(lambda: running.status()[0].polls >= 2)  # the folder is not there yet
        observations(city.write("in/a.csv"))
        (city.write("in") / "b.csv").write_text("spot_id\n!\n!")
        observations(city.write("in/c.csv"), first=90)
        until(lambda: running.status()[0].landed == 2)
        until(lambda: running.status()[0].unread == 1)
        polls = running.status()[0].polls
        until(lambda: running.status()[0].polls >= polls + 3)
        assert running.status()[0].unread == 1, "a bad file is read again only when somebody changed it"
        assert not running.is_well()
        observations(city.write("in/b.csv"), first=190)
        until(lambda: running.status()[0].landed == 3)


def test_a_lock_that_somebody_holds_delays_no_poll_and_no_batch_is_lost(city: City, feed: Feed) -> None:
    url_source(city, feed)
    sent = [body(city, 10 * step) for step in range(6)]
    feed.serve_in_turn("/a.csv", *map(answer, sent))
    city.lake.table("batch").open_or_create()
    with watch(city) as running:
        with locked(city.lake.lock("batch")):
            until(lambda: len(feed.requests) >= 6)
            assert running.status()[0].landed == 0
        until(lambda: running.status()[0].landed == 6)
        assert running.status()[0].late_s < 0.5
    assert city.lake.scan("observation").collect().height == 72


def test_counts_of_trips_follow_their_landing(city: City, feed: Feed) -> None:
    source = {"id": "b", "kind": "rows", "url": feed.url("/b.csv"), "allow_loopback": True}
    city.sources.append(source | {"options": {"table": "trip"}})
    feed.serve("/b.csv", trips(city.write("t.csv"), range(20)).read_bytes())
    log = Log()
    with watch(city, log) as running:
        until(lambda: log.of("derived"))
        assert running.is_well()
    assert city.lake.scan("observation").collect().height > 0


def test_tables_of_many_small_files_are_compacted(city: City, feed: Feed) -> None:
    url_source(city, feed)
    feed.serve_in_turn("/a.csv", *(answer(body(city, 10 * step)) for step in range(8)))
    log = Log()
    with watch(city, log, compact_files=4, every_s=0.1) as running:
        until(lambda: running.status()[0].landed == 8)
        until(lambda: len({one.facts["table"] for one in log.of("compacted")}) >= 2)
    assert {one.facts["table"] for one in log.of("compacted")} >= {"batch", "observation"}
    assert city.lake.scan("observation").collect().height == 96
    assert city.lake.ledger().height == 8


def test_a_held_snapshot_is_said_and_the_next_one_lands(city: City, feed: Feed) -> None:
    url_source(city, feed)
    feed.serve_in_turn("/a.csv", answer(body(city, bad=9)), answer(body(city, 50)))
    log = Log()
    with watch(city, log) as running:
        until(lambda: running.status()[0].landed == 1)
        assert not running.is_well()
    assert [one.event for one in log.of("held", "landed")] == ["held", "landed"]


def test_stopping_waits_for_what_was_read_and_for_no_server(city: City, feed: Feed) -> None:
    url_source(city, feed, "/a.csv")
    url_source(city, feed, "/slow.csv")
    feed.serve("/a.csv", body(city))
    hangs = threading.Event()
    feed.answers["/slow.csv"] = lambda _: hangs.wait(20)
    running = watch(city)
    with running:
        until(lambda: running.status()[0].landed == 1)
        began = time.monotonic()
        assert running.stop()
    hangs.set()
    assert time.monotonic() - began < 3
    assert list(city.lake.staging.glob("run-*")) == []


def test_what_never_changes_is_not_watched_unless_it_is_named(city: City) -> None:
    city.add("fixed", "a.csv")
    with pytest.raises(UsageError, match="mtgpt ingest testville"):
        watched_sources(city.manifest())
    assert [one.id for one in watched_sources(city.manifest(), ["fixed"])] == ["fixed"]
