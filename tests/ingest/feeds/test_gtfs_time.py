"""Seconds of a service day, which counts from noon."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.ingest.feeds.gtfs.time import clock_text, seconds_of_day, service_time, service_times

NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("08:00:00", 28_800),
        ("8:00:00", 28_800),
        ("00:00:00", 0),
        ("25:10:05", 90_605),
        ("71:59:59", 259_199),
        ("72:00:00", None),
        ("999:00:00", None),
        ("08:00", None),
        ("08:60:00", None),
        ("-1:00:00", None),
        ("08:00:0x", None),
        ("８:00:00", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_strictly(text, seconds):
    assert seconds_of_day(pl.Series("t", [text, "01:00:00"], dtype=pl.String)).to_list() == [seconds, 3600]


@given(st.lists(st.integers(0, 259_199), max_size=50))
def test_what_is_written_is_read_back(seconds):
    frame = pl.DataFrame({"s": seconds}, schema={"s": pl.Int32})
    texts = frame.select(clock_text(pl.col("s"))).to_series()
    assert seconds_of_day(texts).to_list() == seconds


def test_a_trip_keeps_its_clock_time_on_the_days_when_the_clocks_change():
    for day in (date(2024, 3, 10), date(2024, 11, 3), date(2024, 7, 1)):
        local = service_time(day, 8 * 3600, NEW_YORK).astimezone(ZoneInfo(NEW_YORK))
        assert (local.date(), local.hour) == (day, 8)


def test_midnight_of_the_timetable_is_an_hour_off_the_clock_when_the_clocks_change():
    spring = service_time(date(2024, 3, 10), 0, NEW_YORK).astimezone(ZoneInfo(NEW_YORK))
    autumn = service_time(date(2024, 11, 3), 0, NEW_YORK).astimezone(ZoneInfo(NEW_YORK))
    assert spring.replace(tzinfo=None) == datetime(2024, 3, 9, 23)  # noqa: DTZ001 - a clock on a wall
    assert autumn.replace(tzinfo=None) == datetime(2024, 11, 3, 1)  # noqa: DTZ001 - a clock on a wall


def test_times_past_midnight_belong_to_the_next_day():
    assert service_time(date(2024, 7, 1), 25 * 3600, NEW_YORK) == datetime(2024, 7, 2, 5, tzinfo=UTC)


@given(
    day=st.dates(date(2020, 1, 1), date(2030, 12, 31)),
    seconds=st.integers(0, 259_199),
    zone=st.sampled_from([NEW_YORK, "Europe/Oslo", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata"]),
)
def test_columns_and_single_times_agree_and_seconds_are_seconds(day, seconds, zone):
    frame = pl.DataFrame({"day": [day], "s": [seconds]})
    column = frame.select(service_times(pl.col("day"), pl.col("s"), zone)).item()
    assert column == service_time(day, seconds, zone)
    assert service_time(day, seconds, zone) - service_time(day, 0, zone) == timedelta(seconds=seconds)
