"""Scheduled supply of a GTFS feed: rows of the tables service and service_day.

Departures are first counted per service of the calendar into cells of stop, route, direction and band, with the first
and the last of them. Counts, first and last of several services put together are their sum, least and greatest, so the
timetable of each kind of day is put together from cells, never from trips again; and the mean headway in a band is the
time from the last departure before the band to the last one in it, over how many there are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import Chunk
from mtgpt.ingest.feeds.gtfs.stops import OUTSIDE
from mtgpt.ingest.feeds.gtfs.trips import DIRECTIONS
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.ingest.feeds.gtfs.calendar import Calendar
    from mtgpt.ingest.feeds.gtfs.stop_times import Passings
    from mtgpt.ingest.feeds.gtfs.trips import Trips

_CHUNK_ROWS = 500_000
_MOST_CELLS = 50_000_000
_LINE = ("stop", "route", "direction")


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What runs.

    Attributes:
        cells: stop, route, direction, band, service, departures, first, last: in that order.
        trips: service → trips a day, by the service's number.
    """

    cells: pl.DataFrame
    trips: np.ndarray


def count_supply(
    passings: Passings, trips: Trips, frequencies: pl.DataFrame, calendar: Calendar, *, band_s: int
) -> Supply:
    """Counts departures and trips per service.

    Raises:
        FeedError: Headways and bands make more cells than any operator has.
    """
    goes_on = passings.goes_on
    starts = _trip_starts(passings)
    at = goes_on & (passings.stop != OUTSIDE)
    frame = pl.DataFrame(
        {"trip": passings.trip[at], "stop": passings.stop[at], "departure": passings.departure[at]}
    ).with_columns(offset=pl.lit(passings.departure[at] - starts[at]))
    facts = trips.rows.select("route", "service", "direction")
    of_trip = facts[frame["trip"]]
    frame = frame.hstack(of_trip)
    key = ["stop", "route", "direction", "band", "service"]
    often = frame.join(frequencies.select("trip").unique(), on="trip", how="semi")
    fixed = frame if not often.height else frame.join(frequencies.select("trip").unique(), on="trip", how="anti")
    counted = (
        fixed.with_columns(band=pl.col("departure") // band_s)
        .group_by(key)
        .agg(
            pl.len().cast(pl.Int64).alias("departures"), first=pl.col("departure").min(), last=pl.col("departure").max()
        )
    )
    if often.height:
        counted = pl.concat([counted, _at_headways(often, frequencies, band_s, key, counted.schema)])
        counted = counted.group_by(key).agg(pl.col("departures").sum(), pl.col("first").min(), pl.col("last").max())
    running = np.zeros(trips.rows.height, dtype=np.int64)
    running[np.unique(passings.trip[goes_on])] = 1
    runs = frequencies.group_by("trip").agg(pl.col("runs").sum())
    running[runs["trip"].to_numpy()] *= runs["runs"].to_numpy()
    per_service = np.bincount(trips.rows["service"].to_numpy(), running, minlength=calendar.services.height)
    return Supply(cells=counted.sort(key), trips=per_service.astype(np.int64))


def _trip_starts(passings: Passings) -> np.ndarray:
    """int32 [n]: each row's trip's first departure."""
    if not passings.trip.size:
        return passings.departure
    first = np.flatnonzero(np.r_[True, passings.trip[1:] != passings.trip[:-1]])
    return np.repeat(passings.departure[first], np.diff(np.r_[first, passings.trip.size]))


def _at_headways(
    often: pl.DataFrame, frequencies: pl.DataFrame, band_s: int, key: list[str], schema: pl.Schema
) -> pl.DataFrame:
    stops = often.group_by("trip").agg(pl.len().alias("stops").cast(pl.Int64))
    pairs = int(frequencies.join(stops, on="trip")["stops"].sum())
    _refuse_many(pairs)
    base = pl.col("start") + pl.col("offset")
    reach = base + (pl.col("runs") - 1) * pl.col("headway")
    windows = often.join(frequencies, on="trip").with_columns(base=base, low=base // band_s, high=reach // band_s)
    cells = int(windows.select((pl.col("high") - pl.col("low") + 1).sum()).item() or 0)
    _refuse_many(cells)
    step = pl.col("headway")
    least = pl.max_horizontal(0, -((pl.col("base") - pl.col("band") * band_s) // step))
    most = pl.min_horizontal(pl.col("runs") - 1, ((pl.col("band") + 1) * band_s - 1 - pl.col("base")) // step)
    return (
        windows.with_columns(band=pl.int_ranges("low", pl.col("high") + 1))
        .explode("band", empty_as_null=True, keep_nulls=True)
        .with_columns(least=least, most=most)
        .filter(pl.col("most") >= pl.col("least"))
        .select(
            *key,
            departures=pl.col("most") - pl.col("least") + 1,
            first=pl.col("base") + pl.col("least") * step,
            last=pl.col("base") + pl.col("most") * step,
        )
        .select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    )


def _refuse_many(cells: int) -> None:
    if cells > _MOST_CELLS:
        raise FeedError(
            "headways make too many departures",
            where="frequencies.txt",
            got=f"{cells:,} stops and bands",
            expected=f"at most {_MOST_CELLS:,}",
        )


def service_rows(
    supply: Supply, calendar: Calendar, stop_ids: pl.Series, route_ids: pl.Series, *, band_s: int
) -> Iterator[Chunk]:
    """Chunks of the tables service and service_day.

    Args:
        supply: What runs.
        calendar: When.
        stop_ids: Spot id by the number of a stop.
        route_ids: Route id by number.
        band_s: Length of a band.
    """
    patterns = _Patterns(supply=supply, stop_ids=stop_ids, route_ids=route_ids, band_s=band_s)
    names, trips, rows = [], [], 0
    seen: set[str] = set()
    waiting: list[pl.DataFrame] = []
    for services in calendar.day_types:
        pattern = patterns.of(services)
        name = patterns.name(pattern)
        names.append(name)
        trips.append(int(supply.trips[services].sum()))
        if name not in seen:
            seen.add(name)
            waiting.append(patterns.rows(pattern, name))
            rows += waiting[-1].height
            if rows > _MOST_CELLS:
                raise FeedError(
                    "the timetables of all kinds of days are too long together",
                    where="calendar.txt",
                    got=f"more than {_MOST_CELLS:,} rows",
                    next_step="set the options start and end of the source",
                )
        if sum(frame.height for frame in waiting) >= _CHUNK_ROWS:
            yield Chunk(table="service", frame=pl.concat(waiting))
            waiting.clear()
    if waiting:
        yield Chunk(table="service", frame=pl.concat(waiting))
    # What runs only when called has no timetable, and says of no day that nothing runs.
    if calendar.days.height and supply.cells.height:
        nothing = patterns.name(patterns.of(np.empty(0, dtype=np.uint32)))
        # Type -1, no service, is the last of the list.
        types = calendar.days["day_type"].to_list()
        yield Chunk(
            table="service_day",
            frame=calendar.days.select(
                "service_date",
                pl.Series("pattern_id", [*names, nothing]).gather([one % (len(names) + 1) for one in types]),
                pl.Series("trips", [*trips, 0], dtype=pl.Int32).gather([one % (len(names) + 1) for one in types]),
                valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME),
            ),
        )


class _Patterns:
    """The timetables of kinds of days."""

    def __init__(self, *, supply: Supply, stop_ids: pl.Series, route_ids: pl.Series, band_s: int) -> None:
        self._cells = {name: supply.cells[name].to_numpy() for name in supply.cells.columns}
        self._services = supply.trips.size
        self._stop_ids = stop_ids
        self._route_ids = route_ids
        self._band_s = band_s
        self._digests = {"stop": _digests(stop_ids), "route": _digests(route_ids)}

    def of(self, services: np.ndarray) -> dict[str, np.ndarray]:
        """Columns stop, route, direction, band, departures, headway (NaN: none) of a day with these services."""
        runs = np.zeros(self._services, dtype=bool)
        runs[services] = True
        at = np.flatnonzero(runs[self._cells["service"]])
        found = {name: column[at] for name, column in self._cells.items()}
        if not at.size:
            return {name: found[name] for name in (*_LINE, "band", "departures")} | {"headway": np.empty(0)}
        new_line = np.r_[True, np.logical_or.reduce([np.diff(found[name].astype(np.int64)) != 0 for name in _LINE])]
        starts = np.flatnonzero(new_line | np.r_[True, np.diff(found["band"]) != 0])
        count = np.add.reduceat(found["departures"], starts)
        first = np.minimum.reduceat(found["first"], starts).astype(np.float64)
        last = np.maximum.reduceat(found["last"], starts).astype(np.float64)
        before = np.r_[np.nan, last[:-1]]
        before[new_line[starts]] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            headway = np.where(np.isnan(before), (last - first) / (count - 1), (last - before) / count)
        headway = np.round(np.where(np.isfinite(headway), headway, np.nan), 1)
        kept = {name: found[name][starts] for name in (*_LINE, "band")}
        return kept | {"departures": count, "headway": headway}

    def name(self, pattern: dict[str, np.ndarray]) -> str:
        """Hash of what the rows say, whatever numbers the feed's stops have: 32 hex digits."""
        content = np.column_stack(
            [
                self._digests["stop"][pattern["stop"]],
                self._digests["route"][pattern["route"]],
                pattern["direction"].astype(np.int64),
                pattern["band"].astype(np.int64) * self._band_s,
                pattern["departures"],
                np.nan_to_num(pattern["headway"] * 10, nan=-1).astype(np.int64),
            ]
        )
        return hashlib.blake2b(np.int64(self._band_s).tobytes() + content.tobytes(), digest_size=16).hexdigest()

    def rows(self, pattern: dict[str, np.ndarray], name: str) -> pl.DataFrame:
        """Rows of the table service."""
        return pl.DataFrame(
            {
                "spot_id": self._stop_ids.gather(pattern["stop"]),
                "route_id": self._route_ids.gather(pattern["route"]),
                "direction": pl.Series(DIRECTIONS).gather(pattern["direction"]),
                "band_start_s": (pattern["band"] * self._band_s).astype(np.int32),
                "departures": pattern["departures"].astype(np.int32),
                "headway_s": pl.Series(pattern["headway"], nan_to_null=True),
            }
        ).with_columns(pattern_id=pl.lit(name), band_s=pl.lit(self._band_s, dtype=pl.Int32))


def _digests(ids: pl.Series) -> np.ndarray:
    # The lake's rows outlive any version of a library's own hash.
    each = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ids.to_list())
    return np.frombuffer(b"".join(each), dtype=np.int64)
