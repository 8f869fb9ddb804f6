"""The metrics beside those of libraries that are known for them, on the same numbers and masks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scoringrules
from utilsforecast import losses

from mtgpt.eval.metrics import ScoreSum, seasonal_scale

N, S, H = 40, 3, 4
LEVELS = tuple(np.round(np.arange(0.05, 1, 0.05), 2))


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(11)
    truth = rng.gamma(3, 10, size=(N, S, H))
    truth[rng.random(truth.shape) < 0.1] = np.nan
    middle = np.nan_to_num(truth, nan=20) + rng.normal(0, 5, truth.shape)
    quantiles = middle[..., None] + 8 * np.quantile(rng.normal(size=100_000), LEVELS)
    scale = rng.uniform(2, 9, S)
    score = ScoreSum(S, H, levels=LEVELS, scale=scale, mape_threshold=0.0, coverages=(0.8,))
    score.add(truth, quantiles=quantiles)
    return truth, quantiles, scale, score


def frame(truth, quantiles, step) -> pd.DataFrame:
    """The masked cells of one step as the long table that utilsforecast wants: all series as one."""
    known = np.isfinite(truth[:, :, step])
    made = pd.DataFrame({"unique_id": "all", "y": truth[:, :, step][known]})
    for q, level in enumerate(LEVELS):
        made[f"q{level}"] = quantiles[:, :, step, q][known]
    return made


@pytest.mark.parametrize(
    ("ours", "theirs"), [("mae", losses.mae), ("rmse", losses.rmse), ("bias", losses.bias), ("mape", losses.mape)]
)
def test_point_metrics_are_those_of_utilsforecast(case, ours, theirs):
    truth, quantiles, _, score = case
    for step in range(H):
        table = frame(truth, quantiles, step)
        expected = float(theirs(table, models=["q0.5"])["q0.5"].iloc[0])
        # Its bias is prediction minus truth since 0.2, ours too.
        assert score.score().steps[ours][step] == pytest.approx(expected, rel=1e-9)


def test_the_quantile_loss_of_a_level_is_that_of_utilsforecast(case):
    truth, quantiles, _, score = case
    count = score.sums["count"].sum(axis=0)
    for position in (0, 9, 18):
        level = LEVELS[position]
        mine = score.sums[f"pinball_{position}"].sum(axis=0) / count
        for step in range(H):
            table = frame(truth, quantiles, step)
            column = f"q{level}"
            theirs = losses.quantile_loss(table, models={column: column}, q=float(level))[column].iloc[0]
            assert mine[step] == pytest.approx(float(theirs), rel=1e-9)


def test_coverage_is_that_of_utilsforecast(case):
    truth, quantiles, _, score = case
    for step in range(H):
        table = frame(truth, quantiles, step).rename(columns={"q0.1": "m-lo-80", "q0.9": "m-hi-80"})
        theirs = losses.coverage(table, models=["m"], level=80)["m"].iloc[0]
        assert score.score().steps["coverage_80"][step] == pytest.approx(float(theirs))


def test_mase_divides_by_the_seasonal_naive_of_the_visible_period():
    rng = np.random.default_rng(3)
    season, history = 6, rng.gamma(2, 5, size=(60, 1))
    truth, point = rng.gamma(2, 5, size=(1, 1, 5)), rng.gamma(2, 5, size=(1, 1, 5))
    score = ScoreSum(1, 5, scale=seasonal_scale(history, season))
    score.add(truth, point=point)
    table = pd.DataFrame({"unique_id": "a", "y": truth[0, 0], "m": point[0, 0]})
    train = pd.DataFrame({"unique_id": "a", "y": history[:, 0], "ds": np.arange(60)})
    theirs = losses.mase(table, models=["m"], seasonality=season, train_df=train)["m"].iloc[0]
    assert score.score().averaged["mase"] == pytest.approx(float(theirs), rel=1e-9)


def test_crps_comes_close_to_that_of_the_normal_distribution():
    """The integral over 199 levels against the closed form of scoringrules."""
    rng = np.random.default_rng(5)
    levels = tuple(np.round(np.arange(0.005, 1, 0.005), 4))
    centre, truth = rng.normal(size=(50, 1, 2)), rng.normal(size=(50, 1, 2))
    from scipy.stats import norm

    score = ScoreSum(1, 2, levels=levels)
    score.add(truth, quantiles=centre[..., None] + 1.5 * norm.ppf(levels))
    theirs = scoringrules.crps_normal(truth, centre, 1.5).mean()
    assert score.score().pooled["crps"] == pytest.approx(float(theirs), rel=0.01)


def test_the_loss_of_a_band_end_is_that_of_scoringrules(case):
    truth, quantiles, _, score = case
    known = np.isfinite(truth)
    theirs = scoringrules.quantile_score(truth[known], quantiles[..., 0][known], LEVELS[0]).sum()
    assert score.sums["pinball_0"].sum() == pytest.approx(float(theirs), rel=1e-9)
