"""Metrics by hand, against numpy, and the promise that nothing scored is nothing, not zero."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import UsageError
from mtgpt.eval.metrics import ScoreSum, level_weights, seasonal_scale

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)


def batch(seed: int, N: int = 6, S: int = 4, H: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2, 10, (N, S, H))
    truth[rng.random(truth.shape) < 0.1] = np.nan
    quantiles = np.sort(rng.gamma(2, 10, (N, S, H, len(LEVELS))), axis=3)
    return truth, quantiles


def test_the_metrics_of_four_cells_are_what_they_are_by_hand():
    truth = np.array([[[10.0, 20.0], [0.0, 40.0]]])  # 1 window, 2 series, 2 steps
    point = np.array([[[12.0, 17.0], [1.0, 40.0]]])
    total = ScoreSum(2, 2, scale=np.array([2.0, 0.5]), mape_threshold=5)
    total.add(truth, point=point)
    score = total.score()
    assert score.cells == 4
    assert score.pooled["mae"] == pytest.approx((2 + 3 + 1 + 0) / 4)
    assert score.pooled["rmse"] == pytest.approx(np.sqrt((4 + 9 + 1 + 0) / 4))
    assert score.pooled["bias"] == pytest.approx((2 - 3 + 1 + 0) / 4)
    assert score.pooled["wape"] == pytest.approx(6 / 70)
    assert score.pooled["mape"] == pytest.approx((0.2 + 0.15 + 0) / 3)
    assert score.pooled["mase"] == pytest.approx((1 + 1.5 + 2 + 0) / 4)
    assert score.steps["mae"] == pytest.approx((1.5, 1.5))
    assert score.steps["wape"] == pytest.approx((3 / 10, 3 / 60))
    assert score.averaged["wape"] == pytest.approx((3 / 10 + 3 / 60) / 2)


def test_quantile_loss_and_coverage_of_one_cell_are_what_they_are_by_hand():
    total = ScoreSum(1, 1, levels=LEVELS)
    total.add(np.array([[[10.0]]]), quantiles=np.array([[[[4.0, 6.0, 9.0, 11.0, 20.0]]]]))
    score = total.score()
    losses = np.array([0.025 * 6, 0.1 * 4, 0.5 * 1, 0.1 * 1, 0.025 * 10])
    assert score.pooled["wql"] == pytest.approx(2 * losses.mean() / 10)
    assert score.pooled["crps"] == pytest.approx(2 * (losses * [0.0625, 0.2375, 0.4, 0.2375, 0.0625]).sum())
    assert score.pooled["coverage_80"] == 1
    assert score.pooled["width_80"] == pytest.approx(5)
    assert score.pooled["coverage_95"] == 1
    assert score.pooled["mae"] == pytest.approx(1)


def test_streaming_over_windows_is_scoring_them_at_once_and_two_processes_merge():
    truth, quantiles = batch(0)
    scale = np.array([1.0, 2.0, np.nan, 0.0])
    make = lambda: ScoreSum(4, 3, levels=LEVELS, scale=scale, mape_threshold=1)  # noqa: E731 - one recipe, three uses
    whole, first, second = make(), make(), make()
    whole.add(truth, quantiles=quantiles)
    for window in range(3):
        first.add(truth[window], quantiles=quantiles[window])
    second.add(truth[3:], quantiles=quantiles[3:])
    first.merge(second)
    for name, value in whole.score().pooled.items():
        assert first.score().pooled[name] == pytest.approx(value)


def test_float32_batches_do_not_lose_a_small_error_in_a_long_sum():
    total = ScoreSum(1, 1)
    for _ in range(50):
        total.add(np.full((20_000, 1, 1), 1000, np.float32), point=np.full((20_000, 1, 1), 1000.1, np.float32))
    assert total.score().pooled["mae"] == pytest.approx(float(np.float32(1000.1)) - 1000, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_masked_metrics_are_numpy_on_the_cells_that_count(seed, share):
    truth, quantiles = batch(seed)
    mask = np.random.default_rng(seed + 1).random(truth.shape) >= share
    total = ScoreSum(4, 3, levels=LEVELS, mape_threshold=2)
    total.add(truth, quantiles=quantiles, mask=mask)
    score = total.score()
    keep = mask & np.isfinite(truth)
    y, q = truth[keep], quantiles[keep]
    assert score.cells == keep.sum()
    if not keep.any():
        assert set(score.pooled.values()) == {None}
        return
    assert score.pooled["mae"] == pytest.approx(np.abs(y - q[:, 2]).mean())
    assert score.pooled["rmse"] == pytest.approx(np.sqrt(((y - q[:, 2]) ** 2).mean()))
    assert score.pooled["coverage_80"] == pytest.approx(((q[:, 1] <= y) & (y <= q[:, 3])).mean())
    large = y > 2
    if large.any():
        assert score.pooled["mape"] == pytest.approx((np.abs(y - q[:, 2]) / y)[large].mean())
    else:
        assert score.pooled["mape"] is None


def test_an_all_masked_step_is_null_and_does_not_weigh_in_the_average():
    truth, quantiles = batch(1)
    mask = np.ones(truth.shape, bool)
    mask[:, :, 1] = False
    total = ScoreSum(4, 3, levels=LEVELS)
    total.add(truth, quantiles=quantiles, mask=mask)
    score = total.score()
    mae = score.steps["mae"]
    assert mae[1] is None
    assert score.averaged["mae"] == pytest.approx((mae[0] + mae[2]) / 2)
    assert '"coverage_80": [0' in json.dumps(score.as_dict(), allow_nan=False)


def test_a_known_truth_without_a_forecast_is_counted_as_unanswered():
    truth = np.array([[[1.0, 2.0]]])
    total = ScoreSum(1, 2)
    total.add(truth, point=np.array([[[np.nan, 2.5]]]))
    score = total.score()
    assert (score.cells, score.unanswered) == (1, 1)
    assert score.pooled["mae"] == 0.5


def test_what_is_masked_may_hold_anything():
    truth = np.array([[[1.0, 1e300]]])
    total = ScoreSum(1, 2)
    total.add(truth, point=np.array([[[2.0, np.inf]]]), mask=np.array([True, False]))
    assert total.score().pooled["mae"] == 1


def test_groups_of_series_are_scored_by_level_and_variable():
    series = pl.DataFrame({"level": ["spot", "spot", "network"], "variable": ["speed", "flow", "speed"]})
    total = ScoreSum(3, 1)
    total.add(np.zeros((2, 3, 1)), point=np.array([[[1.0], [2.0], [3.0]], [[3.0], [2.0], [5.0]]]))
    groups = total.by(series)
    assert {key: score.pooled["mae"] for key, score in groups.items()} == {
        ("spot", "speed"): 2,
        ("spot", "flow"): 2,
        ("network", "speed"): 4,
    }
    assert list(total.by(series, ["variable"])) == [("speed",), ("flow",)]
    np.testing.assert_array_equal(total.per_series("mae"), [2, 2, 4])


def test_a_series_of_truth_zero_has_an_error_but_no_relative_one():
    total = ScoreSum(1, 1, scale=np.array([0.0]), mape_threshold=0)
    total.add(np.zeros((3, 1, 1)), point=np.ones((3, 1, 1)))
    score = total.score()
    assert score.pooled["mae"] == 1
    assert score.pooled["wape"] is None
    assert score.pooled["mape"] is None
    assert score.pooled["mase"] is None


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=30, unique=True).map(sorted))
def test_the_weights_of_the_levels_sum_to_one(levels):
    weights = level_weights(levels)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


def test_crps_on_many_levels_is_the_energy_form_of_the_distribution():
    levels = (np.arange(400) + 0.5) / 400
    draws = np.quantile(np.random.default_rng(3).gamma(2, 5, 20_000), levels)
    total = ScoreSum(1, 1, levels=levels)
    total.add(np.array([[[7.0]]]), point=np.array([[[10.0]]]), quantiles=draws[None, None, None])
    energy = np.abs(draws - 7).mean() - 0.5 * np.abs(draws[:, None] - draws).mean()
    assert total.score().pooled["crps"] == pytest.approx(energy, rel=0.01)


def test_the_scale_of_mase_skips_missing_values():
    values = np.array([[1.0, np.nan], [5.0, 1.0], [2.0, np.nan], [np.nan, 4.0], [8.0, np.nan]])
    np.testing.assert_allclose(seasonal_scale(values, 2), [(1 + 6) / 2, 3])
    assert np.isnan(seasonal_scale(values[:2], 2)).all()


def test_what_does_not_fit_is_refused():
    total = ScoreSum(2, 2, levels=LEVELS)
    with pytest.raises(UsageError, match="does not fit"):
        total.add(np.zeros((1, 3, 2)), quantiles=np.zeros((1, 2, 2, 5)))
    with pytest.raises(UsageError, match="come together"):
        total.add(np.zeros((1, 2, 2)), point=np.zeros((1, 2, 2)))
    with pytest.raises(UsageError, match="nothing to score"):
        ScoreSum(2, 2).add(np.zeros((1, 2, 2)))
    with pytest.raises(UsageError, match="different things"):
        total.merge(ScoreSum(2, 2))
    with pytest.raises(UsageError, match="does not know this metric"):
        total.per_series("mase")
