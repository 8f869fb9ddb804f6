"""Files of GBFS 2.3 and 3.0, written after the specification."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

UPDATED = 1_767_596_520
"""2026-01-05 07:02:00 UTC."""


def write(folder: Path, name: str, data: object, *, updated: object = UPDATED, version: str = "2.3") -> Path:
    """One file of a system."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"last_updated": updated, "ttl": 60, "version": version, "data": data}))
    return path


def information(station_id: str = "s1", **facts: Any) -> dict[str, Any]:
    """A station of ``station_information``."""
    return {
        "station_id": station_id, "name": f"Dock {station_id}", "lat": 48.2, "lon": 16.37, "capacity": 20,
        "region_id": "r1",
    } | facts  # fmt: skip


def status(station_id: str = "s1", **facts: Any) -> dict[str, Any]:
    """A station of ``station_status``."""
    return {
        "station_id": station_id, "num_bikes_available": 5, "num_docks_available": 15, "is_installed": True,
        "is_renting": True, "is_returning": True, "last_reported": UPDATED - 60,
    } | facts  # fmt: skip


def vehicle(vehicle_id: str = "v1", **facts: Any) -> dict[str, Any]:
    """A vehicle of ``free_bike_status``."""
    return {
        "bike_id": vehicle_id, "lat": 48.2, "lon": 16.37, "is_reserved": False, "is_disabled": False,
        "vehicle_type_id": "t1",
    } | facts  # fmt: skip
