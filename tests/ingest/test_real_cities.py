"""Every manifest of real data, read and judged from the published files."""

# ruff: noqa: DTZ001 - a feed's local times are naive

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from mtgpt.contracts.registry import contract
from mtgpt.contracts.verdict import judge
from mtgpt.ingest.adapter import FeedContext
from mtgpt.ingest.adapters import adapters
from mtgpt.ingest.manifest import load_manifest, source_options
from mtgpt.ingest.pull.locate import locate
from mtgpt.settings import Settings
from tests.ingest.feed_files import RECEIVED, feed_file

pytestmark = pytest.mark.real_data


@dataclass(kw_only=True)
class Landed:
    """What became of a city's rows."""

    rows: Counter = field(default_factory=Counter)
    bad: Counter = field(default_factory=Counter)
    duplicates: Counter = field(default_factory=Counter)
    good: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def table(self, name: str) -> pl.DataFrame:
        return pl.concat(self.good[name])


def land(city: str, real_data: Path, batches: slice = slice(None)) -> Landed:
    settings = Settings(real_data=real_data)
    manifest = load_manifest(city, settings=settings)
    landed = Landed()
    for source in manifest.sources:
        adapter = adapters()[source.kind]
        context = FeedContext(
            city_id=manifest.city, time_zone=manifest.time_zone, source_id=source.id, received_at=RECEIVED, salt=b"s"
        )
        for batch in locate(manifest, source, settings)[batches]:
            files = {role: feed_file(Path(path), role) for role, path in batch.files.items()}
            for chunk in adapter.read(files, source_options(source, adapter), context):
                added = {"city_id": city, "source_id": source.id, "batch_id": "b"}
                known = contract(chunk.table).polars_schema
                frame = chunk.frame.with_columns(
                    pl.lit(text).alias(name) for name, text in added.items() if name in known
                )
                verdict = judge(frame, contract(chunk.table), received_at=RECEIVED)
                assert verdict.good.height + verdict.bad.height + verdict.duplicates == frame.height
                landed.rows[chunk.table] += frame.height
                landed.duplicates[chunk.table] += verdict.duplicates
                landed.bad.update(verdict.by_rule())
                landed.good.setdefault(chunk.table, []).append(verdict.good)
    return landed


def span(frame: pl.DataFrame, column: str = "time_start") -> tuple[datetime, datetime]:
    return frame.select(pl.col(column).min(), pl.col(column).max().alias("end")).row(0)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_pems07m_is_44_weekdays_of_228_stations(real_data):
    landed = land("pems07m", real_data)
    assert landed.rows == {"spot": 228, "link": 1664, "observation": 12672 * 228}
    assert not landed.bad
    observations = landed.table("observation")
    assert span(observations) == (utc(2012, 5, 1, 7), utc(2012, 6, 30, 6, 55))
    assert observations["value"].mean() == pytest.approx(58.89 * 1.609344, abs=0.02)
    assert landed.table("link")["distance_m"].null_count() == 0


def test_los_loop_is_a_week_of_207_detectors_with_places(real_data):
    landed = land("los_loop", real_data)
    assert landed.rows == {"spot": 207, "link": 2626, "observation": 2016 * 207}
    assert not landed.bad
    spot = landed.table("spot")
    assert spot["lon"].is_between(-118.6, -118.0).all()
    assert spot["spot_id"][0] == "773869"
    assert span(landed.table("observation")) == (utc(2012, 3, 1, 8), utc(2012, 3, 8, 7, 55))


def test_melbourne_books_nothing_in_the_hour_that_was_skipped(real_data):
    landed = land("melbourne_scats", real_data)
    assert landed.rows == {"spot": 140, "observation": 4192 * 96}
    assert landed.bad == {"time_does_not_exist": 4 * 137}
    assert landed.table("spot")["lon"].null_count() == 1
    flow = landed.table("observation").group_by("time_start").agg(pl.col("value").mean()).sort("time_start")
    change = flow.filter(pl.col("time_start").is_between(utc(2006, 10, 28, 15, 30), utc(2006, 10, 28, 16, 15)))
    # Were the counts taken for booked at their start, an hour of zeros would stand between these two.
    assert change["value"].min() > 80
    assert span(landed.table("observation")) == (utc(2006, 9, 30, 14), utc(2006, 10, 31, 12, 45))


def test_the_workbook_of_melbourne_holds_the_same_as_its_csv(real_data):
    folder = real_data / "road_melbourne_scats"
    adapter = adapters()["scats"]
    context = FeedContext(city_id="m", time_zone="Australia/Melbourne", source_id="s", received_at=RECEIVED, salt=b"s")
    both = []
    for suffix in ("csv", "xlsx"):
        file = feed_file(folder / f"Scats_Data_October_2006.{suffix}")
        chunks = adapter.read({"data": file}, adapter.Options(), context)
        both.append(pl.concat([chunk.frame for chunk in chunks if chunk.table == "observation"]))
    columns = ["spot_id", "time_start", "value", "__row", "__fault"]
    assert both[0].select(columns).equals(both[1].select(columns))


def test_beijing_runs_from_five_to_eleven_on_25_weekdays(real_data):
    landed = land("beijing_metro", real_data)
    assert landed.rows == {"spot": 276, "link": 630, "observation": 2 * 276 * 2700}
    assert not landed.bad
    local = landed.table("observation").select(pl.col("time_start").dt.convert_time_zone("Asia/Shanghai")).to_series()
    assert (local.dt.hour().min(), local.dt.hour().max()) == (5, 22)
    assert local.dt.date().n_unique() == 25
    assert local.dt.weekday().max() == 5


