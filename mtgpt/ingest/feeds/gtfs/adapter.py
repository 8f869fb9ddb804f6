"""GTFS Schedule feeds: a zip of tables of what an operator plans.

What becomes of each file:

* ``stops.txt`` → spot (stations and stops; entrances, nodes and boarding areas are counted in their station's
  attributes), with the mode and the line that serve a stop most;
* ``routes.txt`` and ``agency.txt`` → route;
* ``trips.txt``, ``stop_times.txt``, ``calendar.txt``, ``calendar_dates.txt``, ``frequencies.txt`` → service,
  service_day, and link of kind transit;
* ``transfers.txt``, ``pathways.txt`` → link of kind transfer.

**What counts as a row in.** The ledger counts rows of the tables above. Millions of passing times become thousands of
departures per stop and band, so a sound row of trips.txt or stop_times.txt is no row of its own: it is in the counts.
A faulty one is: it goes to the quarantine, under the table that it should have counted in, with its file, its position
and its cells, and it is in no count. So rows in = rows made + rows refused, and nothing that was read and not
understood is missing from both. Rows that a filter leaves out, or that belong to a trip that was refused itself, are
not read and not counted. Refused passing times weigh against the rows made, of which there are fewer, so a feed is held
earlier than at 5 % of its passing times.

A departure is a stop of a trip that has a stop after it. Specification: https://gtfs.org/documentation/schedule/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.ingest.adapter import DATA, Roles
from mtgpt.ingest.feeds.gtfs.calendar import read_calendar
from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
from mtgpt.ingest.feeds.gtfs.links import shape_unit_m, transfer_links, transit_links
from mtgpt.ingest.feeds.gtfs.options import GtfsOptions
from mtgpt.ingest.feeds.gtfs.routes import read_routes, route_rows
from mtgpt.ingest.feeds.gtfs.service import count_supply, service_rows
from mtgpt.ingest.feeds.gtfs.stop_times import read_passings
from mtgpt.ingest.feeds.gtfs.stops import OUTSIDE, read_stops, spot_rows
from mtgpt.ingest.feeds.gtfs.tables import TABLES, GtfsZip
from mtgpt.ingest.feeds.gtfs.trips import read_frequencies, read_trips
from mtgpt.ingest.guard.archive import zip_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from mtgpt.ingest.adapter import Chunk, FeedContext, FeedFile
    from mtgpt.ingest.feeds.gtfs.stop_times import Passings
    from mtgpt.ingest.feeds.gtfs.trips import Trips

_NEEDED = ("stops.txt", "routes.txt", "trips.txt", "stop_times.txt")
_BUS = "bus"


class GtfsAdapter:
    """Reads ``gtfs`` sources."""

    kind: str = "gtfs"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = GtfsOptions

    def read(self, files: Mapping[str, FeedFile], options: GtfsOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields routes, spots, links, service and service days, then the rows that were refused.

        Raises:
            FeedError: Not a GTFS zip: a file or column that every feed has is missing, or damaged.
            SourceRefused: A guard of :mod:`mtgpt.ingest.guard.archive`.
        """
        file = files[DATA]
        with zip_folder(file.path, file.name, TABLES) as folder:
            yield from _read(GtfsZip(folder, file.name), options, zone=context.time_zone)


def _read(feed: GtfsZip, options: GtfsOptions, *, zone: str) -> Iterator[Chunk]:
    feed.refuse_without(*_NEEDED)
    faults = GtfsFaults()
    calendar = read_calendar(feed, options, faults)
    routes = read_routes(feed, options, faults)
    stops = read_stops(feed, options, faults)
    trips = read_trips(feed, routes, calendar, faults)
    frequencies = read_frequencies(feed, trips, faults)
    passings = read_passings(feed, trips, stops, faults)

    runs = _runs(trips, frequencies)
    served = _served(passings, trips, routes, runs)
    on_demand = trips.rows["route"].gather(passings.on_demand).unique()
    shown = routes.filter("wanted")
    if options.filtered:
        running = trips.rows["route"].gather(np.unique(passings.trip)).unique()
        shown = shown.filter(pl.col("route").is_in(pl.concat([running, on_demand]).implode()))
    yield route_rows(shown, on_demand, zone=zone)
    most = served.group_by("mode").agg(pl.col("weight").sum()).sort("weight", "mode")["mode"]
    mode = most[-1] if most.len() else (shown["mode"].mode().sort()[0] if shown.height else _BUS)
    yield spot_rows(stops, served, mode=mode, prefix=options.prefix, only_served=options.filtered)
    if options.links:
        has_distance = bool(np.isfinite(passings.distance).any())
        unit_m = shape_unit_m(feed) if has_distance else None
        yield transit_links(passings, runs, stops, unit_m=unit_m, prefix=options.prefix)
        yield from transfer_links(feed, stops, faults, prefix=options.prefix)
    supply = count_supply(passings, trips, frequencies, calendar, band_s=options.band_s)
    del passings
    stop_ids = stops.numbers.filter(pl.col("stop") != OUTSIDE).sort("stop")["stop_id"]
    route_ids = routes.unique("route", keep="first").sort("route")["route_id"]
    yield from service_rows(
        supply,
        calendar,
        pl.select(pl.lit(options.prefix) + stop_ids).to_series() if options.prefix else stop_ids,
        route_ids,
        band_s=options.band_s,
    )
    yield from faults.chunks(feed)


def _runs(trips: Trips, frequencies: pl.DataFrame) -> np.ndarray:
    """float64: how often each trip runs in the period: days, times runs a day where it has a headway."""
    runs = trips.rows["days"].to_numpy().copy()
    a_day = frequencies.group_by("trip").agg(pl.col("runs").sum())
    runs[a_day["trip"].to_numpy()] *= a_day["runs"].to_numpy()
    return runs


def _served(passings: Passings, trips: Trips, routes: pl.DataFrame, runs: np.ndarray) -> pl.DataFrame:
    """How each stop is served: its stop, mode and line by most calls, all lines, and the weight of that mode."""
    inside = passings.stop != OUTSIDE
    calls = (
        pl.DataFrame({"stop": passings.stop[inside], "trip": passings.trip[inside]})
        .with_columns(weight=pl.lit(runs[passings.trip[inside]]), route=trips.rows["route"][passings.trip[inside]])
        .group_by("stop", "route")
        .agg(pl.col("weight").sum())
        .join(routes.select("route", "mode", "line").unique("route", keep="first"), on="route")
    )
    by_mode = calls.group_by("stop", "mode").agg(pl.col("weight").sum()).sort("stop", "weight", "mode")
    by_line = calls.group_by("stop", "line").agg(pl.col("weight").sum()).sort("stop", "weight", "line")
    return (
        by_mode.group_by("stop", maintain_order=True)
        .agg(pl.col("mode").last(), pl.col("weight").last())
        .join(
            by_line.group_by("stop").agg(pl.col("line").last(), pl.col("line").sort().alias("lines")),
            on="stop",
        )
    )
