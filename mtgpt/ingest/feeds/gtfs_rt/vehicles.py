"""Rows of the table vehicle from vehicle positions.

Source: GTFS Realtime Reference, messages VehiclePosition, Position and VehicleDescriptor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.ingest.adapter import FAULT, ROW, Chunk
from mtgpt.ingest.feeds.gtfs_rt.trips import text, trip_texts
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import TEXT_UNREADABLE, marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtgpt.ingest.feeds.gtfs_rt.report import Report

_STATUS = ("incoming", "stopped", "in_transit")
_SCHEMA = pl.Schema(
    {
        ROW: pl.UInt64(),
        "vehicle_id": pl.String(),
        "time": UTC_TIME,
        "trip_id": pl.String(),
        "route_id": pl.String(),
        "lon": pl.Float64(),
        "lat": pl.Float64(),
        "bearing_deg": pl.Float64(),
        "speed_m_s": pl.Float64(),
        "spot_id": pl.String(),
        "status": pl.String(),
        FAULT: pl.String(),
    }
)


def vehicle_row(position: int, entity: Any, report: Report) -> tuple[Any, ...]:
    """One row in the order of the columns.

    A vehicle without an id of its own is known by its label, its trip or, last, its entity. Where position, speed or
    bearing are what feeds write for unknown (0 / 0, or below zero), they are null; so is what is no number.

    Args:
        position: Of the entity in the message.
        entity: The entity.
        report: What the message says.
    """
    vehicle = entity.vehicle
    at = vehicle.position
    trip_id, route_id = trip_texts(vehicle.trip)
    named = (vehicle.vehicle.id, vehicle.vehicle.label, trip_id, entity.id, route_id, vehicle.stop_id)
    lon, lat = (_known(at.longitude), _known(at.latitude)) if vehicle.HasField("position") else (None, None)
    if not lon and not lat:
        lon = lat = None
    bearing = _known(at.bearing) if at.HasField("bearing") else None
    speed = _known(at.speed) if at.HasField("speed") else None
    bound = bool(vehicle.stop_id) or vehicle.HasField("current_stop_sequence")
    return (
        position,
        next((text(one) for one in named[:4] if one), None),
        report.near(vehicle.timestamp),
        text(trip_id),
        text(route_id),
        lon,
        lat,
        bearing if bearing is None or bearing >= 0 else None,
        speed if speed is None or speed >= 0 else None,
        f"{report.prefix}{text(vehicle.stop_id)}" if vehicle.stop_id else None,
        _STATUS[vehicle.current_status] if bound else None,
        TEXT_UNREADABLE if any(isinstance(one, bytes) for one in named) else None,
    )


def vehicles(rows: Sequence[tuple[Any, ...]]) -> Chunk:
    """A chunk of the table vehicle."""
    frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    return Chunk(table="vehicle", frame=marked(frame, frame.select("vehicle_id", "trip_id", "lon", "lat", "spot_id")))


def _known(value: float) -> float | None:
    # The wire carries float32: its shortest text is what the feed meant.
    return float(str(np.float32(value))) if math.isfinite(value) else None
