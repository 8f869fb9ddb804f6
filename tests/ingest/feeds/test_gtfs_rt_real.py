"""What BART, Caltrain and New York's subway really sent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.gtfs_rt.adapter import GtfsRtAdapter, GtfsRtOptions
from tests.ingest.gtfs_rt_feed import context, file

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.real_data
NEW_YORK, CALIFORNIA = "America/New_York", "America/Los_Angeles"


@pytest.fixture
def sent(real_data, tmp_path) -> Callable[..., dict[str, pl.DataFrame]]:
    """Reads one message, with or without its timetable."""

    def raw(name: str, role: str):
        return file(tmp_path, (real_data / "gtfs_rt" / name).read_bytes(), name, role)

    def read(name: str, zone: str, static: str | None = None) -> dict[str, pl.DataFrame]:
        files = {"data": raw(name, "data")} | ({"static": raw(static, "static")} if static else {})
        chunks = GtfsRtAdapter().read(files, GtfsRtOptions(), context(datetime.now(UTC), zone))
        return {chunk.table: chunk.frame for chunk in chunks}

    return read


def faults(tables: dict[str, pl.DataFrame]) -> int:
    return sum(int(one["__fault"].is_not_null().sum()) for one in tables.values() if "__fault" in one.columns)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("gtfs-20160512T0400Z", {"stop_visit": 2079, "vehicle": 68, "event": 1}),
        ("gtfs-20160512T0401Z", {"stop_visit": 2060, "vehicle": 68, "event": 1}),
        ("gtfs_7_20190601_112825.gtfs", {"stop_visit": 326, "vehicle": 27}),
        ("gtfs_7_20190601_112855.gtfs", {"stop_visit": 323, "vehicle": 27}),
        ("gtfs_7_20190601_112925.gtfs", {"stop_visit": 321, "vehicle": 27}),
        ("gtfs_7_20190601_112955.gtfs", {"stop_visit": 341, "vehicle": 27}),
    ],
)
def test_messages_of_new_york_s_subway_are_read_whole(sent, name, rows):
    tables = sent(name, NEW_YORK)
    assert {table: frame.height for table, frame in tables.items()} == rows
    assert faults(tables) == 0


def test_trains_of_bart_have_line_direction_and_day_from_the_timetable(sent):
    alone = sent("bart-trip-updates.pb", CALIFORNIA)["stop_visit"]
    planned = sent("bart-trip-updates.pb", CALIFORNIA, "bart_static_for_rt.zip")["stop_visit"]
    assert alone.height == 1060
    assert alone["route_id"].null_count() == 1060
    assert planned["service_date"].unique().to_list() == [date(2019, 8, 7)]
    known = planned.filter(pl.col("status") == "scheduled")
    assert known["route_id"].is_not_null().mean() > 0.95
    # What the feed lists stays as it is; what follows from it comes beside.
    assert alone.join(planned, on=["trip_id", "spot_id", "time", "delay_s"], how="semi").height == 1060


def test_trains_of_caltrain_have_a_delay_from_the_timetable(sent):
    alone = sent("ct-trip-updates.pb", CALIFORNIA)["stop_visit"]
    planned = sent("ct-trip-updates.pb", CALIFORNIA, "caltrain_static_for_rt.zip")["stop_visit"]
    assert (alone.height, alone["delay_s"].null_count()) == (220, 220)
    assert planned["delay_s"].null_count() == 0
    assert -180 < planned["delay_s"].min() <= planned["delay_s"].median() < 60
    assert planned["delay_s"].max() < 1800


def test_positions_alerts_and_no_alerts_are_read(sent):
    places = sent("ct-vehicle-positions.pb", CALIFORNIA)["vehicle"]
    assert places.height == 14
    assert places["lon"].is_between(-123, -121).all()
    (alert,) = sent("bart-alerts.pb", CALIFORNIA)["event"].to_dicts()
    assert (alert["language"], alert["effect"]) == ("en-US", "SIGNIFICANT_DELAYS")
    assert "Montgomery" in alert["title"]
    assert sent("ct-service-alerts.pb", CALIFORNIA)["event"].height == 0


def test_what_is_no_message_is_refused_in_one_sentence(sent):
    with pytest.raises(FeedError) as refused:
        sent("invalid.pb", CALIFORNIA)
    assert refused.value.sentence().startswith("invalid.pb: not a GTFS-Realtime message (got not valid pb data")
