"""Weather as a plain csv, a line per hour (or other step): columns and units are named by options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, ROW, Chunk, Roles
from mtgpt.ingest.feeds.matrix.grid_clock import ClockOptions, read_clock
from mtgpt.ingest.guard.table_file import read_table
from mtgpt.ingest.rows.marks import NUMBER_UNREADABLE, TIME_DOES_NOT_EXIST, TIME_UNREADABLE, first_fault, marked
from mtgpt.ingest.rows.units import between

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mtgpt.ingest.adapter import FeedContext, FeedFile

Measure = Literal["temperature_c", "rain_mm", "wind_m_s", "humidity"]
UNITS: Mapping[str, str] = {"temperature_c": "Cel", "rain_mm": "mm", "wind_m_s": "m/s", "humidity": "1"}


class WeatherTableOptions(BaseModel):
    """Options of a ``weather_table`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    time: str = Field(default="time", description="Column of the times.")
    time_format: str | None = Field(default=None, description="strftime format of the times; ISO if absent.")
    clock: Literal["local", "utc"] = Field(default="local", description="Whose times they are.")
    interval_s: int = Field(default=3600, ge=1, le=86_400, description="Length of a step in seconds.")
    columns: dict[Measure, str] = Field(min_length=1, description="Measure → column of the file.")
    units: dict[Measure, str] = Field(
        default_factory=dict,
        description="Measure → unit in the file where it is another: degF, K, inch, km/h, mph, %, …",
    )
    lon: float | None = Field(default=None, ge=-180, le=180, description="Longitude of the place, WGS 84.")
    lat: float | None = Field(default=None, ge=-90, le=90, description="Latitude of the place, WGS 84.")

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        names = [self.time, *self.columns.values()]
        if len(set(names)) < len(names):
            raise ValueError("a column of its own for the time and for each measure")
        return self


class WeatherTableAdapter:
    """Reads ``weather_table`` sources."""

    kind: str = "weather_table"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = WeatherTableOptions

    def read(
        self, files: Mapping[str, FeedFile], options: WeatherTableOptions, context: FeedContext
    ) -> Iterator[Chunk]:
        """Yields the weather in the order of the file.

        Raises:
            FeedError: Columns are missing, or the file is empty, damaged or no table.
        """
        yield weather(files[DATA], options, zone=context.time_zone)


def weather(file: FeedFile, options: WeatherTableOptions, *, zone: str) -> Chunk:
    """The table weather from one file.

    Raises:
        FeedError: As :meth:`WeatherTableAdapter.read`.
    """
    wanted = {options.time: "time", **{column: measure for measure, column in options.columns.items()}}

    def choose(names: Sequence[str]) -> dict[str, str]:
        missing = sorted(wanted.keys() - set(names))
        if missing:
            raise FeedError("columns are missing", where=file.name, got=", ".join(names), expected=", ".join(missing))
        return wanted

    raw = pl.concat(read_table(file, choose))
    clock = read_clock(
        raw["time"],
        ClockOptions(interval_s=options.interval_s, clock=options.clock, time_format=options.time_format),
        zone=zone,
        where=file.name,
    )
    typed = raw.with_columns(
        clock.utc.alias("time_start"), *(pl.col(measure).cast(pl.Float64, strict=False) for measure in options.columns)
    )
    lost = pl.any_horizontal(
        pl.lit(typed[measure].is_null() & raw[measure].is_not_null()) for measure in options.columns
    )
    frame = typed.select(
        ROW,
        "time_start",
        *(_converted(measure, options.units.get(measure), file.name) for measure in options.columns),
        first_fault(
            (~pl.lit(clock.readable), TIME_UNREADABLE),
            (pl.col("time_start").is_null(), TIME_DOES_NOT_EXIST),
            (lost, NUMBER_UNREADABLE),
        ),
        interval_s=pl.lit(options.interval_s, dtype=pl.Int32),
        lon=pl.lit(options.lon, dtype=pl.Float64),
        lat=pl.lit(options.lat, dtype=pl.Float64),
    )
    return Chunk(table="weather", frame=marked(frame, raw.select("time", *options.columns)))


def _converted(measure: str, unit: str | None, where: str) -> pl.Expr:
    conversion = between(unit or UNITS[measure], UNITS[measure], where=f"{where}: {measure}")
    return pl.col(measure) * conversion.factor + conversion.offset
