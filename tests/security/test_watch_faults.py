"""Feeds that hang, drip, fail or send rubbish, beside a good one: the good one is asked on time, all the time."""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from mtgpt.lake.lake import Lake
from mtgpt.lake.watch.watch import Watch
from mtgpt.settings import Settings
from tests.ingest.http_feed import Feed, answer, feed_server
from tests.lake.conftest import City
from tests.lake.feeds import KINDS, observations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

EVERY_S = 0.5
LATE_S = 1.0


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A web server on loopback."""
    with feed_server() as server:
        yield server


@pytest.fixture
def city(tmp_path: Path) -> City:
    """A city without sources, over an empty lake."""
    settings = Settings(home=tmp_path / "home")
    return City(folder=tmp_path / "feeds", lake=Lake.open(settings.lake), settings=settings)


def hang(_: BaseHTTPRequestHandler) -> None:
    time.sleep(15)


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    for _ in range(15):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(1)


BAD = {
    "hangs": hang,
    "drips": drip,
    "fails": answer(b"no", 500),
    "page": answer(b"<!DOCTYPE html><title>Down for maintenance</title>"),
    "rubbish": answer(os.urandom(1 << 20) * 16),
    "wrong": answer(b"spot_id,variable\n" + b"a,speed\n" * 200_000),
}


def test_a_good_feed_is_asked_within_a_second_of_its_time_beside_six_bad_ones(city: City, feed: Feed) -> None:
    asked: list[float] = []
    bodies = itertools.cycle(
        observations(city.write(f"raw/{step}.csv"), first=10 * step).read_bytes() for step in range(40)
    )

    def good(request: BaseHTTPRequestHandler) -> None:
        asked.append(time.monotonic())
        answer(next(bodies))(request)

    feed.answers["/good"] = good
    for name, give in BAD.items():
        feed.answers[f"/{name}"] = give
    for name in ("good", *BAD):
        city.sources.append({"id": name, "kind": "rows", "url": feed.url(f"/{name}"), "allow_loopback": True})
    waits: list[float] = []

    def note(event: Any) -> None:
        if event.event == "landed":
            waits.append(event.facts["waited_s"])

    watch = Watch(city.manifest(), city.lake, settings=city.settings, kinds=KINDS, every_s=EVERY_S, note=note)
    with watch:
        time.sleep(8)
        found = {one.source_id: one for one in watch.status()}
    late = [after - before - EVERY_S for before, after in itertools.pairwise(asked)]
    assert len(asked) >= 8
    assert max(late) <= LATE_S, late
    assert found["good"].late_s <= LATE_S
    assert found["good"].failures == 0
    # How long a commit takes is the disk's business; that landing keeps up is ours.
    assert statistics.median(waits) <= LATE_S, waits
    assert found["good"].landed >= 8
    for name in ("fails", "page", "rubbish"):
        assert found[name].failures >= 2, name
        # Less and less often: 0.5 s, 1 s, 2 s, …, not sixteen times in eight seconds.
        assert found[name].polls <= 7, name
    assert found["page"].fault is not None
    assert "the server sent a web page" in found["page"].fault
    for name in ("hangs", "drips"):
        assert found[name].polls == 1
        assert found[name].doing == "pulls"
    ledger = city.lake.ledger()
    assert (
        ledger["rows_in"].to_list()
        == (ledger["rows_good"] + ledger["rows_quarantined"] + ledger["rows_duplicate"]).to_list()
    )
    assert set(ledger["source_id"]) <= {"good", "wrong"}
    assert city.lake.bronze.verify() == []
    assert list(city.lake.staging.glob("run-*")) == []


def test_a_feed_that_fails_five_times_rests_and_then_gets_one_try(city: City, feed: Feed) -> None:
    from mtgpt.ingest.pull.breaker import Breaker

    good = observations(city.write("raw.csv")).read_bytes()
    feed.serve("/a", b"no", 503)
    city.sources.append({"id": "a", "kind": "rows", "url": feed.url("/a"), "allow_loopback": True})
    breaker = Breaker(rest_s=1.5)
    watch = Watch(city.manifest(), city.lake, settings=city.settings, kinds=KINDS, every_s=0.1, breaker=breaker)
    with watch:
        _until(lambda: watch.status()[0].breaker == "open")
        assert len(feed.requests) == 5
        time.sleep(0.8)
        assert len(feed.requests) == 5, "it rests"
        _until(lambda: len(feed.requests) == 6)
        time.sleep(0.8)
        assert len(feed.requests) == 6, "one try, and it rests again"
        feed.serve("/a", good)
        _until(lambda: watch.status()[0].landed == 1)
        assert watch.status()[0].breaker == "closed"
        assert watch.status()[0].fault is None


@pytest.fixture
def manifest(tmp_path: Path, feed: Feed) -> Path:
    """Two matrix feeds on a server, one of which fails."""
    options = {"variable": "speed", "mode": "road", "kind": "detector", "interval_s": 300, "time": "time"}
    rows = b"time,a,b\n" + b"".join(b"2024-03-01T%02d:00:00,50,60\n" % hour for hour in range(24))
    feed.serve("/good.csv", rows, ETag='"1"')
    feed.serve("/bad.csv", b"", 500)
    sources = [
        {"id": name, "kind": "matrix", "url": feed.url(f"/{name}.csv"), "allow_loopback": True, "options": options}
        for name in ("good", "bad")
    ]
    city = {"city": "town", "name": "Town", "time_zone": "Europe/Oslo", "sources": sources}
    path = tmp_path / "town.yaml"
    path.write_text(json.dumps(city), "utf-8")
    return path


def _watch(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mtgpt", "watch", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"MTGPT_HOME": str(home)},
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_watch_that_is_asked_to_end_ends_whole(
    manifest: Path, home: Path, feed: Feed, number: int, code: int
) -> None:
    feed.answers["/bad.csv"] = hang
    with _watch(home, str(manifest), "--every", "0.3s", "--json") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "landed":
                break
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    assert time.monotonic() - began < 5, "a server that hangs is not waited for"
    assert err.strip() in {"", "Stopped. Nothing is half-written: the same command goes on from there."}
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "ended"
    assert {one["source_id"]: one["landed"] for one in last["sources"]} == {"good": 1, "bad": 0}
    lake = Lake.open(home / "lake")
    assert lake.ledger()["status"].to_list() == ["committed"]
    assert list(lake.staging.glob("run-*")) == []
    assert lake.bronze.verify() == []


def test_once_says_with_its_code_whether_a_feed_failed(manifest: Path, home: Path, feed: Feed) -> None:
    with _watch(home, str(manifest), "--once") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "500 Internal Server Error" in err
    assert "good" in out
    assert max(map(len, out.splitlines())) <= 80
    feed.serve("/bad.csv", feed_rows())
    with _watch(home, str(manifest), "--once", "--json") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    events = [json.loads(line) for line in out.splitlines()]
    assert {(one["event"], one.get("source")) for one in events} >= {("landed", "bad"), ("unchanged", "good")}


def feed_rows() -> bytes:
    return b"time,c,d\n" + b"".join(b"2024-03-01T%02d:00:00,50,60\n" % hour for hour in range(24))


def _until(true: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
