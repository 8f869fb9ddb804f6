from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mtgpt.errors import ModelError
from mtgpt.model.config import size
from mtgpt.model.mtgpt import MTGPT
from mtgpt.model.network import pinball

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "intermediate_size": 32}


def tiny(seed: int = 0, **changes) -> MTGPT:
    torch.manual_seed(seed)
    model = MTGPT(size("nano", **TINY | changes)).eval()
    torch.nn.init.normal_(model.forecast_head.weight, std=0.1)
    return model


def inputs(batch: int = 2, context: int = 1, series: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "features": torch.randn(batch, context, series, 125, generator=g),
        "calendar": torch.randn(batch, context, 27, generator=g),
        "anchors": torch.randn(batch, context, series, 12, 3, generator=g),
        "log_error": torch.randn(batch, context, series, 12, 3, generator=g),
        "spread": torch.rand(batch, context, series, 12, generator=g),
        "kinds": torch.ones(batch, series, 3, dtype=torch.long),
    }


def test_untrained_the_forecast_lies_between_the_anchors():
    model = MTGPT(size("nano", **TINY)).eval()
    given = inputs()
    with torch.no_grad():
        out = model(**given)
    assert out.shape == (2, 1, 7, 12, 11)
    assert (out[..., 5] <= given["anchors"].amax(-1) + 1e-5).all()
    assert (out[..., 5] >= given["anchors"].amin(-1) - 1e-5).all()


def holes(batch: int = 2, context: int = 1, series: int = 7, seed: int = 1) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {
        "gap_anchors": torch.randn(batch, context, series, 12, 3, generator=g),
        "gap_log_error": torch.randn(batch, context, series, 12, 3, generator=g),
        "gap_spread": torch.rand(batch, context, series, 12, generator=g),
    }


def test_asked_to_fill_it_answers_both_and_the_forecast_is_the_same():
    model = tiny()
    torch.nn.init.normal_(model.fill_mixer[-1].weight, std=0.1)
    with torch.no_grad():
        alone, both = model(**inputs()), model(**inputs(), **holes())
    assert both.shape == (2, 1, 7, 24, 11)
    assert torch.equal(both[..., 12:, :], alone)
    # What looks past the cut may change what is filled and never what is forecast.
    with torch.no_grad():
        other = model(**inputs(), **holes(seed=2))
    assert torch.equal(other[..., 12:, :], alone)
    assert not torch.equal(other[..., :12, :], both[..., :12, :])


def test_untrained_a_gap_is_filled_between_its_anchors():
    given = holes()
    with torch.no_grad():
        filled = MTGPT(size("nano", **TINY)).eval()(**inputs(), **given)[..., :12, 5]
    assert (filled <= given["gap_anchors"].amax(-1) + 1e-5).all()
    assert (filled >= given["gap_anchors"].amin(-1) - 1e-5).all()


def test_covariates_and_words_that_training_never_showed_leave_the_forecast_nearly_alone():
    model = tiny()
    given = inputs()
    given["calendar"][..., -16:] = 0
    rainy = {k: v.clone() for k, v in given.items()}
    rainy["calendar"][..., -16:] = 3
    with torch.no_grad():
        assert torch.equal(model(**given), model(**rainy))
    given["kinds"][..., :] = 63  # the last word that there is room for
    with torch.no_grad():
        assert torch.isfinite(model(**given)).all()


@pytest.mark.parametrize("context", [1, 3])
def test_attention_is_causal_over_tokens(context):
    model = tiny()
    given = inputs(context=context)
    changed = {k: v.clone() for k, v in given.items()}
    changed["features"][:, -1, 4] += 5
    with torch.no_grad():
        before, after = model(**given), model(**changed)
    assert torch.equal(before[:, :-1], after[:, :-1])
    assert torch.equal(before[:, -1, :4], after[:, -1, :4])
    assert not torch.equal(before[:, -1, 5:], after[:, -1, 5:])


def test_a_saved_model_comes_back_with_equal_forecasts_and_no_pickle(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "m")
    assert {p.suffix for p in (tmp_path / "m").iterdir()} == {".json", ".safetensors"}
    again = MTGPT.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        assert torch.equal(model(**inputs()), again(**inputs()))
    assert again.fingerprint() == MTGPT.from_pretrained(tmp_path / "m").fingerprint()


def test_only_editable_fields_may_differ_from_the_checkpoint(tmp_path):
    tiny().save_pretrained(tmp_path / "m")
    assert MTGPT.from_pretrained(tmp_path / "m", anchor_trust=1.0).config.anchor_trust == 1.0
    with pytest.raises(ModelError, match=r"weights fix this.*hidden_size"):
        MTGPT.from_pretrained(tmp_path / "m", hidden_size=8)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing"])
def test_a_damaged_model_is_refused_in_one_sentence(tmp_path, damage):
    folder = tmp_path / "m"
    tiny().save_pretrained(folder)
    weights = folder / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:100] if damage == "truncated" else b"\x80\x04garbage" * 50)
    with pytest.raises(ModelError) as caught:
        MTGPT.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_token_layout_is_refused(tmp_path):
    folder = tmp_path / "m"
    tiny().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"feature_count": 99}))
    with pytest.raises(ModelError, match="another token layout"):
        MTGPT.from_pretrained(folder)


def test_the_pinball_loss_is_least_at_the_quantile():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.exponential(size=20_000))
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    best = torch.quantile(truth, levels)
    at_best = pinball(best.expand(len(truth), 3), truth, levels).mean(0)
    for shift in (-0.2, 0.2):
        assert (pinball((best + shift).expand(len(truth), 3), truth, levels).mean(0) > at_best).all()
