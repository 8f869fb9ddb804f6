"""CHARGED: hourly electric-vehicle charging per station in six cities, as its publisher lays it out.

``volume.csv`` (kWh in the hour), ``duration.csv`` (hours of charging in the hour, plugs together), ``e_price.csv``
(local currency per kWh), ``stations.csv``, ``distance.csv`` (km) and ``weather.csv`` (Visual Crossing's metric units:
°C, mm, km/h, %). Times are local; an idle hour is a zero, and a measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, Chunk, Roles
from mtgpt.ingest.feeds.matrix.grid_clock import ClockOptions, read_clock
from mtgpt.ingest.feeds.matrix.grid_file import read_csv_grid
from mtgpt.ingest.feeds.matrix.grid_links import nearest_links, read_pairs
from mtgpt.ingest.feeds.matrix.long_rows import LongRows
from mtgpt.ingest.feeds.weather.table import WeatherTableOptions, weather
from mtgpt.ingest.guard.table_file import read_table
from mtgpt.ingest.rows.places import spots
from mtgpt.ingest.rows.units import to_variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mtgpt.ingest.adapter import FeedContext, FeedFile

DURATION, PRICE, STATIONS, DISTANCE, WEATHER = "duration", "price", "stations", "distance", "weather"
_INTERVAL_S = 3600
_VARIABLES: Mapping[str, str] = {DATA: "energy", DURATION: "charging_time", PRICE: "price"}
_WEATHER = WeatherTableOptions(
    columns={"temperature_c": "temp", "rain_mm": "precip", "wind_m_s": "windspeed", "humidity": "humidity"},
    units={"wind_m_s": "km/h", "humidity": "%"},
)
_STATION_COLUMNS = {
    "station_id": "id",
    "longitude": "lon",
    "latitude": "lat",
    "pile_num": "plugs",
    "avg_power": "power_kw",
}


class ChargedOptions(BaseModel):
    """Options of a ``charged`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    nearest: int = Field(default=5, ge=0, description="Link each station to so many nearest ones.")


class ChargedAdapter:
    """Reads ``charged`` sources; ``data`` is ``volume.csv``."""

    kind: str = "charged"
    version: int = 1
    roles: Roles = Roles(required=frozenset({DATA, STATIONS}), optional=frozenset({DURATION, PRICE, DISTANCE, WEATHER}))
    Options: type[BaseModel] = ChargedOptions

    def read(self, files: Mapping[str, FeedFile], options: ChargedOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields stations, links, observations variable by variable, then the weather.

        Raises:
            FeedError: A file is damaged, or its stations are not those of ``stations.csv``.
        """
        stations = _stations(files[STATIONS])
        ids = stations["id"].to_list()
        yield spots(
            ids,
            kind="charger",
            mode="ev",
            lon=stations["lon"],
            lat=stations["lat"],
            capacity=stations["plugs"],
            attributes=[{"power_kw": round(power, 3)} if power is not None else None for power in stations["power_kw"]],
        )
        if DISTANCE in files and options.nearest:
            metres = read_pairs(files[DISTANCE], ids).scaled(1000.0)
            yield nearest_links(metres, ids, kind="proximity", count=options.nearest)
        for role, variable in _VARIABLES.items():
            if role in files:
                yield from _series(files[role], variable, set(ids), context.time_zone)
        if WEATHER in files:
            # The weather of the city, not of a station: one place in its middle.
            middle = stations.select(pl.col("lon", "lat").mean().round(3)).row(0, named=True)
            yield weather(files[WEATHER], _WEATHER.model_copy(update=middle), zone=context.time_zone)


def _series(file: FeedFile, variable: str, known: set[str], zone: str) -> Iterator[Chunk]:
    # The column of times is called "time" in some of the files and has no name in the others.
    grid = read_csv_grid(file, header=True, time=("", "time"))
    ids = grid.ids or []
    if set(ids) != known or len(ids) != len(known):
        odd = sorted(set(ids) ^ known)[:5]
        raise FeedError(
            "its stations are not those of the station list",
            where=file.name,
            got=f"{len(ids)} stations, different: {', '.join(odd)}",
            expected=f"{len(known)} stations",
        )
    if grid.times is None:
        raise FeedError("has no times", where=file.name)
    clock = read_clock(grid.times, ClockOptions(interval_s=_INTERVAL_S), zone=zone, where=file.name)
    yield from LongRows(ids).chunks(
        grid.values,
        clock,
        variable=variable,
        conversion=to_variable(variable, None, interval_s=_INTERVAL_S, where=file.name),
        unreadable=grid.unreadable,
    )


def _stations(file: FeedFile) -> pl.DataFrame:
    def choose(names: Sequence[str]) -> Mapping[str, str]:
        missing = sorted(_STATION_COLUMNS.keys() - set(names))
        if missing:
            raise FeedError("columns are missing", where=file.name, got=", ".join(names), expected=", ".join(missing))
        return _STATION_COLUMNS

    numbers = [name for name in _STATION_COLUMNS.values() if name != "id"]
    stations = pl.concat(read_table(file, choose))
    unnamed = stations["id"].is_null().arg_true()
    if len(unnamed) or stations["id"].is_duplicated().any():
        raise FeedError(
            "a station without an id" if len(unnamed) else "a station stands twice",
            where=file.name,
            got=f"line {unnamed[0] + 2}" if len(unnamed) else stations["id"].filter(stations["id"].is_duplicated())[0],
        )
    return stations.with_columns(pl.col(numbers).cast(pl.Float64, strict=False))
