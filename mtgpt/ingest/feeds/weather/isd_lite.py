"""ISD-Lite: NOAA's hourly weather of one station and year, a fixed-width line per hour in UTC.

Year, month, day, hour; then air temperature, dew point, sea level pressure, wind direction, wind speed, sky cover, rain
of one hour, rain of six hours, six columns each. Numbers are tenths, -9999 is missing, -1 of rain is a trace. See
https://www.ncei.noaa.gov/pub/data/noaa/isd-lite/isd-lite-format.txt.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, ROW, Chunk, Roles
from mtgpt.ingest.feeds.weather.hours import ODD, RAIN, UTC, WRITTEN, weather_rows
from mtgpt.ingest.guard.archive import Caps, open_guarded
from mtgpt.ingest.guard.text import utf8
from mtgpt.ingest.rows.localtime import UTC_TIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

# A year of hours has half a megabyte.
_CAPS = Caps(packed_bytes=64 << 20, expanded_bytes=64 << 20)
_WIDTH, _LEAST_WIDTH, _TIME_WIDTH, _CELL = 61, 43, 13, 6
_CELLS = ("temperature", "dew_point", "pressure", "wind_direction", "wind_speed", "sky", "rain_1h", "rain_6h")
_TIME = "%Y0%m0%d0%H%M"
_USED = ("temperature", "dew_point", "wind_speed", "rain_1h")
_MISSING, _TRACE = -9999, -1
# Magnus's formula with the constants of Alduchov and Eskridge (1996).
_MAGNUS_B, _MAGNUS_C = 17.625, 243.04


class IsdLiteOptions(BaseModel):
    """Options of an ``isd_lite`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    lon: float | None = Field(default=None, ge=-180, le=180, description="Longitude of the station, WGS 84.")
    lat: float | None = Field(default=None, ge=-90, le=90, description="Latitude of the station, WGS 84.")


class IsdLiteAdapter:
    """Reads ``isd_lite`` sources."""

    kind: str = "isd_lite"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = IsdLiteOptions

    def read(self, files: Mapping[str, FeedFile], options: IsdLiteOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields the hours of the file in order of time; humidity follows from the dew point.

        Raises:
            FeedError: Empty, not text, or not lines of that width.
            SourceRefused: More than 64 MB.
        """
        del context
        file = files[DATA]
        with open_guarded(file.path, file.name, caps=_CAPS) as stream:
            text = utf8(stream.read(), where=file.name)
        stamps = _stamps(text, file.name)
        frame = weather_rows(stamps, complete_until=_complete_until(stamps))
        if frame.height:
            place = {axis: pl.lit(getattr(options, axis), dtype=pl.Float64) for axis in ("lon", "lat")}
            yield Chunk(table="weather", frame=frame.with_columns(**place))


def _stamps(text: str, where: str) -> pl.DataFrame:
    lines = pl.Series("line", text.splitlines(), dtype=pl.String).str.strip_chars_end()
    frame = pl.DataFrame({ROW: pl.int_range(len(lines), dtype=pl.UInt64, eager=True), "line": lines})
    frame = frame.filter(pl.col("line") != "")
    if not frame.height:
        raise FeedError("the file is empty", where=where, expected="a line per hour")
    line = pl.col("line")
    width = line.str.len_bytes()
    texts = [
        line.str.slice(_TIME_WIDTH + at * _CELL, _CELL).str.strip_chars().alias(name) for at, name in enumerate(_CELLS)
    ]
    # Minutes, because a time without them is none to the parser.
    time = (line.str.slice(0, _TIME_WIDTH).str.replace_all(" ", "0") + "00").str.to_datetime(_TIME, strict=False)
    cut = frame.with_columns(pl.when(width.is_between(_LEAST_WIDTH, _WIDTH)).then(time).alias(UTC), *texts)
    if cut[UTC].null_count() == cut.height:
        raise FeedError(
            "no line is one of ISD-Lite", where=where, got=cut["line"][0][:80], expected="2012 05 01 00   156 …"
        )
    numbers = cut.with_columns(pl.col(name).cast(pl.Int32, strict=False).alias(f"{name}_n") for name in _USED)
    # Older files end early: their last columns were never written.
    lost = [pl.col(f"{name}_n").is_null() & (pl.col(name) != "") for name in _USED]
    value = {name: _tenths(pl.col(f"{name}_n")) for name in _USED}
    rain = pl.when(pl.col("rain_1h_n") == _TRACE).then(0.0).otherwise(value["rain_1h"])
    return numbers.select(
        ROW,
        pl.col(UTC).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").cast(UTC_TIME),
        pl.col("line").str.slice(0, 100).alias(WRITTEN),
        pl.when(pl.any_horizontal(lost)).then(pl.concat_str(_USED, separator=" ")).alias(ODD),
        value["temperature"].alias("temperature_c"),
        value["wind_speed"].alias("wind_m_s"),
        rain.alias(RAIN),
        humidity=_humidity(value["temperature"], value["dew_point"]),
    )


def _tenths(number: pl.Expr) -> pl.Expr:
    return pl.when(number != _MISSING).then(number.cast(pl.Float64) / 10).round(1)


def _humidity(temperature: pl.Expr, dew_point: pl.Expr) -> pl.Expr:
    def exponent(degrees: pl.Expr) -> pl.Expr:
        return _MAGNUS_B * degrees / (_MAGNUS_C + degrees)

    share = (exponent(dew_point) - exponent(temperature)).exp()
    # Both are rounded to tenths; what is damper than damp by more than that is a fault of a sensor.
    return pl.when(dew_point <= temperature + 0.5).then(pl.min_horizontal(share, pl.lit(1.0)))


def _complete_until(stamps: pl.DataFrame) -> datetime | None:
    # This year's file grows: its last hour waits for the rain that is written at the next.
    last = stamps[UTC].max()
    if not isinstance(last, datetime) or stamps[RAIN].null_count() == stamps.height:
        return None
    return last - timedelta(hours=1)
