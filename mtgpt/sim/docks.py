"""What stands in the bike-share docks of the simulated city, as its trips leave it, published as GBFS.

Bikes leave and come with the published trips; a van moves some where a station runs empty or full.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.sim.network import place
from mtgpt.sim.sky import TIME_ZONE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from mtgpt.sim.bikes import Station

_VERSION = "2.3"
_TTL_S = 60
_SNAPSHOT = "%Y%m%dT%H%MZ"
_ELECTRIC = 0.38


@dataclass(frozen=True, slots=True, kw_only=True)
class Docks:
    """Stock of every station over time.

    Attributes:
        at_s: [events] Unix seconds, ascending; the stock holds from then on.
        bikes: int64 [events, stations].
        capacity: int64 [stations].
    """

    at_s: np.ndarray
    bikes: np.ndarray
    capacity: np.ndarray

    def at(self, moment: datetime) -> tuple[np.ndarray, int]:
        """Bikes per station at a moment, and when the last of them moved (Unix seconds)."""
        row = int(np.searchsorted(self.at_s, moment.timestamp(), side="right")) - 1
        return self.bikes[max(row, 0)], int(self.at_s[max(row, 0)])


def stock(stations: Sequence[Station], trips: pl.DataFrame) -> Docks:
    """Follows the trips, before the operator's export put faults into them.

    Args:
        stations: In order.
        trips: As :func:`mtgpt.sim.bikes.day_trips` makes them, all days.
    """
    index = {station.station_id: i for i, station in enumerate(stations)}
    capacity = np.array([18 + 4 * round(3 * (s.homes + s.jobs + s.fun) / 4) for s in stations])
    moves: list[tuple[int, int, int]] = []
    for time, place_id, step in (("started_at", "start_station_id", -1), ("ended_at", "end_station_id", 1)):
        at = (
            pl.col(time).str.to_datetime("%Y-%m-%d %H:%M:%S").dt.replace_time_zone(TIME_ZONE, ambiguous="earliest")
        ).dt.epoch("s")
        known = trips.filter(pl.col(place_id).is_not_null()).select(at.alias("at"), pl.col(place_id).alias("station"))
        moves += [(second, index[station], step) for second, station in known.iter_rows()]
    moves.sort()
    bikes = capacity * 55 // 100
    rows = np.empty((len(moves), len(stations)), dtype=np.int64)
    for row, (_, station, step) in enumerate(moves):
        bikes[station] += step
        if not 0 < bikes[station] < capacity[station]:
            # The van was there a moment before: half a station's worth, from or to the depot.
            bikes[station] = capacity[station] // 2
        rows[row] = bikes
    return Docks(at_s=np.array([second for second, _, _ in moves]), bikes=rows, capacity=capacity)


def write_gbfs(folder: Path, stations: Sequence[Station], docks: Docks, moments: Sequence[datetime]) -> None:
    """Station information once, station status at each moment, in GBFS 2.3.

    Reference: https://github.com/MobilityData/gbfs/blob/v2.3/gbfs.md
    """
    folder.mkdir(parents=True, exist_ok=True)
    information = [
        {
            "station_id": station.station_id,
            "name": station.name,
            "short_name": station.station_id[2:],
            "lat": round(place(station.x_m, station.y_m)[1], 5),
            "lon": round(place(station.x_m, station.y_m)[0], 5),
            "capacity": int(capacity),
            "is_charging_station": False,
            "rental_methods": ["key", "creditcard"],
        }
        for station, capacity in zip(stations, docks.capacity, strict=True)
    ]
    _write(folder / "station_information.json", moments[0], {"stations": information})
    system = {
        "system_id": "simulon_bikes",
        "language": "en",
        "name": "Simulon Bikes",
        "timezone": TIME_ZONE,
        "license_url": "https://www.apache.org/licenses/LICENSE-2.0",
    }
    _write(folder / "system_information.json", moments[0], system)
    for moment in moments:
        bikes, moved = docks.at(moment)
        status = [_status(i, station, docks, int(bikes[i]), moved) for i, station in enumerate(stations)]
        _write(folder / f"station_status_{moment.strftime(_SNAPSHOT)}.json", moment, {"stations": status})


def _status(number: int, station: Station, docks: Docks, bikes: int, moved: int) -> dict[str, Any]:
    # One dock is always out of order somewhere.
    broken = int((moved // 86_400 + number) % 5 == 0)
    electric = round(bikes * _ELECTRIC)
    return {
        "station_id": station.station_id,
        "num_bikes_available": bikes,
        "num_ebikes_available": electric,
        "vehicle_types_available": [
            {"vehicle_type_id": "classic_bike", "count": bikes - electric},
            {"vehicle_type_id": "electric_bike", "count": electric},
        ],
        "num_bikes_disabled": 0,
        "num_docks_available": max(int(docks.capacity[number]) - bikes - broken, 0),
        "num_docks_disabled": broken,
        "is_installed": True,
        "is_renting": True,
        "is_returning": True,
        "last_reported": moved - 7 * number,
    }


def _write(path: Path, moment: datetime, data: dict[str, Any]) -> None:
    document = {"last_updated": int(moment.timestamp()), "ttl": _TTL_S, "version": _VERSION, "data": data}
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
