"""The opening check: what is taken for granted about a model is proved on it, or it is refused."""

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, OPTConfig, OPTForCausalLM

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


def test_a_model_whose_rows_cannot_be_packed_is_refused():
    config = BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(ModelError, match="packed rows do not give its own logits"):
        impasto.load(BloomForCausalLM(config).eval())


def test_a_family_that_nobody_listed_works_if_it_passes():
    config = OPTConfig(
        vocab_size=97, hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    model = impasto.load(OPTForCausalLM(config).eval())
    plan, ids = impasto.Plan.parse("0 noise(gaussian) [1|2.mlp]"), [5, 17, 3, 88]
    (new,) = model.generate(plan, [ids], max_new_tokens=4)[0]
    for count, token in enumerate(new):
        prefix = torch.tensor([ids + new[:count]])
        assert int(model.next_logits(plan, prefix)[0].argmax()) == token
