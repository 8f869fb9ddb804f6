"""Adapters of low rank."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mtgpt.errors import ModelError
from mtgpt.model.config import size
from mtgpt.model.low_rank import ADAPTER, FACTS, add_low_rank, apply_adapter, learned, merge, save_adapter
from mtgpt.model.mtgpt import MTGPT

BASE = "a" * 64


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MTGPT(size("nano"))


def changed(model, rank=4):
    """An adapter that has learned something, and the weights it leads to."""
    add_low_rank(model, rank)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    return learned(model)


def test_a_fresh_adapter_changes_nothing(model):
    before = {n: p.clone() for n, p in model.state_dict().items()}
    add_low_rank(model, 4)
    merge(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], before[n]) for n in before)


def test_only_thin_matrices_and_vectors_learn(model):
    whole = sum(p.numel() for p in model.parameters())
    add_low_rank(model, 4)
    free = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.ndim == 1 or n.endswith((".down", ".up")) for n, p in free.items())
    assert sum(p.numel() for p in free.values()) < 0.2 * whole


def test_a_merged_change_has_the_rank_it_was_given(model):
    name = "layers.0.mlp.gate_proj.weight"
    before = model.state_dict()[name].clone()
    changed(model, rank=4)
    merge(model)
    difference = model.state_dict()[name] - before
    assert int(torch.linalg.matrix_rank(difference, atol=1e-6)) == 4


def test_an_adapter_survives_its_files(model, tmp_path):
    base = {n: p.clone() for n, p in model.state_dict().items()}
    tensors = changed(model)
    save_adapter(tensors, tmp_path, facts={"rank": 4, "base_sha256": BASE})
    merge(model)
    wanted = {n: p.clone() for n, p in model.state_dict().items()}
    model.load_state_dict(base)
    apply_adapter(model, tmp_path, base_sha256=BASE)
    assert all(torch.equal(p, wanted[n]) for n, p in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_an_adapter_of_another_model_is_refused(model, tmp_path):
    save_adapter(changed(model), tmp_path, facts={"rank": 4, "base_sha256": BASE})
    merge(model)
    with pytest.raises(ModelError, match="made for another model"):
        apply_adapter(model, tmp_path, base_sha256="b" * 64)


@pytest.mark.parametrize("fault", ["cut", "shape", "name", "rank", "words"])
def test_a_damaged_adapter_is_one_sentence_and_leaves_the_model_as_it_was(model, tmp_path, fault):
    tensors = changed(model)
    save_adapter(tensors, tmp_path, facts={"rank": 4, "base_sha256": BASE})
    merge(model)
    before = {n: p.clone() for n, p in model.state_dict().items()}
    path, facts = tmp_path / ADAPTER, tmp_path / FACTS
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif fault == "shape":
        whole = load_file(path)
        first = next(iter(whole))
        save_file({**whole, first: torch.zeros(3)}, path)
    elif fault == "name":
        whole = load_file(path)
        save_file({f"x.{n}": t for n, t in whole.items()}, path)
    elif fault == "rank":
        facts.write_text(json.dumps({"rank": 10**9, "base_sha256": BASE}))
    else:
        facts.write_text("not json")
    with pytest.raises(ModelError) as caught:
        apply_adapter(model, tmp_path, base_sha256=BASE)
    assert "\n" not in caught.value.sentence()
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())
