"""A part that is left out takes along what nobody else reads: its norm."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import impasto
from families import FAMILIES, family
from impasto import Plan
from impasto.model.decoder import open_model
from impasto.model.measured.idle import with_idle

IDLE = {
    "llama": ("input_layernorm", "post_attention_layernorm"),
    "gpt2": ("ln_1", "ln_2"),
    "gpt_neox": ("input_layernorm", "post_attention_layernorm"),  # side by side, a norm for each
    "gptj": ("", ""),  # side by side, one norm for both
    "bloom": ("input_layernorm", "post_attention_layernorm"),
    "gemma2": ("input_layernorm", "pre_feedforward_layernorm"),  # what follows a part stays
    "opt": ("self_attn_layer_norm", "activation_fn final_layer_norm"),
}


@pytest.mark.parametrize("name", list(IDLE))
def test_the_norm_of_a_part_is_idle_without_it_where_nothing_else_reads_it(name):
    model = open_model(family(name))
    for block in with_idle(model):
        names = {id(module): path for path, module in block.module.named_modules()}
        found = [
            {names[id(module)] for module in block.idle[part]} for part in ("attention", "mlp")
        ]
        assert found == [set(each.split()) for each in IDLE[name]]


@pytest.mark.parametrize(
    ("line", "norms"), [("0-5", 13), ("0-5.mlp", 7), ("0-2 3-5.attn", 10), ("0-1 3-5", 11)]
)
def test_what_a_plan_leaves_out_costs_no_norm(line, norms):
    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func is torch.ops.aten.rsqrt.default
            return func(*args, **(kwargs or {}))

    hf = family("llama")
    with torch.no_grad(), impasto.apply(hf, Plan.parse(line)), Counting() as counting:
        hf(torch.tensor([[1, 2, 3]]))
    assert counting.count == norms  # the last one is the model's own


def test_modules_are_as_they_were_after_they_were_tried():
    for name in FAMILIES:
        hf = family(name)
        model, before = open_model(hf), marks(hf)
        with_idle(model)
        assert marks(hf) == before


def marks(hf):
    """Stand-ins and hooks in a model; transformers itself leaves some hooks, for good."""
    return [("forward" in m.__dict__, list(m._forward_hooks)) for m in hf.modules()]
