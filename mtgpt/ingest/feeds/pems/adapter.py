"""Caltrans PeMS: five-minute station records and the list of stations, as its data clearing house gives them.

A record has no header: local time, station, district, freeway, direction, lane type, length (miles), samples, share
observed (%), flow (vehicles in five minutes), occupancy, speed (mph), then samples, flow, occupancy, speed and observed
of each lane. What PeMS did not observe it fills in: such values are guesses of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, FAULT, ROW, Chunk, Roles
from mtgpt.ingest.feeds.pems.stations import seen_spots, station_spots
from mtgpt.ingest.guard.archive import open_guarded
from mtgpt.ingest.guard.table_file import whole_lines
from mtgpt.ingest.guard.text import refuse_other_than_text
from mtgpt.ingest.rows.localtime import clock_to_utc
from mtgpt.ingest.rows.marks import (
    LINE_WIDTH,
    NUMBER_UNREADABLE,
    TIME_DOES_NOT_EXIST,
    TIME_UNREADABLE,
    first_fault,
    marked,
)
from mtgpt.ingest.rows.units import MILE_M

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

STATIONS = "stations"
_INTERVAL_S = 300
_COLUMNS = (
    "time", "station", "district", "freeway", "direction", "lane_type", "length", "samples", "observed", "flow",
    "occupancy", "speed",
)  # fmt: skip
_FEWEST = len(_COLUMNS)
_PER_LANE = 5
_MOST_LANES = 16
_VARIABLES: Mapping[str, float] = {"flow": 3600 / _INTERVAL_S, "occupancy": 1.0, "speed": MILE_M / 1000}
_TIME = "%m/%d/%Y %H:%M:%S"
_FACTS = ("station", "freeway", "direction", "lane_type")
# More five-minute steps than a day has: what decides which pass of a repeated hour is meant.
_TICKS_BACK = 1000

GUESSED = 0.0
"""Quality of a value that PeMS filled in; an observed one has the share of lane samples that were observed."""


class PemsOptions(BaseModel):
    """Options of a ``pems`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lane_types: tuple[Literal["ML", "HV", "FR", "OR", "FF", "CD", "CH"], ...] | None = Field(
        default=None, min_length=1, description="Kinds of lanes to keep (ML mainline, HV carpool, …); all if absent."
    )
    filled: Literal["keep", "drop"] = Field(
        default="keep",
        description="Values that PeMS filled in because nothing was observed: keep them with quality 0, or drop them.",
    )
    least_observed: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of lane samples that must be observed, else a value counts as filled in.",
    )


class PemsAdapter:
    """Reads ``pems`` sources; ``stations`` is the district's metadata."""

    kind: str = "pems"
    version: int = 1
    roles: Roles = Roles(optional=frozenset({STATIONS}))
    Options: type[BaseModel] = PemsOptions

    def read(self, files: Mapping[str, FeedFile], options: PemsOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields the stations, then flow, occupancy and speed in the order of the file.

        Raises:
            FeedError: Empty, damaged, or not such a file.
        """
        file = files[DATA]
        wanted = None if options.lane_types is None else frozenset(options.lane_types)
        if STATIONS in files:
            yield station_spots(files[STATIONS], wanted)
        clock = _Clock(zone=context.time_zone)
        seen: dict[str, tuple[str | None, ...]] = {}
        read = 0
        for raw in _records(file):
            read += raw.height
            kept = raw if wanted is None else raw.filter(pl.col("lane_type").is_in(list(wanted)) | pl.col("odd_width"))
            if STATIONS not in files:
                _note(seen, kept)
            yield Chunk(table="observation", frame=_observations(kept, clock.utc(kept), options))
        if not read:
            raise FeedError("the file is empty", where=file.name, expected="a line per station and five minutes")
        if seen:
            yield seen_spots(pl.DataFrame(list(seen.values()), schema=list(_FACTS), orient="row"))


class _Clock:
    """Local times as UTC across the pieces of a file, whose clock may step back once a year.

    A time stands in as many lines as there are stations; the clock is what is left when these are taken as one.
    """

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._past = pl.Series("local", [], dtype=pl.Datetime("us"))

    def utc(self, records: pl.DataFrame) -> pl.Series:
        """[n] UTC times of the records' naive ``local``."""
        local = records["local"]
        last = self._past[-1:].extend(local[:-1]) if len(self._past) else local.shift(1)
        begins = local.ne_missing(last)
        if len(begins) and not len(self._past):
            begins = begins.scatter(0, True)
        ticks = local.filter(begins)
        clock = clock_to_utc(self._past.append(ticks), self._zone)
        run = begins.cast(pl.UInt32).cum_sum()
        at = run.cast(pl.Int64) + (len(self._past) - len(ticks) - 1)
        self._past = self._past[-_TICKS_BACK:]
        return clock.gather(at)


def _records(file: FeedFile) -> Iterator[pl.DataFrame]:
    first = 0
    with open_guarded(file.path, file.name) as stream:
        for piece in whole_lines(stream, where=file.name):
            if first == 0:
                _check_head(piece, file.name)
            raw = _cut(piece).with_columns(pl.int_range(first, first + pl.len(), dtype=pl.UInt64).alias(ROW))
            first += raw.height
            if raw.height:
                yield raw


def _cut(piece: bytes) -> pl.DataFrame:
    lines = pl.Series("line", piece.decode("utf-8", "replace").split("\n"), dtype=pl.String).str.strip_chars_end("\r")
    cells = (
        lines.filter(lines != "")
        .to_frame()
        .select(
            pl.col("line").str.split_exact(",", _FEWEST).struct.rename_fields([*_COLUMNS, "lanes"]),
            commas=pl.col("line").str.count_matches(",", literal=True).cast(pl.Int32),
        )
        .unnest("line")
        .drop("lanes")
    )
    beyond = pl.col("commas") + 1 - _FEWEST
    texts = [pl.when(pl.col(name) != "").then(pl.col(name).str.strip_chars()).alias(name) for name in _COLUMNS]
    return cells.with_columns(
        *texts,
        pl.col("time").str.to_datetime(_TIME, time_unit="us", strict=False).alias("local"),
        odd_width=(beyond % _PER_LANE != 0) | ~beyond.is_between(0, _MOST_LANES * _PER_LANE),
    ).drop("commas")


def _check_head(piece: bytes, where: str) -> None:
    refuse_other_than_text(piece[:4096], where=where)
    line = piece.split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    time = pl.Series([line.split(",")[0]]).str.to_datetime(_TIME, strict=False)
    if time.null_count() and line.count(",") < _FEWEST - 1:
        raise FeedError(
            "not a record of PeMS's five-minute stations",
            where=where,
            got=line[:80],
            expected="MM/DD/YYYY HH:MM:SS,station,district,freeway,…",
        )


def _observations(raw: pl.DataFrame, utc: pl.Series, options: PemsOptions) -> pl.DataFrame:
    numbers = ("observed", *_VARIABLES)
    typed = raw.with_columns(
        utc.alias("time_start"), *(pl.col(name).cast(pl.Float64, strict=False).alias(f"{name}_n") for name in numbers)
    )
    no_time = pl.col("time_start").is_null()
    lost = pl.any_horizontal(pl.col(name).is_not_null() & pl.col(f"{name}_n").is_null() for name in numbers)
    fault = first_fault(
        (pl.col("odd_width"), LINE_WIDTH),
        (pl.col("local").is_null(), TIME_UNREADABLE),
        (no_time, TIME_DOES_NOT_EXIST),
        (lost, NUMBER_UNREADABLE),
    )
    typed = typed.with_columns(fault)
    sound = typed.filter(pl.col(FAULT).is_null())
    observed = pl.col("observed_n") / 100
    enough = (observed > 0) & (observed >= options.least_observed)
    quality = pl.when(enough).then(observed).when(observed.is_not_null()).then(pl.lit(GUESSED))
    sound = sound.with_columns(quality=quality)
    if options.filled == "drop":
        sound = sound.filter(pl.col("quality").is_null() | (pl.col("quality") > GUESSED))
    parts = [
        sound.filter(pl.col(f"{name}_n").is_not_null()).select(
            ROW,
            "time_start",
            "quality",
            pl.col("station").alias("spot_id"),
            variable=pl.lit(name),
            interval_s=pl.lit(_INTERVAL_S, dtype=pl.Int32),
            value=(pl.col(f"{name}_n") * factor).cast(pl.Float32),
        )
        for name, factor in _VARIABLES.items()
    ]
    bad = typed.filter(pl.col(FAULT).is_not_null())
    if not bad.height:
        return pl.concat(parts)
    # A line that cannot be read is one bad row, whatever it would have held.
    broken = bad.select(ROW, "time_start", FAULT, pl.col("station").alias("spot_id"))
    return pl.concat([*parts, marked(broken, bad.select(_COLUMNS))], how="diagonal")


def _note(seen: dict[str, tuple[str | None, ...]], records: pl.DataFrame) -> None:
    sound = records.filter(~pl.col("odd_width") & pl.col("station").is_not_null() & pl.col("local").is_not_null())
    for row in sound.select(_FACTS).unique("station", keep="first", maintain_order=True).iter_rows():
        seen.setdefault(row[0], row)
