"""Intervals and win rates of a transfer table."""

from __future__ import annotations

import numpy as np
import pytest

from mtgpt.errors import UsageError
from mtgpt.eval.transfer.statistics import mae, mae_interval, skill_interval, win_rate


def run(level: float, *, days: int = 12, steps: int = 12, noise: float = 0.1, seed: int = 0):
    rng = np.random.default_rng(seed)
    count = np.full((days, steps), 50.0)
    return count * (level + noise * rng.normal(size=(days, 1))), count


def test_mae_averages_the_steps_and_skips_those_without_cells():
    absolute, count = np.array([[2.0, 9.0, 0.0]]), np.array([[2.0, 3.0, 0.0]])
    assert mae(absolute, count) == pytest.approx(2.0)
    assert np.isnan(mae(np.zeros((1, 2)), np.zeros((1, 2))))


def test_the_interval_holds_the_value_and_narrows_with_more_days():
    few, many = (mae_interval([run(1.0, days=n)]) for n in (8, 200))
    for one in (few, many):
        assert one.low <= one.value <= one.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = []
    for seed in range(200):
        one = mae_interval([run(1.0, days=20, noise=0.3, seed=seed)], seed=seed, replicates=400)
        hits.append(one.low <= 1.0 <= one.high)
    assert 0.86 <= np.mean(hits) <= 0.99


def test_days_are_drawn_in_pairs_so_a_constant_advantage_has_no_spread():
    ours, theirs = run(1.0, noise=0.4), run(1.0, noise=0.4)
    better = (ours[0] * 0.9, ours[1])
    skill = skill_interval([better], [theirs])
    assert skill.value == pytest.approx(0.1)
    assert skill.high - skill.low < 1e-9


def test_seeds_that_disagree_widen_the_interval():
    same = mae_interval([run(1.0, noise=0), run(1.0, noise=0)])
    apart = mae_interval([run(0.8, noise=0), run(1.2, noise=0)])
    assert same.high - same.low < 1e-9
    assert apart.high - apart.low > 0.2


def test_the_same_draw_gives_the_same_interval():
    assert mae_interval([run(1.0)], seed=4) == mae_interval([run(1.0)], seed=4)


def test_competitors_of_different_days_are_not_compared():
    with pytest.raises(UsageError, match="same days"):
        skill_interval([run(1.0, days=5)], [run(1.0, days=6)])


def test_win_rates_count_ties_half():
    assert win_rate([(1, 2), (2, 1), (1, 1), (0, 3)]) == pytest.approx(0.625)
    assert win_rate([]) is None
