"""Rows of the table event, as adapters make them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from mtgpt.ingest.adapter import FAULT, RAW, ROW, Chunk
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import MESSAGE
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mtgpt.ingest.rows.shapes import Shape

EventKind = Literal[
    "incident", "alert", "works", "closure", "planned_event", "weather", "congestion", "schedule_change", "other"
]
Severity = Literal["info", "low", "medium", "high", "highest"]

UNDETERMINED = "und"
"""Language where the feed does not say (BCP 47)."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_LONGEST_LANGUAGE = 35
_LONGEST_RAW = 16_384
_TEXTS = ("event_id", "language", "kind", "severity", "cause", "effect", "title", "text", "geometry", "url")
_SCHEMA = (
    dict.fromkeys(_TEXTS, pl.String)
    | dict.fromkeys(("spots", "routes", "attributes"), pl.String)
    | dict.fromkeys(("start", "end", "valid_from"), UTC_TIME)
    | dict.fromkeys(("lon", "lat"), pl.Float64)
    | {ROW: pl.UInt64, FAULT: pl.String, MESSAGE: pl.String, RAW: pl.String}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the table.

    Attributes:
        row: Position in the raw file.
        event_id: As the feed names it; None is quarantined by the contract.
        kind: What it is.
        language: Of the texts, BCP 47.
        severity: How bad it is.
        cause: In the feed's own words.
        effect: In the feed's own words.
        title: One line for people.
        text: Description for people.
        start: From when it matters, UTC.
        end: Until when, exclusive.
        shape: Where.
        spots: Places concerned.
        routes: Lines concerned.
        url: Where more is said.
        attributes: Further facts; those that are None or empty are left out.
        valid_from: Since when this description holds; since ever where the feed does not say.
        fault: Id of the rule that the adapter found broken.
        message: What to say about it.
        raw: The raw row, needed where there is a fault.
    """

    row: int
    event_id: str | None
    kind: EventKind
    language: str = UNDETERMINED
    severity: Severity | None = None
    cause: str | None = None
    effect: str | None = None
    title: str | None = None
    text: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    shape: Shape | None = None
    spots: Sequence[str] = ()
    routes: Sequence[str] = ()
    url: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    valid_from: datetime | None = None
    fault: str | None = None
    message: str | None = None
    raw: Any = None


def events(rows: Sequence[Event]) -> Chunk:
    """A chunk of the table event."""
    columns: dict[str, list[Any]] = {
        name: [getattr(one, name) for one in rows] for name in _TEXTS if name != "geometry"
    }
    columns["geometry"] = [None if one.shape is None else one.shape.wkt for one in rows]
    for axis in ("lon", "lat"):
        columns[axis] = [None if one.shape is None else getattr(one.shape, axis) for one in rows]
    columns["spots"] = [_array(one.spots) for one in rows]
    columns["routes"] = [_array(one.routes) for one in rows]
    columns["attributes"] = [_object(one.attributes) for one in rows]
    columns["start"] = [one.start for one in rows]
    columns["end"] = [one.end for one in rows]
    columns["valid_from"] = [one.valid_from or SINCE_EVER for one in rows]
    columns[ROW] = [one.row for one in rows]
    columns[FAULT] = [one.fault for one in rows]
    columns[MESSAGE] = [one.message for one in rows]
    columns[RAW] = [None if one.raw is None else raw_json(one.raw) for one in rows]
    return Chunk(table="event", frame=pl.DataFrame(columns, schema=_SCHEMA))


def language_tag(text: Any) -> str:
    """A BCP 47 tag as feeds write it (``pt_BR`` too), or ``und``."""
    tag = text.strip().replace("_", "-") if isinstance(text, str) else ""
    return tag if len(tag) <= _LONGEST_LANGUAGE and _LANGUAGE.fullmatch(tag) else UNDETERMINED


def raw_json(row: Any) -> str:
    """A raw row as JSON, cut where it is long."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_RAW else json.dumps({"cut": text[:_LONGEST_RAW]}, ensure_ascii=False)


def _array(values: Sequence[str]) -> str | None:
    return json.dumps(list(values), ensure_ascii=False) if values else None


def _object(facts: Mapping[str, Any]) -> str | None:
    kept = {key: value for key, value in facts.items() if value is not None and value not in ("", [], {})}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True, default=str) if kept else None
