"""JSON behind caps."""

from __future__ import annotations

import gzip
import time

import pytest

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.guard.json_document import parse_json, read_json, read_object
from tests.ingest.feed_files import feed_file


def test_plain_and_gzipped_documents_are_read(tmp_path):
    plain, packed = tmp_path / "a.json", tmp_path / "a.json.gz"
    plain.write_bytes(b'\xef\xbb\xbf{"a": [1, 2.5, "\xc3\xa9"]}')
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_json(feed_file(plain)) == read_object(feed_file(packed)) == {"a": [1, 2.5, "é"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[1, 2", "cut off"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "no JSON number"),
        (b"1" * 5000, "cut off"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"<!doctype html><p>503</p>", "a web page"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once_with_one_sentence(data, said):
    started = time.thread_time()
    with pytest.raises(FeedError, match=said) as caught:
        parse_json(data, where="feed.json")
    assert time.thread_time() - started < 1
    assert str(caught.value).startswith("feed.json: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("data", [b"[" + b"[]," * 2_000_001, b"[" + b"0," * 8_000_001, b"{" * 2_000_001])
def test_documents_that_would_grow_many_times_over_are_refused_before_they_are_read(data):
    started = time.thread_time()
    with pytest.raises(SourceRefused, match="too large"):
        parse_json(data, where="feed.json")
    assert time.thread_time() - started < 1


def test_a_gzip_bomb_stops_at_the_cap(tmp_path):
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * (80 << 20), compresslevel=1))
    with pytest.raises(SourceRefused):
        read_json(feed_file(path))


def test_half_a_character_is_replaced_and_a_whole_one_is_kept():
    assert parse_json(rb'{"\ud83d": ["\ud83d\ude80", "a\udc00", "\\ud83d"]}', where="f") == {
        "�": ["🚀", "a�", "\\ud83d"]
    }


def test_a_document_that_is_no_object_is_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]")
    with pytest.raises(FeedError, match="got list"):
        read_object(feed_file(path))
