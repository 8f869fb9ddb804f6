"""SCATS volumes as VicRoads publishes them: a row per site, approach and day, 96 counts of 15 minutes across.

The csv has two header lines, the workbook the same in its sheet ``Data`` beside notes and a summary. The header calls
0:00 the start of V00, and the workbook dates that count 00:15: counts are booked at the end of their quarter. That
decides what happens when the clocks change: on 29 October 2006, when 02:00 became 03:00, the empty counts are V07–V10
(booked at 02:00–02:45, which never came), not V08–V11, and V11 continues where V06 ended. So the end is converted to
UTC and the start lies 15 minutes before it; counts booked at a time that never came are quarantined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import fastexcel
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, FAULT, ROW, Chunk, Roles
from mtgpt.ingest.feeds.matrix.grid_file import line_width
from mtgpt.ingest.guard.archive import checked_zip, open_guarded
from mtgpt.ingest.guard.text import no_table, utf8
from mtgpt.ingest.rows.localtime import to_utc
from mtgpt.ingest.rows.marks import NUMBER_UNREADABLE, TIME_DOES_NOT_EXIST, TIME_UNREADABLE, first_fault, marked
from mtgpt.ingest.rows.places import spots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

SITES = "sites"
_SLOTS = 96
_STEP_S = 900
_ROWS = 10_000
_COUNTS = [f"V{slot:02d}" for slot in range(_SLOTS)]
_FACTS = {
    "SCATS Number": "site",
    "Location": "location",
    "NB_LATITUDE": "lat",
    "NB_LONGITUDE": "lon",
    "Date": "date",
}
# The compass point of the approach. Two approaches of site 4335 bear the same location text, but not the same point.
_POINT = {"VR Internal Loc": "point"}
_SHEET = "Data"


class ScatsOptions(BaseModel):
    """Options of a ``scats`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    date_format: str = Field(
        default="%m/%d/%Y", description="strftime format of dates that are not written 2006-10-29."
    )
    stamp: Literal["end", "start"] = Field(
        default="end", description="Whether counts are booked at the end or the start of their quarter of an hour."
    )


class ScatsAdapter:
    """Reads ``scats`` sources; counts become hourly rates."""

    kind: str = "scats"
    version: int = 1
    roles: Roles = Roles(optional=frozenset({SITES}))
    Options: type[BaseModel] = ScatsOptions

    def read(self, files: Mapping[str, FeedFile], options: ScatsOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields the approaches, then their flows.

        Raises:
            FeedError: No such table, or columns are missing.
        """
        file = files[DATA]
        table = _table(file)
        names = _site_names(files[SITES]) if SITES in files else {}
        # A line that is no day of counts, such as a header in the middle, is no approach either.
        yield _approaches(table.filter(_date(options).is_not_null()), names)
        for part in table.iter_slices(_ROWS):
            yield Chunk(table="observation", frame=_flows(part, options, context.time_zone))


def _table(file: FeedFile) -> pl.DataFrame:
    cells = _workbook(file) if _is_workbook(file) else _csv(file)
    at = next((row for row in range(min(10, cells.height)) if cells.item(row, 0) == "SCATS Number"), None)
    if at is None:
        raise FeedError("no SCATS table", where=file.name, expected="a header line that begins with SCATS Number")
    header = [cell or "" for cell in cells.row(at)]
    wanted = {**_FACTS, **{name: name for name in _COUNTS}}
    missing = [name for name in wanted if name not in header]
    if missing:
        raise FeedError(
            "columns are missing", where=file.name, got=f"{len(header)} columns", expected=", ".join(missing)
        )
    wanted |= {name: new for name, new in _POINT.items() if name in header}
    body = cells.slice(at + 1)
    if not body.height:
        raise FeedError("the table has no rows", where=file.name)
    table = body.select(
        pl.col(cells.columns[header.index(name)]).str.strip_chars().alias(new) for name, new in wanted.items()
    )
    # A workbook writes an empty cell as a text without letters.
    table = table.with_columns(pl.when(pl.all() != "").then(pl.all()))
    approach = pl.col("point") if "point" in table.columns else _slug("location")
    return (
        table.with_row_index(ROW)
        .with_columns(pl.col(ROW).cast(pl.UInt64), spot_id=pl.concat_str("site", approach, separator="-"))
        .rechunk()
    )


def _slug(column: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "-").str.strip_chars("-")


def _is_workbook(file: FeedFile) -> bool:
    with file.path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04" and file.name.lower().endswith((".xlsx", ".xlsm"))


def _workbook(file: FeedFile) -> pl.DataFrame:
    try:
        book = fastexcel.read_excel(checked_zip(file.path, file.name))
        sheet = _SHEET if _SHEET in book.sheet_names else book.sheet_names[0]
        return book.load_sheet(sheet, header_row=None, dtypes="string").to_polars()
    except fastexcel.FastExcelError as error:
        raise FeedError("not a readable workbook", where=file.name, got=str(error).splitlines()[0]) from None


def _csv(file: FeedFile) -> pl.DataFrame:
    with open_guarded(file.path, file.name) as stream:
        data = stream.read()
    if not data.strip():
        raise FeedError("the file is empty", where=file.name, expected="SCATS volumes")
    data = utf8(data, where=file.name).encode()
    line_width(data, ",", file.name)
    try:
        return pl.read_csv(data, has_header=False, infer_schema=False, truncate_ragged_lines=True)
    except pl.exceptions.PolarsError as error:
        raise no_table(data, error, where=file.name) from None


def _approaches(table: pl.DataFrame, site_names: Mapping[str, str]) -> Chunk:
    place = [pl.col(axis).cast(pl.Float64, strict=False) for axis in ("lon", "lat")]
    known = pl.col("lon").is_not_null() & (pl.col("lon") != 0)
    approaches = (
        table.with_columns(place)
        .group_by("spot_id", maintain_order=True)
        # 0 / 0 stands for a place that nobody entered.
        .agg(pl.col("site", "location").first(), pl.col("lon", "lat").filter(known).first())
        .sort("spot_id")
    )
    return spots(
        approaches["spot_id"],
        kind="approach",
        mode="road",
        name=approaches["location"],
        lon=approaches["lon"],
        lat=approaches["lat"],
        attributes=[
            {"site": site, **({"crossing": site_names[site.lstrip("0")]} if site.lstrip("0") in site_names else {})}
            for site in approaches["site"].fill_null("")
        ],
    )


def _date(options: ScatsOptions) -> pl.Expr:
    return pl.coalesce(
        # A workbook's dates come with a time of day: that of the first count.
        pl.col("date").str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False),
        pl.col("date").str.to_date(options.date_format, strict=False),
    ).cast(pl.Datetime("us"))


def _flows(part: pl.DataFrame, options: ScatsOptions, zone: str) -> pl.DataFrame:
    shift = 1 if options.stamp == "end" else 0
    slots = pl.DataFrame({"slot": _COUNTS, "booked_s": [(slot + shift) * _STEP_S for slot in range(_SLOTS)]})
    long = (
        part.select(ROW, "spot_id", _date(options).alias("day"), "date", *_COUNTS)
        .unpivot(_COUNTS, index=[ROW, "spot_id", "day", "date"], variable_name="slot", value_name="count")
        .join(slots, on="slot", how="left", maintain_order="left")
        # An empty cell was not measured.
        .filter(pl.col("count").is_not_null() & (pl.col("count") != ""))
        .with_columns(
            booked=pl.col("day") + pl.duration(seconds="booked_s"),
            number=pl.col("count").cast(pl.Float64, strict=False),
        )
    )
    frame = long.with_columns(
        time_start=to_utc(pl.col("booked"), zone) - pl.duration(seconds=shift * _STEP_S),
        value=(pl.col("number") * (3600 / _STEP_S)).cast(pl.Float32),
    ).with_columns(
        first_fault(
            (pl.col("day").is_null(), TIME_UNREADABLE),
            (pl.col("time_start").is_null(), TIME_DOES_NOT_EXIST),
            (pl.col("number").is_null(), NUMBER_UNREADABLE),
        ),
        variable=pl.lit("flow"),
        interval_s=pl.lit(_STEP_S, dtype=pl.Int32),
    )
    columns = [ROW, "spot_id", "variable", "time_start", "interval_s", "value", FAULT]
    return marked(frame.select(columns), frame.select("date", "slot", "count", approach="spot_id"))


def _site_names(file: FeedFile) -> Mapping[str, str]:
    """Site number without leading zeros → what crosses there, from VicRoads' site listing."""
    table = _csv(file).select(pl.nth(0).alias("site"), pl.nth(1).alias("name")).drop_nulls()
    numbered = table.filter(pl.col("site").str.contains(r"^\d+$"))
    return {site.lstrip("0"): name.strip() for site, name in numbered.iter_rows()}
