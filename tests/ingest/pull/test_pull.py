"""Pulls from disk and from a real HTTP server on loopback."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import SecretStr

from mtgpt.errors import LakeError, ManifestError, NotFound, SourceRefused, SourceUnavailable
from mtgpt.ingest.pull.breaker import Breaker, HostResting
from mtgpt.ingest.pull.pull import Limits
from tests.ingest.http_feed import Feed, Sleeps, a_source, answer, feed_server, fetch

BODY = b"time,sensor,speed\n" * 5000


def test_a_body_arrives_whole_hashed_and_under_its_own_name(feed: Feed, tmp_path):
    url = feed.serve("/files/speed.csv", BODY, ETag='"v1"')
    got = fetch(url, tmp_path / "new")
    assert got.path is not None
    assert got.path.read_bytes() == BODY
    assert (got.name, got.sha256, got.size, got.etag, got.not_modified) == (
        "speed.csv",
        hashlib.sha256(BODY).hexdigest(),
        len(BODY),
        '"v1"',
        False,
    )
    assert list((tmp_path / "new").iterdir()) == [got.path]


def test_an_unchanged_feed_is_not_sent_again(feed: Feed, tmp_path):
    url = feed.serve_in_turn("/a", answer(BODY, ETag='"v1"'), answer(b"", 304))
    first = fetch(url, tmp_path)
    again = fetch(url, tmp_path, etag=first.etag)
    assert again.not_modified
    assert again.path is None
    assert again.etag == '"v1"'
    assert feed.requests[1][1]["If-None-Match"] == '"v1"'


def test_a_not_modified_that_nobody_asked_for_is_refused(feed: Feed, tmp_path):
    with pytest.raises(SourceRefused, match="304"):
        fetch(feed.serve("/a", b"", 304), tmp_path)


def test_redirects_on_the_same_server_are_followed_five_times_and_no_more(feed: Feed, tmp_path):
    for hop in range(6):
        feed.serve(f"/{hop}", b"", 307, Location=f"/{hop + 1}")
    feed.serve("/6", BODY)
    assert fetch(feed.url("/1"), tmp_path).size == len(BODY)
    with pytest.raises(SourceRefused, match="too many redirects"):
        fetch(feed.url("/0"), tmp_path)


def test_a_secret_header_goes_to_its_own_server_only_and_into_no_message(feed: Feed, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    source = a_source(headers={"X-Key": "${ENV:FEED_KEY}", "Authorization": "Bearer ${ENV:FEED_KEY}"})
    secrets = {"FEED_KEY": SecretStr("s3cr3t/&=")}.get
    with feed_server() as other:
        other.serve("/b", BODY)
        url = feed.serve("/a", b"", 302, Location=other.url("/b"))
        source = source.model_copy(update={"allow_hosts": (f"127.0.0.1:{other.port}",)})
        fetch(url, tmp_path, source=source, secrets=secrets)
        assert feed.requests[0][1]["X-Key"] == "s3cr3t/&="
        assert feed.requests[0][1]["Authorization"] == "Bearer s3cr3t/&="
        assert "s3cr3t" not in str(other.requests)
    feed.serve("/c", b"", 404)
    with pytest.raises(SourceRefused) as caught:
        fetch(feed.url("/c?key=${ENV:FEED_KEY}"), tmp_path, source=source, secrets=secrets)
    assert feed.requests[-1][0] == "/c?key=s3cr3t%2F%26%3D"
    assert "s3cr3t" not in caught.value.sentence() + str(caught.value.as_dict()) + caplog.text
    assert "/c?…" in caught.value.sentence()


@pytest.mark.parametrize("value", [None, SecretStr("two\r\nHost: evil")])
def test_a_secret_that_is_unset_or_would_split_the_header_is_named_not_shown(feed: Feed, tmp_path, value):
    source = a_source(headers={"X-Key": "${ENV:FEED_KEY}"})
    with pytest.raises(ManifestError, match="FEED_KEY") as caught:
        fetch(feed.serve("/a", BODY), tmp_path, source=source, secrets=lambda _: value)
    assert "evil" not in caught.value.sentence()
    assert feed.connections == 0


def test_server_errors_are_tried_four_times_with_growing_random_waits(feed: Feed, tmp_path):
    sleeps = Sleeps()
    url = feed.serve("/a", b"", 503)
    with pytest.raises(SourceUnavailable, match=r"now, 4 tries \(got 503"):
        fetch(url, tmp_path, sleep=sleeps)
    assert len(feed.requests) == 4
    assert len(sleeps) == 3
    assert all(0 <= wait <= limit for wait, limit in zip(sleeps, (1, 2, 4), strict=True))
    assert len(set(sleeps)) == 3


def test_a_feed_that_recovers_is_pulled(feed: Feed, tmp_path):
    url = feed.serve_in_turn("/a", answer(b"", 500), answer(b"", 429), answer(BODY))
    assert fetch(url, tmp_path).size == len(BODY)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("86400", 50, 50),
        ("in 40 s", 5, 41),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("soon", 0, 1),
        ("-5", 0, 1),
    ],
)
def test_retry_after_is_honoured_up_to_fifty_seconds(feed: Feed, tmp_path, value, low, high):
    sleeps = Sleeps()
    if value == "in 40 s":
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=40))
    url = feed.serve_in_turn("/a", answer(b"", 429, Retry_After=value), answer(BODY))
    fetch(url, tmp_path, sleep=sleeps)
    assert low <= sleeps[0] <= high


def test_a_wait_that_would_end_after_the_deadline_is_not_begun(feed: Feed, tmp_path):
    sleeps = Sleeps()
    with pytest.raises(SourceUnavailable):
        fetch(feed.serve("/a", b"", 503, Retry_After="50"), tmp_path, sleep=sleeps, limits=Limits(seconds=20))
    assert sleeps == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 204, 206])
def test_answers_that_will_not_change_are_not_asked_for_again(feed: Feed, tmp_path, status):
    with pytest.raises(SourceRefused, match=str(status)):
        fetch(feed.serve("/a", b"", status), tmp_path)
    assert len(feed.requests) == 1


def test_a_host_that_fails_five_times_in_a_row_rests_and_then_gets_one_try(feed: Feed, tmp_path):
    now = [0.0]
    breaker = Breaker(rest_s=100, clock=lambda: now[0])
    url = feed.serve("/a", b"", 500)
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            fetch(url, tmp_path, breaker=breaker)
    assert len(feed.requests) == 5
    with pytest.raises(HostResting, match="5 failures"):
        fetch(url, tmp_path, breaker=breaker)
    assert len(feed.requests) == 5
    now[0] = 101
    with pytest.raises(HostResting, match="6 failures"):
        fetch(url, tmp_path, breaker=breaker)
    assert len(feed.requests) == 6
    now[0] = 202
    feed.serve("/a", BODY)
    fetch(url, tmp_path, breaker=breaker)
    feed.serve("/a", b"", 500)
    with pytest.raises(SourceUnavailable, match="500"):
        fetch(url, tmp_path, breaker=breaker)


def nothing_is_left(folder) -> bool:
    return not folder.exists() or list(folder.iterdir()) == []


def test_a_body_shorter_than_announced_is_cut_and_leaves_nothing(feed: Feed, tmp_path):
    url = feed.serve("/a", b"half", Content_Length="400")
    with pytest.raises(SourceUnavailable, match="expected 400"):
        fetch(url, tmp_path)
    assert len(feed.requests) == 4
    assert nothing_is_left(tmp_path)


def test_a_chunked_body_without_its_end_is_cut(feed: Feed, tmp_path):
    def chunks(request):
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"4\r\nhalf\r\n")

    feed.answers["/a"] = chunks
    with pytest.raises(SourceUnavailable):
        fetch(feed.url("/a"), tmp_path)
    assert nothing_is_left(tmp_path)


def test_an_announced_body_over_the_cap_is_refused_before_it_is_read(feed: Feed, tmp_path):
    url = feed.serve("/a", BODY)
    with pytest.raises(SourceRefused, match="too large"):
        fetch(url, tmp_path, limits=Limits(body_bytes=1000))
    assert len(feed.requests) == 1
    assert nothing_is_left(tmp_path)


def test_an_unannounced_endless_body_stops_at_the_cap(feed: Feed, tmp_path):
    def endless(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 65536)

    feed.answers["/a"] = endless
    with pytest.raises(SourceRefused, match="more than 1000000"):
        fetch(feed.url("/a"), tmp_path, limits=Limits(body_bytes=1_000_000))
    assert nothing_is_left(tmp_path)


def test_a_gzip_encoded_body_is_decoded_and_hashed_as_decoded(feed: Feed, tmp_path):
    got = fetch(feed.serve("/a.csv", gzip.compress(BODY), Content_Encoding="gzip"), tmp_path)
    assert got.path is not None
    assert got.path.read_bytes() == BODY
    assert got.sha256 == hashlib.sha256(BODY).hexdigest()


def test_a_gzip_file_that_is_not_an_encoding_stays_as_it_is(feed: Feed, tmp_path):
    packed = gzip.compress(BODY)
    got = fetch(feed.serve("/a.csv.gz", packed), tmp_path)
    assert got.path is not None
    assert got.path.read_bytes() == packed


def test_a_small_body_that_decodes_to_a_huge_one_is_refused(feed: Feed, tmp_path):
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(SourceRefused, match="once decoded"):
        fetch(feed.serve("/a", bomb, Content_Encoding="gzip"), tmp_path, limits=Limits(body_bytes=1_000_000))
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-20], lambda b: b[:-4] + b"oops", lambda b: b + b"more", lambda b: b"plain"]
)
def test_a_damaged_gzip_encoding_may_come_whole_next_time(feed: Feed, tmp_path, damage):
    packed = gzip.compress(BODY)
    url = feed.serve_in_turn(
        "/a", answer(damage(packed), Content_Encoding="gzip"), answer(packed, Content_Encoding="gzip")
    )
    assert fetch(url, tmp_path).size == len(BODY)
    assert len(feed.requests) == 2


def test_an_encoding_nobody_asked_for_is_refused(feed: Feed, tmp_path):
    with pytest.raises(SourceRefused, match="br"):
        fetch(feed.serve("/a", BODY, Content_Encoding="br"), tmp_path)


@pytest.mark.parametrize("where", ["body", "head"])
def test_a_server_that_trickles_meets_the_deadline(feed: Feed, tmp_path, where):
    def trickle(request):
        if where == "body":
            request.send_response(200)
            request.end_headers()
        for _ in range(200):
            request.wfile.write(b"x" if where == "body" else b"H")
            request.wfile.flush()
            time.sleep(0.05)

    feed.answers["/a"] = trickle
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="too long"):
        fetch(feed.url("/a"), tmp_path, limits=Limits(seconds=0.6))
    assert time.monotonic() - began < 5
    assert nothing_is_left(tmp_path)


def test_a_refused_connection_is_said_in_one_sentence(tmp_path):
    with feed_server() as gone:
        url = gone.url("/a?key=1")
    with pytest.raises(SourceUnavailable, match="connection failed") as caught:
        fetch(url, tmp_path)
    assert "key=1" not in caught.value.sentence()


def test_something_that_is_not_http_is_refused(feed: Feed, tmp_path):
    feed.answers["/a"] = lambda request: request.wfile.write(b"220 mail ready\r\n\r\n")
    with pytest.raises(SourceUnavailable, match="connection failed"):
        fetch(feed.url("/a"), tmp_path)


def test_a_folder_that_cannot_be_written_is_a_lake_error(feed: Feed, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LakeError, match="cannot write"):
        fetch(feed.serve("/a", BODY), tmp_path / "file")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/../b/%2e%2e%2fetc", "_etc"),
        ("/", "loops"),
        ("/..", "loops"),
        ("/a%00b%0Ac.csv", "a_b_c.csv"),
        ("/.hidden", "hidden"),
    ],
)
def test_a_name_from_a_url_is_made_safe(feed: Feed, tmp_path, path, name):
    feed.answers[path] = answer(BODY)
    got = fetch(feed.url(path), tmp_path)
    assert got.name == name
    assert got.path is not None
    assert got.path.parent == tmp_path


def test_a_local_file_is_hashed_where_it_lies(tmp_path):
    file = tmp_path / "speed.csv"
    file.write_bytes(BODY)
    (tmp_path / "link.csv").symlink_to(file)
    for path in (file, tmp_path / "link.csv"):
        got = fetch(str(path), tmp_path / "new")
        assert (got.path, got.size, got.sha256) == (path, len(BODY), hashlib.sha256(BODY).hexdigest())
    assert not (tmp_path / "new").exists()


def test_a_pipe_a_device_and_a_folder_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path):
        with pytest.raises(SourceRefused, match="not a regular file"):
            fetch(str(path), tmp_path)


def test_a_local_file_may_be_missing_too_large_or_closed_to_us(tmp_path):
    with pytest.raises(NotFound):
        fetch(str(tmp_path / "none.csv"), tmp_path)
    file = tmp_path / "speed.csv"
    file.write_bytes(BODY)
    with pytest.raises(SourceRefused, match="too large"):
        fetch(str(file), tmp_path, limits=Limits(file_bytes=10))
    file.chmod(0)
    if not os.access(file, os.R_OK):
        with pytest.raises(SourceUnavailable, match="Permission denied"):
            fetch(str(file), tmp_path)


def test_a_feed_that_is_answered_badly_rests_alone_and_a_host_that_is_gone_with_all_its_feeds(feed: Feed, tmp_path):
    breaker = Breaker(threshold=2)
    bad, good = a_source(id="bad"), a_source(id="good")
    url = feed.serve("/bad", b"", 500)
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            fetch(url, tmp_path, source=bad, breaker=breaker, limits=Limits(tries=1))
    with pytest.raises(HostResting, match="bad"):
        fetch(url, tmp_path, source=bad, breaker=breaker)
    assert fetch(feed.serve("/good", BODY), tmp_path, source=good, breaker=breaker).size == len(BODY)
    with feed_server() as other:
        gone = other.url("/a")
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="connection failed"):
            fetch(gone, tmp_path, source=good, breaker=breaker, limits=Limits(tries=1))
    with pytest.raises(HostResting, match=r"127\.0\.0\.1"):
        fetch(gone, tmp_path, source=a_source(id="third"), breaker=breaker)


def test_a_breaker_says_how_it_stands():
    now = [0.0]
    breaker = Breaker(threshold=2, rest_s=10, clock=lambda: now[0])
    assert (breaker.state("a"), breaker.left_s("a")) == ("closed", 0)
    breaker.failed("a")
    assert breaker.state("a") == "closed"
    breaker.failed("a")
    assert (breaker.state("a"), breaker.left_s("a")) == ("open", 10)
    now[0] = 11
    assert breaker.state("a") == "half-open"
    breaker.check("a")
    assert breaker.state("a") == "half-open"
    with pytest.raises(HostResting):
        breaker.check("a")
    breaker.failed("a")
    assert breaker.state("a") == "open"
    now[0] = 22
    breaker.check("a")
    breaker.answered("a")
    assert breaker.state("a") == "closed"


def test_a_pull_that_nobody_waits_for_any_more_ends_soon(feed: Feed, tmp_path):
    feed.answers["/a"] = lambda _: time.sleep(5)
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="stopped"):
        fetch(feed.url("/a"), tmp_path, stopped=lambda: time.monotonic() - began > 0.3)
    assert time.monotonic() - began < 2
