"""Alerts and geofencing zones of GBFS as rows of the table event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.gbfs.document import identifier, moment, one_text, texts
from mtgpt.ingest.rows.events import Event, EventKind, events
from mtgpt.ingest.rows.marks import TIME_UNREADABLE
from mtgpt.ingest.rows.shapes import from_geojson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mtgpt.ingest.adapter import Chunk

ALERT_UNREADABLE = "alert_unreadable"
PLACE_UNREADABLE = "place_unreadable"

_KINDS: Mapping[str, EventKind] = {"system_closure": "closure", "station_closure": "closure"}
_MOST_TIMES = 200
_MOST_IDS = 1500
_MOST_ZONES = 50_000
_RULES = ("ride_allowed", "ride_start_allowed", "ride_end_allowed", "ride_through_allowed", "maximum_speed_kph")


def alert_events(alerts: Sequence[Any], language: str) -> Chunk:
    """``system_alerts``: one row per alert and language.

    Args:
        alerts: As in the file.
        language: Of texts that do not say.
    """
    return events([one for row, given in enumerate(alerts) for one in _alert(given, row, language)])


def zone_events(collection: Any, language: str, *, name: str) -> Chunk:
    """``geofencing_zones``: one row per zone, with the rules that hold in it.

    Args:
        collection: The GeoJSON under ``geofencing_zones``.
        language: Of texts that do not say.
        name: Of the file.

    Raises:
        FeedError: No such GeoJSON, or too many zones.
    """
    features = collection.get("features") if isinstance(collection, dict) else None
    if not isinstance(features, list) or len(features) > _MOST_ZONES:
        raise FeedError(
            "not a file of geofencing zones", where=name, expected=f"a FeatureCollection of at most {_MOST_ZONES} zones"
        )
    return events([_zone(given, row, language) for row, given in enumerate(features)])


def _alert(given: Any, row: int, language: str) -> Iterator[Event]:
    if not isinstance(given, dict):
        yield Event(row=row, event_id=None, kind="alert", fault=ALERT_UNREADABLE, message="no JSON object", raw=given)
        return
    times = [one for one in _list(given.get("times"))[:_MOST_TIMES] if isinstance(one, dict)]
    starts = [moment(one.get("start")) for one in times]
    ends = [moment(one.get("end")) for one in times]
    spans = list(zip(times, starts, ends, strict=True))
    unread = [one["start"] for one, start, _ in spans if start is None and one.get("start") is not None]
    unread += [one["end"] for one, _, end in spans if end is None and one.get("end") is not None]
    kind = identifier(given.get("type"))
    titles, descriptions = texts(given.get("summary"), language), texts(given.get("description"), language)
    urls = texts(given.get("url"), language)
    known = [start for start in starts if start is not None]
    for tag in dict.fromkeys([*titles, *descriptions]) or [language]:
        yield Event(
            row=row,
            event_id=identifier(given.get("alert_id")),
            kind=_KINDS.get((kind or "").lower(), "alert"),
            language=tag,
            effect=kind,
            title=titles.get(tag),
            text=descriptions.get(tag),
            start=min(known) if known else None,
            # One open end keeps the alert open.
            end=max(end for end in ends if end is not None) if ends and None not in ends else None,
            spots=_ids(given.get("station_ids")),
            url=urls.get(tag) or next(iter(urls.values()), None),
            attributes={
                "regions": _ids(given.get("region_ids")),
                "times": [[_iso(start), _iso(end)] for _, start, end in spans] if len(spans) > 1 else None,
            },
            valid_from=moment(given.get("last_updated")),
            fault=TIME_UNREADABLE if unread else None,
            message=f"a time cannot be read: {unread[0]!r}"[:200] if unread else None,
            raw=given if unread else None,
        )


def _zone(given: Any, row: int, language: str) -> Event:
    feature = given if isinstance(given, dict) else {}
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    name = one_text(properties.get("name"), language)
    fault = message = shape = None
    try:
        shape = from_geojson(feature.get("geometry"))
    except ValueError as error:
        fault, message = PLACE_UNREADABLE, f"the geometry cannot be read: {error}"
    rules = [
        {key: rule[key] for key in _RULES if key in rule}
        for rule in _list(properties.get("rules"))[:_MOST_TIMES]
        if isinstance(rule, dict)
    ]
    return Event(
        row=row,
        event_id=f"geofencing:{name or row}",
        kind="other",
        language=language,
        cause="geofencing_zone",
        effect=_effect(rules),
        title=name,
        start=moment(properties.get("start")),
        end=moment(properties.get("end")),
        shape=shape,
        attributes={"rules": rules},
        fault=fault,
        message=message,
        raw=given if fault else None,
    )


def _effect(rules: Sequence[Mapping[str, Any]]) -> str | None:
    # The first rule wins where several apply (GBFS, geofencing_zones.json).
    first = rules[0] if rules else {}
    if first.get("ride_through_allowed") is False:
        return "no_riding"
    if first.get("ride_end_allowed") is False or first.get("ride_allowed") is False:
        return "no_parking"
    return "slow" if "maximum_speed_kph" in first else None


def _ids(value: Any) -> list[str]:
    return [name for one in _list(value)[:_MOST_IDS] if (name := identifier(one)) is not None]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _iso(time: Any) -> str | None:
    return None if time is None else time.isoformat()
