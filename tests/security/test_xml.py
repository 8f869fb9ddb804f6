"""XML that attacks its reader: refused within a second, with one sentence, without growing."""

from __future__ import annotations

import gzip
import io
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mtgpt.errors import FeedError, MTGPTError, SourceRefused
from mtgpt.ingest.guard.xml_stream import XmlCaps, records
from tests.ingest.feed_files import read

MOST_SECONDS = 1.0
MOST_GROWTH = 50 << 20
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'
OPEN = b'<payload xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><publicationTime>2026-01-01T00:00:00Z</publicationTime>'


def resident() -> int:
    """Bytes of memory in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@contextmanager
def bounded():
    """Fails where the body takes over a second of this thread or grows by over 50 MB at its worst."""
    worst, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            worst.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    before, started = resident(), time.thread_time()
    try:
        yield
    finally:
        took = time.thread_time() - started
        done.set()
        watcher.join()
    assert took <= MOST_SECONDS, f"{took:.2f} s"
    grown = max([*worst, resident()]) - before
    assert grown <= MOST_GROWTH, f"{grown >> 20} MB"


def refusal(stream: io.BufferedIOBase, caps: XmlCaps | None = None) -> MTGPTError:
    with bounded(), pytest.raises((SourceRefused, FeedError)) as caught:
        for _ in records(stream, ("siteMeasurements",), where="feed.xml", **({"caps": caps} if caps else {})):  # type: ignore[arg-type]
            pass
    sentence = str(caught.value)
    assert sentence.startswith("feed.xml: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 500
    return caught.value


class Endless(io.RawIOBase):
    """Bytes that are made as they are read: a head, then a part over and over."""

    def __init__(self, head: bytes, part: bytes, size: int) -> None:
        self._head, self._part, self._left = head, part, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        piece = self._part * max(1, min(size, self._left) // len(self._part))
        self._left -= len(piece)
        return piece if self._left >= 0 else b""


LAUGHS = (
    HEAD
    + b'<!DOCTYPE lolz [<!ENTITY lol0 "lol">'
    + b"".join(b'<!ENTITY lol%d "%s">' % (at, b"&lol%d;" % (at - 1) * 10) for at in range(1, 11))
    + b"]><payload>&lol10;</payload>"
)
QUADRATIC = HEAD + b'<!DOCTYPE q [<!ENTITY a "' + b"A" * 100_000 + b'">]><payload>' + b"&a;" * 100_000 + b"</payload>"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(LAUGHS, id="billion laughs"),
        pytest.param(QUADRATIC, id="quadratic blow-up"),
        pytest.param(HEAD + b"<!DOCTYPE payload><payload/>", id="a bare document type"),
        pytest.param(HEAD + b'<!DOCTYPE payload SYSTEM "feed.dtd"><payload/>', id="an external document type"),
        pytest.param(HEAD + b'<!DOCTYPE p [<!ENTITY % a "<!ENTITY b \'c\'>"> %a;]><p>&b;</p>', id="parameter entity"),
        pytest.param(HEAD.replace(b"UTF-8", b"UTF-16").decode().encode("utf-16") + LAUGHS[len(HEAD) :].decode().encode("utf-16-le"), id="laughs in UTF-16"),
    ],
)  # fmt: skip
def test_a_document_type_is_refused_whatever_it_declares(document):
    error = refusal(io.BytesIO(document))
    assert isinstance(error, SourceRefused)
    assert "document type" in str(error)


def test_an_entity_that_nobody_declared_is_damage():
    assert isinstance(refusal(io.BytesIO(HEAD + b"<payload>&secret;</payload>")), FeedError)


@pytest.mark.parametrize("declaration", ["<!ENTITY x SYSTEM '{}'>", "<!ENTITY % x SYSTEM '{}'> %x;"])
def test_no_external_entity_is_fetched_from_disk_or_web(tmp_path, declaration):
    asked: list[str] = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    secret = tmp_path / "secret.txt"
    secret.write_text("the salt")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Canary)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for address in (secret.as_uri(), f"http://127.0.0.1:{server.server_port}/x"):
            document = f"<!DOCTYPE p [{declaration.format(address)}]><p>&x;</p>".encode()
            assert "the salt" not in str(refusal(io.BytesIO(HEAD + document)))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked == []


def test_an_include_is_an_element_like_any_other(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the salt")
    document = f'<p xmlns:xi="http://www.w3.org/2001/XInclude"><siteMeasurements><xi:include href="{secret.as_uri()}" parse="text"/></siteMeasurements></p>'
    (record,) = records(io.BytesIO(document.encode()), ("siteMeasurements",), where="feed.xml")
    assert [(node.name, node.text) for node in record.node.children] == [("include", "")]


def test_a_hundred_thousand_levels_are_refused():
    error = refusal(io.BytesIO(OPEN + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</payload>"))
    assert "nested too deeply" in str(error)


def test_levels_inside_a_wanted_element_count_too():
    document = OPEN + b"<siteMeasurements>" + b"<a>" * 200 + b"</a>" * 200 + b"</siteMeasurements></payload>"
    assert "nested too deeply" in str(refusal(io.BytesIO(document)))


BIG = 300 << 20


@pytest.mark.parametrize(
    ("head", "part", "said"),
    [
        pytest.param(OPEN + b'<a b="', b"x" * 4096, "too long", id="attribute"),
        pytest.param(OPEN + b"<a>", b"x" * 4096, "a text is too long", id="text outside"),
        pytest.param(OPEN + b"<siteMeasurements><a>", b"x\n" * 2048, "a text is too long", id="text inside"),
        pytest.param(OPEN + b"<siteMeasurements><![CDATA[", b"x" * 4096, "a text is too long", id="CDATA"),
        pytest.param(OPEN + b"<!--", b"x" * 4096, "too long", id="comment"),
        pytest.param(OPEN + b"<?", b"x" * 4096, "too long", id="instruction"),
        pytest.param(OPEN + b"<", b"x" * 4096, "too long", id="name"),
        pytest.param(OPEN + b"<siteMeasurements>", b"<a/>" * 1024, "too large", id="elements of one record"),
        pytest.param(b"", b" " * 4096, "", id="nothing but blanks"),
    ],
)
def test_what_never_ends_is_refused_soon(head, part, said):
    assert said in str(refusal(Endless(head, part, BIG)))


def test_a_long_attribute_in_one_piece_is_refused():
    document = OPEN + b'<a b="' + b"x" * 100_000 + b'"/></payload>'
    assert "an attribute is too long" in str(refusal(io.BytesIO(document)))


def test_thousands_of_attributes_are_refused():
    document = OPEN + b"<a " + b" ".join(b'a%d=""' % at for at in range(10_000)) + b"/></payload>"
    assert "too many attributes" in str(refusal(io.BytesIO(document)))


def test_names_that_are_all_different_are_refused():
    document = OPEN + b"".join(b"<a%d/>" % at for at in range(50_000)) + b"</payload>"
    assert "too many different names" in str(refusal(io.BytesIO(document)))


def test_a_text_in_many_pieces_is_counted_as_one():
    # An entity of XML itself cuts a text in two: each piece is small, their sum is not.
    document = OPEN + b"<a>" + b"x&amp;" * 100 + b"</a></payload>"
    assert "a text is too long" in str(refusal(io.BytesIO(document), XmlCaps(text_chars=150)))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(OPEN + b"<siteMeasurements><a>\xff\xfe\xfa</a></siteMeasurements></payload>", id="not UTF-8"),
        pytest.param(b'<?xml version="1.0" encoding="klingon"?><a/>', id="unknown encoding"),
        pytest.param(b'<?xml version="1.0" encoding="gb2312"?><a/>', id="encoding of several bytes"),
        pytest.param(b'<?xml version="1.0" encoding="base64"?><a/>', id="codec that is no encoding"),
        pytest.param(b'<?xml version="1.0" encoding="UTF-16"?><a/>', id="lie about the encoding"),
        pytest.param(OPEN + b"<a>\x00</a></payload>", id="NUL"),
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="JSON"),
        pytest.param(b"\x0a\x0d\x0a\x02", id="protobuf"),
        pytest.param(b"<!doctype html><html><body>503</body></html>", id="a web page"),
        pytest.param(OPEN + b"</payload><payload/>", id="two documents"),
        pytest.param(OPEN + b"<a></b></payload>", id="crossed tags"),
    ],
)
def test_what_is_no_xml_is_said_to_be_damaged(document):
    assert isinstance(refusal(io.BytesIO(document)), FeedError)


def test_a_document_cut_anywhere_is_never_taken_for_whole():
    whole = OPEN + b"<siteMeasurements><a b='c'>\xc3\xa9</a></siteMeasurements><!-- end --></payload>"
    for length in range(len(whole)):
        with pytest.raises(FeedError):
            list(records(io.BytesIO(whole[:length]), ("siteMeasurements",), where="feed.xml"))
    assert len(list(records(io.BytesIO(whole), ("siteMeasurements",), where="feed.xml"))) == 1


def test_the_adapter_refuses_a_bomb_behind_gzip(tmp_path):
    path = tmp_path / "situations.xml.gz"
    path.write_bytes(gzip.compress(LAUGHS))
    with bounded(), pytest.raises(SourceRefused, match="document type"):
        read("datex2", path)


def test_a_gzip_bomb_of_text_is_refused(tmp_path):
    path = tmp_path / "situations.xml.gz"
    path.write_bytes(gzip.compress(OPEN + b" " * (200 << 20), compresslevel=1))
    with bounded(), pytest.raises(SourceRefused):
        read("datex2", path)
