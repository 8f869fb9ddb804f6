"""Rows of the table event: service alerts, one row per language, and canceled trips without stops.

Source: GTFS Realtime Reference, messages Alert, TimeRange, EntitySelector and TranslatedString.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.adapter import ROW
from mtgpt.ingest.feeds.gtfs_rt.trips import CANCELED, DELETED, text
from mtgpt.ingest.rows.events import UNDETERMINED, Event, language_tag
from mtgpt.ingest.rows.marks import MESSAGES, TEXT_UNREADABLE, TIME_UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mtgpt.ingest.rows.events import Severity

_SEVERITY: Mapping[str, Severity] = {"INFO": "info", "WARNING": "medium", "SEVERE": "high"}
_LAST_SECOND = 253_402_300_799
_NEVER = 4_102_444_800
"""2100: some feeds write a time far away where they mean that the alert is open."""

_LONGEST_LIST = 50_000
_MOST_PERIODS = 100
_MOST_LANGUAGES = 50
_TITLE, _TEXT = 2000, 65_536


def alert_rows(position: int, entity: Any, *, prefix: str = "") -> list[Event]:
    """The alert in each of its languages.

    Args:
        position: Of the entity in the message.
        entity: The entity.
        prefix: Put before stop ids.
    """
    alert = entity.alert
    titles, bodies, urls = (_by_language(one) for one in (alert.header_text, alert.description_text, alert.url))
    languages = list(dict.fromkeys([*titles, *bodies]))[:_MOST_LANGUAGES] or list(urls)[:1] or [UNDETERMINED]
    spots, routes, further, unreadable = _concerned(alert.informed_entity, prefix)
    start, end, periods, odd = _periods(alert.active_period)
    unreadable |= isinstance(entity.id, bytes) or any(
        isinstance(one.text, bytes)
        for translated in (alert.header_text, alert.description_text, alert.url)
        for one in translated.translation
    )
    fault = TEXT_UNREADABLE if unreadable else TIME_UNREADABLE if odd else None
    shared = {
        "row": position,
        "event_id": text(entity.id),
        "kind": "alert",
        "severity": _SEVERITY.get(alert.SeverityLevel.Name(alert.severity_level)),
        "cause": alert.Cause.Name(alert.cause) if alert.HasField("cause") else None,
        "effect": alert.Effect.Name(alert.effect) if alert.HasField("effect") else None,
        "start": start,
        "end": end,
        "spots": spots,
        "routes": routes,
        "attributes": {**further, "active_periods": periods if len(periods) > 1 else []},
        "fault": fault,
        "message": MESSAGES[fault] if fault else None,
        "raw": {"id": text(entity.id), "title": titles, "text": bodies} if fault else None,
    }
    return [
        Event(
            language=language,
            title=_cut(titles.get(language), _TITLE),
            text=_cut(bodies.get(language), _TEXT),
            url=_cut(urls.get(language) or next(iter(urls.values()), None), _TITLE),
            **shared,
        )
        for language in languages
    ]


def alert_parts(alert: Any) -> int:
    """How many translations, periods and things concerned an alert has."""
    texts = (alert.header_text, alert.description_text, alert.url)
    return len(alert.informed_entity) + len(alert.active_period) + sum(len(one.translation) for one in texts)


def canceled_rows(trips: pl.DataFrame, visits: pl.DataFrame) -> list[Event]:
    """Canceled trips whose stops nobody names, neither the feed nor a timetable: said as events, not lost.

    Args:
        trips: From :meth:`~mtgpt.ingest.feeds.gtfs_rt.trips.TripRows.trips`.
        visits: From :func:`~mtgpt.ingest.feeds.gtfs_rt.visits.stop_visits`.
    """
    off = trips.filter(pl.col("relation").is_in([CANCELED, DELETED]))
    silent = off.filter(~pl.col("entity").cast(pl.UInt64).is_in(visits[ROW].implode()))
    return [
        Event(
            row=one["entity"],
            event_id=f"canceled:{one['start_date'] or '-'}:{one['trip_id'] or '-'}"[:200],
            kind="schedule_change",
            language="en",
            effect="NO_SERVICE",
            title=f"Trip {one['trip_id'] or ''} is canceled"[:_TITLE],
            routes=[one["route_id"]] if one["route_id"] else [],
            attributes={"trips": [one["trip_id"]], "start_date": one["start_date"], "start_time": one["start_time"]},
            fault=TEXT_UNREADABLE if one["unreadable"] else None,
            message=MESSAGES[TEXT_UNREADABLE] if one["unreadable"] else None,
            raw=one if one["unreadable"] else None,
        )
        for one in silent.iter_rows(named=True)
    ]


def _by_language(translated: Any) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for one in translated.translation:
        said = text(one.text)
        if said:
            found.setdefault(language_tag(one.language), []).append(said)
    # The same language twice is two parts of one text.
    return {language: "\n".join(parts) for language, parts in found.items()}


def _concerned(selectors: Iterable[Any], prefix: str) -> tuple[list[str], list[str], dict[str, Any], bool]:
    """Stops, lines, what else an alert is about, and whether a name among them cannot be read."""
    names: dict[str, dict[str, None]] = {"stops": {}, "routes": {}, "trips": {}, "agencies": {}, "route_types": {}}
    unreadable = False
    for one in selectors:
        given = {
            "stops": f"{prefix}{text(one.stop_id)}" if one.stop_id else "",
            "routes": one.route_id or one.trip.route_id,
            "trips": one.trip.trip_id,
            "agencies": one.agency_id,
            "route_types": str(one.route_type) if one.HasField("route_type") else "",
        }
        for what, name in given.items():
            unreadable |= isinstance(name, bytes) or isinstance(one.stop_id, bytes)
            if name:
                names[what][text(name) or ""] = None
    cut = {what: _fitting(list(found)) for what, found in names.items()}
    left_out = {what: len(names[what]) - len(kept) for what, kept in cut.items() if len(kept) < len(names[what])}
    further = {what: cut[what] for what in ("trips", "agencies", "route_types")} | {"left_out": left_out}
    return cut["stops"], cut["routes"], further, unreadable


def _fitting(names: list[str]) -> list[str]:
    room = _LONGEST_LIST // 3
    for index, name in enumerate(names):
        room -= len(name) + 4
        if room < 0:
            return names[:index]
    return names


def _periods(ranges: Iterable[Any]) -> tuple[datetime | None, datetime | None, list[list[str | None]], bool]:
    """First start, last end (None: open), all periods, and whether one of them cannot be."""
    pairs = [(one.start, one.end) for one in ranges]
    odd = any((end and start > end) or max(start, end) > _LAST_SECOND for start, end in pairs)
    if odd or not pairs:
        return None, None, [], odd
    moments = [(_moment(start), _moment(end if end < _NEVER else 0)) for start, end in pairs]
    starts, ends = [start for start, _ in moments], [end for _, end in moments]
    first = None if None in starts else min(start for start in starts if start)
    last = None if None in ends else max(end for end in ends if end)
    shown = [[one and one.isoformat() for one in pair] for pair in moments[:_MOST_PERIODS]]
    return first, last, shown, False


def _moment(stamp: int) -> datetime | None:
    return datetime.fromtimestamp(stamp, UTC) if stamp else None


def _cut(said: str | None, longest: int) -> str | None:
    return said if said is None or len(said) <= longest else f"{said[: longest - 1]}…"
