"""Vehicles without a dock, counted per cell of a grid.

An operator's vehicle ids let a rider be followed from door to door where they do not change, so neither they nor exact
places leave this module: what the lake gets is how many vehicles can be rented in a cell of about 500 m.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.adapter import FAULT, RAW, ROW, Chunk
from mtgpt.ingest.feeds.gbfs.document import flag, identifier, number
from mtgpt.ingest.feeds.gbfs.stations import ITEM_UNREADABLE
from mtgpt.ingest.rows.events import raw_json
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import MESSAGE
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

PLACE_UNREADABLE = "place_unreadable"
_METRES_PER_DEGREE = 111_320.0
_MODES: Mapping[str, str] = {
    "bicycle": "bike",
    "cargo_bicycle": "bike",
    "scooter": "scooter",
    "scooter_standing": "scooter",
    "scooter_seated": "scooter",
    "moped": "scooter",
    "car": "road",
}
_MESSAGES: Mapping[str, str] = {
    PLACE_UNREADABLE: "the place of the vehicle is missing or not in degrees",
    ITEM_UNREADABLE: "no JSON object",
}
_SCHEMA = {
    "spot_id": pl.String,
    "variable": pl.String,
    "time_start": UTC_TIME,
    "interval_s": pl.Int32,
    "value": pl.Float64,
    ROW: pl.UInt64,
    FAULT: pl.String,
    MESSAGE: pl.String,
    RAW: pl.String,
}


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """A cell of a fixed grid over the whole earth: rows of equal latitude, columns as wide as rows are high.

    Attributes:
        mode: Mode of the vehicles.
        size_m: Side.
        row: From the equator north.
        column: From Greenwich east.
    """

    mode: str
    size_m: int
    row: int
    column: int

    @classmethod
    def at(cls, mode: str, lon: float, lat: float, size_m: int) -> Cell:
        """The cell that a place lies in."""
        row = math.floor(lat * _METRES_PER_DEGREE / size_m)
        return cls(mode, size_m, row, math.floor(lon / _width(row, size_m)))

    @property
    def spot_id(self) -> str:
        """The same for the same place for ever, whatever else is in the feed."""
        return f"{self.mode}:{self.size_m}m:{self.row}:{self.column}"

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude, latitude."""
        lat = (self.row + 0.5) * self.size_m / _METRES_PER_DEGREE
        return round((self.column + 0.5) * _width(self.row, self.size_m), 6), round(lat, 6)


def vehicle_cells(
    vehicles: Sequence[Any],
    *,
    start: datetime | None,
    interval_s: int,
    size_m: int,
    modes: Mapping[str, str],
    default_mode: str,
    stations: Iterable[tuple[float, float]],
) -> Iterator[Chunk]:
    """Cells (table spot) and how many vehicles can be rented in each (table observation).

    Vehicles at a station are the station's; those that are reserved or out of order cannot be rented. Cells that hold a
    station belong to the system, so without a vehicle they are zero; other empty cells have no row.

    Args:
        vehicles: As in ``free_bike_status`` or ``vehicle_status``.
        start: Of the interval.
        interval_s: Its length.
        size_m: Side of a cell.
        modes: By ``vehicle_type_id``.
        default_mode: Of vehicles whose type is not known.
        stations: Longitude, latitude.
    """
    cells = Counter[Cell]({Cell.at(default_mode, lon, lat, size_m): 0 for lon, lat in stations})
    seen: set[str] = set()
    rows: list[tuple[Any, ...]] = []
    for row, given in enumerate(vehicles):
        vehicle = given if isinstance(given, dict) else {}
        vehicle_id = identifier(vehicle.get("vehicle_id", vehicle.get("bike_id")))
        fault = _fault(given, vehicle)
        if fault is not None:
            shown = {key: vehicle[key] for key in ("lon", "lat", "vehicle_type_id") if key in vehicle}
            marks = (row, fault, _MESSAGES[fault], raw_json(shown))
            rows.append((None, "vehicles_available", start, interval_s, None, *marks))
        elif _rentable(vehicle) and (vehicle_id is None or vehicle_id not in seen):
            mode = modes.get(str(vehicle.get("vehicle_type_id")), default_mode)
            cells[Cell.at(mode, float(vehicle["lon"]), float(vehicle["lat"]), size_m)] += 1
        if vehicle_id is not None:
            seen.add(vehicle_id)
    ordered = sorted(cells)
    if ordered:
        yield Chunk(table="spot", frame=_spots(ordered))
    rows += [
        (cell.spot_id, "vehicles_available", start, interval_s, cells[cell], None, None, None, None) for cell in ordered
    ]
    if rows:
        yield Chunk(table="observation", frame=pl.DataFrame(rows, schema=_SCHEMA, orient="row", strict=False))


def mode_of(form_factor: Any, default: str) -> str:
    """The lake's mode of a ``form_factor``."""
    return _MODES.get(str(form_factor), default)


def _spots(cells: Sequence[Cell]) -> pl.DataFrame:
    centres = [cell.centre for cell in cells]
    return pl.DataFrame(
        {
            "spot_id": [cell.spot_id for cell in cells],
            "mode": [cell.mode for cell in cells],
            "lon": [lon for lon, _ in centres],
            "lat": [lat for _, lat in centres],
            "attributes": [f'{{"cell_m": {cell.size_m}}}' for cell in cells],
        }
    ).with_columns(kind=pl.lit("cell"), valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME))


def _fault(given: Any, vehicle: Mapping[str, Any]) -> str | None:
    if not isinstance(given, dict):
        return ITEM_UNREADABLE
    if _docked(vehicle):
        return None
    lon, lat = number(vehicle.get("lon")), number(vehicle.get("lat"))
    if lon is None or lat is None or not (abs(lon) <= 180 and abs(lat) <= 85) or lon == lat == 0:
        return PLACE_UNREADABLE
    return None


def _docked(vehicle: Mapping[str, Any]) -> bool:
    return identifier(vehicle.get("station_id")) is not None


def _rentable(vehicle: Mapping[str, Any]) -> bool:
    reserved = flag(vehicle.get("is_reserved"), default=False)
    return not (_docked(vehicle) or reserved or flag(vehicle.get("is_disabled"), default=False))


def _width(row: int, size_m: int) -> float:
    """Degrees of longitude of a cell in a row; whole numbers of them go round the earth."""
    lat = (row + 0.5) * size_m / _METRES_PER_DEGREE
    around = 360 * _METRES_PER_DEGREE * math.cos(math.radians(lat)) / size_m
    return 360 / max(1, round(around))
