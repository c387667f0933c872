"""The opening check: what is taken for granted about a model is proved on it, or it is refused."""

import pytest
import torch
from torch import nn
from transformers import Starcoder2Config, Starcoder2ForCausalLM

import impasto
from families import FAMILIES, family
from impasto.model.checks.decoder import check_blocks, read_bare
from impasto.model.decoder import open_model
from impasto.model.structure.anatomy import ModelError

PARALLEL = {"cohere", "falcon", "falcon_new", "gpt_neox", "gptj", "phi", "stablelm_parallel"}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_block_is_its_residual_and_two_parts(name, attention):
    model = open_model(family(name, attention))
    found = check_blocks(model, read_bare(model, range(24)))
    assert found.undivided == {}
    assert found.silence is not None
    assert found.parts is not None
    assert max(found.logits, found.silence, found.parts) < 1e-5
    assert found.wiring == ("parallel" if name in PARALLEL else "sequential")


def test_a_model_without_blocks_is_refused():
    hf = FAMILIES["gpt2"]().eval()
    hf.transformer.h = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(
        ModelError, match=r"plans name the 6 layers of its configuration .*no ModuleList"
    ):
        impasto.load(hf)


def test_a_model_that_gives_nan_is_refused():
    hf = FAMILIES["llama"]().eval()
    with torch.no_grad():
        hf.model.layers[0].mlp.up_proj.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="cannot be opened"):
        impasto.load(hf)


def test_a_model_whose_rows_cannot_be_packed_runs_sequences():
    hf = FAMILIES["llama"]().eval()
    own = type(hf.model.layers[1].self_attn)

    class Shifted(own):
        """Mixes each row with the one before it, as a convolution over tokens would."""

        def forward(self, hidden_states, **arguments):
            before = nn.functional.pad(hidden_states, (0, 0, 1, 0))[:, :-1]
            return super().forward(hidden_states + before, **arguments)

    hf.model.layers[1].self_attn.__class__ = Shifted
    reason = impasto.load(hf).runs_sequences or ""
    assert "split rows do not give its own logits" in reason


def test_a_family_that_nobody_listed_works_if_it_passes():
    config = Starcoder2Config(
        vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=3,
    )  # fmt: skip
    model = impasto.load(Starcoder2ForCausalLM(config).eval())
    plan, ids = impasto.Plan.parse("0 noise(gaussian) [1|2.mlp]"), [5, 17, 3, 88]
    (new,) = model.generate(plan, [ids], max_new_tokens=4)[0]
    for count, token in enumerate(new):
        prefix = torch.tensor([ids + new[:count]])
        assert int(model.next_logits(plan, prefix)[0].argmax()) == token
