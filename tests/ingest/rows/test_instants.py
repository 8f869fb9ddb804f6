"""Moments as feeds write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.ingest.rows.instants import instant

VIENNA = ZoneInfo("Europe/Vienna")
SEVEN = datetime(2026, 1, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        1_767_596_400, 1_767_596_400.0, "1767596400", "2026-01-05T07:00:00Z", " 2026-01-05T07:00:00+00:00 ",
        "2026-01-05T08:00:00", "2026-01-05T08:00:00.000+01:00", "20260105T070000Z",
    ],
)  # fmt: skip
def test_seconds_and_texts_are_the_same_moment(written):
    assert instant(written, VIENNA) == SEVEN


@pytest.mark.parametrize(
    "written",
    [
        None, True, "", "soon", "2026-02-30T00:00:00Z", -1, 1_767_596_400_000, 10**400, float("inf"), "9" * 5000,
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "٢٠٢٦", [2026], "2026-01-05T07:00:00Z" + " x" * 20,
    ],
)  # fmt: skip
def test_what_is_no_moment_is_none(written):
    assert instant(written, VIENNA) is None


def test_a_local_time_that_the_clocks_skip_is_none_and_a_repeated_one_is_its_first_pass():
    assert instant("2026-03-29T02:30:00", VIENNA) is None
    assert instant("2026-10-25T02:30:00", VIENNA) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2099, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_every_offset_leads_to_the_same_moment(naive, minutes):
    moment = naive.replace(tzinfo=UTC)
    shifted = (naive + timedelta(minutes=minutes)).isoformat()
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    assert instant(shifted + offset, VIENNA) == moment
