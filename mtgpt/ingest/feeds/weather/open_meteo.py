"""Open-Meteo's hourly JSON: the archive of reanalyses, and the past hours of the forecast.

What is written at an hour is of two kinds: temperature, wind and humidity are those of that moment, precipitation is
the sum of the hour *before* it. A row of the lake is an hour from ``time_start`` on; so it takes what is written at its
start, and the precipitation written at its end. See https://open-meteo.com/en/docs/historical-weather-api.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, ROW, Chunk, Roles
from mtgpt.ingest.feeds.weather.hours import HOUR_S, MEASURES, ODD, RAIN, UTC, WRITTEN, weather_rows
from mtgpt.ingest.guard.json_document import read_json
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.units import between

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

_MOST_PLACES = 1000
_MOST_OFFSET_S = 18 * HOUR_S
_US = 1_000_000
_LATEST_S = 1 << 33
# The first name that a document has is taken: precipitation has the snow too.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "temperature_c": ("temperature_2m",),
    "wind_m_s": ("wind_speed_10m", "windspeed_10m"),
    "humidity": ("relative_humidity_2m", "relativehumidity_2m"),
    RAIN: ("precipitation", "rain"),
}
_UNITS: Mapping[str, str] = {"temperature_c": "Cel", "wind_m_s": "m/s", "humidity": "1", RAIN: "mm"}
_SPELLINGS: Mapping[str, str] = {"°C": "Cel", "°F": "degF", "mp/h": "mph", "kn": "knot", "ms": "m/s", "kmh": "km/h"}
_TIME = "time"


class OpenMeteoOptions(BaseModel):
    """Options of an ``open_meteo`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    place: int | None = Field(
        default=None,
        ge=0,
        le=_MOST_PLACES - 1,
        description="Which of several places of a document, from 0; the mean over all of them if absent.",
    )


class OpenMeteoAdapter:
    """Reads ``open_meteo`` sources."""

    kind: str = "open_meteo"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = OpenMeteoOptions

    def read(self, files: Mapping[str, FeedFile], options: OpenMeteoOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields hours of weather in order of time.

        Hours that nothing is known of, and those that were not over when the file came, have no row. The last hour of
        a file waits for the next file, which knows its precipitation.

        Raises:
            FeedError: Not such a JSON, Open-Meteo's own word of what is wrong, an unknown unit, or hours and values
                that differ in number.
            SourceRefused: A cap of :func:`mtgpt.ingest.guard.json_document.read_json`.
        """
        file = files[DATA]
        places = _places(read_json(file), options.place, file.name)
        city = _one_city([_stamps(place, file.name) for place in places])
        frame = weather_rows(city, complete_until=_complete_until(city, context.received_at))
        if frame.height:
            yield Chunk(table="weather", frame=frame.with_columns(**_middle(places)))


def _places(document: Any, chosen: int | None, where: str) -> list[dict[str, Any]]:
    places = document if isinstance(document, list) else [document]
    if not places or len(places) > _MOST_PLACES or not all(isinstance(place, dict) for place in places):
        raise FeedError(
            "not weather of Open-Meteo",
            where=where,
            got=type(document).__name__ if len(places) <= _MOST_PLACES else f"{len(places)} places",
            expected=f"an object, or a list of 1 to {_MOST_PLACES}",
        )
    for place in places:
        if place.get("error"):
            raise FeedError("Open-Meteo refused the query", where=where, got=str(place.get("reason")))
    if chosen is None:
        return places
    if chosen >= len(places):
        raise FeedError("no such place in the file", where=where, got=chosen, expected=f"0 to {len(places) - 1}")
    return [places[chosen]]


def _stamps(place: dict[str, Any], where: str) -> pl.DataFrame:
    """What is written at each hour: row, utc, the measures in the lake's units, ``odd``: a text that is no number."""
    hourly, units = place.get("hourly"), place.get("hourly_units")
    if not isinstance(hourly, dict) or not isinstance(units, dict) or not isinstance(hourly.get(_TIME), list):
        raise FeedError(
            "no hourly weather in the file",
            where=where,
            got=", ".join(map(str, list(place)[:10])),
            expected="hourly and hourly_units",
            next_step="ask for it: &hourly=temperature_2m,precipitation,wind_speed_10m",
        )
    times = hourly[_TIME]
    found = {measure: name for measure, names in _NAMES.items() for name in reversed(names) if name in hourly}
    if not found:
        raise FeedError(
            "none of its series is weather that the lake keeps",
            where=where,
            got=", ".join(map(str, list(hourly)[:10])),
            expected=", ".join(names[0] for names in _NAMES.values()),
        )
    columns = {
        ROW: pl.int_range(len(times), dtype=pl.UInt64, eager=True),
        UTC: _instants(times, place, unix=units.get(_TIME) == "unixtime", where=where),
        WRITTEN: pl.Series([str(one)[:80] for one in times], dtype=pl.String),
    }
    odd: dict[int, str] = {}
    for measure, name in found.items():
        conversion = between(_unit(units.get(name)), _UNITS[measure], where=f"{where}: {name}")
        numbers = _numbers(hourly[name], name, len(times), odd, where)
        columns[measure] = numbers * conversion.factor + conversion.offset
    columns[ODD] = pl.Series([odd.get(at) for at in range(len(times))], dtype=pl.String)
    absent = [pl.lit(None, dtype=pl.Float64).alias(measure) for measure in MEASURES if measure not in found]
    return pl.DataFrame(columns).with_columns(absent)


def _unit(written: Any) -> str:
    text = str(written)
    return _SPELLINGS.get(text, text)


def _numbers(values: Any, name: str, count: int, odd: dict[int, str], where: str) -> pl.Series:
    if not isinstance(values, list) or len(values) != count:
        raise FeedError(
            "hours and values differ in number",
            where=f"{where}: {name}",
            got=len(values) if isinstance(values, list) else type(values).__name__,
            expected=f"{count} values",
        )
    numbers: list[float | None] = []
    for at, value in enumerate(values):
        number = _number(value)
        if number is None and value is not None:
            odd[at] = f"{name}: {value!r:.80}"
        numbers.append(number)
    return pl.Series(numbers, dtype=pl.Float64)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _instants(times: list[Any], place: dict[str, Any], *, unix: bool, where: str) -> pl.Series:
    if unix:
        # These are UTC, whatever zone was asked for.
        seconds = [one if type(one) is int and 0 <= one < _LATEST_S else None for one in times]
        return (pl.Series(seconds, dtype=pl.Int64) * _US).cast(UTC_TIME)
    offset = place.get("utc_offset_seconds", 0)
    if type(offset) is not int or abs(offset) > _MOST_OFFSET_S:
        raise FeedError("utc_offset_seconds is no offset", where=where, got=str(offset)[:80])
    # One offset holds for the whole file, also across a change of clocks: its hours are steps of 3600 s.
    texts = pl.Series([one if isinstance(one, str) else None for one in times], dtype=pl.String)
    local = texts.str.to_datetime("%Y-%m-%dT%H:%M", time_unit="us", strict=False)
    return (local.cast(pl.Int64) - offset * _US).cast(UTC_TIME)


def _one_city(stamps: list[pl.DataFrame]) -> pl.DataFrame:
    everything = pl.concat(stamps)
    if len(stamps) == 1:
        return everything
    readable = everything.filter(pl.col(UTC).is_not_null())
    mean = readable.group_by(UTC, maintain_order=True).agg(
        pl.col(ROW, WRITTEN).first(), *(pl.col(name).mean() for name in MEASURES), pl.col(ODD).drop_nulls().first()
    )
    return pl.concat([mean, everything.filter(pl.col(UTC).is_null())], how="diagonal")


def _complete_until(stamps: pl.DataFrame, received_at: datetime) -> datetime:
    hour = timedelta(hours=1)
    rained = stamps.filter(pl.col(RAIN).is_not_null())[UTC].max()
    over = received_at - hour
    return min(rained - hour, over) if isinstance(rained, datetime) else over


def _middle(places: list[dict[str, Any]]) -> dict[str, pl.Expr]:
    found = [(place.get("longitude"), place.get("latitude")) for place in places]
    known = [(lon, lat) for lon, lat in found if isinstance(lon, int | float) and isinstance(lat, int | float)]
    if not known or len(known) != len(found):
        return {axis: pl.lit(None, dtype=pl.Float64) for axis in ("lon", "lat")}
    lon, lat = (sum(float(one[axis]) for one in known) / len(known) for axis in (0, 1))
    return {"lon": pl.lit(round(lon, 4)), "lat": pl.lit(round(lat, 4))}
