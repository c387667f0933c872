"""Final states: what a head reads, how far they are from the full model's, and what that counts."""

from typing import Any

import pytest
import torch

import impasto
from families import FAMILIES, family
from impasto import UserError
from impasto.mending.teaching import Predicting, distance, store
from thinning import thinned

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
SCALED = {"gemma2", "granite"}  # what the head makes is capped, or divided
TEXTS = [f"{a} + {b} = {a + b}\n{b} + {a} - 1 = {a + b - 1}\n" for a in range(8) for b in range(8)]


@pytest.mark.parametrize("name", thinned(FAMILIES, 3))
def test_the_states_are_those_that_the_head_makes_logits_of(name):
    hf = family(name)
    with torch.no_grad():
        found = Predicting(hf, states=True)(input_ids=IDS)
        logits = hf(input_ids=IDS).logits[:, :-1]
        made: Any = hf.get_output_embeddings()(found.states)
    assert torch.equal(found.logits, logits)
    if name in SCALED:
        assert torch.equal(made.argsort(-1), logits.argsort(-1))
    else:
        assert torch.equal(made, logits)
    assert not any(module._forward_pre_hooks for module in hf.modules())


def test_states_that_are_not_asked_have_no_units():
    found = Predicting(family("llama"), states=False)(input_ids=IDS)
    assert found.states.shape == (2, 4, 0)


def test_a_model_that_calls_no_head_is_refused_with_the_setting(monkeypatch):
    hf = family("llama")
    monkeypatch.setattr(hf, "get_output_embeddings", lambda: None)
    with pytest.raises(UserError, match="set states to 0"):
        Predicting(hf, states=True)(input_ids=IDS)
    Predicting(hf, states=False)(input_ids=IDS)


def test_the_distance_is_a_share_of_the_full_models_norm():
    full = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert distance(full, full) == 0
    assert distance(full, torch.zeros(2, 2)) == 1
    assert distance(full, full + torch.tensor([0.0, 1.0])) == pytest.approx(2 / 25)
    assert distance(100 * full, 100 * full + torch.tensor([0.0, 100.0])) == pytest.approx(2 / 25)
    assert torch.isfinite(distance(torch.zeros(2, 2), full))


def test_states_that_were_written_down_are_the_full_models(tmp_path):
    hf = family("llama")
    full, pieces = Predicting(hf, states=True), [tuple(row) for row in IDS.tolist()]
    pieces[1] = pieces[1][:3]
    given = tmp_path / "full.safetensors", lambda ids: full(input_ids=ids), pieces, 4, 1.0
    for _ in range(2):  # the second time they are there
        stored = store(*given, torch.device("cpu"), lambda share: None)
        states = stored.states([1, 0], 4)
        with torch.no_grad():
            wanted = full(input_ids=IDS).states
        assert torch.allclose(states[1], wanted[0], atol=1e-5)
        assert torch.allclose(states[0, :2], wanted[1, :2], atol=1e-5)
        assert not states[0, 2:].any()


@pytest.mark.parametrize("method", ["lora", "last"])
def test_with_them_the_final_states_come_nearer_to_the_full_models(method):
    demo = impasto.load("demo")
    plan = "0-4 6-7 9-11"
    given: Any = {"steps": 16, "evaluate_every": 16, "batch": 4, "length": 48, "written": 0}
    given |= {"learning_rate": 5e-4}
    ids = torch.tensor([demo.tokenizer(text).input_ids[:12] for text in TEXTS[:8]])

    def found(states: float) -> float:
        healed = impasto.heal(demo, plan, TEXTS, method, states=states, **given)
        assert healed.is_changed
        hf: Any = healed.model.hf
        with impasto.apply(hf, healed.plan), torch.no_grad():
            own = Predicting(hf, states=True)(input_ids=ids).states
        full = Predicting(demo.hf, states=True)(input_ids=ids).states
        return distance(full.flatten(0, 1), own.flatten(0, 1)).item()

    without, beside = found(0), found(10)
    assert beside < 0.9 * without


def test_without_distilling_states_count_nothing():
    demo = impasto.load("demo")
    given: Any = {"steps": 2, "evaluate_every": 2, "batch": 4, "length": 48, "written": 0}
    one, two = (
        impasto.heal(demo, "0-6 8-11", TEXTS, "lora", distil=0, states=states, **given)
        for states in (0, 10)
    )
    weights = two.model.hf.state_dict()
    for name, value in one.model.hf.state_dict().items():
        assert torch.equal(value, weights[name]), name
