from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from mtgpt.errors import NotFound, PanelError
from mtgpt.panel.assemble import identity, make_panel
from mtgpt.panel.panel import PanelMeta

META = PanelMeta(city="testville", name="Testville", interval_s=300, time_zone="UTC")
STEPS = 600


def town(spots: int = 30, *, poison: int | None = None, **options):
    """Speeds and flows at the same spots of one road, given in shuffled order."""
    rng = np.random.default_rng(0)
    speed = rng.uniform(20, 100, (STEPS, spots)).astype(np.float32)
    flow = (rng.uniform(10, 20, (STEPS, spots)) * np.arange(1, spots + 1)).astype(np.float32)
    speed[rng.random(speed.shape) < 0.2] = np.nan
    values = np.concatenate([speed, flow], axis=1)
    if poison is not None:
        values[poison:] = 1e9
    order = rng.permutation(spots)
    row = np.concatenate([order[:-1], order[:-1] + spots])
    column = np.concatenate([order[1:], order[1:] + spots])
    graph = csr_array((np.ones(row.size, np.float32), (row, column)), shape=(2 * spots,) * 2)
    series = pl.DataFrame(
        {
            "spot_id": [f"s{i}" for i in range(spots)] * 2,
            "variable": ["speed"] * spots + ["flow"] * spots,
            "aggregate": ["mean"] * spots + ["sum"] * spots,
            "unit": ["km/h"] * spots + ["veh/h"] * spots,
        }
    )
    time = np.datetime64("2024-01-01", "s") + np.arange(STEPS) * np.timedelta64(300, "s")
    return make_panel(values, time, series, graph=graph, meta=META, corridor_size=8, **options), values


def test_spots_come_first_by_variable_and_corridor_then_corridors_then_networks():
    panel, values = town()
    series = panel.series
    assert series["index"].to_list() == list(range(panel.n_series))
    assert series["level"].to_list() == ["spot"] * 60 + ["corridor"] * 8 + ["network"] * 2
    spots = series[:60]
    assert spots["variable"].to_list() == ["flow"] * 30 + ["speed"] * 30
    assert spots["corridor"].to_list()[:30] == sorted(spots["corridor"].to_list()[:30])
    assert spots["corridor"].to_list()[:30] == spots["corridor"].to_list()[30:]
    assert series["series_id"].to_list()[60:] == [
        *(f"flow@corridor:{i}" for i in range(4)),
        *(f"speed@corridor:{i}" for i in range(4)),
        "flow@network",
        "speed@network",
    ]
    given = 30 * (spots["variable"] == "flow").cast(int).to_numpy() + [int(s[1:]) for s in spots["spot_id"]]
    np.testing.assert_array_equal(panel.spots, values[:, given])


def test_aggregates_are_sums_of_flows_and_flow_weighted_means_of_speeds():
    panel, _ = town()
    flow, speed = panel.spots[:, :30].astype(float), panel.spots[:, 30:].astype(float)
    np.testing.assert_allclose(panel.values[:, -2], flow.sum(axis=1), rtol=1e-5)
    weight = flow[: int(STEPS * 0.6)].mean(axis=0)
    there = np.isfinite(speed)
    mean = np.where(there, speed, 0) @ weight / (there @ weight)
    seen = (there @ weight) >= 0.5 * weight.sum()
    np.testing.assert_allclose(panel.values[seen, -1], mean[seen], rtol=1e-5)
    assert np.isnan(panel.values[~seen, -1]).all()


def test_corridors_are_joined_where_edges_cross_and_nothing_else_joins_levels():
    panel, _ = town()
    edges = panel.graph.tocoo()
    level = panel.series["level"].to_numpy()
    variable = panel.series["variable"].to_numpy()
    assert (edges.row != edges.col).all()
    assert (level[edges.row] == level[edges.col]).all()
    assert (variable[edges.row] == variable[edges.col]).all()
    # A road in four stretches has three crossings, for each of two variables.
    assert (level[edges.row] == "corridor").sum() == 6


def test_nothing_before_the_cut_changes_when_the_future_is_poisoned():
    cut = int(STEPS * 0.6)
    clean, _ = town()
    poisoned, _ = town(poison=cut)
    assert clean.values[:cut].tobytes() == poisoned.values[:cut].tobytes()
    assert clean.series.equals(poisoned.series)
    assert (clean.aggregation != poisoned.aggregation).nnz == 0


def test_given_corridors_are_kept_and_never_span_two_modes():
    values = np.ones((10, 4), np.float32)
    series = pl.DataFrame({"spot_id": list("abcd"), "variable": "arrivals", "mode": ["bike", "bike", "taxi", "taxi"]})
    time = np.datetime64("2024-01-01", "s") + np.arange(10) * np.timedelta64(300, "s")
    panel = make_panel(values, time, series, meta=META, corridor=np.array([7, 9, 7, 7]))
    assert panel.series[:4].select("spot_id", "corridor").rows() == [("a", 0), ("b", 1), ("c", 2), ("d", 2)]
    assert panel.series["series_id"].to_list()[-2:] == ["arrivals@network:bike", "arrivals@network:taxi"]


def test_the_identity_names_content_and_recipe_but_not_the_moment_of_building():
    panel, _ = town()
    assert identity(panel) == panel.meta.panel_id
    facts = {"built_at": "2099-01-01", "notes": {"seconds": 1}, "table_versions": {"observation": 4}}
    assert identity(replace(panel, meta=replace(panel.meta, **facts))) == panel.meta.panel_id
    other = replace(panel, meta=replace(panel.meta, spec={"min_coverage": 0.5}))
    assert identity(other) != panel.meta.panel_id
    values = panel.values.copy()
    values[-1, -1] += 1
    assert identity(replace(panel, values=values)) != panel.meta.panel_id


def test_a_slice_keeps_series_and_graph_and_views_the_values():
    panel, _ = town()
    part = panel.slice(300, 400)
    assert part.n_step == 100
    assert part.values.base is not None
    assert np.shares_memory(part.values, panel.values)
    assert part.calendar.day[0] == 0
    assert part.time[0] == panel.time[300]


def test_a_step_is_visible_once_it_has_ended():
    panel, _ = town()
    assert panel.steps_until(np.datetime64("2024-01-01T00:04:59")) == 0
    assert panel.steps_until(np.datetime64("2024-01-01T00:05:00")) == 1
    assert panel.steps_until(np.datetime64("2030-01-01")) == STEPS


def test_series_are_found_by_level_variable_and_spot_or_the_error_lists_what_is_there():
    panel, _ = town()
    assert panel.indices(level="network", variable="speed").tolist() == [panel.n_series - 1]
    with pytest.raises(NotFound, match="variables flow, speed"):
        panel.indices(variable="boardings")


def test_parts_that_do_not_fit_and_series_that_stand_twice_are_refused():
    panel, values = town()
    with pytest.raises(PanelError, match="do not fit together"):
        replace(panel, time=panel.time[1:])
    twice = pl.DataFrame({"spot_id": ["a", "a"], "variable": ["flow", "flow"]})
    with pytest.raises(PanelError, match="stands twice"):
        make_panel(values[:, :2], panel.time, twice, meta=META)
    with pytest.raises(PanelError, match="lacks columns"):
        make_panel(values[:, :2], panel.time, twice.drop("variable"), meta=META)
