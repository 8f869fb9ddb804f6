from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds import documents
from mtgpt.ingest.feeds.documents import clean
from tests.ingest.feed_files import judged, read


def feed(folder, data: str | bytes, name: str, **options):
    path = folder / "document"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return judged("document", read("documents", path, name=name, **options)["document"])


def lines(*rows) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def test_a_markdown_file_is_one_document_named_after_its_file_and_heading(tmp_path):
    text = "\ufeff\n# Fares and transfers #\r\n\r\nA second bus costs half.\r\n"
    verdict = feed(tmp_path, text, "fares-2024.md", language="en", licence="CC-BY-4.0", url="https://example.org/f")
    assert verdict.good.select("doc_id", "title", "text", "language", "licence", "url").rows() == [
        ("fares-2024", "Fares and transfers", "# Fares and transfers #\n\nA second bus costs half.", "en", "CC-BY-4.0",
         "https://example.org/f")
    ]  # fmt: skip


def test_a_plain_text_is_titled_by_its_first_line_and_of_unknown_language(tmp_path):
    verdict = feed(tmp_path, gzip.compress("Regras\n\nOs corredores …".encode()), "regras.txt.gz")
    assert verdict.good.select("doc_id", "title", "language").rows() == [("regras", "Regras", "und")]
    assert feed(tmp_path, "x", "a.txt", title="Rules").good["title"].item() == "Rules"


def test_a_line_of_json_lines_is_a_document_and_what_else_it_says_an_attribute(tmp_path):
    verdict = feed(
        tmp_path,
        lines(
            {"doc_id": "a", "title": "A", "text": "One.", "language": "pt-BR", "licence": "CC0-1.0",
             "url": "https://example.org/a", "published": "2024-02-01T00:00:00Z", "chapter": 3},
            "",
            {"doc_id": "b", "text": "## Two\n\nand more"},
        ),
        "rules.jsonl", language="en", licence="ODbL",
    )  # fmt: skip
    assert verdict.good.select("doc_id", "title", "language", "licence", "attributes").rows() == [
        ("a", "A", "pt-BR", "CC0-1.0", '{"chapter": 3}'), ("b", "Two", "en", "ODbL", None),
    ]  # fmt: skip


def test_lines_that_are_no_documents_are_quarantined_one_by_one(tmp_path):
    verdict = feed(
        tmp_path,
        lines(
            {"doc_id": "a", "text": "sound"}, "{", "[1]", {"doc_id": 3, "text": "x"}, {"doc_id": "x"},
            {"doc_id": "x", "text": "x", "language": ["en"]}, "[" * 5000, '{"doc_id": "x", "text": "\\ud800"}',
            {"doc_id": "c", "text": "\u0000\u0007"}, {"doc_id": "d", "text": "x", "language": "portugu\u00eas"},
            {"doc_id": "e", "text": "x", "published": "spring"}, {"doc_id": "f" * 300, "text": "x"},
        ),
        "rules.jsonl",
    )  # fmt: skip
    assert verdict.good["doc_id"].to_list() == ["a"]
    by_rule = dict(verdict.bad.select("row", "rule_id").sort("row").rows())
    assert [by_rule[row] for row in range(1, 8)] == ["line_unreadable"] * 7
    assert [by_rule[row] for row in range(8, 12)] == [
        "text.length", "language.pattern", "published.type", "doc_id.length",
    ]  # fmt: skip


def test_a_line_in_another_encoding_costs_itself_only(tmp_path):
    data = lines({"doc_id": "a", "text": "sound"}).encode() + b'{"doc_id": "b", "text": "S\xe3o Paulo"}\n'
    verdict = feed(tmp_path, data, "rules.jsonl")
    assert (verdict.good["doc_id"].to_list(), verdict.by_rule()) == (["a"], {"line_unreadable": 1})


def test_a_text_too_long_for_the_table_is_quarantined_and_never_cut(tmp_path):
    verdict = feed(tmp_path, lines({"doc_id": "a", "text": "x" * (4 << 20)}, {"doc_id": "b", "text": "x" * (5 << 20)}),
                   "rules.jsonl")  # fmt: skip
    assert verdict.good["text"].str.len_bytes().to_list() == [4 << 20]
    assert verdict.by_rule() == {"text.length": 1}


def test_what_a_terminal_or_a_reader_would_be_misled_by_is_taken_out(tmp_path):
    text = "Fare\x1b[2J is \u202e05\u202c reais\u200b.\x00 \U000e0041\U000e0042 می‌خواهم"
    assert feed(tmp_path, lines({"doc_id": "a\x07", "text": text}), "a.jsonl").good.select("doc_id", "text").rows() == [
        ("a", "Fare[2J is 05 reais.  می‌خواهم")
    ]


@given(st.text())
def test_cleaning_twice_is_cleaning_once_and_keeps_what_is_printable(text):
    once = clean(text)
    assert clean(once) == once
    kept = [c for c in text if c.isprintable()]
    assert [c for c in once if c.isprintable()] == kept


@pytest.mark.parametrize(
    ("data", "name", "what"),
    [
        ("", "a.txt", "the file is empty"),
        (" \n\u200b\n", "a.md", "the file is empty"),
        ("", "a.jsonl", "the file is empty"),
        ("x", "a.pdf", "unknown kind of document"),
        ("x", "a", "unknown kind of document"),
        ("São Paulo".encode("latin-1"), "a.txt", "not UTF-8.*iconv"),
        ("Rules".encode("utf-16"), "a.md", "UTF-16"),
        (b"%PDF-1.7\x00\x01", "a.txt", "binary data"),
        ("<!DOCTYPE html><p>", "a.txt", "a web page"),
        (gzip.compress(b"x" * 1000)[:-6], "a.txt", "truncated"),
    ],
)
def test_what_is_no_text_is_one_sentence(tmp_path, data, name, what):
    with pytest.raises(FeedError, match=what):
        feed(tmp_path, data, name)


def test_a_book_in_one_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_MOST_TEXT_BYTES", 1000)
    with pytest.raises(FeedError, match=r"too long for one document.*by chapters"):
        feed(tmp_path, "x" * 1001, "a.txt")
