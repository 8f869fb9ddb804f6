"""The passing times of a GTFS feed: read in pieces, checked, in order, and complete.

Of each piece only the rows of wanted trips stay, as numbers. Times between two timepoints that the feed leaves out are
interpolated, by ``shape_dist_traveled`` where it is given and evenly otherwise. Rows of trips that come when called
(GTFS-Flex: a zone or a window instead of a stop and a time) are no departures; their routes are marked as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.ingest.adapter import FAULT, ROW
from mtgpt.ingest.feeds.gtfs.faults import (
    ID_REPEATED,
    NUMBER_UNREADABLE,
    STOP_UNKNOWN,
    TIME_MISSING,
    TIME_UNREADABLE,
    TIMES_DECREASE,
    TRIP_UNKNOWN,
)
from mtgpt.ingest.feeds.gtfs.stops import OUTSIDE
from mtgpt.ingest.feeds.gtfs.tables import finite
from mtgpt.ingest.feeds.gtfs.time import seconds_of_day
from mtgpt.ingest.rows.marks import first_fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
    from mtgpt.ingest.feeds.gtfs.stops import Stops
    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip
    from mtgpt.ingest.feeds.gtfs.trips import Trips

_FILE = "stop_times.txt"
_NO_TIME = -1
_LEAST, _MOST = -(2**31), 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Passings:
    """Every stop of every trip, in order of trip and sequence; n rows.

    Attributes:
        trip: uint32 [n].
        stop: uint32 [n]; OUTSIDE for stops outside the wanted box.
        arrival: int32 [n], seconds of the service day.
        departure: int32 [n].
        distance: float32 [n], along the shape in the feed's own unit, NaN where not given.
        on_demand: Trips that have rows without times, for when they are called.
    """

    trip: np.ndarray
    stop: np.ndarray
    arrival: np.ndarray
    departure: np.ndarray
    distance: np.ndarray
    on_demand: np.ndarray

    @property
    def goes_on(self) -> np.ndarray:
        """Bool [n]: whether the trip has a stop after this one; its last stop has no departure."""
        same = np.zeros(self.trip.size, dtype=bool)
        same[:-1] = self.trip[1:] == self.trip[:-1]
        return same


def read_passings(feed: GtfsZip, trips: Trips, stops: Stops, faults: GtfsFaults) -> Passings:
    """Reads ``stop_times.txt``.

    Raises:
        FeedError: A column is missing.
    """
    reader = _Reader(feed=feed, trips=trips, stops=stops, faults=faults)
    outside = bool((stops.numbers["stop"] == OUTSIDE).any())
    # Which trips touch the box is known only when all of them were seen; the others are not loaded to find out.
    touching = reader.touching() if outside else None
    pieces = list(reader.pieces(touching))
    rows = pl.concat([piece for piece, _ in pieces])
    on_demand = np.unique(np.concatenate([called for _, called in pieces])) if pieces else np.empty(0, np.uint32)
    pieces.clear()
    order = rows.select((pl.col("trip").cast(pl.Int64) * 2**32 + pl.col("sequence")).alias("order"))["order"]
    if not order.is_sorted():
        at = order.arg_sort()
        rows, order = rows[at], order.gather(at)
    return _complete(rows, order.to_numpy(), on_demand, faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    feed: GtfsZip
    trips: Trips
    stops: Stops
    faults: GtfsFaults

    def touching(self) -> pl.Series:
        """Numbers of the trips with a stop inside the box."""
        inside = self.stops.numbers.filter(pl.col("stop") != OUTSIDE).select("stop_id")
        found = [pl.Series("trip_id", [], dtype=pl.UInt32)]
        for piece in self.feed.pieces(_FILE, ("trip_id", "stop_id")):
            near = piece.join(inside, on="stop_id", how="semi")
            found.append(near.select("trip_id").unique().join(self._numbers, on="trip_id")["trip"].alias("trip_id"))
        return pl.concat(found).unique()

    @property
    def _numbers(self) -> pl.DataFrame:
        return self.trips.rows.select("trip_id", "trip")

    def pieces(self, touching: pl.Series | None) -> Iterable[tuple[pl.DataFrame, np.ndarray]]:
        """Sound rows as numbers, and the trips of those that are on demand."""
        numbers = self._numbers
        if touching is not None:
            numbers = numbers.filter(pl.col("trip").is_in(touching.implode()))
        others = self.trips.others.unique()
        for piece in self.feed.pieces(_FILE):
            rows = piece.join(numbers, on="trip_id", how="left", maintain_order="left")
            if rows["trip"].null_count():
                rows = self._known_trips(rows, others, touching)
            yield self._typed(rows)

    def _known_trips(self, rows: pl.DataFrame, others: pl.Series, touching: pl.Series | None) -> pl.DataFrame:
        lost = rows.filter(pl.col("trip").is_null())
        known = pl.col("trip_id").hash().is_in(others.implode())
        unknown = lost.filter(~known.fill_null(value=False))
        if touching is not None:
            unknown = unknown.join(self._numbers, on="trip_id", how="anti")
        self.faults.add(_FILE, unknown.select(ROW, pl.lit(TRIP_UNKNOWN).alias(FAULT)))
        return rows.filter(pl.col("trip").is_not_null())

    def _typed(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
        timeless = pl.col("arrival_time").is_null() & pl.col("departure_time").is_null()
        window = pl.col("start_pickup_drop_off_window").is_not_null()
        zone = pl.col("location_id").is_not_null() | pl.col("location_group_id").is_not_null()
        called = rows.select((pl.col("stop_id").is_null() & zone) | (timeless & window)).to_series()
        on_demand = np.empty(0, np.uint32)
        if called.any():
            on_demand = rows.filter(called)["trip"].unique().to_numpy()
            rows = rows.filter(~called)
        typed = rows.join(self.stops.numbers, on="stop_id", how="left", maintain_order="left").with_columns(
            arrival=seconds_of_day(rows["arrival_time"]),
            departure=seconds_of_day(rows["departure_time"]),
            sequence=pl.col("stop_sequence").cast(pl.Int64, strict=False),
            distance=finite("shape_dist_traveled", pl.Float32),
        )
        unreadable = [
            pl.col(number).is_null() & pl.col(text).is_not_null()
            for number, text in (("arrival", "arrival_time"), ("departure", "departure_time"))
        ]
        fault = first_fault(
            (pl.col("stop").is_null(), STOP_UNKNOWN),
            (~pl.col("sequence").is_between(_LEAST, _MOST).fill_null(value=False), NUMBER_UNREADABLE),
            (pl.any_horizontal(unreadable), TIME_UNREADABLE),
            (pl.col("distance").is_null() & pl.col("shape_dist_traveled").is_not_null(), NUMBER_UNREADABLE),
        )
        judged = typed.select("trip", "stop", "sequence", "arrival", "departure", "distance", ROW, fault)
        self.faults.add(_FILE, judged)
        sound = judged.filter(pl.col(FAULT).is_null())
        return sound.select(
            "trip",
            "stop",
            pl.col("sequence").cast(pl.Int32),
            pl.col("arrival", "departure").fill_null(_NO_TIME),
            pl.col("distance").fill_null(float("nan")),
            pl.col(ROW).cast(pl.UInt32),
        ), on_demand


def _complete(rows: pl.DataFrame, order: np.ndarray, on_demand: np.ndarray, faults: GtfsFaults) -> Passings:
    trip, row = rows["trip"].to_numpy(), rows[ROW].to_numpy()
    arrival, departure = rows["arrival"].to_numpy(), rows["departure"].to_numpy()
    arrival = np.where(arrival == _NO_TIME, departure, arrival)
    departure = np.where(departure == _NO_TIME, arrival, departure)
    bad = np.zeros(trip.size, dtype=np.uint8)
    bad[1:][order[1:] == order[:-1]] = 1
    bad[(bad == 0) & _decreasing(trip, arrival, departure, bad > 0)] = 2
    lost, arrival, departure = _interpolated(trip, arrival, departure, rows["distance"].to_numpy(), bad > 0)
    bad[lost] = 3
    for code, rule in ((1, ID_REPEATED), (2, TIMES_DECREASE), (3, TIME_MISSING)):
        found = row[bad == code]
        if found.size:
            faults.add(_FILE, pl.DataFrame({ROW: found}).with_columns(pl.lit(rule).alias(FAULT)))
    keep = slice(None) if not bad.any() else bad == 0
    return Passings(
        trip=trip[keep],
        stop=rows["stop"].to_numpy()[keep],
        arrival=arrival[keep],
        departure=departure[keep],
        distance=rows["distance"].to_numpy()[keep],
        on_demand=on_demand,
    )


def _decreasing(trip: np.ndarray, arrival: np.ndarray, departure: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Bool [n]: rows that arrive before the latest departure earlier in their trip, or leave before they arrive."""
    timed = np.flatnonzero((departure != _NO_TIME) & ~left_out)
    # Trips come in order, so one running maximum over (trip, time) is one per trip.
    base = trip[timed].astype(np.int64) << 32
    latest = np.maximum.accumulate(base + departure[timed])
    early = departure[timed] < arrival[timed]
    early[1:] |= base[1:] + arrival[timed][1:] < latest[:-1]
    bad = np.zeros(trip.size, dtype=bool)
    bad[timed[early]] = True
    return bad


def _interpolated(
    trip: np.ndarray, arrival: np.ndarray, departure: np.ndarray, distance: np.ndarray, left_out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows whose time cannot be known, and both times with the others filled in."""
    n = trip.size
    missing = np.flatnonzero((departure == _NO_TIME) & ~left_out)
    if not missing.size:
        return missing, arrival, departure
    known = (departure != _NO_TIME) & ~left_out
    place = np.arange(n)
    before = np.maximum.accumulate(np.where(known, place, -1))[missing]
    after = np.minimum.accumulate(np.where(known, place, n)[::-1])[::-1][missing]
    between = (before >= 0) & (after < n)
    between &= (trip[np.maximum(before, 0)] == trip[missing]) & (trip[np.minimum(after, n - 1)] == trip[missing])
    at, before, after = missing[between], before[between], after[between]
    share = (at - before) / (after - before)
    length = (distance[after] - distance[before]).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (distance[at] - distance[before]) / length
    share = np.where((length > 0) & (along >= 0) & (along <= 1), along, share)
    times = np.rint(departure[before] + (arrival[after] - departure[before]) * share).astype(np.int32)
    arrival, departure = arrival.copy(), departure.copy()
    arrival[at] = departure[at] = times
    return missing[~between], arrival, departure
