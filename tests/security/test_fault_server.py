"""A server with every fault at once, met with the limits that everybody has: few tries, a minute at most, nothing half.

All faults are met at the same time, each by an ingest of a city of its own, so that real time-outs are waited for once.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from mtgpt.errors import MTGPTError
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
from tests.ingest.http_feed import Feed, answer, feed_server

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    from mtgpt.ingest.manifest import CityManifest

MOST_TRIES = 4
MOST_SECONDS = 60.0
BODY = b"time,a,b\n" + b"".join(b"2024-03-01T%02d:%02d:00,50,60\n" % (i // 12, i % 12 * 5) for i in range(288))


def drip_body(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    _drip(request, BODY)


def drip_head(request: BaseHTTPRequestHandler) -> None:
    _drip(request, b"HTTP/1.1 200 OK\r\nX-Patience: " + b"x" * 5000)


def _drip(request: BaseHTTPRequestHandler, data: bytes) -> None:
    for at in range(90):
        request.wfile.write(data[at : at + 1])
        request.wfile.flush()
        time.sleep(1)


def silent(_: BaseHTTPRequestHandler) -> None:
    time.sleep(90)


def cut_chunks(request: BaseHTTPRequestHandler) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"%x\r\n" % len(BODY) + BODY[: len(BODY) // 2])


def _gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()


FAULTS: dict[str, tuple[Any, str]] = {
    "429 with Retry-After": (answer(b"slow down", 429, Retry_After="1"), "429 Too Many Requests"),
    "500": (answer(b"oops", 500), "500 Internal Server Error"),
    "one byte of the body a second": (drip_body, "sends too slowly"),
    "one byte of the head a second": (drip_head, "sends too slowly"),
    "silence": (silent, "the server is silent"),
    "cut at half": (answer(BODY[: len(BODY) // 2], Content_Length=str(len(BODY))), f"expected {len(BODY)}"),
    "cut in a chunk": (cut_chunks, "the connection failed"),
    "cut in gzip": (answer(gzip.compress(BODY)[:-30], Content_Encoding="gzip"), "gzip-encoded body was cut"),
    "a gzip bomb": (answer(_gzip_bomb(), Content_Encoding="gzip"), "200 times itself once decoded"),
    "a gzip bomb as a file": (answer(_gzip_bomb()), "expands too far"),
    "a web page": (answer(b"\n<!-- proxy --><!DOCTYPE html>\n<html><title>Sign in</title>"), "the server sent a web page"),
    "an XHTML page": (answer(b'<?xml version="1.0"?>\n<html xmlns="x">'), "the server sent a web page"),
    "nothing": (answer(b""), "the file is empty"),
    "304 that nobody asked for": (answer(b"", 304), "304 Not Modified"),
    "206 that nobody asked for": (answer(BODY[:100], 206), "206 Partial Content"),
    "an endless length": (answer(b"", Content_Length=str(10**15)), "the body is too large"),
}  # fmt: skip


@dataclass(slots=True)
class Met:
    """What became of one ingest."""

    home: Path
    tries: int = 0
    seconds: float = 0.0
    sentence: str = ""
    said: list[str] = field(default_factory=list)


def manifest_of(folder: Path, url: str, settings: Settings) -> CityManifest:
    options = {"variable": "speed", "mode": "road", "kind": "detector", "interval_s": 300, "time": "time"}
    source = {"id": "feed", "kind": "matrix", "url": url, "allow_loopback": True, "options": options}
    folder.mkdir(exist_ok=True)
    path = folder / "town.yaml"
    path.write_text(json.dumps({"city": "town", "name": "Town", "time_zone": "UTC", "sources": [source]}), "utf-8")
    return load_manifest(path, settings=settings)


def ingest(folder: Path, url: str) -> Met:
    met = Met(home=folder / "home")
    settings = Settings(home=met.home)
    manifest = manifest_of(folder, url, settings)
    started = time.monotonic()
    try:
        ingest_city(manifest, Lake.open(settings.lake), settings=settings, progress=met.said.append)
    except MTGPTError as error:
        met.sentence = error.sentence()
    met.seconds = time.monotonic() - started
    return met


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Met]:
    """Every fault, met at the same time, each by a city of its own."""
    place = tmp_path_factory.mktemp("faults")
    found: dict[str, Met] = {}
    with feed_server() as feed:
        for number, (give, _) in enumerate(FAULTS.values()):
            feed.answers[f"/{number}.csv"] = give
        for hop in range(20):
            feed.serve(f"/hop{hop}", b"", 302, Location=f"/hop{hop + 1}")
        feed.serve("/hop20", BODY)
        urls = {name: feed.url(f"/{number}.csv") for number, name in enumerate(FAULTS)}
        urls["20 redirects"] = feed.url("/hop0")

        def work(name: str, number: int) -> None:
            found[name] = ingest(place / str(number), urls[name])

        threads = [threading.Thread(target=work, args=(name, at)) for at, name in enumerate(urls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, url in urls.items():
            path = url[url.rindex("/") :]
            found[name].tries = sum(asked == path for asked, _ in feed.requests)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*FAULTS, "20 redirects"])
def test_a_fault_costs_few_tries_and_a_minute_at_most_and_leaves_nothing_half(met: dict[str, Met], fault: str) -> None:
    one = met[fault]
    assert 1 <= one.tries <= MOST_TRIES
    assert one.seconds <= MOST_SECONDS
    words = FAULTS[fault][1] if fault in FAULTS else "too many redirects"
    assert words in one.sentence
    assert "\n" not in one.sentence
    lake = Lake.open(one.home / "lake")
    assert lake.versions() == {}
    assert lake.bronze.verify() == []
    # A whole body that is no feed may be kept as raw bytes; half of one never.
    kept = {path.name for path in lake.bronze.objects()}
    if fault == "a gzip bomb as a file":
        assert hashlib.sha256(_gzip_bomb()).hexdigest() in kept
        assert len(kept) == 2  # and how it was to be read
    else:
        assert kept == set()
    assert list(lake.staging.glob("run-*")) == []


@pytest.mark.slow
def test_what_may_pass_is_tried_again_and_what_will_not_is_not(met: dict[str, Met]) -> None:
    tries = {name: one.tries for name, one in met.items()}
    assert {name for name, count in tries.items() if count == MOST_TRIES} == {
        "429 with Retry-After", "500", "cut at half", "cut in a chunk", "cut in gzip",
    }  # fmt: skip
    # A server that keeps us waiting is not given four times the chance.
    assert tries["silence"] == 1
    assert tries["one byte of the body a second"] <= 2
    assert met["429 with Retry-After"].seconds >= 3, "the server's wish is granted"


def test_an_old_tag_for_bytes_that_are_gone_brings_them_anew(tmp_path: Path) -> None:
    with feed_server() as feed:
        asked: list[str | None] = []

        def stale(request: BaseHTTPRequestHandler) -> None:
            asked.append(request.headers["If-None-Match"])
            (answer(b"", 304) if asked[-1] else answer(BODY, ETag='"1"'))(request)

        feed.answers["/a.csv"] = stale
        assert ingest(tmp_path, feed.url("/a.csv")).sentence == ""
        assert ingest(tmp_path, feed.url("/a.csv")).sentence == ""
        assert asked == [None, '"1"']
        lake = Lake.open(tmp_path / "home" / "lake")
        for one in lake.bronze.objects():
            one.unlink()
        assert ingest(tmp_path, feed.url("/a.csv")).sentence == ""
        assert asked[2:] == [None]
        assert lake.bronze.verify() == []
        assert lake.ledger().height == 1


def test_a_feed_that_recovers_lands_once(tmp_path: Path) -> None:
    with feed_server() as feed:
        cut = answer(BODY[:100], Content_Length=str(len(BODY)))
        url = feed.serve_in_turn("/a.csv", answer(b"", 503, Retry_After="0"), cut, answer(BODY))
        assert ingest(tmp_path, url).sentence == ""
    lake = Lake.open(tmp_path / "home" / "lake")
    assert lake.ledger()["rows_good"].to_list() == [578]
    assert len(list(lake.bronze.objects())) == 2


def test_a_tag_of_a_hostile_length_is_not_kept(feed: Feed, tmp_path: Path) -> None:
    feed.serve("/a.csv", BODY, ETag='"' + "x" * 20_000 + '"')
    assert ingest(tmp_path, feed.url("/a.csv")).sentence == ""
    assert "xxxx" not in str(Lake.open(tmp_path / "home" / "lake").ledger()["files"].to_list())


@pytest.fixture
def feed() -> Any:
    """A web server on loopback."""
    with feed_server() as server:
        yield server
