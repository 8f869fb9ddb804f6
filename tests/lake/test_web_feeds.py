"""A feed on a server that has not changed is not sent again."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.lake.feeds import observations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lake.conftest import City


class _Department(BaseHTTPRequestHandler):
    answers: list[int]
    content: bytes
    etag: str

    def do_GET(self) -> None:
        if self.headers.get("If-None-Match") == self.etag:
            self.answers.append(304)
            self.send_response(304)
            self.end_headers()
            return
        self.answers.append(200)
        self.send_response(200)
        self.send_header("ETag", self.etag)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def department() -> Iterator[tuple[str, type[_Department]]]:
    class Handler(_Department):
        answers = []  # noqa: RUF012 - one list per test is what is wanted
        content = b""
        etag = '"1"'

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/speeds.csv", Handler
        server.shutdown()
        thread.join()


def test_an_unchanged_feed_is_known_without_a_download(city: City, department: tuple[str, type[_Department]]) -> None:
    url, handler = department
    handler.content = observations(city.write("a.csv")).read_bytes()
    city.sources.append({"id": "speeds", "kind": "rows", "url": url, "allow_loopback": True})
    first, second = city.ingest()[0], city.ingest()[0]
    assert (first.status, second.status, first.batch_id) == ("committed", "replay", second.batch_id)
    assert handler.answers == [200, 304]
    handler.content = observations(city.write("b.csv"), first=50).read_bytes()
    handler.etag = '"2"'
    assert city.ingest()[0].status == "committed"
    assert handler.answers == [200, 304, 200]
    assert city.lake.scan("observation").collect().height == 24


def test_a_feed_whose_bytes_are_gone_from_bronze_is_downloaded_again(
    city: City, department: tuple[str, type[_Department]]
) -> None:
    url, handler = department
    handler.content = observations(city.write("a.csv")).read_bytes()
    city.sources.append({"id": "speeds", "kind": "rows", "url": url, "allow_loopback": True})
    city.ingest()
    for raw in city.lake.bronze.objects():
        raw.unlink()
    assert city.ingest()[0].status == "replay"
    assert handler.answers == [200, 200]
    assert city.lake.bronze.verify() == []
    assert len(list(city.lake.bronze.objects())) == 2
