"""Rows of the table stop_visit from trip updates, with or without the timetable that they refer to.

What the specification leaves to the reader, and how it is read here:

* a delay holds for the later stops of the trip until the next update says otherwise, across skipped stops; ``NO_DATA``
  ends it. Later stops that the feed leaves out get rows of their own where the timetable knows them;
* a delay of the whole trip holds where no stop is listed, for the stops still ahead;
* a skipped or canceled stop, and one without data, has its planned time, or else the start of the service day: a time
  that does not move from report to report;
* without ``start_date``, the service day is the one on which the timetable comes nearest to the first reported time,
  or else that time's local date, the hours before three counted to the day before.

Source: GTFS Realtime Reference, "Trip updates" and messages TripUpdate, StopTimeUpdate.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.adapter import ROW
from mtgpt.ingest.feeds.gtfs_rt.plan import against
from mtgpt.ingest.feeds.gtfs_rt.trips import (
    ADDED,
    CANCELED,
    DELETED,
    DUPLICATED,
    NEW,
    NO_DATA,
    SKIPPED,
    STOP_UNSCHEDULED,
    UNSCHEDULED,
)
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import (
    TEXT_UNREADABLE,
    TIME_FAR_FROM_REPORT,
    TIME_UNKNOWN,
    TIME_UNREADABLE,
    first_fault,
    marked,
)

if TYPE_CHECKING:
    from mtgpt.ingest.feeds.gtfs_rt.report import Report

_FAR = timedelta(days=2)
_NIGHT = timedelta(hours=3)
_OF_STOPS = ("spot_id", "stop_id", "stop_sequence", "relation", "time", "delay", "planned_time", "unreadable")
_RAW = ("trip_id", "start_date", "start_time", "stop_sequence", "stop_id", "relation", "time", "delay")


def stop_visits(trips: pl.DataFrame, stops: pl.DataFrame, report: Report) -> pl.DataFrame:
    """Rows of stop_visit, faulty ones marked.

    Args:
        trips: From :meth:`~mtgpt.ingest.feeds.gtfs_rt.trips.TripRows.trips`.
        stops: From :meth:`~mtgpt.ingest.feeds.gtfs_rt.trips.TripRows.stops`.
        report: What they share.
    """
    trips = _reported(trips.with_row_index("trip"), report)
    stops = _visits(stops)
    trips = _dated(trips, stops, report)
    if report.timetable is None:
        trips = trips.with_columns(planned_route=pl.lit(None, pl.String), planned_direction=pl.lit(None, pl.String))
        stops = stops.with_columns(planned_time=pl.coalesce("departure_planned", "arrival_planned"))
    else:
        trips, stops = against(report.timetable, trips, stops, report)
    return _rows(trips, stops, report)


def _reported(trips: pl.DataFrame, report: Report) -> pl.DataFrame:
    made = report.stamp
    near = (pl.col("timestamp") - made).abs() <= 86_400
    service_date = pl.col("start_date").str.to_date("%Y%m%d", strict=False)
    # A trip that runs at intervals is told from its like by when it starts.
    frequent = (pl.col("relation") == UNSCHEDULED) & pl.col("start_time").is_not_null()
    nameless = pl.concat_str("route_id", pl.col("direction").fill_null("-"), "start_time", separator=":")
    return trips.with_columns(
        reported=pl.when(near).then("timestamp").otherwise(made),
        service_date=pl.when(pl.col("start_date").str.len_bytes() == 8).then(service_date),
        label=pl.when(frequent)
        .then(pl.concat_str("trip_id", "start_time", separator="@"))
        .otherwise(pl.coalesce("trip_id", nameless)),
    )


def _visits(stops: pl.DataFrame) -> pl.DataFrame:
    departs = pl.col("departure_time").is_not_null()
    return stops.with_columns(
        time=pl.coalesce("departure_time", "arrival_time"),
        delay=pl.when(departs)
        .then(pl.coalesce("departure_delay", pl.col("departure_time") - pl.col("departure_planned"), "arrival_delay"))
        .otherwise(
            pl.coalesce(
                pl.when(pl.col("arrival_time").is_null()).then("departure_delay"),
                "arrival_delay",
                pl.col("arrival_time") - pl.col("arrival_planned"),
                "departure_delay",
            )
        ),
        spot_id=pl.coalesce("assigned", "stop_id"),
    )


def _dated(trips: pl.DataFrame, stops: pl.DataFrame, report: Report) -> pl.DataFrame:
    """Guesses the service day where the feed does not say it; null stays where it says nonsense."""
    first = stops.group_by("trip").agg(pl.col("time").drop_nulls().first().alias("first_time"))
    trips = trips.join(first, on="trip", how="left", maintain_order="left")
    moment = pl.coalesce("first_time", "reported").clip(0, 1 << 33)
    local = pl.from_epoch(moment, time_unit="s").dt.replace_time_zone("UTC").dt.convert_time_zone(report.zone)
    guess = (local.dt.replace_time_zone(None) - _NIGHT).dt.date()
    return trips.with_columns(
        service_date=pl.when(pl.col("start_date").is_null()).then(guess).otherwise("service_date"),
        guessed=pl.col("start_date").is_null(),
    ).with_columns(pl.when(pl.col("service_date").is_in(report.days)).then("service_date").alias("service_date"))


def _rows(trips: pl.DataFrame, stops: pl.DataFrame, report: Report) -> pl.DataFrame:
    shared = trips.join(report.day_starts(), on="service_date", how="left", maintain_order="left").select(
        "entity",
        "label",
        "trip_id",
        "start_date",
        "start_time",
        "service_date",
        "day_start",
        "reported",
        pl.col("relation").alias("trip_relation"),
        pl.coalesce("route_id", "planned_route").alias("route_id"),
        pl.coalesce("direction", "planned_direction").alias("direction"),
        pl.col("unreadable").alias("trip_unreadable"),
    )
    joined = pl.concat([stops.select(_OF_STOPS), shared[stops["trip"]]], how="horizontal")
    status = (
        pl.when(pl.col("trip_relation").is_in([CANCELED, DELETED]))
        .then(pl.lit("canceled"))
        .when(pl.col("relation") == SKIPPED)
        .then(pl.lit("skipped"))
        .when(pl.col("relation") == NO_DATA)
        .then(pl.lit("no_data"))
        .when(pl.col("trip_relation").is_in([ADDED, DUPLICATED, NEW]))
        .then(pl.lit("added"))
        .when((pl.col("relation") == STOP_UNSCHEDULED) | (pl.col("trip_relation") == UNSCHEDULED))
        .then(pl.lit("unscheduled"))
        .otherwise(pl.lit("scheduled"))
    )
    joined = joined.with_columns(status=status)
    runs = ~pl.col("status").is_in(["canceled", "skipped", "no_data"])
    moment = pl.when(runs).then("time").otherwise(pl.coalesce("planned_time", "time", "day_start"))
    made = report.stamp
    rows = joined.with_columns(moment=moment).select(
        pl.col("entity").cast(pl.UInt64).alias(ROW),
        pl.col("label").alias("trip_id"),
        "service_date",
        (pl.lit(report.prefix) + pl.col("spot_id")).alias("spot_id"),
        _utc(pl.when((pl.col("moment") - made).abs() <= 10 * 366 * 86_400).then("moment")).alias("time"),
        "stop_sequence",
        "route_id",
        "direction",
        pl.when(runs).then("delay").cast(pl.Float64).alias("delay_s"),
        "status",
        _utc(pl.col("reported")).alias("reported_at"),
        first_fault(
            (pl.col("unreadable") | pl.col("trip_unreadable"), TEXT_UNREADABLE),
            (pl.col("service_date").is_null(), TIME_UNREADABLE),
            (pl.col("moment").is_null(), TIME_UNKNOWN),
            ((pl.col("moment") - made).abs() > _FAR.total_seconds(), TIME_FAR_FROM_REPORT),
        ),
    )
    return marked(rows, joined.select(_RAW))


def _utc(seconds: pl.Expr) -> pl.Expr:
    return pl.from_epoch(seconds, time_unit="s").dt.replace_time_zone("UTC").cast(UTC_TIME)
