from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.panel.calendar import calendar_of, service_rules, service_steps
from mtgpt.panel.transit import transit_departures
from tests.panel.city import rows

HOUR = 3600


def services(*bands, source="gtfs", pattern="p"):
    """Bands as (start_s, length_s, departures), all at one stop."""
    facts = ({"spot_id": "a", "band_start_s": a, "band_s": n, "departures": d} for a, n, d in bands)
    return rows("service", [{"source_id": source, "pattern_id": pattern, **one} for one in facts])


def days(*dates, source="gtfs", pattern="p", **more):
    return rows(
        "service_day", [{"source_id": source, "pattern_id": pattern, "service_date": day, **more} for day in dates]
    )


def departures(service, day, first, last, *, zone="UTC", step_s=HOUR):
    time = service_steps(first, last, service_rules(time_zone=zone, interval_s=step_s))
    found = transit_departures(service.lazy(), day.lazy(), time, time_zone=zone, interval_s=step_s)
    return time, found


def test_a_band_longer_than_a_step_is_spread_evenly_and_a_shorter_one_stays_where_it_is():
    service = services((8 * HOUR, 2 * HOUR, 24), (12 * HOUR + 300, 600, 3))
    _, found = departures(service, days(date(2024, 1, 1)), date(2024, 1, 1), date(2024, 1, 1), step_s=900)
    assert found[32:40].tolist() == [3] * 8
    assert found[48:50].tolist() == [3, 0]
    assert found.sum() == 27
    _, found = departures(service, days(date(2024, 1, 1)), date(2024, 1, 1), date(2024, 1, 1), step_s=300)
    assert found[144:148].tolist() == [0, 1.5, 1.5, 0]


def test_departures_past_midnight_belong_to_the_date_after():
    service = services((25 * HOUR, HOUR, 6))
    _, found = departures(service, days(date(2024, 1, 1), date(2024, 1, 2)), date(2024, 1, 1), date(2024, 1, 3))
    # Before two o'clock the day before counts too, and nobody knows the last of December.
    assert np.isnan(found[:2]).all()
    assert found[24 + 1] == 6
    assert found[2:24].tolist() == [0] * 22
    assert np.isnan(found[48:]).all()


@pytest.mark.parametrize(("day", "hours"), [(date(2024, 3, 31), 23), (date(2024, 10, 27), 25)])
def test_on_days_when_the_clocks_change_seconds_count_from_noon_minus_twelve_hours(day, hours):
    service = services((12 * HOUR, HOUR, 5), (6 * HOUR, HOUR, 2))
    time, found = departures(service, days(day), day, day, zone="Europe/Oslo")
    assert time.size == hours
    local = (
        pl.Series(time.astype("datetime64[us]"))
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone("Europe/Oslo")
        .dt.hour()
        .to_numpy()
    )
    assert found[local == 12].tolist() == [5]
    assert found[local == 6].tolist() == [2]
    assert found.sum() == 7


def test_the_newest_statement_about_a_day_counts():
    service = pl.concat([services((0, HOUR, 5)), services((0, HOUR, 9), pattern="q")])
    new = days(date(2024, 1, 1), pattern="q", valid_from=datetime(2024, 1, 1, tzinfo=UTC))
    old = days(date(2024, 1, 1), valid_from=datetime(2023, 12, 1, tzinfo=UTC))
    _, found = departures(service, pl.concat([new, old]), date(2024, 1, 1), date(2024, 1, 1))
    assert found[0] == 9


def test_sources_add_up_and_a_day_that_none_covers_is_not_known():
    service = pl.concat([services((0, HOUR, 5)), services((0, HOUR, 2), source="ferry")])
    day = pl.concat([days(date(2024, 1, 1), date(2024, 1, 2)), days(date(2024, 1, 2), source="ferry")])
    _, found = departures(service, day, date(2024, 1, 1), date(2024, 1, 3))
    assert found[[0, 24]].tolist() == [5, 7]
    assert np.isnan(found[48:]).all()


def test_a_covered_day_without_a_departure_is_zero_and_no_coverage_is_nothing():
    _, found = departures(services(), days(date(2024, 12, 25)), date(2024, 12, 25), date(2024, 12, 25))
    assert found.tolist() == [0] * 24
    assert departures(services(), days(date(2020, 1, 1)), date(2024, 1, 1), date(2024, 1, 1))[1] is None


@given(
    bands=st.lists(
        st.tuples(st.integers(0, 20 * HOUR), st.sampled_from([60, 900, 3600, 7200]), st.integers(1, 50)),
        max_size=12,
    ),
    step_s=st.sampled_from([300, 900, 3600]),
    zone=st.sampled_from(["UTC", "America/Los_Angeles", "Asia/Kathmandu"]),
)
@settings(max_examples=40, deadline=None)
def test_no_departure_is_lost_or_made_up(bands, step_s, zone):
    service = services(*bands)
    around = [date(2024, 5, 5) + timedelta(days=d) for d in (-1, 0, 1)]
    time = service_steps(around[0], around[-1], service_rules(time_zone=zone, interval_s=step_s))
    found = transit_departures(service.lazy(), days(around[1]).lazy(), time, time_zone=zone, interval_s=step_s)
    known = departures(service, days(*around), around[0], around[-1], zone=zone, step_s=step_s)[1]
    assert found is not None
    assert (np.nan_to_num(found) >= 0).all()
    total = sum(d for *_, d in bands)
    inside = np.isfinite(known)
    assert np.nansum(known) <= 3 * total + 1e-3
    if inside.all():
        assert np.nansum(known) == pytest.approx(3 * total, rel=1e-4)


def test_a_year_of_a_large_city_needs_little_memory():
    count = 200_000
    rng = np.random.default_rng(0)
    service = pl.DataFrame(
        {
            "source_id": ["gtfs"] * count,
            "pattern_id": rng.choice(["a", "b", "c"], count),
            "band_start_s": rng.integers(0, 26, count).astype(np.int32) * HOUR,
            "band_s": np.full(count, HOUR, np.int32),
            "departures": rng.integers(1, 9, count).astype(np.int32),
        }
    )
    year = days(*(date(2024, 1, 1) + timedelta(days=d) for d in range(366)), pattern="a")
    calendar = calendar_of(
        service_steps(date(2024, 1, 1), date(2024, 12, 31), rules := service_rules(time_zone="UTC", interval_s=300)),
        rules,
    )
    tracemalloc.start()
    found = transit_departures(service.lazy(), year.lazy(), calendar.time, time_zone="UTC", interval_s=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None
    assert peak < 30e6
