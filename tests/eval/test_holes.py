from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from mtgpt.errors import UsageError
from mtgpt.eval.holes import evaluate_holes
from mtgpt.eval.score import OURS
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT
from tests.synthetic import small_panel

SHAPE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}


@pytest.fixture(scope="module")
def panel():
    return small_panel(days=14)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MTGPT(size("nano", **SHAPE)).eval()


def test_hidden_spots_and_gaps_are_scored_beside_what_anybody_would_do(panel, model):
    weights = np.ones((8, 8)) - np.eye(8)
    found = evaluate_holes(panel, model, silent=0.3, missing=0.1, seed=1, weights=weights)
    now = found.filter((pl.col("task") == "silent spot") & (pl.col("horizon_step") == 0))
    rivals = {OURS, "mean of the neighbours", "expectation of the neighbours", "inverse distance"}
    assert set(now["competitor"]) == rivals
    assert now["n"].n_unique() == 1
    ahead = found.filter((pl.col("task") == "silent spot") & (pl.col("horizon_step") > 0))
    assert ahead["horizon_step"].unique().sort().to_list() == list(range(1, 13))
    gaps = found.filter(pl.col("task").str.starts_with("gap"))
    assert {"straight line", "trailing expectation", "line of surprise"} < set(gaps["competitor"])
    assert (found["mae"] > 0).all()
    assert found.filter(pl.col("competitor") == OURS)["coverage80"].is_between(0, 1).all()


def test_untrained_a_hidden_spot_is_about_as_good_as_its_neighbours(panel, model):
    found = evaluate_holes(panel, model, silent=0.3, missing=0.0, seed=1)
    mae = dict(found.filter(pl.col("horizon_step") == 0).select("competitor", "mae").iter_rows())
    assert mae[OURS] < 1.6 * min(v for k, v in mae.items() if k != OURS)


def test_no_other_part_is_scored(panel, model):
    with pytest.raises(UsageError, match=r"no such part.*got train"):
        evaluate_holes(panel, model, part="train")
