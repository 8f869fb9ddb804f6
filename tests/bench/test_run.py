import json

import numpy as np
import pytest
from rich.console import Console

from mtgpt.errors import FeedError, UsageError
from tests.bench import run
from tests.bench.row import Bench, at_least, at_most, between, for_comparison


def _fails(_context):
    raise FeedError("truncated gzip", where="trips.csv.gz", next_step="pull it again")


@pytest.fixture
def quiet():
    return Console(quiet=True)


def test_a_bar_is_met_on_its_edge_and_missed_beyond_it():
    assert at_most("mae", 2.5, 2.5, "mph").passed is True
    assert at_most("mae", 2.51, 2.5, "mph").passed is False
    assert at_least("share", 0.77, 0.77, "").passed is True
    assert between("coverage", 0.84, 0.77, 0.83, "").passed is False
    assert at_most("mae", float("nan"), 2.5, "mph").passed is False
    assert at_most("mae", np.float32(2.6), 2.5, "mph").passed is False


def test_a_row_without_its_data_says_so_and_passes_no_verdict(tmp_path, quiet):
    bench = Bench(rows=("trips_ratio",), run=_fails, needs=("trips_nyc_green",))
    (row,) = run.measure(bench, real_data=tmp_path, say=quiet)
    assert row.passed is None
    assert "no data: trips_nyc_green" in row.detail


def test_a_benchmark_that_fails_is_a_failed_row_with_its_sentence(tmp_path, quiet):
    (row,) = run.measure(Bench(rows=("trips_ratio",), run=_fails), real_data=tmp_path, say=quiet)
    assert row.passed is False
    assert row.detail == "trips.csv.gz: truncated gzip. Pull it again."


def test_results_of_two_runs_are_merged_and_an_unmeasured_row_replaces_nothing(tmp_path):
    file = tmp_path / ".bench" / "results.json"
    run.keep([at_most("a", 1.0, 2.0, "s"), for_comparison("b", 3.0, "s")], file)
    run.keep([at_most("b", 4.0, 2.0, "s"), run.not_measured("a", "no data"), run.not_measured("c", "no data")], file)
    kept = json.loads(file.read_text("utf-8"))
    assert kept["a"]["value"] == 1.0
    assert kept["b"]["value"] == 4.0
    assert kept["b"]["passed"] is False
    assert kept["c"]["detail"] == "no data"
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


def test_an_unknown_row_is_refused_with_the_names_there_are():
    with pytest.raises(UsageError, match="no such row") as refused:
        run.chosen("no_such_row")
    assert {"demo_seconds", "gtfs_rt_ratio"} <= set(str(refused.value.expected).split(", "))


def test_every_row_has_one_benchmark():
    names = [name for bench in run.BENCHES for name in bench.rows]
    assert len(names) == len(set(names))
