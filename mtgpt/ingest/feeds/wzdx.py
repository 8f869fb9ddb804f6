"""WZDx, the Work Zone Data Exchange of North American road authorities: GeoJSON features as rows of the table event.

Read are work zone feeds of version 4 (``feed_info``, ``core_details``) and the basic fields of version 3, where they
lie flat in ``properties``. Checked by samples written after the specification (4.0 to 4.2, 3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, Chunk, Roles
from mtgpt.ingest.guard.json_document import read_object
from mtgpt.ingest.rows.events import Event, EventKind, Severity, events, language_tag
from mtgpt.ingest.rows.instants import instant
from mtgpt.ingest.rows.marks import TIME_UNREADABLE
from mtgpt.ingest.rows.shapes import Shape, from_geojson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from mtgpt.ingest.adapter import FeedContext, FeedFile

FEATURE_UNREADABLE = "feature_unreadable"
PLACE_UNREADABLE = "place_unreadable"

_CLOSED = "all-lanes-closed"
_NAMES = {"work-zone": "Work zone", "detour": "Detour", "restriction": "Restriction"}
_SEVERITIES: Mapping[str, Severity] = {
    _CLOSED: "high",
    "some-lanes-closed": "medium",
    "alternating-one-way": "medium",
    "flagging": "medium",
    "some-lanes-closed-merge-left": "medium",
    "some-lanes-closed-merge-right": "medium",
    "all-lanes-open-shift-left": "low",
    "all-lanes-open-shift-right": "low",
    "some-lanes-closed-split": "medium",
    "temporary-traffic-signal": "medium",
    "all-lanes-open": "low",
}
# What tells of works and of no person; contacts are left out.
_FACTS = (
    "direction",
    "name",
    "beginning_cross_street",
    "ending_cross_street",
    "beginning_milepost",
    "ending_milepost",
    "is_start_date_verified",
    "is_end_date_verified",
    "is_start_position_verified",
    "is_end_position_verified",
    "start_date_accuracy",
    "end_date_accuracy",
    "beginning_accuracy",
    "ending_accuracy",
    "location_method",
    "work_zone_type",
    "event_status",
    "reduced_speed_limit_kph",
    "reduced_speed_limit",
    "restrictions",
    "types_of_work",
    "lanes",
    "related_road_events",
    "worker_presence",
    "workers_present",
)
_MOST_FEATURES = 200_000
_FEATURES_A_CHUNK = 10_000
_LONGEST = 2000


class WzdxOptions(BaseModel):
    """Options of a ``wzdx`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    language: str = Field(
        default="en", max_length=35, description="Language of the texts (BCP 47); the format cannot say."
    )


class WzdxAdapter:
    """Reads ``wzdx`` sources."""

    kind: str = "wzdx"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = WzdxOptions

    def read(self, files: Mapping[str, FeedFile], options: WzdxOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields the events in the order of the file.

        Raises:
            FeedError: No GeoJSON of road events, or damaged.
            SourceRefused: Larger than any such feed.
        """
        features = _features(files[DATA])
        language = language_tag(options.language)
        zone = ZoneInfo(context.time_zone)
        for first in range(0, len(features), _FEATURES_A_CHUNK):
            part = enumerate(features[first : first + _FEATURES_A_CHUNK], start=first)
            yield events([_event(feature, row, language, zone) for row, feature in part])


def _features(file: FeedFile) -> list[Any]:
    document = read_object(file)
    features = document.get("features")
    if document.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise FeedError(
            "not a WZDx feed",
            where=file.name,
            got=f"type {document.get('type')!r}",
            expected="a GeoJSON FeatureCollection with features",
        )
    if len(features) > _MOST_FEATURES:
        raise FeedError("too many features", where=file.name, got=len(features), expected=f"at most {_MOST_FEATURES}")
    if features and all(_is_device(feature) for feature in features):
        raise FeedError(
            "a feed of field devices, not of road events", where=file.name, expected="a WZDx work zone feed"
        )
    return features


def _is_device(feature: Any) -> bool:
    return "device_type" in _object(_object(_object(feature).get("properties")).get("core_details"))


def _event(feature: Any, row: int, language: str, zone: ZoneInfo) -> Event:
    properties = _object(_object(feature).get("properties"))
    core = _object(properties.get("core_details"))
    # Version 3 has everything flat, 3.1 and 4 put what all kinds of events share under core_details.
    facts = {**properties, **core}
    faults = _Faults()
    if not properties:
        faults.add(FEATURE_UNREADABLE, "the feature has no properties")
    elif _is_device(feature):
        faults.add(FEATURE_UNREADABLE, "the feature is a field device, not a road event")
    shape = faults.shape(_object(feature).get("geometry"))
    start, end, updated = (faults.time(facts, name, zone) for name in ("start_date", "end_date", "update_date"))
    event_type = _text(facts.get("event_type"))
    impact = _text(facts.get("vehicle_impact"))
    roads = _roads(facts)
    name = _NAMES.get(event_type or "", event_type)
    return Event(
        row=row,
        event_id=_id(feature, facts),
        kind=_kind(event_type, impact),
        language=language,
        severity=_SEVERITIES.get(impact or ""),
        cause=event_type,
        effect=impact,
        title=", ".join(part for part in (name, " / ".join(roads)) if part)[:_LONGEST] or None,
        text=_text(facts.get("description"), longest=None),
        start=start,
        end=end,
        shape=shape,
        attributes={"roads": roads} | {key: facts[key] for key in _FACTS if key in facts},
        valid_from=updated,
        fault=faults.rule,
        message=faults.message,
        raw=feature if faults.rule else None,
    )


class _Faults:
    """The first thing that is wrong with a feature."""

    def __init__(self) -> None:
        self.rule: str | None = None
        self.message: str | None = None

    def add(self, rule: str, message: str) -> None:
        if self.rule is None:
            self.rule, self.message = rule, message[:300]

    def shape(self, geometry: Any) -> Shape | None:
        try:
            return from_geojson(geometry)
        except ValueError as error:
            self.add(PLACE_UNREADABLE, f"the geometry cannot be read: {error}")
            return None

    def time(self, facts: Mapping[str, Any], name: str, zone: ZoneInfo) -> datetime | None:
        value = facts.get(name)
        if value is None or value == "":
            return None
        moment = instant(value, zone) if isinstance(value, str) else None
        if moment is None:
            self.add(TIME_UNREADABLE, f"{name} cannot be read: {value!r}")
        return moment


def _kind(event_type: str | None, impact: str | None) -> EventKind:
    if impact == _CLOSED:
        return "closure"
    return "works" if event_type == "work-zone" else "other"


def _id(feature: Any, facts: Mapping[str, Any]) -> str | None:
    for value in (_object(feature).get("id"), facts.get("road_event_id")):
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return None


def _roads(facts: Mapping[str, Any]) -> list[str]:
    names = facts.get("road_names")
    if not isinstance(names, list):
        names = [facts.get("road_name") or facts.get("road_number")]
    return [text for name in names[:20] if (text := _text(name))]


def _text(value: Any, *, longest: int | None = 200) -> str | None:
    return value.strip()[:longest] or None if isinstance(value, str) else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
