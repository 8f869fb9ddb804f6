"""What a spot or link says is kept as versions: the same again is a duplicate, another thing is a new version."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.contracts.registry import contract
from mtgpt.lake.known import new_versions
from mtgpt.lake.table import Table

TABLE = Table(path=Path("spot"), contract=contract("spot"))
EVER = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2024, 5, 1, tzinfo=UTC)


def _spots(*rows: tuple[str, str | None, datetime]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"city_id": "c", "spot_id": spot, "kind": "dock", "mode": "bike", "name": name, "valid_from": since}
            for spot, name, since in rows
        ],
        schema=TABLE.contract.polars_schema,
    )


def _said(new: pl.DataFrame) -> list[tuple[str, str | None, datetime]]:
    return list(new.select("spot_id", "name", pl.col("valid_from").dt.replace_time_zone(None)).iter_rows())


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def test_the_same_words_are_known_a_null_name_included() -> None:
    there = _spots(("a", "x", EVER), ("b", None, EVER))
    assert new_versions(there, there, TABLE, NOW).is_empty()


def test_a_name_that_came_or_went_is_a_new_version_from_now() -> None:
    there = _spots(("a", "x", EVER), ("b", None, EVER))
    new = new_versions(_spots(("a", None, EVER), ("b", "y", EVER)), there, TABLE, NOW)
    assert _said(new) == [("a", None, _naive(NOW)), ("b", "y", _naive(NOW))]


def test_a_name_that_came_back_is_a_third_version() -> None:
    there = _spots(("a", "x", EVER), ("a", "y", datetime(2024, 1, 1, tzinfo=UTC)))
    assert _said(new_versions(_spots(("a", "x", EVER)), there, TABLE, NOW)) == [("a", "x", _naive(NOW))]


def test_a_feed_that_dates_its_spots_keeps_its_dates() -> None:
    opened = datetime(2024, 2, 1, tzinfo=UTC)
    there = _spots(("a", "x", opened))
    same = new_versions(_spots(("a", "x", opened)), there, TABLE, NOW)
    moved = new_versions(_spots(("a", "z", opened)), there, TABLE, NOW)
    later = new_versions(_spots(("a", "z", datetime(2024, 3, 1, tzinfo=UTC))), there, TABLE, NOW)
    assert same.is_empty()
    assert _said(moved) == [("a", "z", _naive(NOW))]
    assert _said(later) == [("a", "z", datetime(2024, 3, 1))]  # noqa: DTZ001 - compared without zone on both sides


def test_a_correction_that_landed_once_is_known_the_second_time() -> None:
    opened = datetime(2024, 2, 1, tzinfo=UTC)
    there = _spots(("a", "x", opened), ("a", "z", NOW))
    assert new_versions(_spots(("a", "z", opened)), there, TABLE, datetime(2024, 6, 1, tzinfo=UTC)).is_empty()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from([None, "x", "y"]), max_size=3), max_size=5))
def test_the_latest_version_is_always_what_the_feed_said_last(snapshots: list[dict[str, str | None]]) -> None:
    there, expected = _spots(), {}
    for month, snapshot in enumerate(snapshots, start=1):
        frame = _spots(*((spot, name, EVER) for spot, name in snapshot.items()))
        new = new_versions(frame, there, TABLE, datetime(2024, month, 1, tzinfo=UTC))
        changed = {spot for spot, name in snapshot.items() if spot not in expected or expected[spot] != name}
        assert set(new["spot_id"]) == changed
        there = pl.concat([there, new])
        expected |= snapshot
        latest = there.sort("valid_from").unique(subset="spot_id", keep="last")
        assert dict(latest.select("spot_id", "name").iter_rows()) == expected
        assert there.select(TABLE.contract.key).is_unique().all()
