"""Rows of a GTFS zip that cannot be taken as they are: their rules, and their way into the quarantine.

A row is marked while its file is read and shown with its own columns at the end, read a second time: so nothing is
kept for the many rows that need no explanation. Files that are no table of the lake (trips, stop_times, …) are
quarantined under the table that would have been made of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import FAULT, RAW, ROW, Chunk
from mtgpt.ingest.rows.marks import MESSAGE, NUMBER_UNREADABLE, TEXT_UNREADABLE, TIME_UNREADABLE, first_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip

ID_MISSING = "id_missing"
ID_REPEATED = "id_repeated"
DATE_UNREADABLE = "date_unreadable"
TIME_MISSING = "time_missing"
TIMES_DECREASE = "times_decrease"
TRIP_UNKNOWN = "trip_unknown"
STOP_UNKNOWN = "stop_unknown"
ROUTE_UNKNOWN = "route_unknown"
SERVICE_UNKNOWN = "service_unknown"
STATION_UNKNOWN = "station_unknown"
PLACE_MISSING = "place_missing"
MODE_UNKNOWN = "mode_unknown"
HEADWAY_UNREADABLE = "headway_unreadable"

MESSAGES: Mapping[str, str] = {
    ID_MISSING: "the row has no id",
    ID_REPEATED: "an earlier row has the same id or the same place in its trip",
    DATE_UNREADABLE: "a date or a flag is missing or not written as YYYYMMDD, 0 or 1, or the end is before the start",
    TIME_UNREADABLE: "a time is not written as HH:MM:SS, or lies after three days",
    TIME_MISSING: "a stop before the first or after the last time of its trip has no time",
    TIMES_DECREASE: "the vehicle arrives before it left the stop before, or leaves before it arrives",
    TRIP_UNKNOWN: "trips.txt has no such trip",
    STOP_UNKNOWN: "stops.txt has no such stop",
    ROUTE_UNKNOWN: "routes.txt has no such route",
    SERVICE_UNKNOWN: "neither calendar.txt nor calendar_dates.txt has such a service",
    STATION_UNKNOWN: "an entrance, node or boarding area without a station in stops.txt",
    PLACE_MISSING: "a stop or station without coordinates",
    MODE_UNKNOWN: "a route type that stands for no mode of transport here",
    HEADWAY_UNREADABLE: "a headway that is no positive whole number of seconds, or a window that ends before it begins",
    NUMBER_UNREADABLE: "a cell that should hold a number holds another text",
    TEXT_UNREADABLE: "a name holds bytes that are not UTF-8",
}

TABLE_OF: Mapping[str, str] = {
    "stops.txt": "spot",
    "routes.txt": "route",
    "trips.txt": "service",
    "stop_times.txt": "service",
    "frequencies.txt": "service",
    "calendar.txt": "service_day",
    "calendar_dates.txt": "service_day",
    "transfers.txt": "link",
    "pathways.txt": "link",
}
"""Table that a faulty row of a file would have gone into."""

_MOST = 1_000_000
_CELL = 1000


class GtfsFaults:
    """Faulty rows by file."""

    def __init__(self) -> None:
        self._found: dict[str, list[pl.DataFrame]] = {}
        self._rows = 0

    def add(self, file: str, found: pl.DataFrame) -> None:
        """Notes rows.

        Args:
            file: Name of the file.
            found: ``__row`` and ``__fault``; rows where that is null are sound and left out.

        Raises:
            FeedError: There are so many that this is no feed.
        """
        faulty = found.select(pl.col(ROW).cast(pl.UInt64), FAULT).drop_nulls(FAULT)
        if not faulty.height:
            return
        self._found.setdefault(file, []).append(faulty)
        self._rows += faulty.height
        if self._rows > _MOST:
            raise FeedError(
                "too many rows are faulty", where=file, got=f"more than {_MOST:,}, the last one {faulty[FAULT][-1]}"
            )

    def sound(self, file: str, rows: pl.DataFrame, *cases: tuple[pl.Expr, str]) -> pl.DataFrame:
        """Notes the rows for which a case holds, and gives back the others.

        Args:
            file: Name of the file.
            rows: With ``__row``.
            cases: Condition and rule; the first that holds counts.
        """
        judged = rows.with_columns(first_fault(*cases))
        if judged[FAULT].null_count() == judged.height:
            return rows
        self.add(file, judged)
        return judged.filter(pl.col(FAULT).is_null()).drop(FAULT)

    def chunks(self, feed: GtfsZip) -> Iterator[Chunk]:
        """All of them, as rows of the tables they were meant for."""
        for file, parts in self._found.items():
            found = pl.concat(parts).unique(ROW, keep="first", maintain_order=True)
            for raw in feed.raw_rows(file, found[ROW]):
                if raw.height:
                    yield Chunk(table=TABLE_OF[file], frame=_shown(raw, found, file))


def _shown(raw: pl.DataFrame, found: pl.DataFrame, file: str) -> pl.DataFrame:
    cells = [pl.col(name).str.head(_CELL) for name in raw.columns if name != ROW]
    texts = raw.select(ROW, pl.struct(pl.lit(file).alias("file"), *cells).struct.json_encode().alias(RAW))
    said = pl.format("{}: {}", pl.lit(file), pl.col(FAULT).replace_strict(MESSAGES))
    return texts.join(found, on=ROW, maintain_order="left").with_columns(said.alias(MESSAGE))
