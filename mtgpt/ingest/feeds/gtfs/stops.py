"""Stops and stations of a GTFS feed: rows of the table spot.

Entrances, nodes and boarding areas (location types 2 to 4) are no places where anything is measured. They are counted
in the attributes of the station or stop that they belong to; one that belongs to none goes to the quarantine. So every
row of ``stops.txt`` is found again: as a spot, in its station's counts, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.adapter import FAULT, ROW, Chunk
from mtgpt.ingest.feeds.gtfs.faults import (
    ID_MISSING,
    NUMBER_UNREADABLE,
    PLACE_MISSING,
    STATION_UNKNOWN,
    TEXT_UNREADABLE,
)
from mtgpt.ingest.feeds.gtfs.routes import NOT_UTF8, json_object
from mtgpt.ingest.feeds.gtfs.tables import finite
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import first_fault
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
    from mtgpt.ingest.feeds.gtfs.options import GtfsOptions
    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip

_STOPS, _GROUPS = "stops.txt", "location_group_stops.txt"
OUTSIDE = 0xFFFF_FFFF
"""Number that stands for every stop outside the wanted box."""

_PARTS = {"2": "entrances", "3": "nodes", "4": "boarding_areas"}
_WHEELCHAIR = {"1": "yes", "2": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """The stops of a feed.

    Attributes:
        rows: The spots among them, one row per row of the file: stop_id, stop (uint32 in order of the ids, equal for
            equal ids), lon, lat, kind, parent_station, the columns of the file, and ``__row``.
        numbers: stop_id → stop for every id that timetables may name; :data:`OUTSIDE` for those outside the box.
        parts: parent_station, location_type, count: what belongs to a spot without being one.
        parents: stop_id → parent_station of those parts.
        on_demand: stop_id of the stops that vehicles come to when called (GTFS-Flex).
    """

    rows: pl.DataFrame
    numbers: pl.DataFrame
    parts: pl.DataFrame
    parents: pl.DataFrame
    on_demand: pl.Series

    @property
    def places(self) -> pl.DataFrame:
        """stop, stop_id, lon, lat: one row per spot, in order."""
        return self.rows.unique("stop", keep="first").sort("stop").select("stop", "stop_id", "lon", "lat")


def read_stops(feed: GtfsZip, options: GtfsOptions, faults: GtfsFaults) -> Stops:
    """Reads ``stops.txt``, of which only what lies in the wanted box is kept.

    Raises:
        FeedError: A column is missing.
    """
    kept, numbers = [], []
    for piece in feed.pieces(_STOPS):
        typed = piece.with_columns(
            lon=finite("stop_lon"),
            lat=finite("stop_lat"),
            location_type=pl.col("location_type").fill_null("0"),
        ).with_columns(inside=options.holds(pl.col("lon"), pl.col("lat")) | pl.col("location_type").is_in(list(_PARTS)))
        numbers.append(typed.filter(pl.col("stop_id").is_not_null()).select("stop_id", "inside"))
        kept.append(typed.filter("inside"))
    rows = pl.concat(kept)
    known = pl.concat(numbers).unique("stop_id", keep="first").sort("stop_id")
    inside = known.filter("inside").select("stop_id").with_row_index("stop")
    outside = known.filter(~pl.col("inside")).select(pl.lit(OUTSIDE, dtype=pl.UInt32).alias("stop"), "stop_id")
    rows = _judged(rows, known, options, faults)
    is_part = pl.col("location_type").is_in(list(_PARTS))
    parts = rows.filter(is_part)
    return Stops(
        rows=rows.filter(~is_part)
        .join(inside, on="stop_id", how="left", maintain_order="left")
        .with_columns(kind=pl.when(pl.col("location_type") == "1").then(pl.lit("station")).otherwise(pl.lit("stop"))),
        numbers=pl.concat([inside, outside]),
        parts=parts.group_by("parent_station", "location_type").agg(pl.len().alias("count")),
        parents=parts.select("stop_id", "parent_station").unique("stop_id", keep="first"),
        on_demand=feed.table(_GROUPS)["stop_id"].drop_nulls().unique(),
    )


def _judged(rows: pl.DataFrame, known: pl.DataFrame, options: GtfsOptions, faults: GtfsFaults) -> pl.DataFrame:
    part = pl.col("location_type").is_in(list(_PARTS))
    number = pl.any_horizontal(
        pl.col(typed).is_null() & pl.col(text).is_not_null()
        for typed, text in (("lon", "stop_lon"), ("lat", "stop_lat"))
    )
    has_parent = pl.col("parent_station").is_in(known["stop_id"].implode()).fill_null(value=False)
    names = pl.concat_str("stop_id", "stop_name", ignore_nulls=True)
    fault = first_fault(
        (pl.col("stop_id").is_null(), ID_MISSING),
        (number | ~pl.col("location_type").is_in(["0", "1", *_PARTS]), NUMBER_UNREADABLE),
        (~part & (pl.col("lon").is_null() | pl.col("lat").is_null()), PLACE_MISSING),
        (part & ~has_parent, STATION_UNKNOWN),
        (names.str.contains(NOT_UTF8, literal=True), TEXT_UNREADABLE),
    )
    judged = rows.with_columns(fault)
    if options.bbox is not None:
        # Parts have no box of their own: those of stations outside are left out with their stations.
        near = rows.filter(~part)["stop_id"].implode()
        judged = judged.filter(~part | pl.col("parent_station").is_in(near).fill_null(value=False))
    faults.add(_STOPS, judged)
    return judged.filter(pl.col(FAULT).is_null()).drop(FAULT)


def spot_rows(stops: Stops, served: pl.DataFrame, *, mode: str, prefix: str, only_served: bool) -> Chunk:
    """A chunk of the table spot.

    Args:
        stops: The stops.
        served: stop, mode, line, lines (list): how each stop is served.
        mode: That of the spots that nothing serves: the feed's most frequent one.
        prefix: Goes before every id.
        only_served: Leave out what nothing serves (a filter took its trips).
    """
    by_id = served.join(stops.numbers, on="stop").select("stop_id", "mode", "line", "lines", "weight")
    children = (
        stops.rows.filter(pl.col("parent_station").is_not_null())
        .select("stop_id", "parent_station")
        .join(by_id, on="stop_id")
    )
    # A station is served like the most served of its platforms.
    stations = children.group_by(stop_id="parent_station").agg(
        pl.col("mode", "line").sort_by("weight", "line").last(), pl.col("lines").explode().unique().sort()
    )
    service = pl.concat([by_id.drop("weight"), stations.join(by_id, on="stop_id", how="anti")])
    rows = stops.rows.join(service, on="stop_id", how="left", maintain_order="left")
    if only_served:
        rows = rows.filter(pl.col("mode").is_not_null())
    for kind, name in _PARTS.items():
        counts = stops.parts.filter(pl.col("location_type") == kind).select(
            "parent_station", pl.col("count").alias(name)
        )
        rows = rows.join(counts, left_on="stop_id", right_on="parent_station", how="left", maintain_order="left")
    on_demand = pl.col("stop_id").is_in(stops.on_demand.implode())
    facts = {
        "line": pl.col("line"),
        "lines": pl.when(pl.col("lines").list.len() > 1).then(pl.col("lines").list.head(50)),
        "served": pl.when(pl.col("mode").is_null() & ~on_demand).then(pl.lit(value=False)),
        "on_demand": pl.when(on_demand).then(pl.lit(value=True)),
        "parent": pl.lit(prefix) + pl.col("parent_station"),
        "code": pl.col("stop_code"),
        "platform": pl.col("platform_code"),
        "zone": pl.col("zone_id"),
        "wheelchair": pl.col("wheelchair_boarding").replace_strict(_WHEELCHAIR, default=None, return_dtype=pl.String),
        "time_zone": pl.col("stop_timezone"),
        **{name: pl.col(name) for name in _PARTS.values()},
    }
    frame = rows.select(
        ROW,
        (pl.lit(prefix) + pl.col("stop_id")).alias("spot_id"),
        "kind",
        pl.col("mode").fill_null(mode),
        pl.col("stop_name").str.head(200).alias("name"),
        "lon",
        "lat",
        attributes=json_object(facts),
        valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME),
    )
    return Chunk(table="spot", frame=frame)
