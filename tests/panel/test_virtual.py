from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mtgpt.errors import PanelError, UsageError
from mtgpt.panel.virtual import with_virtual_spot
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panel():
    return small_panel()


def test_a_virtual_spot_stands_beside_the_nearest_one_and_is_joined_to_its_neighbours(panel):
    more = with_virtual_spot(panel, lon=-73.958, lat=40.7)  # between d4 and d5, nearer to d4
    assert more.n_spot == panel.n_spot + 1
    at = int(more.indices(spot_id="virtual")[0])
    names = more.series["spot_id"].to_list()
    assert names[at - 1] == "d4"
    joined = {names[j] for j in more.graph[[at]].indices}
    assert joined == {"d3", "d4", "d5", "d6"}
    assert np.array_equal(more.graph.toarray()[at], more.graph.toarray()[:, at])
    assert np.isnan(more.values[:, at]).all()
    assert more.series["corridor"][at] == more.series["corridor"][at - 1]
    assert more.series["index"].to_list() == list(range(more.n_series))


def test_everything_else_stays_what_it_was(panel):
    more = with_virtual_spot(panel, lon=-73.958, lat=40.7)
    others = np.flatnonzero((more.series["spot_id"].fill_null("") != "virtual").to_numpy())
    assert np.array_equal(more.values[:, others], panel.values, equal_nan=True)
    assert (more.graph[others][:, others] != panel.graph).nnz == 0
    assert np.array_equal(more.aggregation.toarray()[:, others[: panel.n_spot]], panel.aggregation.toarray())
    assert more.aggregation.toarray().sum() == panel.aggregation.toarray().sum()
    assert more.series[others.tolist()].drop("index").equals(panel.series.drop("index"))
    assert more.meta.panel_id != panel.meta.panel_id


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({"lon": 40.7, "lat": -73.9}, r"outside the city.*Longitude comes first"),
        ({"lon": -200, "lat": 40.7}, "not a place"),
        ({"lon": -73.9, "lat": 40.7, "variable": "flow"}, r"no series with this variable.*got flow, expected speed"),
        ({"lon": -73.9, "lat": 40.7, "spot_id": "d3"}, "a spot has this name already"),
    ],
)
def test_a_place_that_cannot_be_is_refused(panel, place, says):
    with pytest.raises(UsageError, match=says):
        with_virtual_spot(panel, **place)


def test_a_city_without_places_says_so(panel):
    from dataclasses import replace

    nowhere = replace(panel, series=panel.series.with_columns(lon=pl.lit(None, pl.Float64)))
    with pytest.raises(PanelError, match="no spot of this city has a place"):
        with_virtual_spot(nowhere, lon=-73.9, lat=40.7)
