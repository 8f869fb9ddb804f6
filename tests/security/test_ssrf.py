"""Seventeen spellings of addresses that are nobody's feed, redirects to them, names that change: no canary hears a thing.

What a single pull refuses is in tests/ingest/pull/test_address.py; here the whole road is taken, from a manifest to the lake.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpcore
import pytest

from mtgpt.errors import ManifestError, SourceRefused, SourceUnavailable
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.lake.watch.watch import Watch
from mtgpt.settings import Settings
from tests.ingest.http_feed import a_source, answer, feed_server, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPELLINGS = {
    "loopback": "127.0.0.1",
    "short": "127.1",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "dotted hexadecimal": "0x7f.0x0.0x0.0x1",
    "octal": "0177.0.0.01",
    "zero": "0",
    "unspecified": "0.0.0.0",
    "name": "localhost",
    "trailing dot": "localhost.",
    "IPv6": "[::1]",
    "IPv6 unspecified": "[::]",
    "IPv4-mapped": "[::ffff:127.0.0.1]",
    "NAT64": "[64:ff9b::7f00:1]",
    "6to4": "[2002:7f00:1::1]",
    "full-width digits": "１２７．０．０．１",
    "user information": "feeds.example@127.0.0.1",
}
FAR = ("10.0.0.1", "192.168.1.1", "169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "100.100.100.200", "0xa9fea9fe")


class Canary:
    """Hears every connection to a port of this machine, over IPv4 and IPv6."""

    def __init__(self) -> None:
        self.heard = 0
        self._sockets = [self._listen(socket.AF_INET, "127.0.0.1", 0)]
        self.port = self._sockets[0].getsockname()[1]
        with contextlib.suppress(OSError):  # a machine without IPv6
            self._sockets.append(self._listen(socket.AF_INET6, "::1", self.port))

    def _listen(self, family: int, host: str, port: int) -> socket.socket:
        listener = socket.create_server((host, port), family=family)
        threading.Thread(target=self._hear, args=(listener,), daemon=True).start()
        return listener

    def _hear(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.heard += 1
            connection.close()

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """A server that must not be reached."""
    bird = Canary()
    yield bird
    time.sleep(0.02)
    assert bird.heard == 0
    bird.close()


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that somebody connects to."""
    addresses: list[str] = []
    dial = httpcore.SyncBackend.connect_tcp

    def noted(self: Any, host: str, *arguments: Any, **more: Any) -> Any:
        addresses.append(host)
        if not host.startswith("127.") and host != "::1":
            raise httpcore.ConnectError("not in a test")
        return dial(self, host, *arguments, **more)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", noted)
    return addresses


def manifest_of(folder: Path, url: str, **more: Any) -> Path:
    options = {"variable": "speed", "mode": "road", "kind": "detector", "interval_s": 300, "time": "time"}
    source = {"id": "feed", "kind": "matrix", "url": url, "options": options} | more
    city = {"city": "town", "name": "Town", "time_zone": "UTC", "sources": [source]}
    path = folder / "town.yaml"
    path.write_text(json.dumps(city, ensure_ascii=False), "utf-8")
    return path


def ingest(folder: Path, url: str, **more: Any) -> None:
    settings = Settings(home=folder / "home")
    manifest = load_manifest(manifest_of(folder, url, **more), settings=settings)
    ingest_city(manifest, Lake.open(settings.lake), settings=settings)


def test_there_are_seventeen() -> None:
    assert len(SPELLINGS) == 17


def test_the_canary_sings_when_it_is_reached() -> None:
    bird = Canary()
    with socket.create_connection(("127.0.0.1", bird.port)):
        time.sleep(0.05)
    assert bird.heard == 1
    bird.close()


@pytest.mark.parametrize("host", SPELLINGS.values(), ids=SPELLINGS)
def test_no_spelling_in_a_manifest_reaches_this_machine(canary: Canary, tmp_path: Path, host: str) -> None:
    with pytest.raises((ManifestError, SourceRefused, SourceUnavailable)) as caught:
        ingest(tmp_path, f"http://{host}:{canary.port}/latest/meta-data/")
    # A resolver without IPv6 may not know an address; one that it knows must be refused, not be down.
    assert not isinstance(caught.value, SourceUnavailable) or "resolved" in caught.value.what


