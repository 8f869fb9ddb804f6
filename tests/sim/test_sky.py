"""Days and weather of the simulated city."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np

from mtgpt.sim.sky import days, make_weather


def test_the_day_on_which_clocks_go_forward_has_23_hours():
    period = days(28)
    assert {day.date: day.hours for day in period if day.hours != 24} == {date(2024, 3, 31): 23}


def test_days_follow_each_other_without_a_gap():
    period = days(28)
    for day, following in pairwise(period):
        assert day.start + timedelta(hours=day.hours) == following.start


def test_local_midnight_is_23_o_clock_utc_in_winter_time_and_22_in_summer_time():
    period = days(28)
    assert period[0].start == datetime(2024, 3, 10, 23, tzinfo=UTC)
    assert period[-1].start == datetime(2024, 4, 6, 22, tzinfo=UTC)


def test_the_clock_jumps_from_two_to_three():
    (day,) = (day for day in days(28) if day.hours == 23)
    assert day.clock(np.array([1.0, 2.0, 3.0]) * 3600).tolist() == [1.0, 3.0, 4.0]


def test_easter_monday_is_a_day_off_and_the_tuesday_after_is_not():
    off = {day.date: day.day_off for day in days(28)}
    assert off[date(2024, 4, 1)]
    assert not off[date(2024, 4, 2)]


def test_some_hours_are_wet_most_are_dry_and_the_same_seed_gives_the_same_sky():
    period = days(28)
    weather, again = (make_weather(period, np.random.default_rng(7)) for _ in range(2))
    assert 0.03 < (weather.rain_mm > 0).mean() < 0.3
    assert weather.rain_mm.min() == 0
    assert np.array_equal(weather.rain_mm, again.rain_mm)
    assert len(weather.temperature_c) == 28 * 24 - 1
