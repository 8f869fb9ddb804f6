"""Measurement site tables of DATEX II: where each indexed value of a site is measured, and of what.

A site has several indexed values: per lane, per class of vehicles. One spot is a site, or a lane of a site that has
several. Where the table names no lanes but describes several values alike, the first, second, … of each variable are
taken for lanes 1, 2, … (so publishes the Dutch NDW).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mtgpt.ingest.feeds.datex2.places import point_of
from mtgpt.ingest.guard.archive import open_guarded
from mtgpt.ingest.guard.xml_stream import records
from mtgpt.ingest.rows.places import spots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mtgpt.ingest.adapter import Chunk
    from mtgpt.ingest.guard.xml_stream import Node

SITE_RECORDS = ("measurementSite", "measurementSiteRecord")
ANY_VEHICLE = "anyVehicle"

_CHARACTERISTICS = "measurementSpecificCharacteristics"
_SPOTS_A_CHUNK = 50_000
_MOST_INDEXES = 1000
_MOST_LAYOUTS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What one index of a site means.

    Attributes:
        suffix: Of the spot id, after the site's own; empty for the site itself.
        lane: Name of the lane, where there are several.
        vehicle: Class of vehicles; ``anyVehicle`` for all together.
        period_s: Length of a measurement, where the table says.
    """

    suffix: str
    lane: str | None
    vehicle: str
    period_s: int | None


Layout = dict[int, Slot]


@dataclass(slots=True, kw_only=True)
class SiteTable:
    """Sites by id.

    Attributes:
        layouts: What the indexes of each site mean; equal ones are one object, for tables hold 100,000 sites.
    """

    layouts: dict[str, Layout] = field(default_factory=dict)
    _shared: dict[tuple[Any, ...], Layout] = field(default_factory=dict)

    def add(self, site: Node) -> Layout:
        """Reads a site's indexes.

        Raises:
            ValueError: Too many of them.
        """
        described = _described(site)
        layout = self._shared.get(described)
        if layout is None:
            layout = _layout(described)
            if len(self._shared) < _MOST_LAYOUTS:
                self._shared[described] = layout
        site_id = site.attributes.get("id")
        if site_id:
            self.layouts[site_id] = layout
        return layout


class SpotRows:
    """Rows of the table spot, gathered site by site.

    Args:
        vehicles: Whether classes of vehicles are spots too.
        lon_first: Order of coordinates in a ``posList``.
    """

    def __init__(self, *, vehicles: Literal["any", "all"], lon_first: bool) -> None:
        self._all_vehicles = vehicles == "all"
        self._lon_first = lon_first
        self._rows: list[tuple[str | None, str | None, float | None, float | None, Mapping[str, Any]]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, site: Node, layout: Layout) -> None:
        """A site, or its lanes."""
        location = site.first("measurementSiteLocation")
        try:
            point = None if location is None else point_of(location, lon_first=self._lon_first)
        except ValueError:
            # Without a place the spot is still one that is measured.
            point = None
        lon, lat = point or (None, None)
        site_id = site.attributes.get("id") or None
        name = _name(site)
        facts = _facts(site, location)
        wanted = {slot.suffix: slot for slot in layout.values() if self._all_vehicles or slot.vehicle == ANY_VEHICLE}
        for suffix, slot in wanted.items() or {"": None}.items():
            more = {}
            if slot is not None:
                more = {"lane": slot.lane, "vehicles": None if slot.vehicle == ANY_VEHICLE else slot.vehicle}
            attributes = {key: value for key, value in (facts | more).items() if value is not None}
            self._rows.append((None if site_id is None else site_id + suffix, name, lon, lat, attributes))

    def take(self) -> Chunk:
        """What was gathered, as a chunk."""
        rows, self._rows = self._rows, []
        ids, names, lons, lats, attributes = zip(*rows, strict=True)
        return spots(ids, kind="detector", mode="road", lon=lons, lat=lats, name=names, attributes=attributes)


def read_sites(path: Path, name: str, rows: SpotRows, table: SiteTable) -> Iterator[Chunk]:
    """Streams a site table: fills ``table`` and yields its spots, by way of ``rows``.

    Raises:
        FeedError: No such XML.
        SourceRefused: A cap.
    """
    with open_guarded(path, name) as stream:
        for record in records(stream, SITE_RECORDS, where=name):
            rows.add(record.node, table.add(record.node))
            if len(rows) >= _SPOTS_A_CHUNK:
                yield rows.take()
    if len(rows):
        yield rows.take()


