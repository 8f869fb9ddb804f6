"""The files of a GTFS zip as tables of texts, read piece by piece from an allow-list of files and columns.

GTFS Schedule reference: https://gtfs.org/documentation/schedule/reference/. What feeds do in spite of it is met here:
a byte order mark, spaces around header names and values, quoted fields with line ends, short and long lines, blank
lines, empty quoted texts. Nothing is typed yet, so that one odd cell costs one row.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import ROW
from mtgpt.ingest.guard.text import no_table, refuse_other_than_text, utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from mtgpt.ingest.guard.zip_file import ZipFolder

_PIECE_BYTES = 16 << 20
_LONGEST_RECORD = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One file of the standard.

    Attributes:
        required: Columns without which it cannot be read.
        optional: Further columns that are read; null where the file lacks them.
        most_rows: More would not fit in memory, and no operator has that many.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    most_rows: int = 2_000_000

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return self.required + self.optional


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

TABLES: Mapping[str, Table] = {
    "agency.txt": Table(required=("agency_name",), optional=("agency_id", "agency_timezone"), most_rows=100_000),
    "stops.txt": Table(
        required=("stop_id",),
        optional=(
            *("stop_name", "stop_lat", "stop_lon", "location_type", "parent_station", "stop_code", "platform_code"),
            *("zone_id", "wheelchair_boarding", "stop_timezone"),
        ),
    ),
    "routes.txt": Table(
        required=("route_id", "route_type"),
        optional=("agency_id", "route_short_name", "route_long_name", "route_desc", "route_color", "network_id"),
        most_rows=500_000,
    ),
    "trips.txt": Table(
        required=("trip_id", "route_id", "service_id"), optional=("direction_id",), most_rows=50_000_000
    ),
    "stop_times.txt": Table(
        required=("trip_id", "stop_sequence"),
        optional=(
            *("stop_id", "arrival_time", "departure_time", "shape_dist_traveled", "location_id", "location_group_id"),
            *("start_pickup_drop_off_window", "end_pickup_drop_off_window"),
        ),
        most_rows=200_000_000,
    ),
    "calendar.txt": Table(required=("service_id", *DAYS, "start_date", "end_date")),
    "calendar_dates.txt": Table(required=("service_id", "date", "exception_type"), most_rows=20_000_000),
    "frequencies.txt": Table(
        required=("trip_id", "start_time", "end_time", "headway_secs"), optional=("exact_times",), most_rows=5_000_000
    ),
    "shapes.txt": Table(
        required=("shape_id", "shape_pt_lat", "shape_pt_lon", "shape_pt_sequence"),
        optional=("shape_dist_traveled",),
        most_rows=1_000_000_000,
    ),
    "transfers.txt": Table(
        required=("from_stop_id", "to_stop_id"), optional=("transfer_type", "min_transfer_time"), most_rows=5_000_000
    ),
    "pathways.txt": Table(
        required=("from_stop_id", "to_stop_id"),
        optional=("is_bidirectional", "length", "traversal_time"),
        most_rows=500_000,
    ),
    "location_group_stops.txt": Table(required=("location_group_id", "stop_id")),
}
"""The files that are read, by name; no other member of a zip is ever opened."""


def finite(column: str, dtype: type[pl.DataType] = pl.Float64) -> pl.Expr:
    """A column of texts as numbers; null where a text is none, or is infinite."""
    number = pl.col(column).cast(dtype, strict=False)
    return pl.when(number.is_finite()).then(number)


class GtfsZip:
    """The tables of one feed.

    Args:
        folder: The open zip.
        name: The feed's own name for it, for errors.
    """

    def __init__(self, folder: ZipFolder, name: str) -> None:
        self._folder = folder
        self._name = name

    def __contains__(self, file: str) -> bool:
        return file in self._folder

    def where(self, file: str) -> str:
        """What to name in an error about one of the files."""
        return f"{self._name}: {file}"

    def refuse_without(self, *files: str) -> None:
        """Refuses a zip that lacks any of the files.

        Raises:
            FeedError: It does.
        """
        missing = [file for file in files if file not in self]
        if missing:
            raise FeedError(
                "the zip lacks files that every GTFS feed has", where=self._name, expected=", ".join(missing)
            )

    def table(self, file: str) -> pl.DataFrame:
        """A whole file: its known columns as texts, trimmed, null where empty or absent, and ``__row``.

        Raises:
            FeedError: As :meth:`pieces`.
        """
        empty = pl.DataFrame(schema=dict.fromkeys(TABLES[file].columns, pl.String) | {ROW: pl.UInt64})
        return pl.concat([empty, *self.pieces(file)])

    def pieces(self, file: str, columns: Collection[str] | None = None) -> Iterator[pl.DataFrame]:
        """A file piece by piece, as :meth:`table` has it; nothing where the zip has no such file.

        Args:
            file: One of :data:`TABLES`.
            columns: Only these.

        Raises:
            FeedError: A required column is missing, or the file is damaged, too long, or no table.
            SourceRefused: A cap of :mod:`mtgpt.ingest.guard.archive`.
        """
        if file not in self:
            return
        table = TABLES[file]
        wanted = [name for name in table.columns if columns is None or name in columns]

        def choose(names: Sequence[str]) -> list[str]:
            missing = [name for name in table.required if name not in names]
            if missing:
                raise FeedError(
                    "columns are missing", where=self.where(file), got=", ".join(names), expected=", ".join(missing)
                )
            return [name for name in wanted if name in names]

        absent = pl.lit(None, pl.String)
        for first, texts in self._texts(file, choose):
            trimmed = texts.select(pl.all().str.strip_chars())
            piece = trimmed.select(
                *(
                    (pl.when(pl.col(name) != "").then(pl.col(name)) if name in texts.columns else absent).alias(name)
                    for name in wanted
                ),
                pl.int_range(first, first + texts.height, dtype=pl.UInt64).alias(ROW),
            )
            blank = piece.select(pl.all_horizontal(pl.col(wanted).is_null())).to_series()
            yield piece.filter(~blank) if blank.any() else piece

    def raw_rows(self, file: str, rows: pl.Series) -> Iterator[pl.DataFrame]:
        """Rows of a file as they are written, piece by piece: every column, and ``__row``.

        Args:
            file: One of :data:`TABLES`.
            rows: uint64 row numbers.
        """
        for first, texts in self._texts(file, list):
            numbered = texts.with_columns(pl.int_range(first, first + texts.height, dtype=pl.UInt64).alias(ROW))
            yield numbered.filter(pl.col(ROW).is_in(rows.implode()))

    def _texts(self, file: str, choose: Callable[[Sequence[str]], list[str]]) -> Iterator[tuple[int, pl.DataFrame]]:
        # Pieces with the number of their first row; blank lines are counted, so that a number leads to its line.
        where = self.where(file)
        with self._folder.open(file) as stream:
            names = _header(stream, where)
            chosen = choose(names)
            first, line = 0, 2
            yield 0, pl.DataFrame(schema=dict.fromkeys(chosen, pl.String))
            for data in _whole_records(stream, where):
                texts = _parsed(data, names, chosen, where=where, line=line)
                yield first, texts
                first += texts.height
                line += data.count(b"\n")
                if first > TABLES[file].most_rows:
                    raise FeedError("the file is too long", where=where, expected=f"{TABLES[file].most_rows:,} rows")


def _header(stream: BinaryIO, where: str) -> list[str]:
    line = stream.readline(_LONGEST_RECORD)
    refuse_other_than_text(line, where=where)
    if not line.strip():
        raise FeedError("the first line is empty", where=where, expected="a table with a header")
    try:
        names = next(csv.reader(io.StringIO(utf8(line, where=where)), skipinitialspace=True), [])
    except csv.Error as error:
        raise FeedError("not a csv", where=where, got=str(error)) from None
    seen: set[str] = set()
    unique = []
    for number, name in enumerate(name.strip().lower() for name in names):
        # A name that stands twice, or none at all, is no column that anyone could mean.
        unique.append(f"__{number}" if not name or name in seen else name)
        seen.add(name)
    return unique


def _whole_records(stream: BinaryIO, where: str) -> Iterator[bytes]:
    rest = b""
    while data := stream.read(_PIECE_BYTES):
        data = rest + data
        cut = _last_record_end(data)
        rest = data[cut:]
        if len(rest) > _LONGEST_RECORD:
            raise no_table(rest, ValueError("a line of more than 1 MB"), where=where)
        if cut:
            yield data[:cut]
    if rest.strip():
        yield rest


def _last_record_end(data: bytes) -> int:
    # A line end ends a record where as many quotes were closed as opened before it.
    cut = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, cut)
    while quotes % 2 and cut > 0:
        quote = data.rfind(b'"', 0, cut)
        quotes -= data.count(b'"', quote, cut)
        cut = data.rfind(b"\n", 0, quote) + 1
        quotes -= data.count(b'"', cut, quote)
    return cut


def _parsed(data: bytes, names: Sequence[str], columns: Sequence[str], *, where: str, line: int) -> pl.DataFrame:
    try:
        return pl.read_csv(
            data,
            has_header=False,
            schema=dict.fromkeys(names, pl.String),
            columns=[names.index(name) for name in columns],
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
            missing_columns="insert",
            extra_columns="ignore",
        )
    except pl.exceptions.PolarsError as error:
        return _parsed_slowly(data, names, columns, where=where, line=line, said=error)


def _parsed_slowly(
    data: bytes, names: Sequence[str], columns: Sequence[str], *, where: str, line: int, said: Exception
) -> pl.DataFrame:
    # A quote inside of a field that is not quoted (12" pipe) is odd, and only the slower reader takes it as it stands.
    try:
        rows = list(csv.reader(io.StringIO(data.decode(errors="replace"), newline=""), strict=True))
    except csv.Error:
        raise no_table(data, said, where=where, first_line=line) from None
    places = [names.index(name) for name in columns]
    return pl.DataFrame(
        [[row[place] if place < len(row) else None for place in places] for row in rows],
        schema=dict.fromkeys(columns, pl.String),
        orient="row",
    )
