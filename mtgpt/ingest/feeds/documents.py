"""Knowledge texts: a plain or Markdown file is one document, a line of JSON Lines another.

Texts come from strangers. They are decoded strictly, control characters are taken out (a terminal or a prompt could be
told things by them), and whatever is too long is quarantined, never cut: half a rule says another thing.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, FAULT, ROW, Chunk, Roles
from mtgpt.ingest.guard.archive import Caps, open_guarded
from mtgpt.ingest.guard.table_file import whole_lines
from mtgpt.ingest.guard.text import utf8
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import LINE_UNREADABLE, marked
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

_CAPS = Caps(packed_bytes=256 << 20, expanded_bytes=1 << 30)
_MOST_TEXT_BYTES = 16 << 20
_MOST_LINE_BYTES = 8 << 20
_SHOWN = 200
_TEXT_SUFFIXES = (".txt", ".md", ".markdown")
_LINES_SUFFIXES = (".jsonl", ".ndjson")
_FIELDS = ("doc_id", "title", "text", "language", "licence", "url", "published")
_REQUIRED = ("doc_id", "text")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$")
# Line feeds and tabs stay, and the joiners that Persian or Hindi are written with. What goes besides the controls
# turns the direction of writing or hides text.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_TAGS = re.compile("[\U000e0000-\U000e007f]")
_TITLE = 200


class DocumentsOptions(BaseModel):
    """Options of a ``documents`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    language: str = Field(
        default="und",
        pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
        max_length=35,
        description="Language (BCP 47) of documents that do not name their own; und for unknown.",
    )
    title: str | None = Field(default=None, min_length=1, max_length=2000, description="Title of a plain text.")
    licence: str | None = Field(
        default=None, max_length=500, description="Licence of documents that do not name theirs."
    )
    url: str | None = Field(default=None, max_length=2000, description="Where a plain text was published.")


class DocumentsAdapter:
    """Reads ``documents`` sources: ``.txt``, ``.md`` and ``.jsonl``, possibly gzipped."""

    kind: str = "documents"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = DocumentsOptions

    def read(self, files: Mapping[str, FeedFile], options: DocumentsOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields documents in the order of the file.

        Raises:
            FeedError: Empty, not UTF-8, too large for one text, or of an unknown suffix.
            SourceRefused: More than 256 MB packed or 1 GB unpacked.
        """
        del context
        file = files[DATA]
        stem = PurePath(file.name.removesuffix(".gz"))
        suffix = stem.suffix.lower()
        if suffix in _LINES_SUFFIXES:
            yield from _lines(file, options)
        elif suffix in _TEXT_SUFFIXES:
            yield _whole(file, options, doc_id=stem.stem)
        else:
            expected = ", ".join((*_TEXT_SUFFIXES, *_LINES_SUFFIXES))
            raise FeedError("unknown kind of document", where=file.name, expected=expected)


def clean(text: str) -> str:
    """A text without control characters and invisible marks; line ends become line feeds."""
    return _TAGS.sub("", _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def _whole(file: FeedFile, options: DocumentsOptions, *, doc_id: str) -> Chunk:
    with open_guarded(file.path, file.name, caps=_CAPS) as stream:
        data = stream.read(_MOST_TEXT_BYTES + 1)
    if len(data) > _MOST_TEXT_BYTES:
        raise FeedError(
            "the text is too long for one document",
            where=file.name,
            got=f"more than {_MOST_TEXT_BYTES} bytes",
            next_step="divide it by chapters",
        )
    text = clean(utf8(data, where=file.name)).strip()
    if not text:
        raise FeedError("the file is empty", where=file.name, expected="a text")
    row = {
        "doc_id": doc_id,
        "title": options.title or _title(text) or doc_id,
        "text": text,
        "licence": options.licence,
        "url": options.url,
        "language": options.language,
    }
    return Chunk(table="document", frame=_frame([row | {ROW: 0}]))


def _title(text: str) -> str | None:
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    heading = _HEADING.match(first)
    return (heading[1] if heading else first)[:_TITLE] or None


def _lines(file: FeedFile, options: DocumentsOptions) -> Iterator[Chunk]:
    number = 0
    with open_guarded(file.path, file.name, caps=_CAPS) as stream:
        for piece in whole_lines(stream, where=file.name):
            rows, broken = [], []
            for line in piece.removeprefix(b"\xef\xbb\xbf" if number == 0 else b"").split(b"\n"):
                if not line.strip():
                    continue
                row = _document(line, options)
                (broken if row is None else rows).append({ROW: number} | (row or {"line": _shown(line)}))
                number += 1
            if rows:
                yield Chunk(table="document", frame=_frame(rows))
            if broken:
                yield Chunk(table="document", frame=_unreadable(broken))
    if not number:
        raise FeedError("the file is empty", where=file.name, expected="a JSON object per line")


def _document(line: bytes, options: DocumentsOptions) -> dict[str, Any] | None:
    """One line's columns; None where it is no object of texts."""
    if len(line) > _MOST_LINE_BYTES:
        return None
    try:
        read = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict) or not all(isinstance(read.get(name), str) for name in _REQUIRED):
        return None
    if not all(isinstance(read.get(name), str | None) for name in _FIELDS):
        return None
    try:
        attributes = {key: value for key, value in read.items() if key not in _FIELDS}
        row = {name: None if read.get(name) is None else clean(read[name]).strip() for name in _FIELDS}
        row["attributes"] = clean(json.dumps(attributes, ensure_ascii=False, sort_keys=True)) if attributes else None
        # A lone half of a pair of surrogates is no text.
        "".join(value for value in row.values() if value).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        return None
    row["title"] = row["title"] or _title(row["text"] or "") or row["doc_id"]
    row["language"] = row["language"] or options.language
    row["licence"] = row["licence"] or options.licence
    return row


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = {ROW: pl.UInt64} | dict.fromkeys((*_FIELDS, "attributes"), pl.String)
    return pl.DataFrame(rows, schema=schema).with_columns(valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME))


def _unreadable(rows: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema={ROW: pl.UInt64, "line": pl.String})
    bad = frame.select(ROW, pl.lit(LINE_UNREADABLE).alias(FAULT), valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME))
    return marked(bad, frame.select("line"))


def _shown(line: bytes) -> str:
    return clean(line[:_SHOWN].decode("utf-8", "replace"))
