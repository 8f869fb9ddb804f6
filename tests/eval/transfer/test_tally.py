"""Sums by day, and the metrics that come out of them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mtgpt.eval.baselines import baselines
from mtgpt.eval.score import evaluate
from mtgpt.eval.transfer.days import test_cuts as cuts_of_test
from mtgpt.eval.transfer.statistics import mae
from mtgpt.eval.transfer.tally import daily_mae, reliability, score_of, tally
from mtgpt.train.data import split
from tests.synthetic import small_panel

PATCH = 12


@pytest.fixture(scope="module")
def panel():
    return small_panel(days=14)


@pytest.fixture(scope="module")
def rivals(panel):
    return baselines(panel, patch=PATCH, train_end=split(panel.n_step, patch=PATCH).train[1] + PATCH)


def test_a_tally_gives_the_scores_that_evaluation_gives(panel, rivals):
    cuts = cuts_of_test(panel, patch=PATCH, stride=1)
    whole = evaluate(panel)
    for name, rival in rivals.items():
        found = tally(panel, rival, cuts, patch=PATCH)
        ours, theirs = score_of(found.sums.filter(level="spot")), whole.score(name).averaged
        assert ours["mae"] == pytest.approx(theirs["mae"], rel=1e-9)
        assert ours["rmse"] == pytest.approx(theirs["rmse"], rel=1e-9)
        assert found.seconds > 0
        by_place = found.spots["absolute"].sum() / found.spots["count"].sum()
        assert by_place == pytest.approx(whole.score(name).pooled["mae"], rel=1e-9)


def test_days_add_up_to_the_whole(panel, rivals):
    sums = tally(panel, rivals["last value"], cuts_of_test(panel, patch=PATCH, stride=2), patch=PATCH).sums
    spots = sums.filter(level="spot")
    absolute, count = daily_mae(spots)
    assert absolute.shape == (spots["day"].n_unique(), PATCH)
    assert mae(absolute, count) == pytest.approx(score_of(spots)["mae"])


def test_quantiles_bring_coverage_and_crps(panel, rivals):
    levels = (0.1, 0.5, 0.9)

    def wide(cuts):
        point = rivals["trailing expectation"](cuts)
        return np.stack([point - 1000, point, point + 1000], axis=-1)

    sums = tally(panel, wide, cuts_of_test(panel, patch=PATCH, stride=5), patch=PATCH, levels=levels).sums
    found = score_of(sums.filter(pl.col("level") == "spot"), levels)
    shares = reliability(sums.filter(pl.col("level") == "spot"), levels)
    assert [level for level, _ in shares] == list(levels)
    assert shares[0][1] == 0
    assert 0.2 < shares[1][1] < 0.8
    assert shares[2][1] == 1
    assert found["coverage_80"] == 1.0
    assert found["crps"] > found["mae"]


def test_a_group_without_a_cell_has_no_score(panel, rivals):
    sums = tally(panel, rivals["last value"], cuts_of_test(panel, patch=PATCH, stride=9), patch=PATCH).sums
    nothing = sums.filter(level="spot").with_columns(pl.col(pl.Float64) * 0)
    assert score_of(nothing)["mae"] is None
