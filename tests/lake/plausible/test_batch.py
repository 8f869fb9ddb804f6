from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import LakeError
from mtgpt.lake.lake import Lake
from mtgpt.lake.plausible.batch import Hourly, look
from mtgpt.lake.plausible.past import PAST_HOURS, SCHEMA
from mtgpt.lake.replay import replay
from mtgpt.lake.staging import Staging
from mtgpt.lake.status import status
from tests.lake.feeds import KINDS, OBSERVATION, START, write_rows

SENSORS = 12


def days(first, count, *, variable="flow", change=None, step_s=3600, seed=0):
    """Rows of sensors with a day of their own each; ``change(sensor, step, value)`` is what goes wrong."""
    rng = np.random.default_rng((seed, first))
    rows = []
    for sensor in range(SENSORS):
        for step in range(count * 86_400 // step_s):
            moment = START + timedelta(days=first, seconds=step * step_s)
            hour = moment.hour + moment.minute / 60
            usual = 200 + 40 * sensor + 150 * np.sin(2 * np.pi * (hour - sensor) / 24)
            value = float(np.round(max(1.0, usual * rng.normal(1, 0.05)), 1))
            if change is not None:
                value = change(sensor, step, value)
            rows.append((f"s{sensor}", variable, moment.isoformat(), step_s, value))
    return rows


def bring(city, name, rows):
    write_rows(city.write(f"{name}.csv"), OBSERVATION, rows)
    city.sources.clear()
    city.add("feed", f"{name}.csv")
    (result,) = city.ingest()
    return result


def suspects(city):
    rows = city.lake.scan("observation").filter(pl.col("suspect").is_not_null())
    return rows.sort("spot_id", "time_start").collect()


def test_ordinary_days_are_not_suspect(city):
    for first in range(0, 10, 2):
        result = bring(city, f"d{first}", days(first, 2))
        assert result.status == "committed"
        assert "flagged" not in result.tables["observation"]
    assert suspects(city).height == 0


def test_one_sensor_a_hundred_times_too_high_is_marked_and_lands(city):
    bring(city, "before", days(0, 4, variable="entries"))
    result = bring(city, "after", days(4, 1, variable="entries", change=lambda s, _, v: v * 100 if s == 3 else v))
    assert result.status == "committed"
    assert result.rows_good == SENSORS * 24
    assert result.tables["observation"]["flagged"] == {"scale": 24}
    assert suspects(city)["spot_id"].unique().to_list() == ["s3"]
    assert dict(status(city.lake).suspect) == {"scale": 24}


def test_a_feed_whose_every_sensor_jumps_is_held_until_somebody_accepts_it(city):
    bring(city, "before", days(0, 4, variable="entries"))
    result = bring(city, "after", days(4, 1, variable="entries", change=lambda *o: o[2] * 100))
    assert result.status == "held"
    assert result.reason.startswith(f"scale_jump: {SENSORS} of {SENSORS} series of entries lie about ")
    assert "times above their own past" in result.reason
    assert city.lake.scan("observation").select(pl.len()).collect().item() == SENSORS * 96
    again = replay(result.batch_id, city.lake, settings=city.settings, kinds=KINDS)
    assert again.status == "held"
    taken = replay(result.batch_id, city.lake, settings=city.settings, kinds=KINDS, accept=True)
    assert (taken.status, taken.rows_good) == ("committed", SENSORS * 24)
    assert suspects(city).height == 0
    # What was accepted is part of the past: the next day at that level is no jump.
    following = bring(city, "next", days(5, 1, variable="entries", change=lambda *o: o[2] * 100))
    assert following.status == "committed"
    assert "flagged" not in following.tables["observation"]


def test_a_held_batch_is_no_past(city):
    bring(city, "before", days(0, 4, variable="entries"))
    bring(city, "wrong", days(4, 1, variable="entries", change=lambda *o: o[2] * 100))
    again = bring(city, "wrong2", days(5, 1, variable="entries", change=lambda *o: o[2] * 100))
    assert again.status == "held"


def test_a_sensor_frozen_for_six_hours_is_marked_for_just_those_hours(city):
    def freeze(sensor, step, value):
        return 123.4 if sensor == 5 and 60 <= step < 132 else value

    bring(city, "before", days(0, 3, step_s=300))
    result = bring(city, "after", days(3, 1, step_s=300, change=freeze))
    assert result.tables["observation"]["flagged"] == {"frozen": 72}
    rows = suspects(city)
    assert set(rows["value"].to_list()) == {np.float32(123.4)}
    assert rows["time_start"].min() == START + timedelta(days=3, seconds=60 * 300)


def test_five_hours_of_one_value_and_zeros_at_night_are_not_frozen(city):
    def still(sensor, step, value):
        if sensor == 5 and 60 <= step < 120:
            return 123.4
        return 0.0 if step % 288 < 80 else value

    bring(city, "before", days(0, 3, step_s=300, change=lambda s, t, v: still(-1, t, v)))
    assert "flagged" not in bring(city, "after", days(3, 1, step_s=300, change=still)).tables["observation"]


def test_counts_and_stocks_may_rest(city):
    for name, variable in (("counts", "entries"), ("stock", "bikes_available")):
        bring(city, f"{name}0", days(0, 3, variable=variable))
        result = bring(city, name, days(3, 1, variable=variable, change=lambda s, _, v: 250.0 if s == 2 else v))
        assert "flagged" not in result.tables["observation"]


def test_a_frozen_sensor_is_seen_by_a_feed_of_single_instants_too(city):
    bring(city, "before", days(0, 3))
    every = days(3, 1, change=lambda s, _, v: 77.7 if s == 1 else v)
    marked = []
    for hour in range(12):
        rows = [row for row in every if row[2] == (START + timedelta(days=3, hours=hour)).isoformat()]
        result = bring(city, f"live{hour}", rows)
        marked.append(result.tables["observation"].get("flagged"))
    assert marked[:5] == [None] * 5
    assert marked[6:] == [{"frozen": 1}] * 6


def test_two_swapped_sensors_are_both_marked(city):
    bring(city, "before", days(0, 8))
    right = {(row[0], row[2]): row[4] for row in days(8, 2)}

    def cable(spot):
        return {"s2": "s9", "s9": "s2"}.get(spot, spot)

    rows = [(row[0], *row[1:4], right[cable(row[0]), row[2]]) for row in days(8, 2)]
    result = bring(city, "after", rows)
    assert set(result.tables["observation"]["flagged"]) == {"swapped"}
    assert suspects(city)["spot_id"].unique().sort().to_list() == ["s2", "s9"]


def test_a_sensor_wrong_from_its_first_day_is_told_by_its_peers(city):
    result = bring(city, "first", days(0, 2, variable="energy", change=lambda s, _, v: v * 0.001 if s == 7 else v))
    assert result.tables["observation"]["flagged"] == {"scale": 48}


def test_the_past_is_read_from_the_table_where_its_file_is_lost(city):
    bring(city, "before", days(0, 4, variable="entries"))
    path = city.lake.root / ".past" / "testville" / "feed.arrow"
    kept = pl.read_ipc(path)
    path.write_bytes(b"not an Arrow file")
    city.lake._pasts.clear()
    found = city.lake.past("testville", "feed").frame()
    key = ["spot_id", "variable", "hour"]
    assert found.sort(key).equals(kept.sort(key))
    result = bring(city, "after", days(4, 1, variable="entries", change=lambda *o: o[2] * 100))
    assert result.status == "held"


def test_the_past_reaches_two_weeks_back_and_knows_a_series_hour_once(city):
    bring(city, "before", days(0, 20))
    frame = city.lake.past("testville", "feed").frame()
    assert frame.schema == SCHEMA
    assert frame["hour"].n_unique() == PAST_HOURS
    assert frame.height == PAST_HOURS * SENSORS


def test_a_full_disk_under_the_past_is_no_fault(city, monkeypatch):
    (city.lake.root / ".past").write_text("a file where a folder should be", "utf-8")
    assert bring(city, "before", days(0, 1)).status == "committed"


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_mark_neither_adds_nor_loses_nor_changes_a_row(tmp_path_factory, data):
    lake = Lake.open(tmp_path_factory.mktemp("lake"))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = data.draw(st.integers(1, 400))
    frame = pl.DataFrame(
        {
            "spot_id": rng.choice(["a", "b", "c"], rows),
            "variable": rng.choice(["speed", "entries"], rows),
            "time_start": pl.Series(
                [START + timedelta(minutes=int(m)) for m in rng.integers(0, 4000, rows)], dtype=pl.Datetime("us", "UTC")
            ),
            "interval_s": rng.choice([60, 3600, 86_400], rows),
            "value": rng.choice([0.0, 1.0, 50.0, 50_000.0], rows),
        }
    )
    contract = lake.table("observation").contract
    frame = frame.with_columns(
        pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in contract.polars_schema.items()
        if name not in frame.columns
    ).select(pl.col(name).cast(dtype) for name, dtype in contract.polars_schema.items())
    hourly, staged = (
        Hourly(),
        Staging(folder=tmp_path_factory.mktemp("staged"), memory_bytes=data.draw(st.sampled_from([0, 1 << 20]))),
    )
    for start in range(0, rows, 97):
        hourly.take(frame[start : start + 97])
        staged.add("observation", frame[start : start + 97], time_column="time_start")
    found = look(hourly, staged, lake.past("testville", "feed"))
    marked = pl.concat([found.mark(one) for one in staged.frames("observation")])
    assert marked.drop("suspect").equals(frame.drop("suspect"))
    assert set(marked["suspect"].drop_nulls()) <= {"scale", "frozen", "swapped"}


def test_the_ledgers_counts_still_add_up_where_values_are_marked(city):
    bring(city, "before", days(0, 4, variable="entries"))
    wrong = days(4, 1, variable="entries", change=lambda s, _, v: v * 100 if s == 3 else v)
    result = bring(city, "after", [*wrong, *wrong[:30], ("s1", "entries", "2024-03-05T00:00:00Z", 3600, "many")])
    counts = result.tables["observation"]
    assert counts["in"] == counts["good"] + counts["quarantined"] + counts["duplicate"]
    assert counts["flagged"] == {"scale": 24}
    (row,) = city.lake.ledger().filter(pl.col("batch_id") == result.batch_id).iter_rows(named=True)
    assert json.loads(row["tables"])["observation"]["flagged"] == {"scale": 24}


@pytest.mark.parametrize("empty", ["batch", "observation"])
def test_an_empty_entry_at_the_end_of_a_log_is_said_when_the_lake_is_opened(city, empty):
    bring(city, "before", days(0, 1))
    log = city.lake.root / "tables" / empty / "_delta_log"
    max(log.glob("*.json")).write_bytes(b"")
    with pytest.raises(LakeError, match="an entry of the table's log is empty"):
        Lake.open(city.lake.root)