def vehicle_class(characteristics: Node | None) -> str:
    """Class of vehicles that ``…VehicleCharacteristics`` describe, in a word that may be part of an id."""
    if characteristics is None:
        return ANY_VEHICLE
    kinds = [node.text for node in characteristics.within("vehicleType") if node.text and node.text != ANY_VEHICLE]
    bounds = [
        f"{operator.removesuffix('OrEqualTo')}{length}"
        for node in characteristics.within("lengthCharacteristic")
        if (operator := node.value("comparisonOperator")) and (length := node.value("vehicleLength"))
    ]
    return "+".join(kinds + bounds)[:100] or ANY_VEHICLE


def _described(site: Node) -> tuple[tuple[int, str | None, str, str, int | None], ...]:
    """Index, lane, class, kind of value, period of each value of a site."""
    outer = site.every(_CHARACTERISTICS)
    if len(outer) > _MOST_INDEXES:
        raise ValueError(f"a site with {len(outer)} values")
    found = []
    for node in outer:
        inner = node.first(_CHARACTERISTICS) or node
        index = _integer(node.attributes.get("index"))
        if index is not None:
            period = _integer(inner.value("period"))
            found.append(
                (
                    index,
                    _lane(inner),
                    vehicle_class(inner.first("specificVehicleCharacteristics")),
                    inner.value("specificMeasurementValueType") or "",
                    period if period and 0 < period <= 86_400 else None,
                )
            )
    return tuple(found)


def _layout(described: tuple[tuple[int, str | None, str, str, int | None], ...]) -> Layout:
    lanes = {lane for _, lane, *_ in described}
    alike = Counter((lane, vehicle, what) for _, lane, vehicle, what, _ in described)
    seen = Counter[tuple[str | None, str, str]]()
    layout: Layout = {}
    for index, lane, vehicle, what, period_s in sorted(described, key=lambda one: one[0]):
        key = lane, vehicle, what
        seen[key] += 1
        parts = []
        if lane is not None and len(lanes) > 1:
            parts.append(lane)
        if max(alike[one] for one in alike if one[:2] == key[:2]) > 1:
            parts.append(str(seen[key]))
        named = "/".join(parts) or None
        if vehicle != ANY_VEHICLE:
            parts.append(vehicle)
        suffix = "".join(f"/{part}" for part in parts)
        layout[index] = Slot(suffix=suffix, lane=named or lane, vehicle=vehicle, period_s=period_s)
    return layout


def _lane(characteristics: Node) -> str | None:
    node = characteristics.first("specificLane")
    if node is None:
        return None
    if node.text:
        return node.text[:40]
    numbers = [one.text for one in node.within("laneNumber", "laneUsage") if one.text]
    return f"lane{numbers[0]}"[:40] if numbers else None


def _name(site: Node) -> str | None:
    for value in site.within("measurementSiteName"):
        texts = [one.text for one in value.within("value") if one.text]
        return (texts[0] if texts else value.text or None) or None
    return None


def _facts(site: Node, location: Node | None) -> dict[str, Any]:
    found: Sequence[tuple[str, tuple[str, ...]]] = (
        ("road", ("roadNumber",)),
        ("road_name", ("roadName",)),
        ("direction", ("directionBoundOnLinearSection", "alertCDirectionCoded", "directionRelative", "direction")),
        ("carriageway", ("carriageway",)),
    )
    facts: dict[str, Any] = {
        "lanes": _integer(site.value("measurementSiteNumberOfLanes")),
        "side": site.value("measurementSide"),
        "equipment": _localized(site.first("measurementEquipmentTypeUsed")),
    }
    if location is not None:
        for fact, names in found:
            facts[fact] = next((text for node in location.within(*names) if (text := _localized(node))), None)
        bearing = next((node.text for node in location.within("bearing") if node.text), None)
        facts["bearing_deg"] = _integer(bearing)
    return facts


def _localized(node: Node | None) -> str | None:
    if node is None:
        return None
    text = node.text or next((one.text for one in node.within("value", "carriageway") if one.text), "")
    return text[:200] or None


def _integer(text: str | None) -> int | None:
    if text is None or len(text) > 20:
        return None
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None
