"""Every form of a forecast says the same numbers, in local time, with their provenance."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mtgpt.serve.render import (
    as_frame,
    as_json,
    as_json_text,
    as_parquet,
    as_table,
    number_text,
    source_line,
    whole_file,
)
from tests.serve.forecasts import small_forecast


def printed(forecast, **options) -> str:
    text = io.StringIO()
    Console(file=text, width=100, highlight=False).print(as_table(forecast, **options))
    return text.getvalue()


def test_the_table_of_one_series_is_its_steps_in_local_time_with_bands():
    forecast = small_forecast(horizon=3).select(spot="100")
    text = printed(forecast)
    assert "Exit 0 [north] (100) – speed, km/h" in text  # a bracket in a name is no markup
    assert "Wed 13 Jun 17:00" in text
    assert "17:05" in text
    low, high = forecast.band(0.8)
    assert f"{forecast.median[0, 0]:.1f}" in text
    assert f"{low[0, 0]:.1f} … {high[0, 0]:.1f}" in text
    assert f"{forecast.observed[0, 2]:.1f}" in text
    assert "80 % band" in text
    assert "95 % band" in text


def test_the_table_of_many_series_fits_a_hundred_columns_and_says_what_it_left_out():
    forecast = small_forecast(spots=30)
    text = printed(forecast, limit=5)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("km/h") == 5
    assert "… and 27 more series" in text
    assert "80 % band 17:55" in text


def test_what_has_not_happened_yet_takes_no_column():
    assert "observed" not in printed(small_forecast(observed=False).select(spot="100"))


def test_a_dead_spot_is_a_dash_in_the_table_and_null_in_json():
    forecast = small_forecast(dead=0, horizon=2)
    assert "–" in printed(forecast.select(spot="100")).splitlines()[2]
    assert as_json(forecast)["series"][0]["median"] == [None, None]


def test_control_characters_in_a_feeds_name_do_not_reach_the_terminal():
    forecast = small_forecast().take([0])
    forecast = replace(forecast, series=forecast.series.with_columns(name=pl.lit("\x1b[31mred\x07")))
    assert "?[31mred?" in printed(forecast)


def test_json_is_strict_and_carries_both_clocks_and_the_provenance():
    forecast = small_forecast(horizon=2, simulated=True)
    answer = json.loads(as_json_text(forecast))
    assert answer == json.loads(json.dumps(as_json(forecast), allow_nan=False))
    assert answer["at_utc"] == "2012-06-14T00:00:00Z"
    assert answer["at_local"] == "2012-06-13T17:00:00-07:00"
    assert answer["time_local"] == ["2012-06-13T17:00:00-07:00", "2012-06-13T17:05:00-07:00"]
    assert answer["simulated"] is True
    assert answer["provenance"]["table_versions"] == {"observation": 12}
    assert answer["provenance"]["loss"] is None
    first = answer["series"][0]
    assert first["series_id"] == "speed@100"
    assert first["median"] == first["quantiles"]["0.5"]
    np.testing.assert_array_equal(np.float32(first["median"]), forecast.median[0])
    np.testing.assert_array_equal(np.float32(first["quantiles"]["0.975"]), forecast.quantiles[0, :, 10])


def test_the_text_of_the_json_has_one_line_per_series():
    lines = as_json_text(small_forecast(spots=4)).splitlines()
    assert sum(line.startswith('    {"index"') for line in lines) == 6


def test_json_writes_the_shortest_decimals_of_float32():
    value = small_forecast(horizon=1)
    value.quantiles[0] = np.float32(63.27)
    assert as_json(value)["series"][0]["median"] == [63.27]


def test_the_frame_is_long_with_a_row_per_series_and_step():
    forecast = small_forecast(spots=2, horizon=3)
    frame = as_frame(forecast)
    assert frame.height == 4 * 3
    assert frame.columns[:8] == ["series_id", "level", "spot_id", "corridor", "name", "variable", "unit", "step"]
    assert frame.columns[8:10] == ["time_utc", "time_local"]
    assert "q0.1" in frame.columns
    assert "median" in frame.columns
    row = frame.row(5, named=True)
    assert (row["series_id"], row["step"]) == ("speed@101", 3)
    assert row["time_utc"] == datetime(2012, 6, 14, 0, 10, tzinfo=UTC)
    assert row["time_local"].isoformat() == "2012-06-13T17:10:00-07:00"
    assert np.float32(row["q0.9"]) == forecast.quantiles[1, 2, 9]


def test_what_is_not_known_is_null_in_the_frame():
    frame = as_frame(small_forecast(observed=False, dead=0, horizon=2))
    assert frame["observed"].null_count() == frame.height
    assert frame.filter(series_id="speed@100")["median"].null_count() == 2


def test_local_times_change_their_offset_when_clocks_do():
    forecast = small_forecast(at="2012-11-04T08:30:00", interval_s=1800, horizon=3)
    assert as_json(forecast)["time_local"] == [
        "2012-11-04T01:30:00-07:00",
        "2012-11-04T01:00:00-08:00",
        "2012-11-04T01:30:00-08:00",
    ]


def test_parquet_carries_the_provenance_in_its_schema_and_the_zone_in_its_times(tmp_path):
    forecast = small_forecast()
    as_parquet(forecast, tmp_path / "new" / "f.parquet")
    schema = pq.read_schema(tmp_path / "new" / "f.parquet")
    facts = json.loads(schema.metadata[b"mtgpt"])
    assert facts["provenance"]["panel_id"] == "ab12cd34ef56"
    assert facts["at_utc"] == "2012-06-14T00:00:00Z"
    assert schema.field("time_local").type.tz == "America/Los_Angeles"
    assert pl.read_parquet(tmp_path / "new" / "f.parquet").equals(as_frame(forecast))


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "answer.json"
    path.write_text("old")

    def write_half():
        with whole_file(path) as part:
            part.write_text("ha")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_source_line_names_data_panel_model_and_says_when_a_city_is_simulated():
    line = source_line(small_forecast())
    assert line == (
        "data until Wed 13 Jun 2012 17:00 PDT · observation v12 · panel ab12cd34 · model nano fe12cd34 · "
        "levels reconciled (wls)"
    )
    assert source_line(small_forecast(simulated=True)).startswith("Simulated city · ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (63.44, "63.4"),
        (0.01234, "0.0123"),
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (12345.6, "12,346"),
        (np.nan, "–"),
        (0, "0"),
    ],
)
def test_numbers_keep_about_three_digits(value, text):
    assert number_text(value) == text


def test_numbers_side_by_side_have_the_same_decimals():
    assert [number_text(value, like=98.0) for value in (1.0, 63.44, 103.25)] == ["1.0", "63.4", "103.2"]
