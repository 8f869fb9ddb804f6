from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from mtgpt.panel.assemble import make_panel
from mtgpt.panel.panel import PanelMeta
from mtgpt.tokens.sequence import back_to_front, owners, sequences
from tests.synthetic import small_panel


def city(spots: int, corridor_size: int):
    time = np.datetime64("2024-01-01T00:00:00", "s") + np.arange(26) * np.timedelta64(3600, "s")
    series = pl.DataFrame({"spot_id": [str(i) for i in range(spots)], "variable": ["flow"] * spots})
    edges = np.arange(spots - 1)
    graph = csr_array((np.ones(spots - 1, np.float32), (edges, edges + 1)), (spots, spots))
    meta = PanelMeta(city="x", name="x", interval_s=3600, time_zone="UTC")
    values = np.ones((26, spots), np.float32)
    return make_panel(values, time, series, meta=meta, graph=graph, corridor_size=corridor_size)


def test_a_small_city_is_one_sequence_that_starts_with_the_network():
    panel = small_panel()
    (only,) = sequences(panel)
    levels = [panel.series["level"][int(i)] for i in only]
    assert levels == ["network", "corridor", "corridor", *["spot"] * 8]


@pytest.mark.parametrize(("spots", "size"), [(300, 64), (2000, 200), (9000, 64), (500, 500)])
def test_every_series_has_one_owner_and_no_sequence_is_long(spots, size):
    panel = city(spots, size)
    parts = sequences(panel)
    assert max(len(p) for p in parts) <= 256
    spots_seen = np.concatenate([p[np.asarray(panel.series["level"].to_list())[p] == "spot"] for p in parts])
    assert sorted(spots_seen.tolist()) == list(range(spots))
    owner = owners(parts, panel.n_series)
    assert (owner >= 0).all()
    for i, part in enumerate(parts):
        assert all(j in part for j in np.flatnonzero(owner == i)[:5])


def test_back_to_front_reverses_the_spots_and_leaves_the_aggregates():
    part = np.array([9, 8, 0, 1, 2, 8, 9])
    assert part[back_to_front(part, 8)].tolist() == [9, 8, 2, 1, 0, 8, 9]


def test_the_number_of_tokens_grows_linearly_with_the_city():
    few, many = (sum(len(p) for p in sequences(city(n, 200))) for n in (2000, 8000))
    assert many / few < 4.6


def test_series_of_unknown_mode_are_read_as_other():
    from mtgpt.tokens.vocabulary import kind_ids

    panel = small_panel()
    odd = replace(panel, series=panel.series.with_columns(pl.lit("rickshaw").alias("mode")))
    assert (kind_ids(odd.series)[:, 0] == 0).all()
    assert (kind_ids(panel.series)[:, 0] > 0).all()
