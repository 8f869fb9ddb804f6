from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from mtgpt.panel.scales import (
    corridors_by_graph,
    corridors_by_label,
    fill_aggregates,
    nearness_rank,
    weights_of_means,
)


def path(n: int, order: np.ndarray | None = None) -> csr_array:
    order = np.arange(n) if order is None else order
    return csr_array((np.ones(n - 1, np.float32), (order[:-1], order[1:])), shape=(n, n))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 150), size=st.integers(1, 40), seed=st.integers(0, 99), density=st.sampled_from([0, 0.01, 0.3]))
def test_every_spot_is_in_exactly_one_part_and_no_part_is_too_large(n, size, seed, density):
    graph = csr_array(random_array((n, n), density=density, rng=np.random.default_rng(seed), dtype=np.float32))
    parts = corridors_by_graph(graph, size)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert max(part.size for part in parts) <= size
    assert len(parts) == -(-n // size)


def test_a_shuffled_road_is_cut_into_stretches_that_hang_together():
    order = np.random.default_rng(1).permutation(400)
    place = np.argsort(order)
    parts = corridors_by_graph(path(400, order), 64)
    for part in parts:
        stretch = np.sort(place[part])
        assert stretch[-1] - stretch[0] == stretch.size - 1


def test_two_towns_that_one_road_joins_are_cut_at_that_road():
    town = random_array((50, 50), density=0.4, rng=np.random.default_rng(0)).toarray()
    both = np.zeros((100, 100))
    both[:50, :50] = town
    both[50:, 50:] = town
    both[0, 99] = 1
    halves = corridors_by_graph(csr_array(both), 50)
    assert sorted(part.tolist() for part in halves) == [list(range(50)), list(range(50, 100))]


def test_partitioning_gives_the_same_parts_every_time():
    graph = csr_array(random_array((600, 600), density=0.01, rng=np.random.default_rng(3), dtype=np.float32))
    first, second = corridors_by_graph(graph, 64), corridors_by_graph(graph, 64)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_spots_without_a_graph_are_packed_in_the_order_given():
    parts = corridors_by_graph(csr_array((10, 10), dtype=np.float32), 4)
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.slow
def test_20000_spots_are_partitioned_within_seconds():
    side = 141
    number = np.arange(side * side).reshape(side, side)
    row = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    column = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    graph = csr_array((np.ones(row.size, np.float32), (row, column)), shape=(side * side,) * 2)
    began = time.monotonic()
    parts = corridors_by_graph(graph, 64)
    assert time.monotonic() - began < 30
    assert max(part.size for part in parts) <= 64


def test_named_corridors_keep_their_names_and_long_ones_are_cut():
    labels = ["I-10"] * 5 + [None] * 3 + ["I-5"] * 2
    parts, names = corridors_by_label(labels, path(10), 3)
    assert names == ["I-10 (1 of 2)", "I-10 (2 of 2)", "I-5", ""]
    assert sorted(np.concatenate(parts[:2]).tolist()) == [0, 1, 2, 3, 4]
    assert parts[3].tolist() == [5, 6, 7]


def test_neighbours_on_a_road_get_neighbouring_ranks():
    order = np.random.default_rng(2).permutation(200)
    rank = nearness_rank(path(200, order))
    assert np.abs(np.diff(rank[order])).max() == 1


def test_weights_follow_flow_and_a_spot_without_flow_counts_like_the_median():
    np.testing.assert_allclose(weights_of_means(np.array([1.0, 3.0, np.nan, 2.0])), np.array([1, 3, 2, 2]) / 8)
    np.testing.assert_allclose(weights_of_means(np.array([np.nan, np.nan])), [0.5, 0.5])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1), spots=st.integers(1, 9))
def test_aggregates_scale_up_what_is_missing_and_need_half_of_the_weight(seed, share, spots):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 9, (6, spots)).astype(np.float32)
    x[rng.random(x.shape) < share] = np.nan
    weight = rng.uniform(0.1, 1, spots)
    weight /= weight.sum()
    matrix = np.stack([np.ones(spots), weight]).astype(np.float32)
    values = np.concatenate([x, np.zeros((6, 2), np.float32)], axis=1)
    fill_aggregates(values, csr_array(matrix))
    for t in range(6):
        there = np.isfinite(x[t])
        mean = (x[t] * weight)[there].sum() / weight[there].sum() if weight[there].sum() >= 0.5 - 1e-7 else np.nan
        total = x[t][there].mean() * spots if there.mean() >= 0.5 else np.nan
        np.testing.assert_allclose(values[t, -2:], [total, mean], rtol=1e-5)
