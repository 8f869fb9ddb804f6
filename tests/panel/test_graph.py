from __future__ import annotations

import numpy as np
import polars as pl

from mtgpt.panel.graph import proximity, series_graph, spot_graph

LINKS = {"from_spot": pl.String, "to_spot": pl.String, "weight": pl.Float64, "distance_m": pl.Float64}


def links(*edges) -> pl.DataFrame:
    return pl.DataFrame(list(edges), schema=LINKS, orient="row")


def spots(*places, mode="road") -> pl.DataFrame:
    rows = [(f"s{i}", mode, *(place or (None, None))) for i, place in enumerate(places)]
    return pl.DataFrame(
        rows, schema={"spot_id": pl.String, "mode": pl.String, "lon": pl.Float64, "lat": pl.Float64}, orient="row"
    )


def test_published_weights_are_taken_as_they_are_in_their_direction_and_loops_are_dropped():
    graph, counts = spot_graph(
        links(("s0", "s1", 0.7, 900.0), ("s1", "s1", 1.0, 0.0), ("s0", "s9", 1.0, None)),
        spots(None, None),
        neighbours=5,
    )
    np.testing.assert_allclose(graph.toarray(), [[0, 0.7], [0, 0]])
    assert counts == {"links": 1, "proximity": 0, "isolated": 0}


def test_distances_become_a_gaussian_kernel_and_far_spots_are_not_joined():
    distance = np.array([100.0, 200.0, 300.0, 5000.0])
    graph, _ = spot_graph(
        links(*((f"s{i}", f"s{i + 1}", None, d) for i, d in enumerate(distance))), spots(*[None] * 5), neighbours=0
    )
    expected = np.exp(-((distance / distance.std(ddof=1)) ** 2))
    np.testing.assert_allclose([graph[i, i + 1] for i in range(3)], expected[:3], rtol=1e-6)
    assert graph[3, 4] == 0


def test_the_next_stop_stays_linked_however_far_it_is():
    line = links(*((f"s{i}", f"s{i + 1}", None, d) for i, d in enumerate([100.0, 200.0, 300.0, 5000.0])))
    graph, _ = spot_graph(line, spots(*[None] * 5), neighbours=1)
    assert graph[3, 4] == np.float32(0.1)


def test_of_several_links_between_two_spots_the_strongest_counts():
    graph, _ = spot_graph(links(("s0", "s1", 0.2, None), ("s0", "s1", 0.9, None)), spots(None, None), neighbours=0)
    assert graph[0, 1] == np.float32(0.9)


def test_unlinked_spots_are_joined_to_their_nearest_ones_of_the_same_mode_in_metres():
    # One degree of longitude is half as long as one of latitude at 60° north.
    places = spots((10.0, 60.0), (10.0015, 60.0), (10.0, 60.001), (10.1, 60.0))
    graph = proximity(places, 1).toarray()
    assert graph[0, 1] > graph[0, 2] > 0
    assert graph[3, 1] > 0
    np.testing.assert_allclose(graph, graph.T)
    mixed = pl.concat([places.head(1), places.tail(3).with_columns(mode=pl.lit("bike"))])
    assert proximity(mixed, 2).toarray()[0].sum() == 0


def test_only_the_spots_without_links_are_completed_by_nearness():
    graph, counts = spot_graph(
        links(("s0", "s1", 1.0, None)), spots((10.0, 60.0), (10.1, 60.0), (10.2, 60.0)), neighbours=1
    )
    assert graph[2, 1] > 0
    assert graph[1, 2] > 0
    assert graph[1, 0] == 0
    assert counts["proximity"] == 2


def test_spots_without_a_place_or_a_link_stay_alone():
    _, counts = spot_graph(links(), spots(None, None, (1.0, 2.0)), neighbours=3)
    assert counts == {"links": 0, "proximity": 0, "isolated": 3}


def test_spots_that_share_one_place_are_joined():
    graph = proximity(spots((10.0, 60.0), (10.0, 60.0), (10.0, 60.0)), 2)
    np.testing.assert_allclose(graph.toarray(), 1 - np.eye(3))


def test_edges_of_the_series_graph_join_series_of_one_variable_only():
    between, _ = spot_graph(links(("s0", "s1", 0.5, None)), spots(None, None), neighbours=0)
    graph = series_graph(between, np.array([0, 1, 1, 0]), np.array(["speed", "speed", "flow", "flow"])).tocoo()
    assert sorted(zip(graph.row.tolist(), graph.col.tolist(), strict=True)) == [(0, 1), (3, 2)]
