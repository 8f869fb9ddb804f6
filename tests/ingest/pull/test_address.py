"""Where a pull may lead: a canary server sees no connection, however its address is spelled."""

from __future__ import annotations

import time

import pytest

from mtgpt.errors import SourceRefused, SourceUnavailable
from tests.ingest.http_feed import Feed, a_source, feed_server, fetch

BODY = b"time,sensor,speed\n" * 5000

SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "0.0.0.0",
    "[::]",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_this_machine_reaches_it(feed: Feed, tmp_path, host):
    feed.serve("/", b"secret")
    with pytest.raises((SourceRefused, SourceUnavailable)) as caught:
        fetch(feed.url("/", host), tmp_path, source=a_source(allow_loopback=False))
    time.sleep(0.03)
    assert feed.connections == 0
    # A resolver without IPv6 may not know an address at all; every one it knows must be refused, not be down.
    assert isinstance(caught.value, SourceRefused) or "resolved" in caught.value.what


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "localhost"])
def test_this_machine_is_reached_where_the_manifest_allows_it(feed: Feed, tmp_path, host):
    feed.serve("/a", BODY)
    assert fetch(feed.url("/a", host), tmp_path).size == len(BODY)
    assert feed.connections == 1


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "[fe80::1]", "[fd00::1]", "100.64.0.1", "224.0.0.1",
     "[ff02::1]", "255.255.255.255", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "198.18.0.1"],
)  # fmt: skip
def test_private_and_odd_networks_are_refused_even_where_loopback_is_allowed(tmp_path, host):
    with pytest.raises(SourceRefused, match="not public"):
        fetch(f"http://{host}/", tmp_path)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org/a", "file:///etc/passwd", "gopher://example.org/", "http://user:pw@example.org/", "http:///a",
     "http://exa mple.org/", "http://example.org\\@127.0.0.1/", "http://example.org:0/", "http://example.org:99999/",
     "http://[::1%25eth0]/", "http://ex%61mple.org/", "http://\u2488.example/", "http://a\nb/"],
)  # fmt: skip
def test_urls_that_two_parsers_read_differently_are_refused(tmp_path, url):
    with pytest.raises(SourceRefused):
        fetch(url, tmp_path)


def lookup_of(*addresses):
    return lambda host, port, **_: [(0, 0, 0, "", (address, port)) for address in addresses]


def test_a_name_with_one_private_address_among_public_ones_is_refused_whole(feed: Feed, tmp_path):
    with pytest.raises(SourceRefused, match=r"127\.0\.0\.1"):
        fetch(
            feed.url("/", "feeds.example"),
            tmp_path,
            source=a_source(allow_loopback=False),
            lookup=lookup_of("93.184.216.34", "127.0.0.1"),
        )
    assert feed.connections == 0


def test_a_name_that_changes_its_mind_is_resolved_once_and_dialled_as_checked(feed: Feed, tmp_path):
    feed.serve("/a", BODY)
    calls = []

    def rebinding(host, port, **_):
        calls.append(host)
        return [(0, 0, 0, "", ("127.0.0.1" if len(calls) == 1 else "10.0.0.1", port))]

    fetch(feed.url("/a", "feeds.example"), tmp_path, lookup=rebinding)
    assert calls == ["feeds.example"]
    assert feed.requests[0][1]["Host"] == f"feeds.example:{feed.port}"


def test_the_next_address_is_tried_when_the_first_does_not_answer(feed: Feed, tmp_path):
    feed.serve("/a", BODY)
    got = fetch(feed.url("/a", "feeds.example"), tmp_path, lookup=lookup_of("127.0.0.2", "127.0.0.1"))
    assert got.size == len(BODY)


@pytest.mark.parametrize(
    "location", ["http://localhost:{port}/", "http://2130706433:{port}/", "//[::1]:{port}/", "http://127.0.0.1:{port}/"]
)
def test_a_redirect_into_this_machine_reaches_no_other_server(feed: Feed, tmp_path, location):
    with feed_server() as canary:
        canary.serve("/", b"secret")
        url = feed.serve("/a", b"", 302, Location=location.format(port=canary.port))
        with pytest.raises(SourceRefused, match="redirect"):
            fetch(url, tmp_path)
        time.sleep(0.03)
        assert canary.connections == 0


def test_a_listed_redirect_host_is_still_resolved_and_checked(feed: Feed, tmp_path):
    url = feed.serve("/a", b"", 302, Location="http://10.0.0.1/")
    with pytest.raises(SourceRefused, match="not public"):
        fetch(url, tmp_path, source=a_source(allow_hosts=["10.0.0.1"]))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", ""])
def test_a_redirect_to_another_scheme_or_to_nowhere_is_refused(feed: Feed, tmp_path, location):
    url = feed.serve("/a", b"", 302, Location=location)
    with pytest.raises(SourceRefused):
        fetch(url, tmp_path)


def test_no_proxy_of_the_environment_is_asked(feed: Feed, tmp_path, monkeypatch):
    with feed_server() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        monkeypatch.delenv("no_proxy", raising=False)
        assert fetch(feed.serve("/a", BODY), tmp_path).size == len(BODY)
        assert proxy.connections == 0
