"""A feed's key goes to the feed's own server and nowhere else, even where that server sends it back."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from mtgpt.lake.lake import Lake
from mtgpt.settings import settings
from tests.cli.command_line import mtgpt
from tests.ingest.http_feed import Feed, answer, feed_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "s3nt/nel&K=y+4711"
PLAIN = "pl4inSentinel4712"
FOUND = tuple(
    one.encode()
    for key in (KEY, PLAIN)
    for one in (key, quote(key, safe=""), quote(key), base64.b64encode(key.encode()).decode().rstrip("="))
)
QUERY = "?format=csv&key=${ENV:FEED_KEY}&api_key=" + PLAIN
BODY = b"time,a,b\n" + b"".join(b"2024-03-01T%02d:00:00,50,60\n" % hour for hour in range(24))
OPTIONS = {"variable": "speed", "mode": "road", "kind": "detector", "interval_s": 300, "time": "time"}


def echo(request: Any) -> str:
    """Everything secret that came with a request, in one line."""
    return f"{request.path} {request.headers['X-Key']} {request.headers['Authorization']}"


ANSWERS: dict[str, Any] = {
    "well": answer(BODY, ETag='"1"'),
    "tagged": answer(BODY, ETag=f'"{KEY}"', Last_Modified=KEY),
    "unauthorised": lambda request: answer(f"who is {echo(request)}?".encode(), 401)(request),
    "forbidden": lambda request: answer(echo(request).encode(), 403, WWW_Authenticate=KEY)(request),
    "broken": lambda request: answer(echo(request).encode(), 500, Retry_After="0")(request),
    "elsewhere": answer(b"", 302, Location=f"http://other.example/{quote(KEY, safe='')}/{PLAIN}"),
    "insecure": answer(b"", 302, Location=f"ftp://127.0.0.1/{KEY}?{PLAIN}"),
    "around": answer(b"", 302, Location=f"/missing/{quote(KEY, safe='')}?key={PLAIN}"),
    "encoded": answer(BODY, Content_Encoding=KEY),
    "page": answer(f"<html>{KEY} {PLAIN}".encode()),
    "cut": lambda request: answer(echo(request).encode(), Content_Length="5000")(request),
    "rude": lambda request: request.wfile.write(f"{KEY} {PLAIN}\r\n\r\n".encode()),
}  # fmt: skip


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A server that sends every secret back."""
    with feed_server() as server:
        server.answers |= {f"/{name}.csv": give for name, give in ANSWERS.items()}
        server.answers[f"/missing/{quote(KEY, safe='')}"] = answer(b"", 404)
        yield server


@pytest.fixture
def manifest(tmp_path: Path, feed: Feed, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """A city whose every feed has the key in its query and in two headers."""
    assert home.is_dir()
    monkeypatch.setenv("FEED_KEY", KEY)
    sources = [
        {
            "id": name,
            "kind": "matrix",
            "url": feed.url(f"/{name}.csv") + QUERY,
            "allow_loopback": True,
            "headers": {"X-Key": "${ENV:FEED_KEY}", "Authorization": "Bearer ${ENV:FEED_KEY}"},
            "options": OPTIONS,
        }
        for name in ANSWERS
    ]
    path = tmp_path / "town.yaml"
    path.write_text(json.dumps({"city": "town", "name": "Town", "time_zone": "UTC", "sources": sources}), "utf-8")
    return path


def assert_clean(*texts: str) -> None:
    """No key in any text, in any file of the workspace, or in any row of any table."""
    home = settings().home
    for text in texts:
        for key in FOUND:
            assert key not in text.encode(), text
    for path in home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(key in data for key in FOUND), path
    if (home / "lake").is_dir():
        lake = Lake.open(home / "lake")
        for table in lake.versions():
            # Data files are compressed: what is in them is looked at as rows.
            assert not any(key.decode() in str(lake.scan(table).collect().to_dicts()) for key in FOUND), table


def test_the_server_gets_the_key(manifest: Path, feed: Feed) -> None:
    mtgpt("ingest", manifest, "--source", "well")
    path, headers = feed.requests[0]
    assert f"key={quote(KEY, safe='')}" in path
    assert headers["X-Key"] == KEY
    assert headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["for people", "for programs"])
def test_an_ingest_says_and_keeps_no_key(manifest: Path, words: tuple[str, ...], caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    # What is tried again is met by the watch below, which does not wait for it.
    text = json.loads(manifest.read_text("utf-8"))
    text["sources"] = [one for one in text["sources"] if one["id"] not in {"broken", "cut", "rude"}]
    manifest.write_text(json.dumps(text), "utf-8")
    done = mtgpt("ingest", manifest, *words)
    assert done.code == 1
    shown = [mtgpt("lake", "status", *words), mtgpt("lake", "quarantine", *words)]
    assert_clean(done.out, done.err, caplog.text, *(one.err + one.out for one in shown))
    said = done.out + done.err
    for one in text["sources"]:
        assert one["id"] in said
    ledger = Lake.open(settings().lake).ledger()
    assert sorted(ledger["source_id"].unique()) == ["tagged", "well"]
    for sentence in ("401 Unauthorized", "redirect to another host", "404 Not Found", "a web page"):
        assert sentence in said


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["for people", "for programs"])
def test_a_watch_says_and_keeps_no_key(manifest: Path, words: tuple[str, ...], caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    done = mtgpt("watch", manifest, "--every", "0.3s", "--for", "2s", *words)
    assert done.code == 1
    assert_clean(done.out, done.err, caplog.text)
    for sentence in ("401 Unauthorized", "500 Internal", "expected 5000", "illegal status line"):
        assert sentence in done.out + done.err


def test_a_key_that_is_not_set_or_not_fit_is_named_and_not_shown(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEED_KEY", KEY + "\nX-Evil: 1")
    done = mtgpt("ingest", manifest, "--source", "well")
    assert "FEED_KEY" in done.err
    assert_clean(done.out, done.err)
    monkeypatch.delenv("FEED_KEY")
    done = mtgpt("ingest", manifest, "--source", "well")
    assert "environment variable FEED_KEY" in done.err


@pytest.mark.slow
def test_a_flow_logs_shows_and_stores_no_key(manifest: Path, home: Path, repo: Path) -> None:
    text = json.loads(manifest.read_text("utf-8"))
    wanted = {"well", "tagged", "forbidden", "elsewhere", "around", "page"}
    text["sources"] = [one for one in text["sources"] if one["id"] in wanted]
    manifest.write_text(json.dumps(text), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "flows.ingest", str(manifest)],
        cwd=repo, capture_output=True, text=True, check=False, timeout=240,
        env=os.environ | {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_HOME": str(home / "prefect")},
    )  # fmt: skip
    assert done.returncode == 1
    assert "403 Forbidden" in done.stderr + done.stdout
    assert (home / "prefect").is_dir()
    assert_clean(done.stdout, done.stderr)
    assert any((home / "prefect").glob("*.db")), "the server's own records were looked at"
