"""JSON documents from strangers, read whole behind caps.

A parsed document takes many times its own size: every pair of brackets becomes an object. So brackets and commas are
counted before anything is built.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.guard.archive import Caps, open_guarded
from mtgpt.ingest.guard.text import utf8

if TYPE_CHECKING:
    from mtgpt.ingest.adapter import FeedFile

MOST_BYTES = 64 << 20
_MOST_BRACKETS = 2_000_000
_MOST_COMMAS = 8_000_000
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_CAPS = Caps(packed_bytes=MOST_BYTES, expanded_bytes=MOST_BYTES)


def read_json(file: FeedFile) -> Any:
    """The document in a plain, gzipped or zipped file.

    Raises:
        SourceRefused: Larger than 64 MB, or of more than 2 million arrays and objects.
        FeedError: Not JSON (truncated, another encoding, a web page, NaN or Infinity), or nested too deeply.
    """
    with open_guarded(file.path, file.name, caps=_CAPS) as stream:
        data = stream.read()
    return parse_json(data, where=file.name)


def read_object(file: FeedFile) -> dict[str, Any]:
    """As :func:`read_json`, for a document that must be an object.

    Raises:
        SourceRefused: As :func:`read_json`.
        FeedError: As :func:`read_json`, or the document is no object.
    """
    document = read_json(file)
    if not isinstance(document, dict):
        raise FeedError("the JSON is no object", where=file.name, got=type(document).__name__, expected="an object")
    return document


def parse_json(data: bytes, *, where: str) -> Any:
    """Bytes as JSON, under the same caps.

    Raises:
        SourceRefused: As :func:`read_json`.
        FeedError: As :func:`read_json`.
    """
    brackets = data.count(b"[") + data.count(b"{")
    if len(data) > MOST_BYTES or brackets > _MOST_BRACKETS or data.count(b",") > _MOST_COMMAS:
        raise SourceRefused(
            "the JSON is too large",
            where=where,
            got=f"{len(data)} bytes, {brackets} arrays and objects",
            expected=f"at most {MOST_BYTES} bytes, {_MOST_BRACKETS} arrays and objects",
        )
    text = utf8(data, where=where)
    try:
        document = json.loads(text, parse_constant=_refuse)
        return _scrubbed(document) if _SURROGATE.search(data) else document
    except RecursionError:
        raise FeedError("the JSON is nested too deeply", where=where) from None
    except ValueError as error:
        raise FeedError("not JSON, or cut off", where=where, got=str(error), next_step="pull it again") from None


def _scrubbed(value: Any) -> Any:
    """The same document without halves of characters (half an emoji, escaped), which no table can hold."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_scrubbed(one) for one in value]
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(one) for key, one in value.items()}
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
