"""When a whole batch is held."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.contracts.hold import Counts, hold_reason
from mtgpt.contracts.registry import contracts
from mtgpt.contracts.verdict import judge


def reason(*counts: Counts) -> str | None:
    return hold_reason(counts, contracts())


def test_a_clean_batch_and_an_empty_batch_may_land():
    assert reason(Counts(table="trip", rows=100)) is None
    assert reason(Counts(table="trip")) is None
    assert reason() is None


def test_exactly_five_percent_may_land_and_one_row_more_is_held():
    assert reason(Counts(table="trip", rows=1000, bad=50, by_rule={"distance_m.range": 50})) is None
    assert reason(Counts(table="trip", rows=1000, bad=51, by_rule={"distance_m.range": 51})) == (
        "bad_share: 51 of 1000 (5.1 %) rows are bad, 51 of them by trip distance_m.range (at most 5 % allowed)"
    )


def test_the_share_of_bad_rows_is_that_of_all_tables_together():
    many = Counts(table="observation", rows=1_000_000)
    assert reason(Counts(table="spot", rows=10, bad=3, by_rule={"lon.range": 3}), many) is None


def test_a_broken_key_in_a_small_table_holds_a_batch_of_a_million_good_rows():
    many = Counts(table="observation", rows=1_000_000)
    assert reason(many, Counts(table="spot", rows=60, bad=60, by_rule={"spot_id.required": 60})) == (
        "key_or_time: 60 of 60 (100.0 %) rows of spot break the key or time rules, most often spot_id.required "
        "(at most 5 % allowed)"
    )


def test_a_few_stray_years_are_no_reason_to_hold():
    stray = {"start_time.not_future": 3, "outside_period": 20}
    assert reason(Counts(table="trip", rows=223_406, bad=23, by_rule=stray)) is None


def test_a_value_out_of_range_breaks_no_key_although_the_variable_is_part_of_it():
    small = Counts(table="weather", rows=10, bad=2, by_rule={"value.variable_range": 2})
    many = Counts(table="observation", rows=100)
    assert reason(Counts(table="observation", rows=10, bad=1, by_rule={"value.variable_range": 1}), many) is None
    assert reason(small, many) is None


def test_a_key_that_does_not_tell_rows_apart_holds_the_batch():
    assert reason(Counts(table="weather", rows=10, duplicates=5)) is None
    assert reason(Counts(table="weather", rows=10, duplicates=6)) == (
        "duplicate_share: 6 of 10 (60.0 %) rows of weather repeat the key city_id, time_start (at most 50 % allowed)"
    )


def test_a_missing_key_column_holds_the_batch():
    frame = pl.DataFrame({"city_id": ["la"] * 2, "variable": ["speed"] * 2, "value": [1.0, 2.0]})
    verdict = judge(frame, contracts()["observation"])
    assert reason(Counts.of("observation", verdict)).startswith("key_or_time: 2 of 2")


def test_counts_of_different_tables_do_not_add_up():
    with pytest.raises(ValueError, match="trip and spot"):
        Counts(table="trip") + Counts(table="spot")


counts = st.builds(
    lambda good, bad, duplicates: Counts(
        table="trip",
        rows=good + sum(bad.values()) + duplicates,
        bad=sum(bad.values()),
        duplicates=duplicates,
        by_rule=bad,
    ),
    st.integers(0, 50),
    st.dictionaries(st.sampled_from(["start_time.required", "mode.enum", "distance_m.range"]), st.integers(1, 5)),
    st.integers(0, 50),
)


@given(st.lists(counts, max_size=5))
def test_chunks_judged_together_or_one_by_one_give_the_same_reason(parts):
    total = Counts(table="trip")
    for part in parts:
        total += part
    assert reason(*parts) == reason(total)
    assert total.good == sum(part.good for part in parts)
