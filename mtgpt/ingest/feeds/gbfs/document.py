"""Files of GBFS, versions 2 and 3: what they share, and how the two write the same thing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from mtgpt.errors import FeedError
from mtgpt.ingest.guard.json_document import read_object
from mtgpt.ingest.rows.events import UNDETERMINED, language_tag
from mtgpt.ingest.rows.instants import instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.ingest.adapter import FeedFile

_MOST_ITEMS = 500_000
_MOST_COUNTED = 1e12
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One file.

    Attributes:
        name: Of the file.
        data: What is under ``data``.
        last_updated: When the operator wrote it, UTC; None where it does not say.
    """

    name: str
    data: Mapping[str, Any]
    last_updated: datetime | None

    @property
    def feeds(self) -> dict[str, str]:
        """Addresses by name, of an auto-discovery file (``gbfs.json``); empty for every other."""
        languages = [self.data, *(part for part in self.data.values() if isinstance(part, dict))]
        lists = [part["feeds"] for part in languages if isinstance(part.get("feeds"), list)]
        found = [feed for feeds in lists[:1] for feed in feeds if isinstance(feed, dict)]
        return {str(feed.get("name")): str(feed.get("url")) for feed in found}

    def items(self, *names: str) -> list[Any] | None:
        """The first list of these names under ``data``; None where there is none.

        Raises:
            FeedError: More items than any system has.
        """
        for name in names:
            items = self.data.get(name)
            if isinstance(items, list):
                if len(items) > _MOST_ITEMS:
                    raise FeedError(
                        f"too many {name}", where=self.name, got=len(items), expected=f"at most {_MOST_ITEMS}"
                    )
                return items
        return None

    def required(self, *names: str) -> list[Any]:
        """As :meth:`items`, where the file is of no use without.

        Raises:
            FeedError: There is no such list, or it has too many items.
        """
        items = self.items(*names)
        if items is None:
            raise FeedError(
                "not the expected GBFS file",
                where=self.name,
                got=f"data with {', '.join(sorted(map(str, self.data))[:10]) or 'nothing'}",
                expected=f"data with {' or '.join(names)}",
            )
        return items


def read_document(file: FeedFile) -> Document:
    """Reads a file.

    Raises:
        FeedError: No JSON, or no GBFS.
        SourceRefused: Too large.
    """
    document = read_object(file)
    data = document.get("data")
    if not isinstance(data, dict):
        raise FeedError("not a GBFS file", where=file.name, got="no data", expected="an object with last_updated, data")
    return Document(name=file.name, data=data, last_updated=moment(document.get("last_updated")))


def moment(value: Any) -> datetime | None:
    """A time of GBFS: POSIX seconds (version 2) or RFC 3339 (version 3)."""
    read = instant(value, _UTC)
    return None if read is None else read.astimezone(UTC)


def floored(at: datetime, interval_s: int) -> datetime:
    """Start of the interval that a moment lies in; intervals start at multiples of it since 1970 UTC."""
    seconds = int(at.timestamp())
    return datetime.fromtimestamp(seconds - seconds % interval_s, UTC)


def texts(value: Any, language: str) -> dict[str, str]:
    """A text by language: a plain text (version 2) or an array of texts with languages (version 3)."""
    if isinstance(value, str):
        return {language: value.strip()} if value.strip() else {}
    found: dict[str, str] = {}
    for part in value if isinstance(value, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str) and part["text"].strip():
            tag = language_tag(part.get("language"))
            found.setdefault(language if tag == UNDETERMINED else tag, part["text"].strip())
    return found


def one_text(value: Any, language: str) -> str | None:
    """A text in the system's own language, or in the first that there is."""
    found = texts(value, language)
    return found.get(language) or next(iter(found.values()), None)


def identifier(value: Any) -> str | None:
    """An id; version 1 wrote numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip() or None


def flag(value: Any, *, default: bool) -> bool:
    """A boolean; before version 2 it was 1 or 0."""
    return bool(value) if isinstance(value, bool | int) else default


def count(value: Any) -> int | None:
    """A whole number; None where it is none, or beyond all counting."""
    read = number(value)
    return int(read) if read is not None and abs(read) <= _MOST_COUNTED and read.is_integer() else None


def number(value: Any) -> float | None:
    """A coordinate or another number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
