"""What the lake holds beside the panel, around the moments of a report: timetables, live delays, alerts, docks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtgpt.lake.lake import Lake
    from mtgpt.model.forecast import Forecast

_LOOK_BACK = timedelta(hours=1)
_STOCK = ("bikes_available", "docks_available")


@dataclass(frozen=True, slots=True, kw_only=True)
class CityFeeds:
    """Rows of the lake, as far as they may matter to a report's moments.

    Attributes:
        zone: The city's time zone.
        route: Lines, newest version each.
        service: Timetable by stop, line and band, with ``service_date``.
        visit: Rows of stop_visit.
        event: Events, newest version each.
        spot: Places, newest version each.
        transfer: Links of kind transfer.
        stock: Observations of bikes and docks available.
    """

    zone: str
    route: pl.DataFrame
    service: pl.DataFrame
    visit: pl.DataFrame
    event: pl.DataFrame
    spot: pl.DataFrame
    transfer: pl.DataFrame
    stock: pl.DataFrame


def window(forecast: Forecast) -> tuple[datetime, datetime]:
    """From when to when a forecast reaches, UTC."""
    at = forecast.at.astype("datetime64[s]").item().replace(tzinfo=UTC)
    return at, at + timedelta(seconds=forecast.horizon * forecast.interval_s)


def service_start(at: datetime, zone: str) -> datetime:
    """UTC of second 0 of the service day that the local date of a moment names: noon minus twelve hours."""
    local = ZoneInfo(zone)
    return datetime.combine(at.astimezone(local).date(), time(12), local).astimezone(UTC) - timedelta(hours=12)


def read_feeds(lake: Lake, city_id: str, forecasts: Sequence[Forecast]) -> CityFeeds | None:
    """Reads them; None where there is neither public transport nor an event nor a dock to tell of.

    Args:
        lake: The lake.
        city_id: City.
        forecasts: At least one; their windows say which rows matter.

    Raises:
        LakeError: A table cannot be read.
    """
    if not forecasts:
        return None
    windows = [window(forecast) for forecast in forecasts]
    zone = forecasts[0].time_zone
    first, last = min(at for at, _ in windows) - _LOOK_BACK, max(end for _, end in windows)
    dates = sorted({at.astimezone(ZoneInfo(zone)).date() for at, _ in windows})

    def rows(name: str, *conditions: pl.Expr) -> pl.DataFrame:
        return lake.scan(name, city_id=city_id).filter(*conditions).collect()

    def newest(frame: pl.DataFrame, *keys: str) -> pl.DataFrame:
        return frame.sort("valid_from", *keys).unique(keys, keep="last", maintain_order=True)

    days = newest(rows("service_day", pl.col("service_date").is_in(dates)), "source_id", "service_date")
    service = rows("service", pl.col("pattern_id").is_in(days["pattern_id"].unique().to_list()))
    feeds = CityFeeds(
        zone=zone,
        route=newest(rows("route"), "source_id", "route_id"),
        service=service.join(days.select("source_id", "pattern_id", "service_date"), on=["source_id", "pattern_id"]),
        visit=rows("stop_visit", pl.col("time").is_between(first, last)),
        event=newest(rows("event"), "source_id", "event_id", "language"),
        spot=newest(rows("spot"), "spot_id"),
        transfer=rows("link", pl.col("kind") == "transfer"),
        stock=rows("observation", pl.col("variable").is_in(_STOCK), pl.col("time_start").is_between(first, last)),
    )
    told = (feeds.service, feeds.visit, feeds.event, feeds.stock)
    return feeds if any(frame.height for frame in told) else None


def lines_at(feeds: CityFeeds, at: datetime) -> pl.DataFrame:
    """What each line runs in the band of its timetable that a moment lies in.

    Returns:
        source_id, route_id, departures (in the band, at the busiest stop and direction), headway_s (median), band_s.
    """
    second = (at - service_start(at, feeds.zone)) / timedelta(seconds=1)
    today = at.astimezone(ZoneInfo(feeds.zone)).date()
    band = pl.col("band_start_s")
    return (
        feeds.service.filter(pl.col("service_date") == today, band <= second, pl.lit(second) < band + pl.col("band_s"))
        .group_by("source_id", "route_id")
        .agg(pl.col("departures").max(), pl.col("headway_s").median(), pl.col("band_s").first())
        .sort("source_id", "route_id")
    )


def lateness_at(feeds: CityFeeds, at: datetime) -> pl.DataFrame:
    """How late each line's vehicles were at their next stop, by what had been reported at that moment.

    Returns:
        route_id, trips (that report), cancelled (trips), median_s, worst_s, worst_at (name of the stop).
    """
    known = feeds.visit.filter(pl.col("reported_at") <= at, pl.col("route_id").is_not_null(), pl.col("time") >= at)
    last = known.sort("reported_at").unique(["source_id", "trip_id", "service_date", "spot_id"], keep="last")
    names = feeds.spot.select("spot_id", "name")
    ahead = (
        last.sort("time", "stop_sequence")
        .unique(["source_id", "trip_id", "service_date"], keep="first", maintain_order=True)
        .join(names, on="spot_id", how="left")
        .with_columns(pl.col("name").fill_null(pl.col("spot_id")))
    )
    cancelled = pl.col("status") == "canceled"
    late = pl.col("delay_s").filter(~cancelled)
    worst = late.arg_max()
    return (
        ahead.group_by("route_id")
        .agg(
            trips=late.count(),
            cancelled=cancelled.sum(),
            median_s=late.median(),
            worst_s=late.max(),
            worst_at=pl.col("name").filter(~cancelled).get(worst, null_on_oob=True),
        )
        .sort("route_id")
    )


def told_about(feeds: CityFeeds, start: datetime, end: datetime, *, language: str = "en") -> pl.DataFrame:
    """Events that overlap a window, one row each in the language asked for where there is one; newest first."""
    overlaps = (pl.col("start").is_null() | (pl.col("start") < end)) & (
        pl.col("end").is_null() | (pl.col("end") > start)
    )
    return (
        feeds.event.filter(overlaps, pl.col("title").is_not_null() | pl.col("text").is_not_null())
        .sort(~pl.col("language").str.starts_with(language), "language")
        .unique(["source_id", "event_id"], keep="first", maintain_order=True)
        .sort("start", "event_id", descending=[True, False], nulls_last=True)
    )


def docks_at(feeds: CityFeeds, at: datetime) -> pl.DataFrame:
    """What stood in the docks near stops by the last report before a moment, the ones about to fail first.

    Returns:
        name, bikes, docks, near (list of struct name, mode, metres; nearest first).
    """
    places = feeds.spot.select("spot_id", "kind", "mode", "name")
    near = (
        feeds.transfer.join(places, left_on="from_spot", right_on="spot_id")
        .filter(pl.col("kind_right") == "dock")
        .select("from_spot", "to_spot", metres="distance_m")
        .join(places, left_on="to_spot", right_on="spot_id")
        .filter(pl.col("kind").is_in(["stop", "station"]))
        .group_by("from_spot", "mode", "name")
        .agg(pl.col("metres").min())
        .sort("metres", "name")
        .group_by("from_spot", maintain_order=True)
        .agg(near=pl.struct("name", "mode", "metres"))
    )
    told = pl.col("time_start") + pl.duration(seconds=pl.col("interval_s")) <= at
    seen = feeds.stock.filter(told, pl.col("time_start") > at - _LOOK_BACK).sort("time_start")
    last = seen.group_by("spot_id", "variable").agg(pl.col("value").last())
    wide = places.select("spot_id", "name")
    for variable, column in zip(_STOCK, ("bikes", "docks"), strict=True):
        only = last.filter(pl.col("variable") == variable).select("spot_id", pl.col("value").alias(column))
        wide = wide.join(only, on="spot_id", how="left")
    return (
        wide.join(near, left_on="spot_id", right_on="from_spot")
        .filter(pl.col("bikes").is_not_null() | pl.col("docks").is_not_null())
        .sort(pl.min_horizontal("bikes", "docks"), "name")
        .select("name", "bikes", "docks", "near")
    )
