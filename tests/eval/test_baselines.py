from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mtgpt.errors import UsageError
from mtgpt.eval.baselines import BASELINES, HistoricalAverage, LastValue, SeasonalNaive, baselines
from mtgpt.eval.stid import train_stid
from mtgpt.panel.assemble import make_panel
from mtgpt.panel.calendar import ServiceRules, calendar_of
from mtgpt.panel.panel import PanelMeta
from mtgpt.train.data import split
from tests.synthetic import small_panel

P = 12


@pytest.fixture(scope="module")
def panel():
    return small_panel()


def repeating(days: int = 21):
    """Hourly values that depend on weekday and hour alone."""
    time = np.datetime64("2024-01-01T00:00:00", "s") + np.arange(24 * days) * np.timedelta64(3600, "s")
    calendar = calendar_of(time, ServiceRules(time_zone="UTC", interval_s=3600))
    values = (calendar.slot + 100 * calendar.weekday[calendar.day]).astype(np.float32)[:, None]
    series = pl.DataFrame({"spot_id": ["a"], "variable": ["flow"]})
    meta = PanelMeta(city="r", name="r", interval_s=3600, time_zone="UTC")
    return make_panel(values, time, series, meta=meta, calendar=calendar)


def test_the_last_value_skips_gaps(panel):
    values = np.array(panel.values)
    values[300:303, 0] = np.nan
    out = LastValue(replace(panel, values=values), P)(np.array([302]))
    assert out.shape == (1, panel.n_series, P)
    assert (out[0, 0] == values[299, 0]).all()


def test_last_week_is_right_where_weeks_repeat_and_yesterday_is_not():
    panel = repeating()
    cuts = np.arange(24 * 9, 24 * 20)
    truth = panel.values[cuts[:, None] + np.arange(1, P + 1)].transpose(0, 2, 1)
    assert np.array_equal(SeasonalNaive(panel, P, weekly=True)(cuts), truth)
    assert not np.array_equal(SeasonalNaive(panel, P, weekly=False)(cuts), truth)


def test_the_historical_average_of_whole_weeks_is_those_weeks():
    panel = repeating()
    cuts = np.arange(24 * 15, 24 * 20)
    truth = panel.values[cuts[:, None] + np.arange(1, P + 1)].transpose(0, 2, 1)
    np.testing.assert_allclose(HistoricalAverage(panel, P, 24 * 14)(cuts), truth, rtol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_reads_past_its_cut(panel, name):
    end = split(panel.n_step).train[1] + P
    for cut in (end, 600, 671, 760):
        values = np.array(panel.values)
        values[cut + 1 :] = 1e9
        clean = baselines(panel, patch=P, train_end=end)[name](np.array([cut]))
        dirty = baselines(replace(panel, values=values), patch=P, train_end=end)[name](np.array([cut]))
        assert np.array_equal(clean, dirty, equal_nan=True), cut


def test_a_training_share_outside_the_panel_is_refused(panel):
    with pytest.raises(UsageError, match="outside the panel"):
        baselines(panel, patch=P, train_end=panel.n_step + 1)


def test_the_specialised_net_learns_and_sees_only_its_cuts(panel):
    cuts = split(panel.n_step).train
    values = np.array(panel.values)
    values[cuts[1] + P :] = 1e9
    one = train_stid(panel, patch=P, cuts=cuts, steps=60, batch=8)
    other = train_stid(replace(panel, values=values), patch=P, cuts=cuts, steps=60, batch=8)
    at = np.array([cuts[1] - 1])
    assert np.array_equal(one(at), other(at))
    some = np.arange(cuts[1] - 100, cuts[1])
    truth = panel.values[some[:, None] + np.arange(1, P + 1)].transpose(0, 2, 1)
    error = np.nanmean(np.abs(one(some) - truth))
    assert error < 0.9 * np.nanmean(np.abs(truth - np.nanmean(panel.values[: cuts[1]])))
