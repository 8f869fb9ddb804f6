"""Trip updates laid beside the timetable: planned times, delays that were not said, stops that were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.feeds.gtfs_rt.trips import ADDED, CANCELED, DELETED, DUPLICATED, NEW, NO_DATA, UNSCHEDULED

if TYPE_CHECKING:
    from mtgpt.ingest.feeds.gtfs_rt.report import Report
    from mtgpt.ingest.feeds.gtfs_rt.timetable import Timetable

_OF_THEIR_OWN = (ADDED, UNSCHEDULED, DUPLICATED, NEW)
_LONGEST_S = 12 * 3600
"""A planned time further away belongs to another day or another timetable."""


def against(
    timetable: Timetable, trips: pl.DataFrame, stops: pl.DataFrame, report: Report
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Completes trips and stop updates.

    Args:
        timetable: What the feed refers to.
        trips: A row per trip, with ``trip``, ``service_date``, ``guessed``, ``first_time`` and ``reported``.
        stops: A row per stop update, with ``time`` and ``delay`` as far as the feed says them.
        report: What they share.

    Returns:
        The trips with ``planned_route`` and ``planned_direction`` and their service day; the stop updates with
        ``planned_time``, and with them the stops that follow from others.
    """
    matched = timetable.match(trips.select("trip", "trip_id", "service_date"), report.days)
    starts = report.day_starts()
    own = trips.filter(pl.col("relation").is_in(_OF_THEIR_OWN))["trip"].implode()
    plan = timetable.stops(matched.filter(~pl.col("trip").is_in(own)))
    plan, stops = _paired(plan, stops)
    running = timetable.running(report.days)
    trips = trips.join(matched, on="trip", how="left", maintain_order="left")
    trips = _on_their_day(trips, plan, stops, starts, running)
    begin = trips.join(starts, on="service_date", how="left").select("trip", "day_start")
    plan = plan.join(begin, on="trip", how="left", maintain_order="left").with_columns(
        pl.col("arrival_s") + pl.col("day_start"), pl.col("departure_s") + pl.col("day_start")
    )
    return trips, _completed(trips, plan, stops)


