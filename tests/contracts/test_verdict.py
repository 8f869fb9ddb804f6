"""Splitting frames into good rows, bad rows and duplicates."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mtgpt.contracts.registry import contract
from mtgpt.contracts.verdict import BAD_SCHEMA, judge
from mtgpt.errors import ContractError

RECEIVED_AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


def observations(values: list[float | None], **columns: object) -> pl.DataFrame:
    """One row per value, five minutes apart."""
    n = len(values)
    frame = pl.DataFrame(
        {
            "city_id": ["la"] * n,
            "spot_id": ["773869"] * n,
            "variable": ["speed"] * n,
            "time_start": [START + timedelta(minutes=5 * step) for step in range(n)],
            "interval_s": pl.Series([300] * n, dtype=pl.Int32),
            "value": pl.Series(values, dtype=pl.Float32),
            "source_id": ["loops"] * n,
            "batch_id": ["b1"] * n,
        },
        schema_overrides={"time_start": pl.Datetime("us", "UTC")},
    )
    return frame.with_columns(**{name: pl.Series(name, column) for name, column in columns.items()})


def judged(frame: pl.DataFrame, table: str = "observation"):
    verdict = judge(frame, contract(table), received_at=RECEIVED_AT)
    assert frame.height == verdict.good.height + verdict.bad.height + verdict.duplicates
    assert verdict.good.schema == contract(table).polars_schema
    assert verdict.bad.schema == BAD_SCHEMA
    return verdict


def test_a_good_frame_comes_back_as_it_was_with_the_missing_optional_column():
    frame = observations([50.0, 0.0, 250.0])
    verdict = judged(frame)
    assert_frame_equal(verdict.good.drop("quality", "suspect"), frame)
    assert verdict.good["quality"].null_count() == 3


def test_good_rows_keep_their_order_when_bad_ones_leave():
    verdict = judged(observations([1.0, 999.0, 3.0, float("nan"), 5.0]))
    assert verdict.good["value"].to_list() == [1.0, 3.0, 5.0]
    assert verdict.bad["rule_id"].to_list() == ["value.variable_range", "value.finite"]


def test_a_message_says_got_and_expected_with_the_unit():
    (bad,) = judged(observations([312.5])).bad.to_dicts()
    assert bad["message"] == "value: got 312.5 km/h, expected 0 to 250 km/h for speed"


def test_the_first_broken_rule_is_the_one_named():
    verdict = judged(observations([999.0], spot_id=[None], interval_s=pl.Series([0], dtype=pl.Int32)))
    assert verdict.bad["rule_id"].to_list() == ["spot_id.required"]


def test_each_row_is_judged_by_the_range_of_its_own_variable():
    verdict = judged(observations([0.5, 55.0, 55.0, -3.0], variable=["occupancy", "occupancy", "speed", "delay"]))
    assert verdict.bad["message"].to_list() == ["value: got 55.0, expected 0 to 1 for occupancy"]


def test_the_raw_row_is_kept_as_json_with_nan_readable():
    (bad,) = judged(observations([float("nan")])).bad.to_dicts()
    raw = json.loads(bad["raw"])
    assert raw["value"] == "NaN"
    assert raw["time_start"].startswith("2026-01-01T00:00:00")


def test_an_adapters_row_fault_message_and_raw_row_are_kept():
    frame = observations(
        [1.0, 2.0, 3.0],
        __row=[7, 8, 9],
        __fault=[None, "outside_period", "unparseable"],
        __message=[None, "pickup: got 2008-12-31, expected March 2020", None],
        __raw=[None, '{"pickup": "2008-12-31"}', None],
    )
    bad = judged(frame).bad.to_dicts()
    assert [one["row"] for one in bad] == [8, 9]
    assert bad[0] == {
        "row": 8,
        "rule_id": "outside_period",
        "message": "pickup: got 2008-12-31, expected March 2020",
        "raw": '{"pickup": "2008-12-31"}',
    }
    assert bad[1]["message"] == "unparseable: found while reading the feed"
    assert json.loads(bad[1]["raw"])["value"] == 3.0


def test_a_fault_column_without_faults_changes_nothing():
    verdict = judged(observations([1.0, 2.0]).with_columns(__fault=pl.lit(None)))
    assert verdict.good.height == 2


def test_an_unknown_column_is_refused():
    with pytest.raises(ContractError, match=r"observation: There is no such column .*got birth_year, expected city_id"):
        judged(observations([1.0], birth_year=[1980]))


def test_times_without_a_zone_are_refused():
    frame = observations([1.0]).with_columns(pl.col("time_start").dt.replace_time_zone(None))
    with pytest.raises(
        ContractError, match=r"observation\.time_start: The column's times have no zone .*Convert local"
    ):
        judged(frame)


@pytest.mark.parametrize("value", [[True], [[1.0]], [START]])
def test_a_type_that_can_never_fit_is_refused(value):
    with pytest.raises(ContractError, match=r"observation\.value: The column's type does not fit"):
        judged(observations([1.0], value=value))


def test_times_of_another_zone_become_utc():
    frame = observations([1.0]).with_columns(pl.col("time_start").dt.convert_time_zone("America/Los_Angeles"))
    assert judged(frame).good["time_start"].to_list() == [START]


def test_texts_are_parsed_row_by_row():
    verdict = judged(observations([0] * 4, value=["12.5", " 7 ", "n/a", None]))
    assert verdict.good["value"].to_list() == [12.5, 7.0]
    assert verdict.bad["message"].to_list() == [
        "value: got n/a, expected float32",
        "value: got nothing, expected a value",
    ]


def test_whole_numbers_may_stand_for_ids():
    assert judged(observations([1.0], spot_id=[773869])).good["spot_id"].to_list() == ["773869"]


def test_a_number_too_large_for_its_column_is_bad_and_not_wrapped():
    verdict = judged(observations([1.0, 2.0], interval_s=[300, 2**40], value=[1e300, 1.0]))
    assert verdict.bad["rule_id"].to_list() == ["value.finite", "interval_s.type"]


def test_a_missing_required_column_makes_every_row_bad_and_says_so():
    verdict = judged(observations([1.0, 2.0]).drop("time_start"))
    assert verdict.bad["message"].to_list() == ["time_start: got no such column, expected a value"] * 2


def test_times_after_the_arrival_are_bad_from_one_day_on():
    times = [RECEIVED_AT + timedelta(days=1), RECEIVED_AT + timedelta(days=1, microseconds=1)]
    verdict = judged(observations([1.0, 2.0], time_start=pl.Series(times, dtype=pl.Datetime("us", "UTC"))))
    assert verdict.good["value"].to_list() == [1.0]
    assert verdict.bad["rule_id"].to_list() == ["time_start.not_future"]


def test_without_an_arrival_time_now_counts():
    frame = observations([1.0]).with_columns(time_start=pl.lit(datetime.now(UTC) + timedelta(days=30)))
    assert judge(frame, contract("observation")).bad["rule_id"].to_list() == ["time_start.not_future"]


def test_a_repeated_key_is_dropped_and_the_first_row_kept():
    frame = observations([1.0, 2.0, 3.0])
    verdict = judged(pl.concat([frame, frame.with_columns(value=pl.lit(9.0, dtype=pl.Float32)), frame]))
    assert verdict.duplicates == 6
    assert_frame_equal(verdict.good.drop("quality", "suspect"), frame)


def test_a_bad_row_does_not_make_a_later_good_one_a_duplicate():
    frame = observations([999.0, 5.0]).with_columns(time_start=pl.lit(START))
    verdict = judged(frame)
    assert (verdict.good["value"].to_list(), verdict.duplicates) == ([5.0], 0)


def test_rows_of_the_quarantine_are_never_duplicates():
    row = {
        "batch_id": "b",
        "city_id": "la",
        "source_id": "s",
        "table_name": "trip",
        "rule_id": "json",
        "message": "m",
        "raw": "{}",
        "bronze_sha256": "0" * 64,
        "quarantined_at": START,
    }
    assert judged(pl.DataFrame([row, row]), "quarantine").good.height == 2


@pytest.mark.parametrize("frame", [observations([]), pl.DataFrame()])
def test_an_empty_frame_is_judged_as_no_rows(frame):
    assert judged(frame).good.height == 0


def test_control_characters_and_length_of_hostile_text_are_cut_in_messages():
    (bad,) = judged(observations([1.0], variable=["x" * 10_000])).bad.to_dicts()
    assert bad["rule_id"] == "variable.length"
    (bad,) = judged(observations([1.0], value=["9" * 10_000 + "x"])).bad.to_dicts()
    assert len(bad["message"]) < 200


rows = st.fixed_dictionaries(
    {
        "city_id": st.sampled_from(["la", "LA", None]),
        "spot_id": st.sampled_from(["a", "b", "", None]),
        "variable": st.sampled_from(["speed", "flow", "delay", "warp", None]),
        "time_start": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
        | st.sampled_from([START, None]),
        "interval_s": st.sampled_from([300, 0, -5, None]),
        "value": st.floats(width=32) | st.sampled_from([1.0, 2.0, None]),
        "__fault": st.sampled_from([None, None, "unparseable"]),
    }
)


@settings(deadline=None, max_examples=60)
@given(st.lists(rows, max_size=25))
def test_no_row_is_lost_and_good_rows_stay_good(drawn):
    schema = {
        "city_id": pl.String,
        "spot_id": pl.String,
        "variable": pl.String,
        "time_start": pl.Datetime("us", "UTC"),
        "interval_s": pl.Int32,
        "value": pl.Float32,
        "__fault": pl.String,
    }
    frame = pl.DataFrame(drawn, schema=schema).with_columns(source_id=pl.lit("s"), batch_id=pl.lit("b"))
    verdict = judged(frame.with_row_index("__row"))
    again = judged(verdict.good)
    assert again.good.equals(verdict.good)
    assert (again.bad.height, again.duplicates) == (0, 0)
    bad_rows = set(verdict.bad["row"].to_list())
    assert len(bad_rows) == verdict.bad.height
    assert {index for index, row in enumerate(drawn) if row["__fault"]} <= bad_rows
    assert verdict.bad["message"].null_count() == 0
    # Row by row the same verdict as all rows together, duplicates aside.
    alone = [judged(frame[index : index + 1].with_row_index("__row", offset=index)) for index in range(frame.height)]
    assert {index for index, one in enumerate(alone) if one.bad.height} == bad_rows
    assert [one.bad["rule_id"][0] for one in alone if one.bad.height] == verdict.bad["rule_id"].to_list()
    keys = {row for one in alone for row in one.good.select(contract("observation").key).rows()}
    assert keys == set(verdict.good.select(contract("observation").key).rows())
    assert len(keys) == verdict.good.height


def test_two_million_observations_take_about_a_second_of_cpu_at_most():
    n, spots = 1_000_000, 100
    steps = n // spots
    times = pl.datetime_range(
        START - timedelta(minutes=5 * (steps - 1)), START, "5m", time_unit="us", time_zone="UTC", eager=True
    )
    frame = pl.DataFrame(
        {
            "city_id": pl.repeat("la", n, eager=True),
            "spot_id": np.repeat([str(773_000 + spot) for spot in range(spots)], steps),
            "variable": pl.repeat("speed", n, eager=True),
            "time_start": pl.concat([times] * spots),
            "interval_s": pl.repeat(300, n, dtype=pl.Int32, eager=True),
            "value": np.tile(np.linspace(0, 250, steps, dtype=np.float32), spots),
            "source_id": pl.repeat("s", n, eager=True),
            "batch_id": pl.repeat("b", n, eager=True),
        }
    )
    spent = []
    for _ in range(3):
        began = time.process_time()
        verdict = judged(frame)
        spent.append(time.process_time() - began)
    assert verdict.good.height == n
    # CPU time of all cores, so that a busy machine does not fail the test.
    assert min(spent) < 0.5


def test_dates_are_read_from_iso_texts_and_anything_else_is_put_aside():
    frame = pl.DataFrame(
        {
            "city_id": ["c"] * 4,
            "source_id": ["s"] * 4,
            "service_date": ["2024-02-29", "2023-02-29", "20240229", "tomorrow"],
            "pattern_id": ["p"] * 4,
            "valid_from": ["1970-01-01T00:00:00Z"] * 4,
        }
    )
    verdict = judge(frame, contract("service_day"))
    assert verdict.good["service_date"].to_list() == [date(2024, 2, 29)]
    assert verdict.bad["rule_id"].to_list() == ["service_date.type"] * 3
    assert "expected a date YYYY-MM-DD" in verdict.bad["message"][0]
