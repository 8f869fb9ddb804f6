# ruff: noqa: DTZ001 - a feed's local times are naive

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtgpt.ingest.rows.localtime import clock_to_utc, journey_to_utc, to_utc

ZONES = (
    "America/New_York",
    "Australia/Melbourne",
    "Europe/Vienna",
    "Asia/Shanghai",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
)


def clock(texts: list[str], zone: str) -> list[str | None]:
    times = pl.Series(texts).str.to_datetime("%Y-%m-%d %H:%M", time_unit="us")
    return [None if one is None else one.strftime("%d %H:%M") for one in clock_to_utc(times, zone)]


def test_a_skipped_hour_becomes_null_and_its_neighbours_follow_each_other():
    texts = ["2020-03-08 01:30", "2020-03-08 02:00", "2020-03-08 02:59", "2020-03-08 03:00"]
    assert clock(texts, "America/New_York") == ["08 06:30", None, None, "08 07:00"]


def test_a_repeated_hour_written_once_is_its_first_pass():
    texts = ["2020-11-01 00:00", "2020-11-01 01:00", "2020-11-01 02:00"]
    assert clock(texts, "America/New_York") == ["01 04:00", "01 05:00", "01 07:00"]


def test_an_hourly_clock_that_writes_the_repeated_hour_twice_keeps_both_passes():
    texts = ["2020-11-01 00:00", "2020-11-01 01:00", "2020-11-01 01:00", "2020-11-01 02:00"]
    assert clock(texts, "America/New_York") == ["01 04:00", "01 05:00", "01 06:00", "01 07:00"]


def test_two_years_in_one_feed_each_keep_their_own_second_pass():
    one = ["01:00", "01:30", "01:00", "01:30"]
    texts = [f"2020-11-01 {time}" for time in one] + [f"2021-11-07 {time}" for time in one]
    expected = ["05:00", "05:30", "06:00", "06:30"]
    assert clock(texts, "America/New_York") == [f"01 {time}" for time in expected] + [f"07 {time}" for time in expected]


def test_a_time_that_cannot_be_read_stays_null_in_the_middle_of_a_repeated_hour():
    times = pl.Series([datetime(2020, 11, 1, 1), None, datetime(2020, 11, 1, 1, 30)], dtype=pl.Datetime("us"))
    assert clock_to_utc(times, "America/New_York").is_null().to_list() == [False, True, False]


@pytest.mark.parametrize("zone", ZONES)
@given(start=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)), minutes=st.sampled_from([15, 60]))
def test_an_ordered_local_clock_comes_back_as_the_utc_clock_that_wrote_it(zone: str, start: datetime, minutes: int):
    # Lord Howe goes back by half an hour, which an hourly clock steps over.
    minutes = 15 if zone == "Australia/Lord_Howe" else minutes
    first = start.replace(second=0, microsecond=0, minute=0, tzinfo=UTC)
    written = [first + timedelta(minutes=minutes * step) for step in range(3 * 24)]
    local = pl.Series([one.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for one in written], dtype=pl.Datetime("us"))
    # Where a feed has readings of the second pass only, nothing in it tells.
    assume(written[0].astimezone(ZoneInfo(zone)).fold == 0)
    assert clock_to_utc(local, zone).to_list() == written


def test_a_journey_across_the_end_of_daylight_saving_does_not_end_before_it_began():
    frame = pl.DataFrame({"a": [datetime(2020, 11, 1, 1, 50)], "b": [datetime(2020, 11, 1, 1, 10)]})
    start, end = journey_to_utc(frame, "a", "b", "America/New_York").row(0)
    assert end - start == timedelta(minutes=20)


def test_a_journey_that_really_runs_backwards_stays_so():
    frame = pl.DataFrame({"a": [datetime(2020, 6, 1, 12)], "b": [datetime(2020, 6, 1, 11)]})
    start, end = journey_to_utc(frame, "a", "b", "America/New_York").row(0)
    assert end - start == timedelta(hours=-1)


def test_utc_is_a_zone_like_any_other():
    frame = pl.DataFrame({"a": [datetime(2020, 3, 8, 2, 30)]})
    assert frame.select(to_utc(pl.col("a"), "UTC")).item() == datetime(2020, 3, 8, 2, 30, tzinfo=UTC)
