"""PeMS's list of the stations of a district (``d07_text_meta_2012_05_01.txt``): tab-separated, with a header."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import ROW, Chunk
from mtgpt.ingest.guard.archive import Caps, open_guarded
from mtgpt.ingest.guard.table_file import choose_columns
from mtgpt.ingest.guard.text import refuse_other_than_text
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import LINE_WIDTH, NUMBER_UNREADABLE, TEXT_UNREADABLE, first_fault, marked
from mtgpt.ingest.rows.places import SINCE_EVER
from mtgpt.ingest.rows.units import MILE_M

if TYPE_CHECKING:
    from collections.abc import Collection

    from mtgpt.ingest.adapter import FeedFile

# All of California has some 40,000 stations; a line has 200 bytes.
_CAPS = Caps(packed_bytes=64 << 20, expanded_bytes=64 << 20)
_MOST_STATIONS = 500_000
_REPLACEMENT = "�"
_COLUMNS = {
    "id": ("ID",), "freeway": ("Fwy",), "direction": ("Dir",), "county": ("County",), "postmile": ("Abs_PM",),
    "lat": ("Latitude",), "lon": ("Longitude",), "length": ("Length",), "type": ("Type",), "lanes": ("Lanes",),
    "name": ("Name",),
}  # fmt: skip
_OPTIONAL = ("county", "postmile", "length", "lanes", "name")
_NUMBERS = ("postmile", "lat", "lon", "length", "lanes")
# PeMS gives the number alone. All others are State Routes; 110 and 210 are both, and Interstates for the most part.
_INTERSTATE = frozenset(
    {5, 8, 10, 15, 40, 80, 105, 110, 205, 210, 215, 238, 280, 380, 405, 505, 580, 605, 680, 710, 780, 805, 880, 980}
)
_US_ROUTE = frozenset({6, 50, 95, 97, 101, 199, 395})


def corridor(freeway: str, direction: str) -> str:
    """What drivers call it: ``US-101 N``, ``I-405 S``, ``SR-60 E``."""
    number = int(freeway) if freeway.isascii() and freeway.isdigit() and len(freeway) <= 4 else None
    if number is None:
        return f"{freeway} {direction}".strip()
    prefix = "I" if number in _INTERSTATE else "US" if number in _US_ROUTE else "SR"
    return f"{prefix}-{number} {direction}".strip()


def station_spots(file: FeedFile, lane_types: Collection[str] | None) -> Chunk:
    """The stations as detectors on roads.

    Args:
        file: The metadata.
        lane_types: Kinds of lanes to keep; None for all.

    Raises:
        FeedError: Not such a table.
        SourceRefused: More than 64 MB.
    """
    frame = _table(file)
    if lane_types is not None:
        frame = frame.filter(pl.col("type").is_in(list(lane_types)) | (pl.col("cells") == 0))
    numbers = {name: pl.col(name).cast(pl.Float64, strict=False) for name in _NUMBERS}
    lost = pl.any_horizontal(number.is_null() & (pl.col(name) != "") for name, number in numbers.items())
    broken = frame.select(
        first_fault(
            (pl.col("cells") == 0, LINE_WIDTH),
            (lost, NUMBER_UNREADABLE),
            (pl.col("name").str.contains(_REPLACEMENT, literal=True), TEXT_UNREADABLE),
        )
    ).to_series()
    typed = frame.with_columns(numbers.values())
    known = pl.col("lon").is_finite() & pl.col("lat").is_finite() & ((pl.col("lon") != 0) | (pl.col("lat") != 0))
    rows = typed.select(
        ROW,
        pl.when(pl.col("id") != "").then("id").alias("spot_id"),
        pl.when(pl.col("name") != "").then(pl.col("name").str.slice(0, 200)).alias("name"),
        *(pl.when(known).then(axis).alias(axis) for axis in ("lon", "lat")),
        pl.Series("attributes", [_attributes(row) for row in typed.iter_rows(named=True)], dtype=pl.String),
        broken,
    )
    return Chunk(table="spot", frame=marked(_as_detectors(rows), frame.drop(ROW, "cells")))


def seen_spots(records: pl.DataFrame) -> Chunk:
    """Stations of which only the records are known: no places.

    Args:
        records: One row per station: station, freeway, direction, lane_type.
    """
    facts = records.select(id="station", freeway="freeway", direction="direction", type="lane_type").fill_null("")
    attributes = [_attributes(row) for row in facts.iter_rows(named=True)]
    rows = facts.select(spot_id="id").with_columns(attributes=pl.Series(attributes, dtype=pl.String))
    return Chunk(table="spot", frame=_as_detectors(rows))


def _as_detectors(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        kind=pl.lit("detector"), mode=pl.lit("road"), valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME)
    )


def _attributes(row: dict[str, Any]) -> str:
    lanes, postmile, length = row.get("lanes"), row.get("postmile"), row.get("length")
    facts = {
        "corridor": corridor(row["freeway"], row["direction"]),
        "freeway": row["freeway"],
        "direction": row["direction"],
        "lane_type": row["type"],
        "county": row.get("county") or None,
        "lanes": lanes,
        "postmile_mi": postmile,
        "length_m": None if length is None else round(length * MILE_M, 1),
    }
    kept = {key: value for key, value in facts.items() if value not in (None, "") and value == value}  # noqa: PLR0124
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def _table(file: FeedFile) -> pl.DataFrame:
    with open_guarded(file.path, file.name, caps=_CAPS) as stream:
        data = stream.read()
    refuse_other_than_text(data[:4096], where=file.name)
    if data.count(b"\n") > _MOST_STATIONS:
        raise FeedError("too many stations", where=file.name, got=data.count(b"\n"), expected=_MOST_STATIONS)
    # A name that is not UTF-8 costs its own row and not the district.
    text = data.decode("utf-8-sig", "replace")
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    except csv.Error as error:
        raise FeedError("not a tab-separated table", where=file.name, got=str(error)) from None
    if len(rows) < 2:
        raise FeedError("the list of stations is empty", where=file.name, expected="a header and a line per station")
    chosen = choose_columns(rows[0], _COLUMNS, file=file.name, optional=_OPTIONAL)
    at = {new: rows[0].index(old) for old, new in chosen.items()}
    least = max(at.values()) + 1
    columns = {
        name: [row[at[name]].strip()[:200] if name in at and len(row) >= least else "" for row in rows[1:]]
        for name in _COLUMNS
    }
    cells = [len(row) if len(row) >= least else 0 for row in rows[1:]]
    return pl.DataFrame(columns, schema=dict.fromkeys(_COLUMNS, pl.String)).with_columns(
        pl.int_range(pl.len(), dtype=pl.UInt64).alias(ROW), cells=pl.Series(cells, dtype=pl.Int64)
    )
