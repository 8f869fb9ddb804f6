"""Which services of a GTFS feed run on which days, and which days share one timetable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import ROW
from mtgpt.ingest.feeds.gtfs.faults import DATE_UNREADABLE
from mtgpt.ingest.feeds.gtfs.tables import DAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
    from mtgpt.ingest.feeds.gtfs.options import GtfsOptions
    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip

_CALENDAR, _EXCEPTIONS = "calendar.txt", "calendar_dates.txt"
_ADDED, _REMOVED = "1", "2"
_MOST_PAIRS = 20_000_000
# Days without any service between two that have some are said to have none, unless the gap is a slip of the pen.
_MOST_DAYS = 3660
_MOST_TYPES = 2000
_CENTURY = 36_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The days on which services run.

    Attributes:
        services: service_id, service (uint32, in order of the ids), days (how many it runs on; 0 for a service that
            the feed names and that does not run in the wanted period).
        days: service_date, day_type (int32; -1 where no service runs), in order.
        day_types: Numbers of the services that run on a day of that type.
    """

    services: pl.DataFrame
    days: pl.DataFrame
    day_types: Sequence[np.ndarray]


def read_calendar(feed: GtfsZip, options: GtfsOptions, faults: GtfsFaults) -> Calendar:
    """Reads ``calendar.txt`` and ``calendar_dates.txt``, of which one may be absent.

    Raises:
        FeedError: The feed has neither, or names more days than any operator plans.
    """
    if _CALENDAR not in feed and _EXCEPTIONS not in feed:
        raise FeedError("the zip has no calendar", where=feed.where(_CALENDAR), expected=f"it, or {_EXCEPTIONS}")
    weekly, listed = _weekly(feed, faults), _exceptions(feed, faults)
    known = pl.concat([weekly.select("service_id"), listed.select("service_id")]).unique().sort("service_id")
    weekly = _within(weekly, options)
    spans = int(weekly.select((pl.col("until") - pl.col("since")).dt.total_days().sum()).item() or 0)
    if spans > _MOST_PAIRS:
        raise FeedError(
            "the calendar spans too many days",
            where=feed.where(_CALENDAR),
            got=f"{spans:,} days of service",
            expected=f"at most {_MOST_PAIRS:,}",
            next_step="set the options start and end of the source",
        )
    regular = (
        weekly.with_columns(pl.date_ranges("since", "until").alias("service_date"))
        .explode("service_date", empty_as_null=True, keep_nulls=True)
        .filter(pl.concat_list(DAYS).list.get(pl.col("service_date").dt.weekday() - 1) == "1")
        .select("service_id", "service_date")
    )
    listed = listed.filter(pl.col("service_date").is_between(*_period(options)))
    added = listed.filter(pl.col("exception_type") == _ADDED).select("service_id", "service_date")
    removed = listed.filter(pl.col("exception_type") == _REMOVED).select("service_id", "service_date")
    services = known.with_row_index("service")
    running = (
        pl.concat([regular, added])
        .unique()
        .join(removed, on=["service_id", "service_date"], how="anti")
        .join(services, on="service_id")
    )
    counts = running.group_by("service").agg(pl.len().alias("days"))
    days, day_types = _by_type(running)
    return Calendar(
        services=services.join(counts, on="service", how="left", maintain_order="left").select(
            "service_id", "service", pl.col("days").fill_null(0)
        ),
        days=days,
        day_types=day_types,
    )


def _weekly(feed: GtfsZip, faults: GtfsFaults) -> pl.DataFrame:
    rows = feed.table(_CALENDAR).with_columns(since=_date("start_date"), until=_date("end_date"))
    flags = pl.all_horizontal(pl.col(day).is_in(["0", "1"]).fill_null(value=False) for day in DAYS)
    ordered = (pl.col("until") >= pl.col("since")).fill_null(value=False)
    return faults.sound(_CALENDAR, rows, (pl.col("service_id").is_null() | ~flags | ~ordered, DATE_UNREADABLE))


def _exceptions(feed: GtfsZip, faults: GtfsFaults) -> pl.DataFrame:
    rows = feed.table(_EXCEPTIONS).with_columns(service_date=_date("date"))
    kind = pl.col("exception_type").is_in([_ADDED, _REMOVED]).fill_null(value=False)
    unreadable = pl.col("service_id").is_null() | pl.col("service_date").is_null() | ~kind
    return faults.sound(_EXCEPTIONS, rows, (unreadable, DATE_UNREADABLE)).drop(ROW)


def _date(column: str) -> pl.Expr:
    return pl.col(column).str.to_date("%Y%m%d", strict=False, exact=True)


def _period(options: GtfsOptions) -> tuple[date, date]:
    return options.start or date.min, options.end or date.max


def _within(weekly: pl.DataFrame, options: GtfsOptions) -> pl.DataFrame:
    first, last = _period(options)
    return weekly.with_columns(
        since=pl.max_horizontal("since", pl.lit(first)), until=pl.min_horizontal("until", pl.lit(last))
    ).filter(pl.col("since") <= pl.col("until"))


def _by_type(running: pl.DataFrame) -> tuple[pl.DataFrame, list[np.ndarray]]:
    # Which services run is told by hashes that do not depend on their order: lists of a national feed would not fit.
    service = pl.col("service")
    named = running.group_by("service_date").agg(
        pl.len(), one=service.hash(1).bitwise_xor(), two=service.hash(2).bitwise_xor()
    )
    days = named.sort("service_date").with_columns(
        day_type=pl.struct("len", "one", "two").rank("dense").cast(pl.Int32) - 1
    )
    if days.height > _CENTURY:
        raise FeedError(
            "the calendar spans too many days",
            where=_CALENDAR,
            got=f"{days.height:,}",
            expected=f"at most {_CENTURY:,}",
            next_step="set the options start and end of the source",
        )
    shown = days.group_by("day_type").agg(pl.col("service_date").min()).sort("day_type")
    if shown.height > _MOST_TYPES:
        raise FeedError(
            "too many days have a timetable of their own",
            where=_CALENDAR,
            got=f"{shown.height:,}",
            expected=f"at most {_MOST_TYPES:,}",
            next_step="set the options start and end of the source",
        )
    of_type = running.join(shown, on="service_date").sort("day_type", "service").partition_by("day_type")
    types = [part["service"].to_numpy() for part in of_type]
    days = days.select("service_date", "day_type")
    if days.height:
        first, last = days["service_date"][0], days["service_date"][-1]
        if last - first < timedelta(days=_MOST_DAYS):
            every = pl.date_range(first, last, eager=True).alias("service_date").to_frame()
            days = every.join(days, on="service_date", how="left", maintain_order="left").with_columns(
                pl.col("day_type").fill_null(-1)
            )
    return days, types
