"""Judged rows wait in bounded memory, and a batch's own repetitions are found across its chunks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtgpt.contracts.registry import contract
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from pathlib import Path

WEATHER = contract("weather")
START = datetime(2024, 1, 1, tzinfo=UTC)


def _weather(hours: list[int], tag: str = "x") -> pl.DataFrame:
    rows = [
        {
            "city_id": "c",
            "time_start": START + timedelta(hours=hour),
            "interval_s": 3600,
            "temperature_c": 1.0,
            "source_id": tag,
            "batch_id": "b",
        }
        for hour in hours
    ]
    return pl.DataFrame(rows, schema=WEATHER.polars_schema)


def test_rows_over_the_budget_go_to_files_and_come_back_in_order(tmp_path: Path) -> None:
    frames = [_weather(list(range(start, start + 50))) for start in (0, 50, 100)]
    staged = Staging(folder=tmp_path, memory_bytes=12_000)
    for frame in frames:
        staged.add("weather", frame, time_column="time_start")
    assert len(list(tmp_path.glob("*.arrow"))) == 2
    assert pl.concat(staged.frames("weather")).equals(pl.concat(frames))
    assert staged.span("weather") == (START, START + timedelta(hours=149))


def test_a_rewritten_piece_takes_its_file_with_it(tmp_path: Path) -> None:
    staged = Staging(folder=tmp_path, memory_bytes=0)
    staged.add("weather", _weather([1, 2, 3]), time_column="time_start")
    staged.rewrite("weather", lambda piece: piece.read().head(1), time_column="time_start")
    assert staged.rows("weather") == 1
    assert len(list(tmp_path.glob("*.arrow"))) == 1
    staged.rewrite("weather", lambda piece: piece.read().head(0), time_column="time_start")
    assert (staged.rows("weather"), staged.tables(), list(tmp_path.glob("*.arrow"))) == (0, [], [])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.lists(st.integers(0, 12), max_size=6, unique=True), max_size=5),
    spilled=st.booleans(),
)
def test_a_key_stays_once_however_a_batch_is_cut_into_chunks(
    tmp_path: Path, chunks: list[list[int]], spilled: bool
) -> None:
    staged = Staging(folder=tmp_path, memory_bytes=0 if spilled else 1 << 20)
    for index, hours in enumerate(chunks):
        staged.add("weather", _weather(hours, str(index)), time_column="time_start")
    dropped = staged.drop_repeated("weather", WEATHER, time_column="time_start")
    first: dict[int, str] = {}
    for index, hours in enumerate(chunks):
        for hour in hours:
            first.setdefault(hour, str(index))
    rows = pl.concat([_weather([]), *staged.frames("weather")])
    assert dict(rows.select((pl.col("time_start") - START).dt.total_hours(), "source_id").iter_rows()) == first
    assert dropped + rows.height == sum(len(hours) for hours in chunks)


def test_what_a_killed_run_left_is_swept_and_what_a_living_run_has_stays(tmp_path: Path) -> None:
    left = tmp_path / "run-left"
    left.mkdir()
    (left / "1.arrow").write_bytes(b"half")
    with workspace(tmp_path) as first, workspace(tmp_path) as second:
        assert not left.exists()
        assert first.is_dir()
        assert second.is_dir()
    assert list(tmp_path.glob("run-*")) == []


def test_a_workspace_is_removed_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), workspace(tmp_path) as folder:
        (folder / "none.arrow").read_bytes()
    assert list(tmp_path.glob("run-*")) == []