@pytest.mark.parametrize(("city", "stations"), [("ev_melbourne", 63), ("ev_sao_paulo", 47)])
def test_charging_has_three_variables_and_the_weather(real_data, city, stations):
    landed = land(city, real_data)
    assert landed.rows == {"spot": stations, "link": stations * 5, "observation": 3 * 4392 * stations, "weather": 4392}
    assert not landed.bad
    assert not +landed.duplicates
    weather = landed.table("weather")
    assert weather["wind_m_s"].mean() == pytest.approx(10.4 / 3.6, abs=0.1)
    assert weather["humidity"].is_between(0, 1).all()


def test_montevideo_lies_in_montevideo(real_data):
    landed = land("montevideo_bus", real_data)
    assert landed.rows == {"spot": 675, "link": 690, "observation": 675 * 744}
    assert not landed.bad
    spot = landed.table("spot")
    assert spot["lon"].is_between(-56.5, -55.9).all()
    assert spot["lat"].is_between(-35.0, -34.6).all()
    # Were the clock off by half a day, the quietest hours would not be those of the night.
    hour = pl.col("time_start").dt.convert_time_zone("America/Montevideo").dt.hour()
    by_hour = landed.table("observation").group_by(hour).agg(pl.col("value").sum()).sort("value")
    assert by_hour["time_start"].head(3).is_between(1, 5).all()


def test_the_windows_of_the_new_york_grid_join_without_a_gap(real_data):
    landed = land("nyc_bike_grid", real_data)
    assert landed.rows["observation"] == 1295 * 128 * 2
    assert not landed.bad
    arrivals = landed.table("observation").filter(pl.col("variable") == "arrivals")
    hours = arrivals.group_by("time_start").agg(pl.col("value").sum()).sort("time_start")
    assert hours["time_start"].diff().drop_nulls().dt.total_hours().unique().to_list() == [1]
    days = hours.group_by(pl.col("time_start").dt.convert_time_zone("America/New_York").dt.date()).agg(
        pl.col("value").sum()
    )
    by_day = dict(days.iter_rows())
    # Labor Day is a quiet Monday.
    assert by_day[datetime(2014, 9, 1).date()] < 0.75 * by_day[datetime(2014, 9, 8).date()]


def test_green_taxis_keep_all_but_the_odd_rows(real_data):
    landed = land("nyc_green_taxi", real_data)
    assert landed.rows == {"spot": 4 * 263, "trip": 379_487}
    assert landed.bad == {
        "distance_m.range": 75, "time_outside_file_period": 18, "end_time.order": 13, "time_does_not_exist": 5
    }  # fmt: skip
    assert landed.duplicates["trip"] == 1038
    spot = landed.table("spot").head(263)
    assert spot.filter(pl.col("lon").is_null())["spot_id"].to_list() == ["57", "104", "105"]
    assert span(landed.table("trip"), "start_time") == (utc(2020, 3, 1, 3, 13, 49), utc(2020, 7, 1, 3, 59, 37))


def test_a_month_of_green_taxis_is_the_same_in_csv_and_parquet(real_data):
    adapter = adapters()["tlc"]
    context = FeedContext(city_id="n", time_zone="America/New_York", source_id="s", received_at=RECEIVED, salt=b"s")
    frames = []
    for suffix in ("csv.gz", "parquet"):
        file = feed_file(real_data / "trips_nyc_green" / f"green_tripdata_2020-05.{suffix}")
        chunks = adapter.read({"data": file}, adapter.Options(), context)
        frames.append(pl.concat([chunk.frame for chunk in chunks if chunk.table == "trip"]))
    assert frames[0].equals(frames[1])


def test_the_stations_of_jersey_city_stay_the_same_across_the_change_of_schema(real_data):
    landed = land("jersey_city_bikes", real_data)
    assert landed.rows["trip"] == 18_565 + 17_719 + 11_624 + 4_881 + 17_123
    assert landed.bad == {"end_time.order": 13}
    assert not +landed.duplicates
    before, after = (set(frame["spot_id"]) for frame in landed.good["spot"][2:4])
    # Rides end at a few stations across the river too.
    assert len(before & after) == 51
    trips = landed.table("trip")
    assert trips["from_spot"].null_count() == 0
    # 68 + 77 rides of the new schema end nowhere; one of them also runs backwards.
    assert trips["to_spot"].null_count() == 144


def test_sensors_that_report_when_they_like_keep_their_own_times(real_data):
    landed = land("twin_cities", real_data)
    assert landed.rows == {"spot": 5, "observation": 15_664}
    assert landed.duplicates == {"spot": 0, "observation": 2}
    assert not landed.bad
    rows = landed.table("observation")
    speed = rows.filter((pl.col("variable") == "speed") & (pl.col("spot_id") == "6005"))
    # 18:22 by the clock of Minneapolis, 90 mph.
    assert speed["time_start"].min() == utc(2015, 8, 31, 23, 22)
    assert speed["value"][0] == pytest.approx(90 * 1.609344, abs=0.01)
    assert rows.filter(pl.col("variable") == "occupancy")["value"].max() == pytest.approx(0.4306, abs=1e-4)
    assert set(rows.filter(pl.col("variable") == "travel_time")["spot_id"]) == {"387", "451"}


def test_new_york_s_taxi_passengers_are_215_days_of_half_hours(real_data):
    landed = land("nyc_taxi_counts", real_data)
    assert landed.rows == {"spot": 1, "observation": 215 * 48}
    assert span(landed.table("observation")) == (utc(2014, 7, 1, 4), utc(2015, 2, 1, 4, 30))
