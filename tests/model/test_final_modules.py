"""Logits are made by the norm and the head alone where that is all that a model does."""

import pytest
import torch

from families import FAMILIES, family
from impasto.model.decoder import open_model


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_logits_are_those_of_the_models_own_forward(name):
    model = open_model(family(name))
    states = 5 * torch.randn(7, model.hidden, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model.leave(states), model._leave_by_forward(states))


def test_a_model_that_does_more_runs_its_own_forward():
    """Gemma 2 caps its logits, Granite scales them."""
    does_more = {name for name in FAMILIES if open_model(family(name))._final_modules is None}
    assert {"gemma2", "granite"} <= does_more
    assert "llama" not in does_more


@torch.no_grad()
def test_hooks_on_a_forward_are_noticed():
    hf = family("llama")
    model, states = open_model(hf), torch.ones(2, 1, family("llama").config.hidden_size)[:, 0]
    before = model.leave(states)

    def louder(_module, _given, output):
        output.logits = output.logits + 1
        return output

    hook = hf.register_forward_hook(louder)
    assert torch.equal(model.leave(states), before + 1)
    hook.remove()
    assert torch.equal(model.leave(states), before)
