"""Few-shot adaptation with its guard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtgpt.errors import NotFound, UsageError
from mtgpt.model.checkpoint import find_base, find_model
from mtgpt.model.low_rank import ADAPTER, FACTS, read_facts
from mtgpt.model.mtgpt import MTGPT
from mtgpt.settings import Settings
from mtgpt.train.adapt import adapt
from mtgpt.train.loop import train
from mtgpt.train.recipes import recipe
from tests.synthetic import small_panel

FEW = {"tokens_per_step": 400, "checkpoint_every": 100}


def town(name: str, seed: int):
    panel = small_panel(days=14, spots=5, seed=seed, interval_s=1800)
    return replace(panel, meta=replace(panel.meta, city=name, panel_id=f"{seed:064x}"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def base(settings):
    config = recipe("joint", steps=20, warmup=5, calibrate=False, **FEW)
    return train(config, [town("north", 1), town("south", 2)], settings.models / "pair", device="cpu").folder


@pytest.fixture(scope="module")
def adapted(base, settings):
    config = recipe("adapt", steps=60, warmup=5, learning_rate=3e-3, **FEW)
    return adapt(base, town("east", 3), settings.models / "east-3-days", days=3, config=config, device="cpu")


def test_an_adaptation_that_helps_is_used_and_is_small(adapted, base):
    assert adapted.used
    assert adapted.error_after < adapted.error_before
    assert sorted(p.name for p in adapted.folder.iterdir()) == sorted([ADAPTER, FACTS])
    assert (adapted.folder / ADAPTER).stat().st_size < (base / "model.safetensors").stat().st_size / 2
    assert "less error" in adapted.sentence()


def test_an_adapted_model_is_loaded_like_any_other_and_answers_otherwise(adapted, base):
    panel = town("east", 3)
    one, other = MTGPT.from_pretrained(adapted.folder), MTGPT.from_pretrained(base)
    assert one.fingerprint() != other.fingerprint()
    first, second = (model.forecast(panel).quantiles for model in (one, other))
    assert not np.array_equal(first, second)


def test_facts_name_base_days_and_decision(adapted, base):
    facts = read_facts(adapted.folder)
    assert facts["base_sha256"] == MTGPT.from_pretrained(base).fingerprint()
    assert (facts["city"], facts["days"], facts["guard"]["used"]) == ("east", 3, True)
    assert facts["from"] < facts["until"]


def test_an_adaptation_that_harms_is_not_used(base, tmp_path):
    config = recipe("adapt", steps=12, warmup=1, learning_rate=3.0, clip=1e6, **FEW)
    result = adapt(base, town("east", 3), tmp_path / "bad", days=2, config=config, device="cpu")
    assert not result.used
    assert result.folder == base
    assert not (tmp_path / "bad" / ADAPTER).exists()
    assert read_facts(tmp_path / "bad")["guard"]["used"] is False
    assert result.sentence().startswith("Not adapted")


def test_nothing_after_the_last_visible_step_changes_an_adaptation(base, tmp_path):
    config = recipe("adapt", steps=6, warmup=1, **FEW)
    panel = town("east", 3)
    end = panel.n_step - 100
    values = np.array(panel.values)
    values[end + 1 :] = 1e9
    hashes = [
        adapt(base, one, tmp_path / name, days=3, config=config, end=end, device="cpu").error_after
        for name, one in (("clean", panel), ("poisoned", replace(panel, values=values)))
    ]
    assert hashes[0] == hashes[1]


def test_forecasts_of_a_city_use_its_adapter_and_others_the_base(adapted, base, settings):
    assert find_model(settings, "east") == adapted.folder
    assert find_model(settings, "west") == base
    assert find_base(settings) == base


def test_without_a_model_of_several_cities_the_next_step_is_said(tmp_path):
    with pytest.raises(NotFound, match="--recipe joint"):
        find_base(Settings(home=tmp_path))


def test_a_recipe_without_rank_is_no_adaptation(base, tmp_path):
    with pytest.raises(UsageError, match="lora_rank"):
        adapt(base, town("east", 3), tmp_path / "x", days=3, config=recipe("joint"), device="cpu")
