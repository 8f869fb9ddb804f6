"""Trips of a GTFS feed that run in the wanted period on wanted routes, and how often those with headways run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.adapter import FAULT, ROW
from mtgpt.ingest.feeds.gtfs.faults import (
    HEADWAY_UNREADABLE,
    ID_MISSING,
    ID_REPEATED,
    ROUTE_UNKNOWN,
    SERVICE_UNKNOWN,
    TIME_UNREADABLE,
    TRIP_UNKNOWN,
)
from mtgpt.ingest.feeds.gtfs.time import seconds_of_day
from mtgpt.ingest.rows.marks import first_fault

if TYPE_CHECKING:
    from mtgpt.ingest.feeds.gtfs.calendar import Calendar
    from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip

_TRIPS, _FREQUENCIES = "trips.txt", "frequencies.txt"
DIRECTIONS = ("-", "0", "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trips:
    """The wanted trips.

    Attributes:
        rows: trip_id, trip (uint32), route (uint32), service (uint32), days (on how many it runs), direction (uint8,
            index of :data:`DIRECTIONS`). ``trip`` is the position of a row.
        others: Hashes of the ids of the trips that are not wanted or were refused; what stop_times.txt says of them is
            left out without a word.
    """

    rows: pl.DataFrame
    others: pl.Series


def read_trips(feed: GtfsZip, routes: pl.DataFrame, calendar: Calendar, faults: GtfsFaults) -> Trips:
    """Reads ``trips.txt``, of which only what is wanted is kept.

    Args:
        feed: The feed.
        routes: route_id, route, wanted.
        calendar: Which services run.
        faults: Where faulty rows go.

    Raises:
        FeedError: A column is missing.
    """
    of_route = routes.select("route_id", "route", "wanted").unique("route_id", keep="first")
    kept, others = [], [pl.Series("trip_id", [], dtype=pl.UInt64)]
    for piece in feed.pieces(_TRIPS):
        joined = (
            piece.join(of_route, on="route_id", how="left", maintain_order="left")
            .join(calendar.services, on="service_id", how="left", maintain_order="left")
            .with_columns(
                first_fault(
                    (pl.col("trip_id").is_null(), ID_MISSING),
                    (pl.col("route").is_null(), ROUTE_UNKNOWN),
                    (pl.col("service").is_null(), SERVICE_UNKNOWN),
                )
            )
        )
        faults.add(_TRIPS, joined)
        keep = pl.col(FAULT).is_null() & pl.col("wanted") & (pl.col("days") > 0)
        marked = joined.with_columns(keep=keep.fill_null(value=False))
        others.append(marked.filter(~pl.col("keep"))["trip_id"].hash())
        direction = pl.col("direction_id").replace_strict({"0": 1, "1": 2}, default=0, return_dtype=pl.UInt8)
        kept.append(
            marked.filter("keep").select(
                "trip_id", "route", "service", pl.col("days").cast(pl.Float64), direction.alias("direction"), ROW
            )
        )
    rows = pl.concat(kept)
    repeated = rows["trip_id"].is_duplicated()
    if repeated.any():
        first = rows["trip_id"].is_first_distinct()
        faults.add(_TRIPS, rows.filter(~first).select(ROW, pl.lit(ID_REPEATED).alias(FAULT)))
        rows = rows.filter(first)
    return Trips(rows=rows.drop(ROW).with_row_index("trip"), others=pl.concat(others))


def read_frequencies(feed: GtfsZip, trips: Trips, faults: GtfsFaults) -> pl.DataFrame:
    """The windows in which trips run at a headway instead of at their own times.

    Both kinds of ``exact_times`` are counted alike: departures at the start and then every headway until before the
    end. Where they are not exact that is how many there are, not when.

    Returns:
        trip, start, end, headway (int64, seconds), runs (how many).
    """
    rows = feed.table(_FREQUENCIES)
    rows = rows.with_columns(
        start=seconds_of_day(rows["start_time"]).cast(pl.Int64),
        end=seconds_of_day(rows["end_time"]).cast(pl.Int64),
        headway=pl.col("headway_secs").cast(pl.Int64, strict=False),
    ).join(trips.rows.select("trip_id", "trip"), on="trip_id", how="left", maintain_order="left")
    other = pl.col("trip_id").hash().is_in(trips.others.implode())
    window = (pl.col("end") > pl.col("start")) & (pl.col("headway") > 0)
    sound = faults.sound(
        _FREQUENCIES,
        rows,
        (pl.col("trip_id").is_null() | (pl.col("trip").is_null() & ~other), TRIP_UNKNOWN),
        (pl.col("start").is_null() | pl.col("end").is_null(), TIME_UNREADABLE),
        (~window.fill_null(value=False), HEADWAY_UNREADABLE),
    )
    runs = -(-(pl.col("end") - pl.col("start")) // pl.col("headway"))
    return sound.filter(pl.col("trip").is_not_null()).select("trip", "start", "end", "headway", runs=runs)
