"""What a plan is said to cost is what torch counts when it runs."""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

import impasto
from families import FAMILIES, LAYERS, VOCABULARY, family
from impasto.model.measured.shape import read_shape
from impasto.plan import Plan
from impasto.plan.cost import Call, Experts, forward_work, predict, seconds, total
from impasto.run.opening import opened
from thinning import thinned

engine = import_module("impasto.run.apply.forward")
NAMES = list(FAMILIES)
NEW, BATCH = 24, 2
LINES = [
    "0-5", "0-3", "0-2 3-5.mlp", "0-2 3-5.attn", "0-1 freeze 2-5", "0-1 noise(gaussian) 2-5",
    "0 [1-4]*2 5", "0-1 freeze 2-3.mlp [4|5.attn]", "5 5 noise(shuffle) 0.mlp",
]  # fmt: skip


def eager(name):
    """Return a model whose products are all of kinds that torch counts."""
    hf = family(name, "eager")
    hf.config._experts_implementation = "eager"
    return hf


def counted(hf, plan, call):
    """Return the operations that torch counts in one forward."""

    def tokens(count):
        return torch.arange(call.batch * count).reshape(call.batch, count) % VOCABULARY

    cache = DynamicCache(config=hf.config)
    opened(hf).visibility(128)  # asked once per model
    with torch.no_grad(), impasto.apply(hf, plan):
        if call.past:
            hf(tokens(call.past), past_key_values=cache, use_cache=True)
        with FlopCounterMode(display=False) as counter:
            hf(tokens(call.new), past_key_values=cache, use_cache=True, logits_to_keep=call.scored)
    return counter.get_total_flops()


REACHING = ["0-3 4-5{first=1, last=4}", "0-1 freeze 2{last=3} 3-5{first=2}"]


@pytest.mark.parametrize("name", thinned(NAMES, 4))
def test_operations_are_those_that_torch_counts(name, monkeypatch):
    monkeypatch.setattr(engine, "rows_per_call", lambda model: BATCH)
    hf = eager(name)
    shape = read_shape(opened(hf))
    at = NAMES.index(name)
    for line in [*LINES, *REACHING][at % 4 :: 4]:
        plan = Plan.parse(line)
        for call in (Call(NEW, batch=BATCH), Call(4, past=8, scored=2), Call.decode(NEW, BATCH)):
            expected = total(forward_work(plan, shape, call)).flops
            # rotary tables are products, too, and so small that they are not predicted
            assert counted(hf, plan, call) == pytest.approx(expected, rel=5e-3), (line, call)


def test_tied_heads_grouped_queries_and_experts_are_counted_as_they_are():
    tied, mixture = (read_shape(opened(family(name))) for name in ("gemma2", "mixtral"))
    assert tied.head == VOCABULARY * 32
    assert tied.outside == tied.head + 32  # and the last norm
    layer = mixture.layers[0]
    assert layer.experts == Experts(count=4, active=2, weights=3 * 32 * 64)
    assert layer.mlp_per_row == 2 * 3 * 32 * 64 + 4 * 32  # and the router
    assert layer.kept == 2 * 2 * 8  # two heads of eight
    experts = Experts(count=4, active=2, weights=1)
    assert experts.touched(1) == 2
    assert 3.9 < experts.touched(8) < 4


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "gemma3", "qwen3_moe"])
def test_a_token_leaves_as_many_bytes_as_attention_occurrences_keep(name):
    hf = family(name)
    shape = read_shape(opened(hf))
    for line in [*LINES, *REACHING]:
        plan = Plan.parse(line)
        cache = DynamicCache(config=hf.config)
        with torch.no_grad(), impasto.apply(hf, plan):
            hf(torch.arange(8)[None], past_key_values=cache, use_cache=True)
        kept: Any = cache.layers[1:]  # behind the ledger of tokens
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in kept)
        assert held == 8 * shape.kept_bytes(plan) + shape.bounded_bytes(plan)
        assert (line in REACHING) == bool(shape.bounded_bytes(plan))
        assert len(cache.layers) - 1 == plan.occurrences.attention


def test_parameters_are_those_that_loading_for_the_plan_holds(tmp_path):
    family("llama").save_pretrained(tmp_path)
    shape = read_shape(opened(family("llama")))
    plan = Plan.parse("0-2 2.mlp 4")
    held = impasto.load(tmp_path, plan=plan).hf.parameters()
    assert shape.parameters(plan) == sum(weight.numel() for weight in held)


def test_the_shape_of_a_model_with_absent_layers_is_that_of_the_whole_model(tmp_path):
    family("llama").save_pretrained(tmp_path)
    part = impasto.load(tmp_path, plan=Plan.parse("1 4"))
    assert read_shape(opened(part.hf)) == read_shape(opened(family("llama")))


def test_a_dropped_part_moves_no_bytes_and_a_repeated_layer_moves_its_own_again():
    shape = read_shape(opened(family("llama")))
    call = Call.decode(10)

    def moved(line):
        return total(forward_work(Plan.parse(line), shape, call)).bytes

    layer = shape.layers[0]
    assert moved("0-5") - moved("0-4") == 4 * (layer.attention + layer.mlp + 12 * layer.kept)
    assert moved("0-4 5.mlp") - moved("0-4") == 4 * layer.mlp
    assert moved("0-4 4") == moved("0-5")


def test_frozen_tokens_cost_their_keys_and_values():
    shape = read_shape(opened(family("llama")))
    call = Call(100)
    frozen, whole = (
        total(forward_work(Plan.parse(line), shape, call)).flops for line in ("freeze 0-5", "0-5")
    )
    keys_values = 2 * 6 * 100 * shape.layers[0].keys_values
    one_row = total(forward_work(Plan.parse("0-5"), shape, Call(1, past=100))).flops
    assert frozen == pytest.approx(keys_values + one_row, rel=0.01)
    assert frozen < 0.2 * whole


def test_time_is_bound_by_what_bounds_each_part():
    shape = read_shape(opened(family("llama")))
    told = predict(Plan.parse("0-5"), shape, tokens=20)
    assert seconds([told.prefill], told.prefill.flops, 1e30) == pytest.approx(1)
    assert seconds([told.decode], 1e30, told.decode.bytes / 2) == pytest.approx(2)
    assert len(shape.layers) == LAYERS
