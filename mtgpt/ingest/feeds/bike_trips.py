"""Station-to-station bike trips in the two schemas of Citi Bike (and of the other systems of its operator).

Up to January 2021 a row had 15 columns, with the rider's birth year and gender; since then 13, with a ride id. Neither
the rider's columns nor the membership is ever read. Between the two the stations got other ids (3183 became JC105)
but kept their names, so by default a station is known by its name and stays one spot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.ingest.adapter import DATA, ROW, Chunk, Roles
from mtgpt.ingest.guard.table_file import choose_columns, read_table
from mtgpt.ingest.rows.journeys import PERIOD_PATTERN, Period, file_period, naive_times, outside
from mtgpt.ingest.rows.localtime import journey_to_utc
from mtgpt.ingest.rows.marks import (
    NUMBER_UNREADABLE,
    TEXT_UNREADABLE,
    TIME_DOES_NOT_EXIST,
    TIME_UNREADABLE,
    first_fault,
    marked,
)
from mtgpt.ingest.rows.places import spots
from mtgpt.ingest.rows.trip_key import trip_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mtgpt.ingest.adapter import FeedContext, FeedFile

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "ride": ("ride_id",),
    "bike": ("bikeid", "bike id"),
    "start": ("started_at", "starttime", "start time"),
    "end": ("ended_at", "stoptime", "stop time"),
    "from_id": ("start_station_id", "start station id"),
    "from_name": ("start_station_name", "start station name"),
    "from_lon": ("start_lng", "start station longitude"),
    "from_lat": ("start_lat", "start station latitude"),
    "to_id": ("end_station_id", "end station id"),
    "to_name": ("end_station_name", "end station name"),
    "to_lon": ("end_lng", "end station longitude"),
    "to_lat": ("end_lat", "end station latitude"),
}
_SHOWN = [name for name in _COLUMNS if name not in {"ride", "bike"}]
_PLACES = [f"{end}_{axis}" for end in ("from", "to") for axis in ("lon", "lat")]
_NAMES = [f"{end}_{fact}" for end in ("from", "to") for fact in ("id", "name")]
_DECIMALS = 3
# What stands in the place of bytes that are not UTF-8.
_REPLACEMENT = "\ufffd"


class BikeTripsOptions(BaseModel):
    """Options of a ``bike_trips`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    period: str | None = Field(
        default=None, pattern=PERIOD_PATTERN, description="Month of the trips, YYYY-MM; from the file's name if absent."
    )
    station: Literal["name", "id"] = Field(
        default="name",
        description="What makes a station one spot: its name (survives new ids), or its id (survives renaming).",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict, description="Station name or id of the feed → the one that it is to be known by."
    )


class BikeTripsAdapter:
    """Reads ``bike_trips`` sources: trips, and the stations they touch."""

    kind: str = "bike_trips"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = BikeTripsOptions

    def read(self, files: Mapping[str, FeedFile], options: BikeTripsOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields trips in the order of the file, then the stations.

        Raises:
            FeedError: Columns are missing, or the file is empty, damaged or no such table.
        """
        file = files[DATA]
        period = file_period(file.name, options.period)

        def choose(names: Sequence[str]) -> dict[str, str]:
            # A ride has an id of its own in one schema and its bike's in the other.
            return choose_columns(names, _COLUMNS, file=file.name, optional=("ride", "bike"))

        seen: list[pl.DataFrame] = []
        for raw in read_table(file, choose):
            trips = _typed(raw, options, where=file.name)
            fault = _faults(trips, raw, period)
            # A line that is no trip, such as a header in the middle, names no station either.
            seen.append(_stations(trips.filter(fault.is_null())))
            yield Chunk(table="trip", frame=_trips(trips, raw, fault, context))
        yield _spots(pl.concat(seen))


def _typed(raw: pl.DataFrame, options: BikeTripsOptions, *, where: str) -> pl.DataFrame:
    columns = [ROW, *(name for name in ("ride", "bike") if name in raw.columns)]
    return raw.select(
        *columns,
        naive_times(raw["start"], where=where).alias("start_time"),
        naive_times(raw["end"], where=where).alias("end_time"),
        *(_station(end, options).alias(f"{end}_spot") for end in ("from", "to")),
        *(pl.col(f"{end}_{fact}").cast(pl.String) for end in ("from", "to") for fact in ("id", "name")),
        *(pl.col(place).cast(pl.Float64, strict=False) for place in _PLACES),
    )


def _station(end: str, options: BikeTripsOptions) -> pl.Expr:
    text = pl.col(f"{end}_{options.station}").cast(pl.String).str.strip_chars()
    if options.aliases:
        text = text.replace(options.aliases)
    if options.station == "name":
        # "5 Corners Library" → "5-corners-library": spelling changes between releases, the letters stay.
        text = text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "-").str.strip_chars("-")
    return pl.when(text.str.len_bytes() > 0).then(text)


def _faults(trips: pl.DataFrame, raw: pl.DataFrame, period: Period | None) -> pl.Series:
    unreadable = pl.select(
        pl.any_horizontal(trips[place].is_null() & raw[place].is_not_null() for place in _PLACES)
    ).to_series()
    return trips.select(
        first_fault(
            (pl.col("start_time").is_null() | pl.col("end_time").is_null(), TIME_UNREADABLE),
            *outside("start_time", period),
            (pl.lit(unreadable), NUMBER_UNREADABLE),
            (pl.any_horizontal(pl.col(_NAMES).str.contains(_REPLACEMENT, literal=True)), TEXT_UNREADABLE),
        )
    ).to_series()


def _trips(trips: pl.DataFrame, raw: pl.DataFrame, fault: pl.Series, context: FeedContext) -> pl.DataFrame:
    facts = ["ride"] if "ride" in trips.columns else ["start_time", "end_time", "from_id", "to_id"]
    facts += ["bike"] if "bike" in trips.columns else []
    utc = journey_to_utc(trips, "start_time", "end_time", context.time_zone)
    no_such_time = utc["start_time"].is_null() | utc["end_time"].is_null()
    done = utc.select(
        ROW,
        "start_time",
        "end_time",
        "from_spot",
        "to_spot",
        # Where a station is named, its place is the station's; a bike left in the street gets its neighbourhood only.
        *(
            pl.when(pl.col(f"{place.split('_')[0]}_spot").is_null()).then(pl.col(place).round(_DECIMALS)).alias(place)
            for place in _PLACES
        ),
        mode=pl.lit("bike"),
        trip_key=trip_keys(trips.select(facts), salt=context.salt, domain=BikeTripsAdapter.kind),
        __fault=pl.coalesce(fault, pl.when(no_such_time).then(pl.lit(TIME_DOES_NOT_EXIST))),
    )
    rounded = pl.col(_PLACES).cast(pl.Float64, strict=False).round(_DECIMALS)
    return marked(done, raw.with_columns(rounded).select(_SHOWN))


def _stations(trips: pl.DataFrame) -> pl.DataFrame:
    ends = [
        trips.select(spot_id=f"{end}_spot", name=f"{end}_name", feed_id=f"{end}_id", lon=f"{end}_lon", lat=f"{end}_lat")
        for end in ("from", "to")
    ]
    return (
        pl.concat(ends)
        .filter(pl.col("spot_id").is_not_null())
        # Newer files give where the bike stood, a few metres around the station: the median is the station.
        .group_by("spot_id")
        .agg(
            pl.col("name", "feed_id").str.strip_chars().drop_nulls().mode().sort().first(),
            pl.col("lon", "lat").median(),
            trips=pl.len(),
        )
    )


def _spots(seen: pl.DataFrame) -> Chunk:
    busiest_first = seen.sort("trips", "spot_id", descending=[True, False])
    stations = busiest_first.unique("spot_id", keep="first").sort("spot_id")
    return spots(
        stations["spot_id"],
        kind="dock",
        mode="bike",
        name=stations["name"],
        lon=stations["lon"].round(4),
        lat=stations["lat"].round(4),
        attributes=[{"feed_id": feed_id} if feed_id else None for feed_id in stations["feed_id"]],
    )
