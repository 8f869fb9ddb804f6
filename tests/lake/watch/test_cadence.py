"""When a source is asked again."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.errors import ManifestError
from mtgpt.ingest.manifest import CityManifest
from mtgpt.lake.watch.cadence import Cadence

NOW = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)


def cadence(zone: str = "Europe/Oslo", *, every_s: float | None = None, **source: Any) -> Cadence:
    place = {} if {"path", "url"} & source.keys() else {"url": "http://feeds.example/a"}
    entry = {"id": "feed", "kind": "matrix"} | place | source
    manifest = CityManifest.model_validate({"city": "town", "name": "Town", "time_zone": zone, "sources": (entry,)})
    return Cadence.of(manifest.sources[0], manifest, every_s=every_s)


@pytest.mark.parametrize(
    ("source", "seconds"),
    [
        ({"kind": "gtfs_rt"}, 60),
        ({"kind": "gbfs"}, 60),
        ({"kind": "gtfs"}, 3600),
        ({"path": "in/*.csv"}, 60),
        ({"kind": "gtfs_rt", "poll_s": 20}, 20),
        ({"kind": "gtfs", "poll_s": 86_400}, 86_400),
        ({"schedule": "*/5 * * * *"}, 300),
    ],
)
def test_the_manifest_says_how_often_and_else_the_kind(source: dict[str, Any], seconds: float) -> None:
    assert cadence(**source).wait_s(NOW) == seconds


def test_what_a_person_asks_for_wins() -> None:
    assert cadence(poll_s=20, every_s=0.5).wait_s(NOW) == 0.5
    assert cadence(schedule="0 3 * * *", every_s=7).wait_s(NOW) == 7


@pytest.mark.parametrize(("fresh_s", "seconds"), [(None, 60), (30, 30), (5, 15), (120, 120), (86_400, 300)])
def test_a_live_feed_s_own_word_counts_within_reason(fresh_s: float | None, seconds: float) -> None:
    assert cadence(kind="gtfs_rt").wait_s(NOW, fresh_s=fresh_s) == seconds


def test_a_cache_s_word_changes_nothing_that_somebody_said_nor_a_slow_feed() -> None:
    assert cadence(kind="gtfs_rt", poll_s=60).wait_s(NOW, fresh_s=30) == 60
    assert cadence(kind="gtfs").wait_s(NOW, fresh_s=30) == 3600


def test_a_schedule_is_in_the_city_s_time_on_both_days_of_the_change() -> None:
    nightly = cadence(schedule="30 3 * * *")
    oslo = ZoneInfo("Europe/Oslo")
    for day, utc_hour in ((30, 2), (31, 1)):  # clocks go forward in the night to 31 March 2024
        now = datetime(2024, 3, day, 0, 0, tzinfo=oslo)
        due = now.timestamp() + nightly.wait_s(now.astimezone(UTC))
        assert datetime.fromtimestamp(due, UTC) == datetime(2024, 3, day, utc_hour, 30, tzinfo=UTC)


def test_a_schedule_is_not_due_twice_when_the_clock_was_a_little_early() -> None:
    early = datetime(2024, 3, 4, 11, 59, 59, 999_000, tzinfo=UTC)
    assert 299 < cadence(schedule="*/5 * * * *").wait_s(early) < 301


@pytest.mark.parametrize("schedule", ["75 * * * *", "0 0 31 2 *", "0 25 * * *"])
def test_a_schedule_that_no_calendar_knows_is_named(schedule: str) -> None:
    with pytest.raises(ManifestError, match=r"town\.feed\.schedule"):
        cadence(schedule=schedule)


def test_a_manifest_has_one_of_poll_s_and_schedule() -> None:
    with pytest.raises(ValueError, match="not both"):
        cadence(poll_s=60, schedule="*/5 * * * *")


@given(failures=st.integers(1, 10_000), every_s=st.floats(0.1, 1e6), seed=st.integers(0, 99))
def test_waits_after_failures_grow_up_to_five_minutes_and_are_never_the_same_for_all(
    failures: int, every_s: float, seed: int
) -> None:
    wait_s = Cadence(every_s=every_s).retry_s(failures, random.Random(seed))
    first = min(every_s, 30.0)
    assert first / 2 <= wait_s <= 300.0
    if failures == 1:
        assert wait_s <= first
