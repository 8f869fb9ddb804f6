"""Reconciliation against the dense textbook formula, and its properties on any hierarchy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mtgpt.errors import ModelError, UsageError
from mtgpt.model.reconcile import reconcile, shrinkage_intensity

LEVELS = (0.025, 0.1, 0.3, 0.5, 0.7, 0.9, 0.975)
MIDDLE = 3


def hierarchy(P: int, corridors: int, *, mean: bool = False) -> sparse.csr_array:
    """Corridors that share the spots out, and the network over all of them."""
    corridors = min(corridors, P)
    member = np.zeros((corridors + 1, P))
    member[np.arange(P) % corridors, np.arange(P)] = 1
    member[corridors] = 1
    if mean:
        weight = member * np.linspace(1, 2, P)
        member = weight / weight.sum(axis=1, keepdims=True)
    return sparse.csr_array(member.astype(np.float32))


def forecasts(A: sparse.csr_array, seed: int, H: int = 3, dtype: type = np.float32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    G, P = A.shape
    median = rng.gamma(3, 10, (P + G, H))
    median[P:] = (A @ median[:P]) * rng.normal(1, 0.1, (G, H))
    width = np.abs(rng.normal(0, 3, (P + G, H, 1)))
    return np.sort(median[:, :, None] + width * np.linspace(-2, 2, len(LEVELS)), axis=2).clip(0).astype(dtype)


def disagreement(A: sparse.csr_array, quantiles: np.ndarray) -> float:
    median = quantiles[:, :, MIDDLE].astype(np.float64)
    total = A.astype(np.float64) @ median[: A.shape[1]]
    return float(np.max(np.abs(total - median[A.shape[1] :]) / np.maximum(np.abs(total), 1e-9)))


def textbook(y: np.ndarray, W: np.ndarray, A: sparse.csr_array) -> np.ndarray:
    C = np.hstack([-A.toarray().astype(np.float64), np.eye(A.shape[0])])
    return y - W @ C.T @ np.linalg.solve(C @ W @ C.T, C @ y)


def naive_shrinkage(R: np.ndarray) -> float:
    """The estimator as Schäfer & Strimmer write it, with the S x S matrix formed."""
    N, S = R.shape
    z = R / np.sqrt((R**2).mean(axis=0))
    spread = ((z**2).T @ (z**2) - (z.T @ z) ** 2 / N) / (N * (N - 1))
    correlation = (z.T @ z / N) ** 2
    off = ~np.eye(S, dtype=bool)
    return float(np.clip(spread[off].sum() / correlation[off].sum(), 0, 1))


@pytest.mark.parametrize("mean", [False, True])
def test_wls_is_the_textbook_projection_step_by_step(mean):
    A = hierarchy(11, 3, mean=mean)
    q = forecasts(A, 1, dtype=np.float64) + 100
    variance = np.random.default_rng(2).gamma(2, 2, q.shape[:2])
    out = reconcile(q, LEVELS, A, variance=variance, minimum=None)
    for step in range(q.shape[1]):
        expected = textbook(q[:, step, MIDDLE], np.diag(variance[:, step]), A)
        np.testing.assert_allclose(out[:, step, MIDDLE], expected, rtol=1e-6)


def test_mint_is_the_textbook_projection_with_the_shrunk_covariance():
    A = hierarchy(11, 3)
    q = forecasts(A, 3, dtype=np.float64) + 100
    rng = np.random.default_rng(4)
    R = rng.normal(size=(40, 15)) @ rng.normal(size=(15, 15))
    intensity = naive_shrinkage(R)
    W = intensity * np.diag((R**2).mean(axis=0)) + (1 - intensity) * R.T @ R / len(R)
    out = reconcile(q, LEVELS, A, method="mint", residuals=R, minimum=None)
    for step in range(q.shape[1]):
        np.testing.assert_allclose(out[:, step, MIDDLE], textbook(q[:, step, MIDDLE], W, A), rtol=1e-6)


def test_mint_takes_the_size_of_errors_per_step_and_their_correlation_from_the_past():
    A = hierarchy(8, 2)
    q = forecasts(A, 5, dtype=np.float64) + 100
    rng = np.random.default_rng(6)
    R = rng.normal(size=(30, 11)) @ rng.normal(size=(11, 11))
    variance = rng.gamma(2, 2, q.shape[:2])
    out = reconcile(q, LEVELS, A, method="mint", residuals=R, variance=variance, shrinkage=0.3, minimum=None)
    z = R / np.sqrt((R**2).mean(axis=0))
    for step in range(q.shape[1]):
        d = np.sqrt(variance[:, step])
        W = d[:, None] * (0.3 * np.eye(11) + 0.7 * z.T @ z / len(z)) * d
        np.testing.assert_allclose(out[:, step, MIDDLE], textbook(q[:, step, MIDDLE], W, A), rtol=1e-6)


@pytest.mark.parametrize("N", [5, 40])
def test_the_shrinkage_intensity_needs_no_matrix_of_all_series(N):
    rng = np.random.default_rng(7)
    R = rng.normal(size=(N, 12)) @ (np.eye(12) + 0.3)
    assert shrinkage_intensity(R) == pytest.approx(naive_shrinkage(R), abs=1e-9)


def test_independent_errors_are_shrunk_and_shared_ones_are_not():
    rng = np.random.default_rng(8)
    alone, shared = rng.normal(size=(200, 30)), rng.normal(size=(200, 1)) + 0.1 * rng.normal(size=(200, 30))
    assert shrinkage_intensity(alone) > 0.8
    assert shrinkage_intensity(shared) < 0.05
    assert shrinkage_intensity(alone[:1]) == 1.0


hierarchies = st.builds(hierarchy, st.integers(2, 25), st.integers(1, 6), mean=st.booleans())
methods = st.sampled_from(["wls", "mint", "bottom_up"])


def options(method: str, S: int, seed: int) -> dict:
    return {"residuals": np.random.default_rng(seed).normal(size=(9, S))} if method == "mint" else {}


@settings(max_examples=60, deadline=None)
@given(A=hierarchies, method=methods, seed=st.integers(0, 1000), dead=st.floats(0, 0.3))
def test_any_hierarchy_agrees_stays_ordered_and_is_settled_after_one_pass(A, method, seed, dead):
    rng = np.random.default_rng(seed)
    P = A.shape[1]
    q = forecasts(A, seed)
    q[:P][rng.random((P, q.shape[1])) < dead] = np.nan
    kwargs = options(method, len(q), seed)
    out = reconcile(q, LEVELS, A, method=method, **kwargs)

    assert out.dtype == q.dtype
    assert out.shape == q.shape
    alive = np.isfinite(out[:, :, MIDDLE])
    assert (np.diff(out, axis=2)[alive] >= 0).all()
    assert (out[alive] >= 0).all()
    assert (alive[:P] == np.isfinite(q[:P, :, MIDDLE])).all()

    full = A.toarray().astype(np.float64)
    for step in range(q.shape[1]):
        left = full @ alive[:P, step]
        share = left / full.sum(axis=1)
        total = full @ np.nan_to_num(out[:P, step, MIDDLE].astype(np.float64))
        whole = np.divide(total, share, out=np.full_like(total, np.nan), where=share >= 0.5 - 1e-9)
        np.testing.assert_allclose(out[P:, step, MIDDLE], whole, rtol=1e-6)

    np.testing.assert_allclose(reconcile(out, LEVELS, A, method=method, **kwargs), out, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(A=hierarchies, method=methods, seed=st.integers(0, 1000))
def test_forecasts_that_agree_already_are_left_as_they_are(A, method, seed):
    q = forecasts(A, seed)
    P = A.shape[1]
    total = A.astype(np.float64) @ q[:P, :, MIDDLE].astype(np.float64)
    q[P:] = total[:, :, None] + np.linspace(-1, 1, len(LEVELS)) * 0.5 * total[:, :, None]
    out = reconcile(q, LEVELS, A, method=method, **options(method, len(q), seed))
    np.testing.assert_allclose(out, q, rtol=1e-6, atol=1e-6)


def test_an_uncertain_aggregate_gives_way_to_certain_spots_and_the_other_way_round():
    A = hierarchy(4, 1)[:1]
    q = np.repeat(np.array([10.0, 10, 10, 10, 60])[:, None, None], len(LEVELS), axis=2)
    sure_spots = reconcile(q, LEVELS, A, variance=np.array([[1e-6]] * 4 + [[1e6]]))
    sure_total = reconcile(q, LEVELS, A, variance=np.array([[1e6]] * 4 + [[1e-6]]))
    np.testing.assert_allclose(sure_spots[:, 0, MIDDLE], [10, 10, 10, 10, 40], rtol=1e-6)
    np.testing.assert_allclose(sure_total[:, 0, MIDDLE], [15, 15, 15, 15, 60], rtol=1e-6)


def test_without_a_variance_the_width_of_the_band_says_who_gives_way():
    A = hierarchy(2, 1)[:1]
    shape = np.linspace(-1, 1, len(LEVELS))
    q = np.stack([10 + 0.1 * shape, 10 + 4 * shape, 30 + 0.1 * shape])[:, None, :]
    median = reconcile(q, LEVELS, A)[:, 0, MIDDLE]
    assert median[0] == pytest.approx(10, abs=0.02)
    assert median[1] == pytest.approx(20, abs=0.02)


def test_the_shape_of_a_band_moves_with_its_median():
    A = hierarchy(6, 2)
    q = forecasts(A, 9, dtype=np.float64)
    out = reconcile(q, LEVELS, A, minimum=None)
    np.testing.assert_allclose(out - out[:, :, [MIDDLE]], q - q[:, :, [MIDDLE]], atol=1e-9)


def test_counts_do_not_fall_below_zero_and_still_add_up():
    A = hierarchy(5, 2)
    q = forecasts(A, 10)
    q[:5] = np.linspace(0, 1, len(LEVELS), dtype=np.float32)
    q[5:] = 0
    out = reconcile(q, LEVELS, A, variance=np.array([[4.0] * 3] * 5 + [[1e-9] * 3] * 3))
    assert out.min() == 0
    assert disagreement(A, out) < 1e-6


def test_a_variable_that_may_be_negative_keeps_its_sign():
    A = hierarchy(4, 2, mean=True)
    q = forecasts(A, 11, dtype=np.float64) - 500
    free = reconcile(q, LEVELS, A, minimum=None)
    assert (free[:4, :, MIDDLE] < 0).all()
    assert disagreement(A, free) < 1e-6
    floors = np.where(np.arange(len(q)) == 0, 0.0, -np.inf)
    some = reconcile(q, LEVELS, A, minimum=floors)
    assert some[0].min() == 0
    assert (some[1:4, :, MIDDLE] < 0).all()
    assert (np.diff(some, axis=2) >= 0).all()
    assert disagreement(A, some) < 1e-6


def test_an_aggregate_without_a_forecast_of_its_own_is_added_up_with_its_band():
    A = hierarchy(4, 1)[:1]
    q = forecasts(A, 12, dtype=np.float64)
    q[4] = np.nan
    out = reconcile(q, LEVELS, A)
    np.testing.assert_allclose(out[:4], q[:4])
    np.testing.assert_allclose(out[4], q[:4].sum(axis=0), rtol=1e-9)


def test_an_aggregate_with_less_than_half_its_weight_forecast_is_not_forecast():
    A = hierarchy(4, 1)[:1]
    q = forecasts(A, 13)
    q[:3, 1] = np.nan
    out = reconcile(q, LEVELS, A)
    assert np.isnan(out[4, 1]).all()
    assert np.isfinite(out[4, [0, 2]]).all()
    np.testing.assert_array_equal(out[3, 1], q[3, 1])


@pytest.mark.parametrize("method", ["wls", "mint", "bottom_up"])
def test_a_spot_counts_by_how_often_it_reports(method):
    A = hierarchy(7, 2, mean=True)
    q = forecasts(A, 21, dtype=np.float64) + 100
    presence = np.random.default_rng(22).uniform(0.1, 1, (7, q.shape[1]))
    out = reconcile(q, LEVELS, A, method=method, presence=presence, minimum=None, **options(method, len(q), 23))
    full = A.toarray().astype(np.float64)
    for step in range(q.shape[1]):
        weight = full * presence[:, step]
        weight *= (full.sum(1) / weight.sum(1))[:, None]
        np.testing.assert_allclose(out[7:, step, MIDDLE], weight @ out[:7, step, MIDDLE], rtol=1e-9)
        if method == "wls":
            width = q[:, step, LEVELS.index(0.9)] - q[:, step, LEVELS.index(0.1)]
            expected = textbook(q[:, step, MIDDLE], np.diag(width**2), sparse.csr_array(weight))
            np.testing.assert_allclose(out[:, step, MIDDLE], expected, rtol=1e-6)


def test_where_nobody_ever_reports_all_spots_count_the_same():
    A = hierarchy(5, 1)
    q = forecasts(A, 24, dtype=np.float64)
    never = reconcile(q, LEVELS, A, method="bottom_up", presence=np.zeros((5, q.shape[1])))
    np.testing.assert_allclose(never, reconcile(q, LEVELS, A, method="bottom_up"), rtol=1e-9)


def test_a_series_that_never_varies_does_not_break_the_system():
    A = hierarchy(4, 2)
    q = forecasts(A, 14)
    q[[0, 2, 4]] = 0  # every spot of the first corridor and the corridor itself: all exactly zero
    out = reconcile(q, LEVELS, A)
    assert np.isfinite(out).all()
    assert disagreement(A, out) < 1e-6
    assert (out[[0, 2, 4]] == 0).all()


def test_speeds_and_flows_of_one_city_do_not_disturb_each_other():
    A = sparse.block_diag([hierarchy(5, 2), hierarchy(4, 2, mean=True)]).tocsr()
    order = [*range(5), *range(8, 12), *range(5, 8), *range(12, 15)]  # spots first
    flows, speeds = forecasts(hierarchy(5, 2), 15) * 1000, forecasts(hierarchy(4, 2, mean=True), 16)
    both = reconcile(np.concatenate([flows, speeds])[order], LEVELS, sparse.csr_array(A))
    alone = np.concatenate(
        [reconcile(flows, LEVELS, hierarchy(5, 2)), reconcile(speeds, LEVELS, hierarchy(4, 2, mean=True))]
    )[order]
    np.testing.assert_allclose(both, alone, rtol=1e-5)


def test_none_and_a_panel_without_aggregates_change_nothing():
    A = hierarchy(4, 2)
    q = forecasts(A, 17)
    assert reconcile(q, LEVELS, A, method="none") is q
    assert reconcile(q[:4], LEVELS, sparse.csr_array((0, 4), dtype=np.float32)) is not None


def test_what_does_not_fit_is_named_all_at_once():
    A = hierarchy(4, 2)
    q = forecasts(A, 18)
    with pytest.raises(ModelError, match=r"does not belong to 6 series.*the variance has shape.*median is not among"):
        reconcile(q[:6], (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8), A, variance=np.ones((2, 2)))
    with pytest.raises(UsageError, match="mint needs past errors"):
        reconcile(q, LEVELS, A, method="mint")
    with pytest.raises(UsageError, match="unknown reconciliation method"):
        reconcile(q, LEVELS, A, method="top_down")
    with pytest.raises(UsageError, match="no error variance"):
        reconcile(q[:, :, MIDDLE : MIDDLE + 1], (0.5,), A)
