"""Published feeds land as their publishers described them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.lake.batch import BatchResult

pytestmark = pytest.mark.real_data


def _ingest(name: str, real_data: Path, home: Path) -> tuple[list[BatchResult], Lake]:
    settings = Settings(home=home, real_data=real_data)
    lake = Lake.open(settings.lake)
    return ingest_city(load_manifest(name, settings=settings), lake, settings=settings), lake


def test_green_taxis_land_without_the_trips_of_2008_and_2041(real_data: Path, tmp_path: Path) -> None:
    results, lake = _ingest("nyc_green_taxi", real_data, tmp_path)
    assert [result.status for result in results] == ["committed"] * 5
    for one in results:
        assert one.rows_in == one.rows_good + one.rows_quarantined + one.rows_duplicate
    trips = lake.scan("trip").select(pl.col("start_time").min().alias("a"), pl.col("start_time").max().alias("b"))
    first, last = trips.collect().row(0)
    assert (first.year, last.year) == (2020, 2020)
    assert "time_outside_file_period" in lake.quarantine()["rule_id"].to_list()
    counts = lake.scan("observation").group_by("variable").agg(pl.col("value").sum()).collect()
    landed = lake.scan("trip").select(pl.col("from_spot").count(), pl.col("to_spot").count()).collect().row(0)
    assert dict(counts.iter_rows()) == {"departures": landed[0], "arrivals": landed[1]}


def test_pemsd7_lands_with_every_value_of_228_stations_on_44_weekdays(real_data: Path, tmp_path: Path) -> None:
    [result], lake = _ingest("pems07m", real_data, tmp_path)
    assert result.status == "committed"
    assert result.tables["observation"]["good"] == 12_672 * 228
    assert lake.scan("spot").collect().height == 228
    days = lake.scan("observation").select(
        pl.col("time_start").dt.convert_time_zone("America/Los_Angeles").dt.date().unique()
    )
    weekdays = days.collect()["time_start"].dt.weekday()
    assert (len(weekdays), weekdays.max()) == (44, 5)
