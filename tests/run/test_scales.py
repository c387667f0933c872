"""Scaled items and empty branches: what they add, what runs alike, what they keep and cost."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

import impasto
from families import family
from impasto.model.measured.shape import read_shape
from impasto.plan import Plan
from impasto.plan.cost import Call, forward_work
from impasto.plan.lowering import lower
from impasto.run.opening import opened
from thinning import thinned

NAMES = ["llama", "gpt2", "gemma2", "gpt_neox"]
IDS = [5, 17, 3, 88, 41, 2, 60, 9]
SCALED = "0-1 (2-3)@0.5*2 [4|] 5.attn@0.25 5.mlp@-1"


def logits(hf, plan, ids=IDS, cache=None):
    """Return the logits of every token under a plan."""
    with torch.no_grad(), impasto.apply(hf, plan):
        return hf(torch.tensor([ids]), past_key_values=cache, use_cache=cache is not None).logits[0]


def cached(hf, plan, ids=IDS, prefill=3):
    """Return the logits of every token where all but the first few are read one by one."""
    cache = DynamicCache(config=hf.config)
    with torch.no_grad(), impasto.apply(hf, plan):
        found = [hf(torch.tensor([ids[:prefill]]), past_key_values=cache, use_cache=True).logits[0]]
        for token in ids[prefill:]:
            found.append(hf(torch.tensor([[token]]), past_key_values=cache).logits[0])
    return torch.cat(found), len(cache.layers)


@pytest.mark.parametrize("name", thinned(NAMES, 2))
@pytest.mark.parametrize(
    ("one", "others"),
    [
        ("0-2 3@0.5 4-5", ["0-2 [3|] 4-5", "0-2 (3)@0.5 4-5", "0-2 [|3] 4-5"]),
        ("0-2 3@0.25 4-5", ["0-2 [3|||] 4-5", "0-2 [3|]@0.5 4-5", "0-2 [3@0.5|] 4-5"]),
        ("0 (1-3)@0.5 4-5", ["0 [1-3|] 4-5", "0 [(1-3)]@0.5 4-5"]),
        ("0-2 freeze 3@0.5 4-5", ["0-2 freeze [3|] 4-5"]),
        ("0 sum[1|2]@0.5 3-5", ["0 [1|2] 3-5"]),
    ],
)
def test_what_is_said_in_several_ways_runs_alike_bit_for_bit(name, one, others):
    hf, model = family(name), impasto.load(family(name))
    plan = Plan.parse(one)
    expected = model.next_logits(plan, torch.tensor([IDS]))
    written = model.generate([plan], [IDS], max_new_tokens=6)
    for text in others:
        other = Plan.parse(text)
        if "sum" in one:  # of a mean all outputs are added up, of a sum what they add
            same = model.next_logits(other, torch.tensor([IDS]))
            torch.testing.assert_close(same, expected, atol=1e-5, rtol=0)
            continue
        assert lower(other) == lower(plan)
        assert torch.equal(model.next_logits(other, torch.tensor([IDS])), expected)
        assert model.generate([other], [IDS], max_new_tokens=6) == written
        assert torch.equal(logits(hf, other), logits(hf, plan))


def test_a_scale_of_one_is_no_scale():
    assert Plan.parse("0-2 3@1 (4-5)@1.0 [1|2]@1") == Plan.parse("0-2 3 4-5 [1|2]")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.5, -1.5, 0])
def test_what_an_item_adds_is_scaled(name, scale):
    model = impasto.load(family(name))
    for item in ("3", "3.mlp", "(1-3)", "[1|2]", "sum[1|2 3]", "[1|]"):
        plans = [Plan.parse(text) for text in ("0", f"0 {item}", f"0 {item}@{scale}")]
        read, whole, part = (model.hidden_states(plan, [IDS])[0][-1] for plan in plans)
        torch.testing.assert_close(part, read + scale * (whole - read), atol=1e-5, rtol=1e-5)


def test_a_scale_belongs_to_each_layer_of_a_range_and_to_a_group_as_a_whole():
    model = impasto.load(family("llama"))
    depths = {
        text: model.hidden_states(Plan.parse(text), [IDS])[0]
        for text in ("0 1-3@0.5", "0 1@0.5 2@0.5 3@0.5", "0 (1-3)@0.5")
    }
    assert [len(states) for states in depths.values()] == [5, 5, 3]
    span, each, group = (states[-1] for states in depths.values())
    assert torch.equal(span, each)
    assert not torch.allclose(span, group, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("line", [SCALED, "0-1 (2-3)@0.5 4-5", "0-1 freeze [2|] (3-4)@1.5 5"])
def test_cached_is_uncached(name, line):
    hf, plan = family(name), Plan.parse(line)
    found, _ = cached(hf, plan)
    torch.testing.assert_close(found, logits(hf, plan), atol=1e-4, rtol=0)


@pytest.mark.parametrize("line", ["0-2 3@0 4-5", "0-2 (3)@0 4-5", "0-2 [3|]@0 4-5"])
def test_what_adds_nothing_keeps_keys_and_values_all_the_same(line):
    hf, plan = family("llama"), Plan.parse(line)
    found, slots = cached(hf, plan)
    without, fewer = cached(hf, Plan.parse("0-2 4-5"))
    assert slots == fewer + 1
    torch.testing.assert_close(found, without, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", thinned(NAMES, 2))
@pytest.mark.parametrize("line", [SCALED, "0-1 freeze (2-3)@0.5 sum[4|5]@0.25"])
def test_an_exported_folder_runs_scales(name, line, tmp_path):
    hf, plan = family(name), Plan.parse(line)
    done = impasto.export(hf, plan, tmp_path / "out")
    again: Any = AutoModelForCausalLM.from_pretrained(done.folder, trust_remote_code=True).eval()
    with torch.no_grad():
        found = again(torch.tensor([IDS]), use_cache=False).logits[0]
        written = again.generate(torch.tensor([IDS]), max_new_tokens=5, do_sample=False)
    torch.testing.assert_close(found, logits(hf, plan), atol=1e-5, rtol=0)
    [[expected]] = impasto.load(hf).generate([plan], [IDS], max_new_tokens=5)
    assert written[0, len(IDS) :].tolist() == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("scaled", "plain"),
    [
        ("0-2 3@0.5 4-5", "0-5"),
        ("0-2 3@0 4-5", "0-5"),
        ("0-2 [3||] 4-5", "0-5"),
        ("0 (1-3)@0.5*2 4-5", "0 1-3*2 4-5"),
        ("0-1 freeze (2-3)@0.5 4.attn@2 5", "0-1 freeze 2-3 4.attn 5"),
        ("0 [1|2]@0.5 3-5", "0 [1|2] 3-5"),
    ],
)
def test_a_scaled_plan_costs_what_it_runs(name, scaled, plain):
    shape = read_shape(opened(family(name)))
    one, other = Plan.parse(scaled), Plan.parse(plain)
    assert one.occurrences == other.occurrences
    for call in (Call(24, batch=2), Call.decode(24, 2)):
        works = (forward_work(plan, shape, call, engine=True) for plan in (one, other))
        assert next(works) == next(works)
