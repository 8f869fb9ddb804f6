"""What a forecast promises about itself, and how series are picked from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mtgpt.errors import ModelError, NotFound, UsageError
from mtgpt.model.forecast import choose
from tests.serve.forecasts import LEVELS, small_forecast


@pytest.fixture
def forecast():
    return small_forecast(spots=3, horizon=4)


def test_the_median_and_the_bands_are_read_by_their_names(forecast):
    np.testing.assert_array_equal(forecast.median, forecast.quantiles[:, :, 5])
    low, high = forecast.band(0.8)
    np.testing.assert_array_equal(low, forecast.quantiles[:, :, 1])
    np.testing.assert_array_equal(high, forecast.quantiles[:, :, 9])
    assert forecast.coverages == (0.2, 0.4, 0.6, 0.8, 0.95)
    assert (forecast.n_series, forecast.horizon) == (5, 4)
    assert forecast.zone.key == "America/Los_Angeles"
    with pytest.raises(NotFound, match="does not carry this quantile level"):
        forecast.band(0.5)


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"level": "spot"}, [0, 1, 2]),
        ({"level": "network"}, [4]),
        ({"corridor": 0}, [0, 1, 2, 3]),
        ({"corridor": 0, "level": "corridor"}, [3]),
        ({"spot": "101"}, [1]),
        ({"spot": ["102", "speed@network", "Exit 0 [north]"]}, [0, 2, 4]),
        ({"variable": "speed", "spot": "100"}, [0]),
    ],
)
def test_series_are_picked_by_level_spot_variable_and_corridor(forecast, conditions, rows):
    picked = forecast.select(**conditions)
    assert picked.series["index"].to_list() == rows
    np.testing.assert_array_equal(picked.quantiles, forecast.quantiles[rows])
    np.testing.assert_array_equal(picked.history, forecast.history[rows])
    np.testing.assert_array_equal(picked.observed, forecast.observed[rows])


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ({"level": "street"}, "no series with this level (got street, expected corridor, network, spot)"),
        ({"variable": "flow"}, "no series with this variable (got flow, expected speed)"),
        ({"spot": ["100", "10"]}, "no spot or series of this name (got 10, expected 100, 101, 102)"),
        ({"spot": "x"}, "no spot or series of this name (got x, expected 100, 101, 102)"),
        ({"spot": "100", "level": "network"}, "no series matches all conditions (got level=network, spot=100)"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(forecast, conditions, says):
    with pytest.raises(NotFound) as caught:
        forecast.select(**conditions)
    assert f"harbour: {says}" in str(caught.value)


def test_a_long_list_of_spots_is_cut():
    series = pl.DataFrame({"spot_id": [f"s{i}" for i in range(500)], "series_id": [f"v@{i}" for i in range(500)]})
    with pytest.raises(NotFound, match=r"s0, s1, .* \(500 in all\)"):
        choose(series, spot="zebra")


def test_the_first_steps_are_a_forecast_too(forecast):
    short = forecast.first_steps(2)
    assert short.horizon == 2
    np.testing.assert_array_equal(short.quantiles, forecast.quantiles[:, :2])
    assert short.observed.shape == (5, 2)
    with pytest.raises(UsageError, match="1 to 4 steps"):
        forecast.first_steps(5)


def test_a_dead_spot_is_nan_at_all_levels_and_that_is_fine():
    assert np.isnan(small_forecast(dead=1).median[1]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: {"quantiles": f.quantiles[:, :, ::-1]}, "quantiles cross in 20 of 20 cells"),
        (lambda f: {"quantiles": f.quantiles[:-1]}, r"quantiles has shape \(4, 4, 11\) where \(5, 4, 11\) is due"),
        (lambda f: {"levels": (0.6, *LEVELS[1:])}, "do not increase"),
        (lambda f: {"levels": tuple(level / 2 for level in LEVELS)}, "the median is not among"),
        (lambda f: {"time": f.time[::-1]}, "do not follow each other"),
        (lambda f: {"time": f.time.astype("datetime64[ns]")}, r"datetime64\[s\] is due"),
        (lambda f: {"series": f.series.drop("unit")}, "lacks unit"),
        (lambda f: {"interval_s": 0}, "the interval is 0 s"),
    ],
)
def test_a_forecast_that_contradicts_itself_is_refused(forecast, change, says):
    with pytest.raises(ModelError, match=says):
        replace(forecast, **change(forecast))


def test_a_hole_at_some_levels_only_is_refused(forecast):
    quantiles = forecast.quantiles.copy()
    quantiles[2, 1, 10] = np.nan
    with pytest.raises(ModelError, match="NaN at some levels only in 1 of 20 cells"):
        replace(forecast, quantiles=quantiles)
