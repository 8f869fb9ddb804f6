from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtgpt.errors import PanelError
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.tokens.presence import fold_presence
from mtgpt.tokens.sequence import back_to_front
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panel():
    return small_panel()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = MTGPT(
        size("nano", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, head_dim=8, intermediate_size=32)
    )
    torch.nn.init.normal_(net.forecast_head.weight, std=0.05)
    return net.eval()


def test_a_forecast_has_quantiles_for_every_series_in_physical_units(model, panel):
    forecast = model.forecast(panel, panel.time[500], 12)
    assert forecast.quantiles.shape == (panel.n_series, 12, 11)
    assert np.isfinite(forecast.quantiles).all()
    assert (np.diff(forecast.quantiles, axis=-1) >= 0).all()
    assert forecast.time[0] == forecast.at == panel.time[500]
    assert 20 < float(forecast.median.mean()) < 140


@pytest.mark.parametrize("method", ["wls", "bottom_up"])
@pytest.mark.parametrize("horizon", [1, 12, 30])
def test_corridors_and_the_network_equal_the_aggregation_of_the_spots(model, panel, method, horizon):
    forecast = model.forecast(panel, panel.time[500], horizon, method=method)
    n = panel.n_spot
    expected = panel.aggregation @ forecast.median[:n].astype(np.float64)
    np.testing.assert_allclose(forecast.median[n:], expected, rtol=1e-5)


@pytest.mark.parametrize("horizon", [12, 40])
@pytest.mark.parametrize("at", [300, 477, 570])
def test_poisoning_everything_after_the_cut_leaves_the_forecast_bit_identical(model, panel, at, horizon):
    values = np.array(panel.values)
    values[at:] = 1e9
    clean = model.forecast(panel, panel.time[at], horizon)
    dirty = model.forecast(replace(panel, values=values), panel.time[at], horizon)
    cut = model.forecast(panel.slice(0, at), None, horizon)
    assert np.array_equal(clean.quantiles, dirty.quantiles)
    assert np.array_equal(clean.quantiles, cut.quantiles)
    assert np.array_equal(clean.time, cut.time)


def test_a_long_horizon_begins_with_the_short_one_and_goes_beyond_the_panel(model, panel):
    short = model.forecast(panel, None, 12, method="none")
    long = model.forecast(panel, None, 200, method="none")
    assert np.array_equal(short.quantiles, long.quantiles[:, :12])
    assert long.time[-1] > panel.time[-1] + np.timedelta64(40, "h")
    assert np.isfinite(long.quantiles).all()
    assert (np.diff(long.quantiles, axis=-1) >= 0).all()


def test_bands_do_not_shrink_where_one_patch_hands_over_to_the_next(model, panel):
    forecast = model.forecast(panel, panel.time[500], 24, method="none")
    width = forecast.quantiles[..., -1] - forecast.quantiles[..., 0]
    assert width[:, 12].mean() > 0.85 * width[:, 11].mean()


def silenced(panel, spot: int):
    values = np.array(panel.values)
    values[:, spot] = np.nan
    return replace(panel, values=values)


@pytest.mark.parametrize("horizon", [12, 30])
def test_a_spot_that_was_never_measured_is_forecast_from_its_neighbours(model, panel, horizon):
    forecast = model.forecast(silenced(panel, 3), None, horizon)
    assert np.isfinite(forecast.quantiles).all()
    others = [s for s in range(panel.n_spot) if s != 3]
    assert abs(forecast.median[3].mean() - forecast.median[others].mean()) < 15
    # The panel leaves it out of its sums, and so does the forecast.
    shares = panel.aggregation.toarray()[-1, others]
    expected = shares @ forecast.median[others] / shares.sum()
    np.testing.assert_allclose(forecast.median[-1], expected, rtol=1e-3)


def test_a_virtual_forecast_never_sees_the_future(model, panel):
    quiet = silenced(panel, 3)
    at = 500
    values = np.array(quiet.values)
    values[at:] = 1e9
    clean, dirty = (model.forecast(p, panel.time[at], 30) for p in (quiet, replace(quiet, values=values)))
    assert np.array_equal(clean.quantiles, dirty.quantiles)


def test_where_nothing_was_ever_measured_nothing_is_forecast(model, panel):
    values = np.full_like(panel.values, np.nan)
    forecast = model.forecast(replace(panel, values=values), None, 12)
    assert np.isnan(forecast.quantiles).all()


def test_two_readings_are_the_mean_of_both_directions(panel):
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    once = MTGPT(size("nano", **shape, intermediate_size=32)).eval()
    torch.nn.init.normal_(once.forecast_head.weight, std=0.05)
    twice = MTGPT(size("nano", **shape, intermediate_size=32, readings=2)).eval()
    twice.load_state_dict(once.state_dict())
    cuts = np.array([300, 400])
    one, two = Forecaster(once, panel).quantiles(cuts), Forecaster(twice, panel).quantiles(cuts)
    backwards = Forecaster(once, panel)
    (part,) = backwards.parts
    backwards.parts = [part[back_to_front(part, panel.n_spot)]]
    # Quantiles are put in order after they are averaged, so only their mean is the same as that of two forecasts.
    np.testing.assert_allclose(two.mean(-1), (one + backwards.quantiles(cuts)).mean(-1) / 2, rtol=1e-5)
    assert not np.allclose(one, two, rtol=1e-5)


def test_the_sums_of_a_night_are_those_of_who_reports_then(model, panel):
    values = np.array(panel.values)
    values[panel.calendar.slot < 20, 0] = np.nan
    quiet = replace(panel, values=values)
    start = int(np.searchsorted(panel.calendar.day, 7))  # midnight of the last but one day
    forecast = model.forecast(quiet, panel.time[start], 12)
    presence = fold_presence(np.isfinite(values), panel.calendar)[7, 0, 0, : panel.n_spot]
    assert presence[0] < 0.3
    shares = panel.aggregation.toarray()[-1, : panel.n_spot] * presence
    expected = shares @ forecast.median[: panel.n_spot] / shares.sum()
    np.testing.assert_allclose(forecast.median[-1], expected, rtol=1e-3)
    assert np.isfinite(forecast.median[0]).all()


def test_a_forecast_names_its_data_and_its_model(model, panel):
    provenance = Forecaster(model, panel).forecast().provenance
    assert provenance["panel_id"] == panel.meta.panel_id
    assert len(provenance["model_sha256"]) == 64
    assert provenance["simulated"] is True
    assert provenance["window"][1] == f"{panel.time[-1] + np.timedelta64(900, 's')}Z"


def test_asking_before_the_first_whole_day_says_what_can_be_asked(model, panel):
    with pytest.raises(PanelError, match=r"less than one day of data.*Ask for a later moment"):
        model.forecast(panel, panel.time[20])
