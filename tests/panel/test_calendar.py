from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import PanelError
from mtgpt.panel.calendar import calendar_of, service_rules, service_steps


def axis(start: date, end: date, **rules):
    compiled = service_rules(**{"time_zone": "UTC", "interval_s": 900, **rules})
    time = service_steps(start, end, compiled)
    return time, calendar_of(time, compiled)


def test_the_44_weekdays_of_pemsd7_have_12672_steps_and_the_holiday_is_a_day_off():
    time, calendar = axis(
        date(2012, 5, 1),
        date(2012, 6, 30),
        time_zone="America/Los_Angeles",
        interval_s=300,
        days="weekdays",
        country="US",
    )
    assert time.size == 12672
    assert calendar.slots_per_day == 288
    assert calendar.dates.size == 44
    assert calendar.weekday.max() == 4
    assert calendar.dates[calendar.day_off].tolist() == [date(2012, 5, 28)]


def test_the_day_the_clocks_go_back_has_an_hour_more_and_repeats_its_slots():
    _, calendar = axis(date(2024, 10, 26), date(2024, 10, 28), time_zone="Europe/Berlin")
    assert np.bincount(calendar.day).tolist() == [96, 100, 96]
    repeated = calendar.slot[calendar.day == 1]
    assert np.bincount(repeated)[8:12].tolist() == [2, 2, 2, 2]
    assert repeated.max() == 95


def test_the_day_the_clocks_go_forward_lacks_an_hour_of_slots():
    _, calendar = axis(date(2024, 3, 31), date(2024, 3, 31), time_zone="Europe/Berlin")
    assert calendar.slot.size == 92
    assert set(range(96)) - set(calendar.slot.tolist()) == {8, 9, 10, 11}


def test_half_hour_zones_start_their_days_at_local_midnight():
    time, calendar = axis(date(2024, 1, 1), date(2024, 1, 1), time_zone="Asia/Kolkata", interval_s=3600)
    assert time[0] == np.datetime64("2023-12-31T18:30:00")
    assert calendar.slot.tolist() == list(range(24))


def test_service_past_midnight_belongs_to_the_day_it_began():
    time, calendar = axis(date(2024, 1, 5), date(2024, 1, 6), hours=("05:00", "25:30"))
    assert calendar.slots_per_day == 82
    late = time == np.datetime64("2024-01-06T01:15:00")
    assert calendar.day[late].tolist() == [0]
    assert calendar.slot[late].tolist() == [81]


@settings(max_examples=40, deadline=None)
@given(
    cut=st.integers(1, 900),
    zone=st.sampled_from(["Europe/Berlin", "America/Los_Angeles", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]),
    days=st.sampled_from(["all", "weekdays"]),
    hours=st.sampled_from([("00:00", "24:00"), ("05:00", "23:00"), ("06:00", "27:00")]),
)
def test_a_calendar_extended_from_any_cut_is_the_calendar_of_the_whole(cut, zone, days, hours):
    time, whole = axis(date(2024, 3, 27), date(2024, 4, 10), time_zone=zone, days=days, hours=hours, country="DE")
    cut = min(cut, time.size - 1)
    extended, calendar = whole.slice(0, cut).extend(time.size - cut)
    np.testing.assert_array_equal(extended, time)
    for name in ("day", "slot", "dates", "weekday", "day_off", "holiday"):
        np.testing.assert_array_equal(getattr(calendar, name), getattr(whole, name), err_msg=name)


def test_a_slice_counts_its_days_from_zero():
    _, calendar = axis(date(2024, 1, 1), date(2024, 1, 4))
    part = calendar.slice(100, 300)
    assert part.day[0] == 0
    assert part.dates[part.day[0]] == np.datetime64("2024-01-02")
    assert part.dates.size == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interval_s": 420}, "does not divide one hour"),
        ({"time_zone": "Mars/Olympus"}, "unknown time zone"),
        ({"days": "sundays"}, "unknown kind of service days"),
        ({"hours": ("23:00", "05:00")}, "not a window"),
        ({"hours": ("05:07", "23:00")}, "not whole steps"),
        ({"hours": ("five", "23:00")}, "not a time"),
        ({"country": "XQ"}, "no public holidays are known"),
    ],
)
def test_a_rule_that_is_off_is_refused_with_one_sentence(change, message):
    with pytest.raises(PanelError, match=message):
        service_rules(**{"time_zone": "UTC", "interval_s": 300, **change})


def test_a_step_on_a_weekend_of_a_weekday_calendar_is_refused():
    with pytest.raises(PanelError, match="outside the service days"):
        calendar_of(
            np.array(["2024-01-06T10:00"], "datetime64[s]"),
            service_rules(time_zone="UTC", interval_s=300, days="weekdays"),
        )


def test_an_axis_of_centuries_is_refused_before_it_fills_the_memory():
    with pytest.raises(PanelError, match="too long"):
        axis(date(1700, 1, 1), date(2041, 1, 1), interval_s=300)
