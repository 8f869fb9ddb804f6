"""Situation records of DATEX II as rows of the table event: one row per record and language of its comments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mtgpt.ingest.feeds.datex2.places import shape_of
from mtgpt.ingest.rows.events import UNDETERMINED, Event, EventKind, Severity, language_tag
from mtgpt.ingest.rows.instants import instant
from mtgpt.ingest.rows.marks import TIME_UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from mtgpt.ingest.feeds.datex2.options import Datex2Options
    from mtgpt.ingest.guard.xml_stream import Node, Record
    from mtgpt.ingest.rows.shapes import Shape

PLACE_UNREADABLE = "place_unreadable"

_KINDS: Mapping[str, EventKind] = {
    "Accident": "incident",
    "AbnormalTraffic": "congestion",
    "AnimalPresenceObstruction": "incident",
    "AuthorityOperation": "incident",
    "ConstructionWorks": "works",
    "DisturbanceActivity": "incident",
    "EnvironmentalObstruction": "incident",
    "EquipmentOrSystemFault": "incident",
    "GeneralObstruction": "incident",
    "InfrastructureDamageObstruction": "incident",
    "MaintenanceWorks": "works",
    "NonWeatherRelatedRoadConditions": "incident",
    "PoorEnvironmentConditions": "weather",
    "PublicEvent": "planned_event",
    "VehicleObstruction": "incident",
    "WeatherRelatedRoadConditions": "weather",
    "WinterDrivingManagement": "weather",
    "GeneralInstructionOrMessageToRoadUsers": "alert",
    "TransitInformation": "alert",
}
_SEVERITIES: Mapping[str, Severity] = {
    "none": "info",
    "lowest": "info",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "highest": "highest",
}
_CLOSING = re.compile(r"clos|blocked|doNotUse|impassable", re.IGNORECASE)
_EFFECTS = (
    "roadOrCarriagewayOrLaneManagementType",
    "trafficConstrictionType",
    "abnormalTrafficType",
    "speedManagementType",
)
_CAUSES = (
    "accidentType",
    "obstructionType",
    "vehicleObstructionType",
    "environmentalObstructionType",
    "roadMaintenanceType",
    "constructionWorkType",
    "poorEnvironmentType",
    "weatherRelatedRoadConditionType",
    "publicEventType",
    "causeType",
)
_DETAILS: Mapping[str, str] = {
    "numberOfLanesRestricted": "lanes_restricted",
    "numberOfOperationalLanes": "lanes_open",
    "originalNumberOfLanes": "lanes",
    "delayTimeValue": "delay_s",
    "queueLength": "queue_m",
    "temporarySpeedLimit": "speed_limit_kmh",
    "mobilityType": "mobility",
    "roadNumber": "road",
    "roadName": "road_name",
    "directionBoundOnLinearSection": "direction",
    "alertCDirectionCoded": "direction",
    "carriageway": "carriageway",
}
_NUMBERS = frozenset({"lanes_restricted", "lanes_open", "lanes", "delay_s", "queue_m", "speed_limit_kmh"})
_LOCATIONS = ("locationReference", "groupOfLocations")
_MOST_LANGUAGES = 50
_MOST_PERIODS = 200


def situation_events(
    record: Record, overall_severity: str | None, options: Datex2Options, zone: ZoneInfo, row: int
) -> Iterator[Event]:
    """The rows of one ``situationRecord``.

    Args:
        record: The element.
        overall_severity: Of its situation.
        options: Of the source.
        zone: For times without an offset.
        row: Position of the record in the file.
    """
    node = record.node
    facts = _Facts(node, zone)
    shape, fault, message = _shape(node, options)
    if facts.unreadable is not None:
        fault, message = TIME_UNREADABLE, f"a time cannot be read: {facts.unreadable[:100]}"
    effect = _first(node, _EFFECTS)
    cause = _first(node, _CAUSES)
    kind = _KINDS.get(node.type, "other")
    if node.type == "RoadOrCarriagewayOrLaneManagement" and effect and _CLOSING.search(effect):
        kind = "closure"
    situation = next((one for one in reversed(record.ancestors) if one.name == "situation"), None)
    attributes = {
        "type": node.type or None,
        "situation": None if situation is None else situation.attributes.get("id"),
        "version": node.attributes.get("version"),
        "status": node.value("validity", "validityStatus"),
        "probability": node.value("probabilityOfOccurrence"),
        "periods": facts.periods if len(facts.periods) > 1 else None,
    } | _details(node)
    default = language_tag(options.language or record.inherited("lang"))
    texts = _comments(node, default)
    severity = _SEVERITIES.get(node.value("severity") or overall_severity or "")
    title = _title(node.type, attributes)
    for language, text in texts.items() or {default: None}.items():
        yield Event(
            row=row,
            event_id=node.attributes.get("id") or None,
            kind=kind,
            language=language,
            severity=severity,
            cause=cause,
            effect=effect,
            title=title,
            text=text,
            start=facts.start,
            end=facts.end,
            shape=shape,
            url=next((one.text for one in node.within("urlLinkAddress") if one.text), None),
            attributes=attributes,
            valid_from=facts.version,
            fault=fault,
            message=message,
            raw=None if fault is None else {"id": node.attributes.get("id"), "type": node.type, "text": text},
        )


class _Facts:
    """Times of a record: when it holds, since when it is described so."""

    def __init__(self, node: Node, zone: ZoneInfo) -> None:
        self._zone = zone
        self.unreadable: str | None = None
        validity = node.first("validity", "validityTimeSpecification")
        self.start = self._read(validity, "overallStartTime")
        self.end = self._read(validity, "overallEndTime")
        self.version = self._read(node, "situationRecordVersionTime")
        periods = validity.every("validPeriod")[:_MOST_PERIODS] if validity is not None else []
        self.periods = [[one.value("startOfPeriod"), one.value("endOfPeriod")] for one in periods]
        over = node.first("management", "lifeCycleManagement")
        if over is not None and "true" in {over.value("end"), over.value("cancel")} and self.end is None:
            self.end = self.version

    def _read(self, node: Node | None, name: str) -> datetime | None:
        text = None if node is None else node.value(name)
        if text is None:
            return None
        moment = instant(text, self._zone)
        if moment is None:
            self.unreadable = text
        return moment


def _shape(node: Node, options: Datex2Options) -> tuple[Shape | None, str | None, str | None]:
    for name in _LOCATIONS:
        location = node.first(name)
        if location is not None:
            try:
                return shape_of(location, lon_first=options.lon_first), None, None
            except ValueError as error:
                return None, PLACE_UNREADABLE, f"the location cannot be read: {str(error)[:150]}"
    return None, None, None


def _comments(node: Node, default: str) -> dict[str, str]:
    """Public comments by language; those for the authorities only are never read."""
    texts: dict[str, list[str]] = {}
    for comment in node.every("generalPublicComment"):
        for value in comment.within("value"):
            language = language_tag(value.attributes.get("lang"))
            language = default if language == UNDETERMINED else language
            if value.text and (language in texts or len(texts) < _MOST_LANGUAGES):
                texts.setdefault(language, []).append(value.text)
    return {language: "\n".join(parts) for language, parts in texts.items()}


def _details(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in node.within(*_DETAILS):
        fact = _DETAILS[one.name]
        text = one.text or next((value.text for value in one.within("value", "carriageway") if value.text), "")
        if text and fact not in found:
            found[fact] = _number(text) if fact in _NUMBERS else text[:200]
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text[:40]


def _first(node: Node, names: tuple[str, ...]) -> str | None:
    found = {one.name: one.text for one in node.within(*names) if one.text}
    return next((found[name][:200] for name in names if name in found), None)


def _title(kind: str, attributes: Mapping[str, Any]) -> str | None:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).capitalize()
    return ", ".join(part for part in (words, attributes.get("road") or attributes.get("road_name")) if part) or None
