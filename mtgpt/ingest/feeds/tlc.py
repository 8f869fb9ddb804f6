"""Trip records of New York's Taxi and Limousine Commission: green and yellow cabs.

Monthly csv, csv.gz or Parquet files with naive New York times and taxi zones for places. Every file holds a few trips
dated years away; they are quarantined. What says something of passengers or payment is never read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import shapely
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, ROW, Chunk, Roles
from mtgpt.ingest.guard.archive import open_guarded
from mtgpt.ingest.guard.table_file import choose_columns, read_table
from mtgpt.ingest.rows.journeys import PERIOD_PATTERN, Period, file_period, naive_times, outside
from mtgpt.ingest.rows.localtime import journey_to_utc
from mtgpt.ingest.rows.marks import (
    NUMBER_UNREADABLE,
    TIME_DOES_NOT_EXIST,
    TIME_UNREADABLE,
    ZONE_UNKNOWN,
    first_fault,
    marked,
)
from mtgpt.ingest.rows.places import spots
from mtgpt.ingest.rows.trip_key import trip_keys
from mtgpt.ingest.rows.units import MILE_M

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mtgpt.ingest.adapter import FeedContext, FeedFile

ZONES = "zones"
_LAST_ZONE = 263
# 264 is "unknown", 265 "outside of the city": codes for having no place.
_NO_PLACE = (264, 265)

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "start": ("lpep_pickup_datetime", "tpep_pickup_datetime"),
    "end": ("lpep_dropoff_datetime", "tpep_dropoff_datetime"),
    "from": ("PULocationID",),
    "to": ("DOLocationID",),
    "distance": ("trip_distance",),
    "vendor": ("VendorID",),
}


class TlcOptions(BaseModel):
    """Options of a ``tlc`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    period: str | None = Field(
        default=None, pattern=PERIOD_PATTERN, description="Month of the trips, YYYY-MM; from the file's name if absent."
    )


class TlcAdapter:
    """Reads ``tlc`` sources: trips between taxi zones, and the zones."""

    kind: str = "tlc"
    version: int = 1
    roles: Roles = Roles(optional=frozenset({ZONES}))
    Options: type[BaseModel] = TlcOptions

    def read(self, files: Mapping[str, FeedFile], options: TlcOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields trips in the order of the file, then the zones.

        Raises:
            FeedError: Columns are missing, or a file is empty, damaged or no such table.
        """
        file = files[DATA]
        period = file_period(file.name, options.period)

        def choose(names: Sequence[str]) -> dict[str, str]:
            return choose_columns(names, _COLUMNS, file=file.name, optional=("vendor",))

        for raw in read_table(file, choose):
            yield Chunk(table="trip", frame=_trips(raw, period, context, where=file.name))
        # Last, so that these trips are judged while the polygons are read. Beside the trips' reading it is slower: the
        # polygons are Python's work, and unpacking asks for the interpreter at every piece.
        yield zone_spots(files.get(ZONES))


def _trips(raw: pl.DataFrame, period: Period | None, context: FeedContext, *, where: str) -> pl.DataFrame:
    local = raw.select(
        ROW,
        naive_times(raw["start"], where=where).alias("start_time"),
        naive_times(raw["end"], where=where).alias("end_time"),
        pl.col("from").cast(pl.Int16, strict=False),
        pl.col("to").cast(pl.Int16, strict=False),
        pl.col("distance").cast(pl.Float64, strict=False),
        *([pl.col("vendor").cast(pl.Int16, strict=False)] if "vendor" in raw.columns else []),
    )
    unreadable = local.select(
        distance=pl.col("distance").is_null() & raw["distance"].is_not_null(),
        zone=_no_zone("from", raw["from"]) | _no_zone("to", raw["to"]),
    )
    fault = local.select(
        first_fault(
            (pl.col("start_time").is_null() | pl.col("end_time").is_null(), TIME_UNREADABLE),
            *outside("start_time", period),
            (pl.lit(unreadable["zone"]), ZONE_UNKNOWN),
            (pl.lit(unreadable["distance"]), NUMBER_UNREADABLE),
        )
    ).to_series()
    utc = journey_to_utc(local, "start_time", "end_time", context.time_zone)
    no_such_time = utc["start_time"].is_null() | utc["end_time"].is_null()
    done = utc.select(
        ROW,
        "start_time",
        "end_time",
        _zone_text("from").alias("from_spot"),
        _zone_text("to").alias("to_spot"),
        distance_m=pl.col("distance") * MILE_M,
        mode=pl.lit("taxi"),
        # Over local times: the same row gives the same key whatever becomes of the repeated hour.
        trip_key=trip_keys(local.drop(ROW), salt=context.salt, domain=TlcAdapter.kind),
        __fault=pl.coalesce(fault, pl.when(no_such_time).then(pl.lit(TIME_DOES_NOT_EXIST))),
    )
    return marked(done, raw.select("start", "end", "from", "to", "distance"))


def _no_zone(column: str, raw: pl.Series) -> pl.Expr:
    zone = pl.col(column)
    return (zone.is_null() & raw.is_not_null()) | ~zone.is_between(1, _NO_PLACE[-1]).fill_null(value=True)


def _zone_text(column: str) -> pl.Expr:
    zone = pl.col(column)
    return pl.when(zone <= _LAST_ZONE).then(zone).cast(pl.String)


def zone_spots(file: FeedFile | None) -> Chunk:
    """The 263 taxi zones, with names and central points where their polygons are given.

    Args:
        file: GeoJSON of the zones (properties LocationID, zone, borough), or None.

    Raises:
        FeedError: Not such a GeoJSON.
    """
    features = () if file is None else _features(file.path, file.name, file.sha256)
    facts = {feature.zone: feature for feature in features}
    ids = range(1, _LAST_ZONE + 1)
    lon, lat = (
        np.array([getattr(facts[zone], axis) if zone in facts else np.nan for zone in ids]) for axis in ("lon", "lat")
    )
    return spots(
        [str(zone) for zone in ids],
        kind="zone",
        mode="taxi",
        lon=lon,
        lat=lat,
        name=pl.Series([facts[zone].name if zone in facts else None for zone in ids], dtype=pl.String),
        attributes=[{"borough": facts[zone].borough} if zone in facts else None for zone in ids],
    )


@dataclass(frozen=True, slots=True)
class _Zone:
    zone: int
    name: str
    borough: str
    lon: float
    lat: float


# Every month of an ingest brings the same polygons, and reading them takes as long as a small month of trips.
@lru_cache(maxsize=2)
def _features(path: Path, name: str, sha256: str) -> tuple[_Zone, ...]:  # noqa: ARG001 - the hash is the cache's key
    parts: dict[int, list[Any]] = {}
    facts: dict[int, Mapping[str, Any]] = {}
    try:
        with open_guarded(path, name) as stream:
            features = json.load(stream)["features"]
        for feature in features:
            zone = int(feature["properties"]["LocationID"])
            facts[zone] = feature["properties"]
            # A zone of several islands is several features.
            parts.setdefault(zone, []).extend(_polygons(feature["geometry"]))
    except (ValueError, KeyError, TypeError, shapely.errors.ShapelyError) as error:
        raise FeedError(
            "not a GeoJSON of taxi zones",
            where=name,
            got=f"{type(error).__name__}: {error}",
            expected="features with LocationID, zone, borough and polygons",
        ) from None
    centres = {zone: shapely.centroid(shapely.MultiPolygon(polygons)) for zone, polygons in parts.items()}
    return tuple(
        _Zone(zone, str(facts[zone].get("zone")), str(facts[zone].get("borough")), centre.x, centre.y)
        for zone, centre in centres.items()
    )


def _polygons(geometry: Mapping[str, Any]) -> list[Any]:
    # The published file writes coordinates as texts.
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [shapely.Polygon(*_rings(rings)) for rings in parts]


def _rings(rings: list[Any]) -> tuple[Any, list[Any]]:
    first, *holes = (np.asarray(ring, dtype=np.float64) for ring in rings)
    return first, holes
