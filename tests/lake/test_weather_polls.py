"""A weather feed that is pulled every hour, each time with the week before it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.feeds.weather.open_meteo import OpenMeteoAdapter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lake.conftest import City

START = datetime(2025, 6, 1, tzinfo=UTC)
UNITS = {"time": "iso8601", "temperature_2m": "°C", "precipitation": "mm"}


def write(path: Path, first: int, hours: int = 48) -> None:
    times = [(START + timedelta(hours=first + hour)).strftime("%Y-%m-%dT%H:%M") for hour in range(hours)]
    hourly = {"time": times, "temperature_2m": list(range(first, first + hours)), "precipitation": [0.5] * hours}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"latitude": 0.1, "longitude": 0.1, "hourly_units": UNITS, "hourly": hourly}), "utf-8")


def test_every_pull_lands_the_hours_since_the_last_one_and_each_of_them_whole(city: City) -> None:
    city.sources.append({"id": "weather", "kind": "open_meteo", "path": "w*.json"})
    for pull, first in enumerate((0, 1, 3)):
        write(city.write(f"w{pull}.json"), first)
    results = city.ingest(kinds={"open_meteo": OpenMeteoAdapter()})
    assert [(one.status, one.rows_good, one.rows_duplicate) for one in results] == [
        ("committed", 48, 0), ("committed", 1, 47), ("committed", 2, 46),
    ]  # fmt: skip
    rows = city.lake.scan("weather").sort("time_start").collect()
    assert rows["time_start"].to_list() == [START + timedelta(hours=hour) for hour in range(-1, 50)]
    assert rows.filter(pl.col("rain_mm").is_null() | pl.col("temperature_c").is_null())["time_start"].to_list() == [
        START - timedelta(hours=1)
    ]
    assert rows["temperature_c"].drop_nulls().to_list() == list(range(50))