def _paired(plan: pl.DataFrame, stops: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Numbers the planned visits, and says for each stop update which one it is (``visit``, null for none).

    By position in the trip where it is given and the stop there is the same; else by stop. A stop that the trip
    visits twice is paired from the end: feeds leave out what lies behind.
    """
    plan = plan.with_row_index("visit")
    stops = stops.with_row_index("update")
    from_end = pl.int_range(pl.len(), 0, -1)
    by_place = stops.filter(pl.col("stop_sequence").is_not_null()).join(
        plan.select("trip", "visit", "plan_stop", stop_sequence="plan_sequence"), on=["trip", "stop_sequence"]
    )
    same = pl.col("stop_id").is_null() | (pl.col("stop_id") == pl.col("plan_stop"))
    by_place = by_place.filter(same).unique("visit", keep="first", maintain_order=True).select("update", "visit")
    rest = stops.join(by_place, on="update", how="anti").filter(pl.col("stop_id").is_not_null())
    key = ["trip", "stop_id", "back"]
    by_stop = (
        rest.with_columns(back=from_end.over("trip", "stop_id"))
        .join(
            plan.with_columns(stop_id="plan_stop", back=from_end.over("trip", "plan_stop")).select(*key, "visit"),
            on=key,
        )
        .select("update", "visit")
        .join(by_place, on="visit", how="anti")
    )
    pairs = pl.concat([by_place, by_stop])
    return plan, stops.join(pairs, on="update", how="left", maintain_order="left")


def _on_their_day(
    trips: pl.DataFrame, plan: pl.DataFrame, stops: pl.DataFrame, starts: pl.DataFrame, running: pl.DataFrame
) -> pl.DataFrame:
    """Where the feed does not say the service day: the one whose timetable is nearest, running days first."""
    firsts = (
        stops.filter(pl.col("time").is_not_null() & pl.col("visit").is_not_null())
        .unique("trip", keep="first", maintain_order=True)
        .join(plan.select("visit", "departure_s"), on="visit")
        .join(trips.filter("guessed").select("trip", "service_id"), on="trip")
    )
    if not firsts.height:
        return trips
    days = (
        firsts.select("trip", "time", "departure_s", "service_id")
        .join(starts, how="cross")
        .join(running.with_columns(runs=True), on=["service_id", "service_date"], how="left")
        .with_columns(off=(pl.col("day_start") + pl.col("departure_s") - pl.col("time")).abs())
        .filter(pl.col("off") <= _LONGEST_S)
        .sort(pl.col("runs").fill_null(value=False), "off", descending=[True, False])
        .unique("trip", keep="first", maintain_order=True)
        .select("trip", better="service_date")
    )
    return (
        trips.join(days, on="trip", how="left", maintain_order="left")
        .with_columns(pl.coalesce("better", "service_date").alias("service_date"))
        .drop("better")
    )


def _completed(trips: pl.DataFrame, plan: pl.DataFrame, stops: pl.DataFrame) -> pl.DataFrame:
    facts = trips.select("trip", "trip_delay", "reported", trip_relation="relation")
    listed = stops.join(
        plan.select("visit", "order", "plan_stop", "plan_sequence", "arrival_s", "departure_s"), on="visit", how="left"
    )
    # Planned visits that no update speaks of, as updates that say nothing.
    silent = plan.join(stops.select("visit"), on="visit", how="anti").select(
        "trip", "visit", "order", "plan_stop", "plan_sequence", "arrival_s", "departure_s"
    )
    rows = pl.concat([listed.with_columns(listed=True), silent.with_columns(listed=False)], how="diagonal").join(
        facts, on="trip", how="left"
    )
    departs = pl.col("departure_time").is_not_null() | pl.col("arrival_time").is_null()
    rows = rows.with_columns(
        planned_time=pl.coalesce(
            pl.when(departs).then(pl.col("departure_s")).otherwise(pl.col("arrival_s")),
            "departure_planned",
            "arrival_planned",
        ),
        spot_id=pl.coalesce("spot_id", "plan_stop"),
        # A visit is known by it: the same one may be listed in one message and follow from another stop in the next.
        stop_sequence=pl.coalesce("plan_sequence", "stop_sequence"),
        relation=pl.col("relation").fill_null(0),
        unreadable=pl.col("unreadable").fill_null(value=False),
    )
    off = pl.col("time") - pl.col("planned_time")
    rows = rows.with_columns(delay=pl.coalesce("delay", pl.when(off.abs() <= _LONGEST_S).then(off)))
    return _propagated(rows)


def _propagated(rows: pl.DataFrame) -> pl.DataFrame:
    canceled = pl.col("trip_relation").is_in([CANCELED, DELETED])
    ended = (pl.col("relation") == NO_DATA) & pl.col("listed")
    rows = rows.sort("trip", pl.col("order").fill_null(1 << 31), "update", nulls_last=True).with_columns(
        carried=pl.when(ended)
        .then(float("nan"))
        .otherwise(pl.col("delay").cast(pl.Float64))
        .forward_fill()
        .over("trip")
        .fill_nan(None)
        .round()
        .cast(pl.Int64),
        any_listed=pl.col("listed").any().over("trip"),
    )
    ahead = ~pl.col("any_listed") & (pl.col("planned_time") + pl.col("trip_delay") >= pl.col("reported"))
    carried = pl.when(pl.col("order").is_not_null()).then("carried")
    of_trip = pl.when(ahead).then(pl.col("trip_delay").cast(pl.Int64))
    rows = rows.with_columns(delay=pl.when(~ended).then(pl.coalesce("delay", carried, of_trip)))
    said = pl.col("listed") | canceled | pl.col("delay").is_not_null()
    return rows.filter(said).with_columns(
        time=pl.coalesce("time", pl.when(~canceled).then(pl.col("planned_time") + pl.col("delay")))
    )
