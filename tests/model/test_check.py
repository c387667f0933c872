"""The opening check: what is taken for granted about a model is proved on it, or it is refused."""

import pytest
import torch
from torch import nn

import impasto
from families import FAMILIES, family
from impasto.model.anatomy import ModelError
from impasto.model.check import check
from impasto.model.opened import open_model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_block_is_its_residual_and_two_parts(name, attention):
    found = check(open_model(family(name, attention)))
    assert max(found.logits, found.silence, found.parts) < 1e-5
    assert found.wiring == ("parallel" if name == "gpt_neox" else "sequential")


def test_a_model_whose_block_is_more_than_its_parts_is_refused():
    hf = FAMILIES["llama"]().eval()
    own = type(hf.model.layers[2])

    class Doubled(own):
        def forward(self, hidden_states, **arguments):
            return 2 * super().forward(hidden_states, **arguments)

    hf.model.layers[2].__class__ = Doubled
    with pytest.raises(ModelError, match="changes its input"):
        impasto.load(hf)


def test_a_model_without_blocks_is_refused():
    hf = FAMILIES["gpt2"]().eval()
    hf.transformer.h = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ModelError, match="no list of 6 transformer blocks"):
        impasto.load(hf)


def test_a_model_that_gives_nan_is_refused():
    hf = FAMILIES["llama"]().eval()
    with torch.no_grad():
        hf.model.layers[0].mlp.up_proj.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="cannot be opened"):
        impasto.load(hf)