@pytest.mark.parametrize("host", SPELLINGS.values(), ids=SPELLINGS)
def test_no_spelling_in_a_redirect_reaches_another_server_of_this_machine(
    canary: Canary, tmp_path: Path, host: str
) -> None:
    with feed_server() as feed:
        location = f"http://{host}:{canary.port}/secret".encode().decode("latin-1")
        url = feed.serve("/a", b"", 302, Location=location)
        with pytest.raises(SourceRefused):
            ingest(tmp_path, url, allow_loopback=True)
    assert not (tmp_path / "home" / "lake" / "tables").exists()


@pytest.mark.parametrize("host", FAR)
@pytest.mark.parametrize("hops", [0, 1, 4])
def test_no_private_network_is_dialled_directly_or_after_redirects(
    dialled: list[str], tmp_path: Path, host: str, hops: int
) -> None:
    with feed_server() as feed:
        target = f"http://{host}/latest/meta-data/"
        for hop in range(hops):
            feed.serve(f"/{hop}", b"", 307, Location=target if hop == hops - 1 else f"/{hop + 1}")
        url = feed.url("/0") if hops else target
        # Even where somebody listed the host.
        listed = [] if "[" in host else [host]
        with pytest.raises((SourceRefused, SourceUnavailable)):
            ingest(tmp_path, url, allow_loopback=True, allow_hosts=listed)
    assert dialled == ["127.0.0.1"] * hops


def answers(*addresses: str) -> Any:
    """A resolver whose every answer is another."""
    left = list(addresses)

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(0, 0, 0, "", (address, port))]

    return lookup


def test_a_name_that_answers_otherwise_after_the_check_is_dialled_as_checked(
    canary: Canary, dialled: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.1"):
        # The first try dials the public address that was checked; the second one meets the other answer and is refused.
        fetch(
            f"http://feeds.example:{canary.port}/",
            tmp_path,
            source=a_source(allow_loopback=False),
            lookup=answers("93.184.216.34", "127.0.0.1"),
        )
    assert dialled == ["93.184.216.34"]


def test_a_name_that_answers_otherwise_after_a_redirect_to_itself_is_checked_again(
    dialled: list[str], tmp_path: Path
) -> None:
    with feed_server() as feed:
        feed.serve("/a", b"", 302, Location="/b")
        feed.serve("/b", b"secret")
        with pytest.raises(SourceRefused, match=r"10\.0\.0\.1"):
            fetch(feed.url("/a", "feeds.example"), tmp_path, lookup=answers("127.0.0.1", "10.0.0.1"))
        assert [path for path, _ in feed.requests] == ["/a"]
    assert dialled == ["127.0.0.1"]


def test_a_name_that_leads_into_this_machine_by_its_third_answer_is_refused_by_the_third(
    canary: Canary, dialled: list[str], tmp_path: Path
) -> None:
    public = [(0, 0, 0, "", (address, 80)) for address in ("93.184.216.34", "93.184.216.35", "::ffff:127.0.0.1")]
    with pytest.raises(SourceRefused, match="not public"):
        fetch(
            f"http://feeds.example:{canary.port}/", tmp_path,
            source=a_source(allow_loopback=False), lookup=lambda *_, **__: public,
        )  # fmt: skip
    assert dialled == []


def test_a_watch_follows_the_same_rules(canary: Canary, dialled: list[str], tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with feed_server() as feed:
        url = feed.serve("/a", b"", 302, Location=f"http://localhost:{canary.port}/")
        manifest = load_manifest(manifest_of(tmp_path, url, allow_loopback=True), settings=settings)
        watch = Watch(manifest, Lake.open(settings.lake), settings=settings, once=True)
        with watch:
            assert watch.wait(20)
            fault = watch.status()[0].fault
    assert fault is not None
    assert "redirect to another host" in fault
    assert dialled == ["127.0.0.1"]


def test_a_further_file_of_a_batch_is_checked_like_the_first(canary: Canary, tmp_path: Path) -> None:
    rows = b"time,a,b\n2024-03-01T00:00:00,50,60\n"
    with feed_server() as feed:
        feed.answers["/a.csv"] = answer(rows)
        further = {"distances": f"http://10.0.0.1:{canary.port}/d.csv"}
        with pytest.raises(SourceRefused, match="not public"):
            ingest(tmp_path, feed.url("/a.csv"), allow_loopback=True, files=further)
