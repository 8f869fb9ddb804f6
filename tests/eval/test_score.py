from __future__ import annotations

import numpy as np
import pytest
import torch

from mtgpt.errors import UsageError
from mtgpt.eval.baselines import BASELINES
from mtgpt.eval.score import OURS, evaluate
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT, Forecaster
from mtgpt.train.data import split
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panel():
    return small_panel()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MTGPT(
        size("nano", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, head_dim=8, intermediate_size=32)
    )


def test_every_competitor_is_scored_on_the_same_cells(panel, model):
    result = evaluate(panel, model, part="validation")
    assert set(result.sums) == {OURS, *BASELINES}
    cells = {name: result.score(name).cells for name in result.sums}
    assert len(set(cells.values())) == 1
    frame = result.frame()
    assert set(frame["horizon_step"]) == set(range(13))
    assert frame.filter(model=OURS)["coverage80"].null_count() == 0
    assert frame.filter(model="last value")["coverage80"].null_count() == len(frame.filter(model="last value"))


def test_the_score_is_that_of_the_forecasts_users_get(panel, model):
    stride = 40
    result = evaluate(panel, model, part="test", stride=stride)
    first, last = split(panel.n_step).test
    forecaster = Forecaster(model, panel)
    errors = []
    for cut in range(first, last, stride):
        forecast = forecaster.forecast(panel.time[cut] + np.timedelta64(900, "s"), 12)
        errors.append(np.abs(forecast.median - forecast.observed)[: panel.n_spot])
    steps = np.nanmean(np.concatenate(errors), axis=0)
    np.testing.assert_allclose(result.score(OURS).steps["mae"], steps, rtol=1e-5)


def test_only_unseen_parts_can_be_scored(panel, model):
    with pytest.raises(UsageError, match=r"no such part.*got train.*validation or test"):
        evaluate(panel, model, part="train")
