"""The timetable that a GTFS-Realtime feed refers to: which trip is meant, and when it should be where.

Source: GTFS Schedule Reference (trips.txt, stop_times.txt, calendar.txt, calendar_dates.txt, frequencies.txt,
agency.txt). Times count from noon less twelve hours of the service day, so both clock changes are safe.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.guard.meter import Caps
from mtgpt.ingest.guard.table_file import choose_columns, parse_texts
from mtgpt.ingest.guard.text import utf8
from mtgpt.ingest.guard.zip_file import GuardedZip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from mtgpt.ingest.adapter import FeedFile

_CAPS = Caps(expanded_bytes=1 << 30)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ORIGIN = r"^(\d{6}_[^.]{1,4}\.{1,2}[NS])"
"""Beginning of a trip id of the New York subway: origin time, line, direction. Its path is often left out."""

_FILES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "trips": (("trip_id", "route_id", "service_id"), ("direction_id",)),
    "stop_times": (("trip_id", "stop_id", "stop_sequence", "arrival_time", "departure_time"), ()),
    "calendar": (("service_id", "start_date", "end_date", *_DAYS), ()),
    "calendar_dates": (("service_id", "date", "exception_type"), ()),
    "frequencies": (("trip_id",), ("exact_times",)),
    "agency": (("agency_timezone",), ()),
}
_REQUIRED = ("trips", "stop_times")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """What is used of a GTFS feed, all columns as texts.

    Attributes:
        zone: The agency's time zone, where it names one.
        trips: trip_id, route_id, service_id, direction_id.
        stop_times: trip_id, stop_id, stop_sequence, arrival_time, departure_time.
        calendar: service_id, start_date, end_date, monday, …
        calendar_dates: service_id, date, exception_type.
        frequent: Trips that run at intervals and have no times of their own.
    """

    zone: str | None
    trips: pl.DataFrame = field(repr=False)
    stop_times: pl.DataFrame = field(repr=False)
    calendar: pl.DataFrame = field(repr=False)
    calendar_dates: pl.DataFrame = field(repr=False)
    frequent: frozenset[str] = frozenset()

    def match(self, trips: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
        """Finds each trip: by its id; by the end of the id; by the beginning of that end (New York's subway).

        By a part of its id, a trip is found only where it runs on its service day.

        Args:
            trips: Columns trip (any key), trip_id, service_date (null where the feed does not say).
            days: Service days that come into question.

        Returns:
            At most one row per trip: trip, planned_id, planned_route, planned_direction, service_id.
        """
        known = self.trips.select(
            pl.col("trip_id").alias("planned_id"),
            pl.col("route_id").alias("planned_route"),
            pl.col("direction_id").alias("planned_direction"),
            "service_id",
        )
        tail = pl.col("planned_id").str.splitn("_", 2).struct.field("field_1")
        running = self.running(days)
        found: list[pl.DataFrame] = []
        left = trips.filter(pl.col("trip_id").is_not_null())
        for named, planned in (
            (pl.col("trip_id"), pl.col("planned_id")),
            (pl.col("trip_id"), tail),
            (pl.col("trip_id").str.extract(_ORIGIN), tail.str.extract(_ORIGIN)),
        ):
            candidates = left.with_columns(named.alias("key")).join(
                known.with_columns(planned.alias("key")).filter(pl.col("key").is_not_null()), on="key"
            )
            candidates = candidates.join(
                running.with_columns(runs=True), on=["service_id", "service_date"], how="left"
            ).filter(pl.col("runs").is_not_null() | (pl.col("planned_id") == pl.col("trip_id")))
            best = candidates.sort(
                pl.col("runs").fill_null(value=False), "planned_id", descending=[True, False]
            ).unique(subset="trip", keep="first", maintain_order=True)
            found.append(best.select("trip", "planned_id", "planned_route", "planned_direction", "service_id"))
            left = left.join(best, on="trip", how="anti")
        empty = pl.DataFrame(schema={"trip": trips.schema["trip"], **known.schema})
        return pl.concat([empty, *found])

    def stops(self, matched: pl.DataFrame) -> pl.DataFrame:
        """Planned visits of matched trips, in order.

        Args:
            matched: From :meth:`match`.

        Returns:
            Columns trip, order (from 0), plan_sequence, plan_stop, arrival_s, departure_s: seconds since the start of
            the service day, between timing points interpolated over the stops. Trips without own times are left out.
        """
        wanted = matched.filter(~pl.col("planned_id").is_in(list(self.frequent))).select("trip", "planned_id")
        rows = self.stop_times.join(wanted, left_on="trip_id", right_on="planned_id").select(
            "trip",
            pl.col("stop_sequence").cast(pl.Int64, strict=False).alias("plan_sequence"),
            pl.col("stop_id").alias("plan_stop"),
            _seconds("arrival_time").alias("arrival_s"),
            _seconds("departure_time").alias("departure_s"),
        )
        timed = rows.filter(pl.col("plan_sequence").is_not_null()).unique(
            subset=["trip", "plan_sequence"], keep="first", maintain_order=True
        )
        return (
            timed.sort("trip", "plan_sequence")
            .with_columns(
                pl.coalesce("arrival_s", "departure_s").interpolate().over("trip").round().cast(pl.Int64),
                pl.coalesce("departure_s", "arrival_s")
                .interpolate()
                .over("trip")
                .round()
                .cast(pl.Int64)
                .alias("departure_s"),
            )
            .with_columns(pl.int_range(pl.len()).over("trip").alias("order"))
        )

    def running(self, days: Iterable[date]) -> pl.DataFrame:
        """Which services run on which of some days: service_id, service_date."""
        weekly = [
            self.calendar.filter(
                (pl.col(_DAYS[day.weekday()]).str.strip_chars() == "1")
                & (pl.col("start_date").str.strip_chars() <= f"{day:%Y%m%d}")
                & (pl.col("end_date").str.strip_chars() >= f"{day:%Y%m%d}")
            ).select("service_id", pl.lit(day).alias("service_date"))
            for day in days
        ]
        dated = self.calendar_dates.select(
            "service_id",
            pl.col("date").str.strip_chars().str.to_date("%Y%m%d", strict=False).alias("service_date"),
            pl.col("exception_type").str.strip_chars(),
        ).filter(pl.col("service_date").is_in(list(days)))
        on = ["service_id", "service_date"]
        empty = pl.DataFrame(schema={"service_id": pl.String, "service_date": pl.Date})
        added = dated.filter(pl.col("exception_type") == "1").select(on)
        removed = dated.filter(pl.col("exception_type") == "2").select(on)
        return pl.concat([empty, *weekly]).join(removed, on=on, how="anti").vstack(added).unique()


def read_timetable(file: FeedFile) -> Timetable:
    """Reads a GTFS zip; the last two are kept, because every poll of a live feed brings the same one.

    Raises:
        FeedError: Not a GTFS feed.
        SourceRefused: A cap of :mod:`mtgpt.ingest.guard.zip_file`.
    """
    return _read(file.path, file.name, file.sha256)


@lru_cache(maxsize=2)
def _read(path: Path, name: str, sha256: str) -> Timetable:  # noqa: ARG001 - the hash is the cache's key
    with GuardedZip(path, name, caps=_CAPS) as archive:
        members = {member.rsplit("/", 1)[-1]: member for member in archive.members}
        tables: dict[str, pl.DataFrame] = {}
        for table, (required, optional) in _FILES.items():
            member = members.get(f"{table}.txt")
            if member is None:
                if table in _REQUIRED:
                    raise FeedError("not a timetable in GTFS", where=name, expected=f"{table}.txt")
                tables[table] = pl.DataFrame(schema=dict.fromkeys((*required, *optional), pl.String))
                continue
            with archive.open(member) as stream:
                tables[table] = _table(stream.read(), required, optional, f"{name}: {member}")
    zones = tables["agency"]["agency_timezone"].drop_nulls().str.strip_chars()
    frequent = tables["frequencies"].filter(pl.col("exact_times").fill_null("0").str.strip_chars() != "1")
    return Timetable(
        zone=zones[0] if len(zones) and zones[0] in available_timezones() else None,
        trips=tables["trips"],
        stop_times=tables["stop_times"],
        calendar=tables["calendar"],
        calendar_dates=tables["calendar_dates"],
        frequent=frozenset(frequent["trip_id"].drop_nulls()),
    )


def _table(data: bytes, required: Sequence[str], optional: Sequence[str], where: str) -> pl.DataFrame:
    first, _, rest = data.partition(b"\n")
    names = next(csv.reader(io.StringIO(utf8(first, where=where))), [])
    wanted = {name: (name,) for name in (*required, *optional)}
    chosen = choose_columns(names, wanted, file=where, optional=optional)
    if len(set(names)) < len(names):
        raise FeedError("a column stands twice", where=where, got=", ".join(names))
    if not rest.strip():
        return pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))
    frame = parse_texts(rest, names, chosen, where=where, first_line=2)
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in wanted if name not in frame.columns]
    return frame.with_columns(missing).select(list(wanted)).with_columns(pl.all().str.strip_chars())


def _seconds(column: str) -> pl.Expr:
    part = pl.col(column).str.extract_groups(r"^(\d{1,3}):(\d{2}):(\d{2})$").struct
    hours, minutes, seconds = (part.field(str(n)).cast(pl.Int64, strict=False) for n in (1, 2, 3))
    return hours * 3600 + minutes * 60 + seconds
