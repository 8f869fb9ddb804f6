from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import judged, read

COLUMNS = {"temperature_c": "t", "rain_mm": "rain"}


def table(folder, text: str):
    path = folder / "hourly.csv"
    path.write_text(text)
    return path


def test_columns_and_units_are_named_by_options(tmp_path):
    path = table(tmp_path, "when,t,rain\n2024-01-01T00:00:00Z,50,0.1\n")
    frames = read(
        "weather_table", path, zone="Europe/Vienna", time="when", time_format="%Y-%m-%dT%H:%M:%SZ", clock="utc",
        columns=COLUMNS, units={"temperature_c": "degF", "rain_mm": "inch"}, lon=16.3, lat=48.2,
    )  # fmt: skip
    good = judged("weather", frames["weather"]).good
    assert good.select("time_start", "interval_s", "temperature_c", "rain_mm", "lon", "lat").rows() == [
        (datetime(2024, 1, 1, tzinfo=UTC), 3600, pytest.approx(10.0), pytest.approx(2.54), 16.3, 48.2)
    ]


def test_local_hours_of_a_clock_change_are_each_told_apart(tmp_path):
    hours = ["01", "02", "02", "03"]
    text = "time,t\n" + "".join(f"2024-10-27 {hour}:00:00,{at}\n" for at, hour in enumerate(hours))
    frame = read("weather_table", table(tmp_path, text), zone="Europe/Vienna", columns={"temperature_c": "t"})[
        "weather"
    ]
    assert frame["time_start"].dt.strftime("%d %H").to_list() == ["26 23", "27 00", "27 01", "27 02"]


def test_faulty_rows_are_quarantined_by_their_rule_with_their_text(tmp_path):
    text = "time,t,rain\n2024-03-31 01:00:00,1,0\n2024-03-31 02:00:00,2,0\nnoon,3,0\n2024-03-31 04:00:00,warm,0\n"
    verdict = judged(
        "weather", read("weather_table", table(tmp_path, text), zone="Europe/Vienna", columns=COLUMNS)["weather"]
    )
    assert verdict.good.height == 1
    assert verdict.bad.select("row", "rule_id").sort("row").rows() == [
        (1, "time_does_not_exist"), (2, "time_unreadable"), (3, "number_unreadable"),
    ]  # fmt: skip
    assert {"noon", "warm"} <= {value for raw in verdict.bad["raw"] for value in json.loads(raw).values()}


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(FeedError, match=r"columns are missing.*expected rain"):
        read("weather_table", table(tmp_path, "time,t\n2024-01-01 00:00:00,1\n"), columns=COLUMNS)
