"""Measured data of DATEX II as rows of the table observation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.adapter import FAULT, RAW, ROW, Chunk
from mtgpt.ingest.feeds.datex2.sites import ANY_VEHICLE, Slot, vehicle_class
from mtgpt.ingest.rows.events import raw_json
from mtgpt.ingest.rows.instants import instant
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import MESSAGE, NUMBER_UNREADABLE, TIME_UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from mtgpt.ingest.feeds.datex2.options import Datex2Options
    from mtgpt.ingest.feeds.datex2.sites import SiteTable
    from mtgpt.ingest.guard.xml_stream import Node

DATA_ERROR = "data_error"
INPUTS_INCOMPLETE = "inputs_incomplete"

_MESSAGES: Mapping[str, str] = {
    DATA_ERROR: "the feed itself says that the value is faulty",
    INPUTS_INCOMPLETE: "half or more of the inputs behind the value are incomplete",
    NUMBER_UNREADABLE: "the value is no number",
    TIME_UNREADABLE: "the time of the measurement is missing or cannot be read",
}
# Element of the basic data → variable, element of the number, factor to the variable's unit.
_QUANTITIES: Mapping[str, tuple[str, str, float]] = {
    "vehicleFlow": ("flow", "vehicleFlowRate", 1.0),
    "averageVehicleSpeed": ("speed", "speed", 1.0),
    "occupancy": ("occupancy", "percentage", 0.01),
    "concentration": ("density", "concentrationOfVehicles", 1.0),
    "travelTime": ("travel_time", "duration", 1.0),
}
# Means over vehicles: without any there is nothing to measure.
_OF_VEHICLES = frozenset({"speed", "travel_time"})
_WRAPPERS = ("physicalQuantity", "measuredValue")
_SCHEMA = {
    "spot_id": pl.String,
    "variable": pl.String,
    "time_start": UTC_TIME,
    "interval_s": pl.Int32,
    "value": pl.Float64,
    "quality": pl.Float64,
    ROW: pl.UInt64,
    FAULT: pl.String,
    MESSAGE: pl.String,
    RAW: pl.String,
}
_MOST_TIMES = 10_000
_NO_SLOT = Slot(suffix="", lane=None, vehicle=ANY_VEHICLE, period_s=None)
_TRUE = frozenset({"true", "1"})


@dataclass(frozen=True, slots=True)
class _Time:
    start: datetime | None
    interval_s: int


class MeasuredRows:
    """Gathers the values of one site after another.

    Args:
        options: Of the source.
        sites: What the indexes mean, where the source has a site table.
        zone: For times without an offset.
    """

    def __init__(self, options: Datex2Options, sites: SiteTable, zone: ZoneInfo) -> None:
        self._options = options
        self._sites = sites
        self._zone = zone
        self._missing = frozenset(options.missing)
        self._times: dict[str, datetime | None] = {}
        self._defaults: dict[int | None, _Time] = {}
        self._row = 0
        self._rows: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def take(self) -> Chunk:
        """What was gathered, as a chunk."""
        rows, self._rows = self._rows, []
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row", strict=False)
        if frame[FAULT].null_count() == frame.height:
            frame = frame.drop(FAULT, MESSAGE, RAW)
        return Chunk(table="observation", frame=frame)

    def add(self, site: Node) -> None:
        """The values of a ``siteMeasurements``; those of variables that the lake does not have are passed over."""
        reference = site.first("measurementSiteReference")
        site_id = None if reference is None else reference.attributes.get("id") or reference.text or None
        layout = self._sites.layouts.get(site_id or "")
        default = site.first("measurementTimeDefault")
        self._defaults.clear()
        for outer in site.children:
            if outer.name not in _WRAPPERS:
                continue
            row, self._row = self._row, self._row + 1
            written = outer.attributes.get("index", "")
            index = int(written) if written.isdecimal() and len(written) < 10 else None
            if layout is not None and index in layout:
                slot = layout[index]
            else:
                slot = _NO_SLOT if index is None else Slot(suffix=f"/{index}", lane=None, vehicle="", period_s=None)
            inner = outer.first(outer.name) or outer
            broken = inner.first("physicalQuantityFault") is not None
            for data in inner.every("basicData"):
                self._read(data, site_id, slot, default, row=row, broken=broken)

    def _read(
        self, data: Node, site_id: str | None, slot: Slot, default: Node | None, *, row: int, broken: bool
    ) -> None:
        vehicle = slot.vehicle
        own = data.first("forVehiclesWithCharacteristicsOf")
        suffix = slot.suffix
        if own is not None:
            vehicle = vehicle_class(own)
            suffix += f"/{vehicle}" if vehicle not in {slot.vehicle, ANY_VEHICLE} else ""
        if vehicle not in {ANY_VEHICLE, ""} and self._options.vehicles == "any":
            return
        for node in data.children:
            known = _QUANTITIES.get(node.name)
            if known is None:
                continue
            variable, element, factor = known
            text = node.value(element)
            value, fault = self._value(node, text, variable, broken=broken)
            if value is None and fault is None:
                continue
            time = self._time(data.first("measurementOrCalculationTime"), default, slot.period_s)
            fault = fault or (TIME_UNREADABLE if time.start is None else None)
            share, incomplete = _quality(node)
            fault = fault or (INPUTS_INCOMPLETE if incomplete else None)
            raw = None
            if fault is not None:
                facts = {"site": site_id, "part": suffix, "element": node.name, "value": text}
                raw = raw_json(facts | dict(node.attributes))
            self._rows.append(
                (
                    None if site_id is None else site_id + suffix,
                    variable,
                    time.start,
                    time.interval_s,
                    None if value is None else value * factor,
                    share,
                    row,
                    fault,
                    None if fault is None else _MESSAGES[fault],
                    raw,
                )
            )

    def _value(self, node: Node, text: str | None, variable: str, *, broken: bool) -> tuple[float | None, str | None]:
        """The number and what is wrong with it; neither where nothing was measured."""
        if text is None:
            return None, None
        try:
            value = float(text)
        except ValueError:
            return None, NUMBER_UNREADABLE
        if value in self._missing:
            return None, None
        if broken or (node.value("dataError") or "").lower() in _TRUE:
            return (None, None) if self._options.data_errors == "skip" else (value, DATA_ERROR)
        if variable in _OF_VEHICLES and node.attributes.get("numberOfInputValuesUsed") == "0":
            return None, None
        return value, None

    def _time(self, own: Node | None, default: Node | None, period_s: int | None) -> _Time:
        """The time of a value: its own, or that of its site, which is worked out once."""
        if own is not None:
            return self._worked_out(own, period_s)
        if period_s not in self._defaults:
            self._defaults[period_s] = self._worked_out(default, period_s)
        return self._defaults[period_s]

    def _worked_out(self, node: Node | None, period_s: int | None) -> _Time:
        """When a measurement began and how long it took, floored to whole intervals."""
        interval_s = period_s or self._options.interval_s
        if node is None:
            return _Time(None, interval_s)
        begins = self._instant(node.value("period", "startOfPeriod"))
        ends = self._instant(node.value("period", "endOfPeriod"))
        if begins is not None and ends is not None and 1 <= (ends - begins).total_seconds() <= 86_400:
            interval_s = round((ends - begins).total_seconds())
        elif begins is None:
            # DATEX II 2 writes the time itself, 3 what it means beside it.
            moment = ends or self._instant(node.value("timeValue") or node.text)
            if moment is None:
                return _Time(None, interval_s)
            meaning = "endTime" if ends is not None else node.value("timeMeaning") or f"{self._options.time}Time"
            back = {"endTime": interval_s, "middleTime": interval_s / 2}.get(meaning, 0)
            begins = moment - timedelta(seconds=back)
        seconds = int(begins.timestamp())
        return _Time(begins - timedelta(seconds=seconds % interval_s, microseconds=begins.microsecond), interval_s)

    def _instant(self, text: str | None) -> datetime | None:
        if not text:
            return None
        if text not in self._times:
            if len(self._times) >= _MOST_TIMES:
                self._times.clear()
            self._times[text] = instant(text, self._zone)
        return self._times[text]


def _quality(node: Node) -> tuple[float | None, bool]:
    """Share of the inputs that are complete, and whether too few are."""
    incomplete, used = (
        int(text) if text.isdecimal() and len(text) < 10 else None
        for text in (node.attributes.get(name, "") for name in ("numberOfIncompleteInputs", "numberOfInputValuesUsed"))
    )
    if not incomplete:
        return (1.0 if incomplete == 0 else None), False
    share = (used or 0) / ((used or 0) + incomplete)
    return share, share <= 0.5
