from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mtgpt.errors import ModelError, UsageError
from mtgpt.model.mtgpt import MTGPT
from mtgpt.train.data import Draws, draw, make_city, split
from mtgpt.train.loop import train
from mtgpt.train.recipes import RECIPES, recipe
from tests.synthetic import small_panel

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {
    "model": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "intermediate_size": 32,
    },
    "tokens_per_step": 88,
    "checkpoint_every": 7,
    "log_every": 1,
    "warmup": 3,
    "average": 0.8,
}


def small(**changes):
    return recipe("quick", **SMALL | changes)


@pytest.fixture(scope="module")
def panel():
    return small_panel(gaps=0.05)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_loss_falls(panel, tmp_path):
    train(small(steps=120, learning_rate=5e-3), [panel], tmp_path / "r")
    losses = [
        json.loads(x)["loss"]
        for x in (tmp_path / "r/log.jsonl").read_text().splitlines()
        if '"step"' in x and "loss" in x
    ]
    assert np.mean(losses[-20:]) < 0.93 * np.mean(losses[:10])


@pytest.mark.parametrize("stop", [7, 10])
def test_a_run_that_was_stopped_goes_on_bit_identically(panel, tmp_path, stop):
    config = small(steps=20)
    train(config, [panel], tmp_path / "whole")
    first = train(config, [panel], tmp_path / "parts", stop_after=stop)
    assert first.steps == stop
    assert not (tmp_path / "parts/model.safetensors").exists()
    second = train(config, [panel], tmp_path / "parts")
    assert second.resumed_at == stop
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[k], other[k]) for k in one)
    lines = [json.loads(x) for x in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if x["event"] == "step"] == list(range(1, 21))


def test_steps_logged_after_the_last_checkpoint_are_taken_back(panel, tmp_path):
    config = small(steps=20)
    with pytest.raises(KeyboardInterrupt):
        train(config, [panel], tmp_path / "r", progress=_interrupt_at(12))
    assert train(config, [panel], tmp_path / "r").resumed_at == 7
    steps = [
        x["step"] for x in map(json.loads, (tmp_path / "r/log.jsonl").read_text().splitlines()) if x["event"] == "step"
    ]
    assert steps == list(range(1, 21))
    train(config, [panel], tmp_path / "whole")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "r")
    assert all(torch.equal(one[k], other[k]) for k in one)


def _interrupt_at(step: int):
    def progress(now: int, _: int, __: float) -> None:
        if now == step:
            raise KeyboardInterrupt

    return progress


def test_another_configuration_in_the_same_folder_is_refused(panel, tmp_path):
    train(small(steps=20), [panel], tmp_path / "r", stop_after=7)
    with pytest.raises(ModelError, match=r"another configuration.*another config"):
        train(small(steps=20, seed=5), [panel], tmp_path / "r")


def test_the_weights_never_depend_on_what_comes_after_the_training_share(panel, tmp_path):
    bounds = split(panel.n_step)
    for name, start in (
        ("clean", panel.n_step),
        ("no_validation", bounds.train[1] + 12),
        ("no_test", bounds.validation[1] + 12),
    ):
        values = np.array(panel.values)
        values[start:] = 1e9
        train(small(steps=6), [replace(panel, values=values)], tmp_path / name)
    clean, no_validation, no_test = (weights(tmp_path / n) for n in ("clean", "no_validation", "no_test"))
    # The bands' stretch comes from the validation part, and from nothing after it.
    assert all(torch.equal(clean[k], no_test[k]) for k in clean)
    assert all(torch.equal(clean[k], no_validation[k]) for k in clean if k != "band_stretch")
    assert not torch.equal(clean["band_stretch"], no_validation["band_stretch"])


def test_the_model_says_what_it_has_seen(panel, tmp_path):
    train(small(steps=2), [panel], tmp_path / "r")
    card = json.loads((tmp_path / "r/training.json").read_text())
    (exposure,) = card["exposures"]
    assert exposure["city"] == "line"
    assert exposure["until"] < str(panel.time[split(panel.n_step).test[0]])
    assert MTGPT.from_pretrained(tmp_path / "r").config.patch == 12


def test_several_context_patches_train_too(panel, tmp_path):
    config = small(steps=3, model=SMALL["model"] | {"context_patches": 2})
    trained = train(config, [panel], tmp_path / "r")
    forecast = MTGPT.from_pretrained(trained.folder).forecast(panel, None, 30)
    assert np.isfinite(forecast.quantiles).all()


def test_a_batch_is_a_pure_function_of_seed_step_and_rank(panel):
    city = make_city(panel, patch=12, train_share=0.6)
    config = small(seed=1, conceal_share=0.5)
    for step in range(6):
        same = [Draws([city], config, 0)(step) for _ in range(2)]
        other = Draws([city], config, 1)(step)
        assert torch.equal(same[0].truth, same[1].truth)
        assert same[0].truth.shape != other.truth.shape or not torch.equal(same[0].truth, other.truth)


def test_a_batch_with_some_of_the_spots_keeps_every_aggregate(panel):
    city = make_city(panel, patch=12, train_share=0.6)
    sizes = set()
    for step in range(12):
        batch = draw(city, np.random.default_rng(step), tokens=88, keep_spots=0.5)
        levels = batch.inputs["kinds"][0, :, 2].tolist()
        assert levels[:3] == [2, 1, 1]
        assert set(levels[3:]) <= {0}
        sizes.add(len(levels))
    assert len(sizes) > 2


def test_the_split_is_that_of_the_published_tables():
    # PEMSD7(M): 12,672 steps give 12,649 windows, of which the last 2,530 are the test.
    bounds = split(12_672)
    assert bounds.test[1] - bounds.test[0] == 2530
    assert bounds.test[1] + 12 == 12_672
    assert bounds.train[1] + 11 < bounds.validation[0] + 12
    assert bounds.validation[1] + 11 < bounds.test[0] + 1 + 11


def test_unknown_recipes_and_fields_are_named():
    with pytest.raises(UsageError, match=r"no such recipe.*got best.*quick"):
        recipe("best")
    with pytest.raises(UsageError, match=r"no such field.*stepz"):
        recipe("quick", stepz=1)
    assert {name: recipe(name).recipe for name in RECIPES} == {name: name for name in RECIPES}


@pytest.mark.slow
def test_two_processes_train_one_model_and_resume_it(panel, tmp_path, repo):
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nimport torch\nfrom tests.synthetic import small_panel\n"
        "from mtgpt.train.loop import train\nfrom mtgpt.train.recipes import recipe\n"
        "torch.set_num_threads(1)\n"
        f"small = {SMALL!r}\n"
        "train(recipe('quick', **small, steps=8), [small_panel(gaps=0.05)], Path(sys.argv[1]), device='cpu',"
        " stop_after=int(sys.argv[2]))\n"
    )

    def go(folder: str, stop: int) -> None:
        env = os.environ | {"PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        done = subprocess.run(
            [*command, str(tmp_path / folder), str(stop)],
            env=env,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    go("whole", 8)
    go("parts", 7)
    go("parts", 8)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[k], other[k]) for k in one)
    train(small(steps=8), [panel], tmp_path / "alone")
    alone = weights(tmp_path / "alone")
    # Two processes see other windows than one, so the weights differ, and a card says so.
    assert not all(torch.equal(one[k], alone[k]) for k in one)
