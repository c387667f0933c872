"""The naive reference stands on its own: it spells every family right, and every edit shows in it.

Nothing of the engine runs here. What the engine is compared with has to be true by itself, and the
families on which it is compared have to show whatever it might get wrong.
"""

from itertools import combinations

import pytest
import torch

import reference
from families import FAMILIES, LAYERS, VOCABULARY, family, weighted
from impasto.plan import Plan
from plans import PLANS
from spellings import adds, spelling, whole
from thinning import thinned

NAMES = list(FAMILIES)
IDENTITY = Plan.identity(LAYERS)
IDS = torch.randint(VOCABULARY, (9,), generator=torch.Generator().manual_seed(0)).tolist()
SHOWS = 0.1  # logits are of order 1 to 10

# A marker at depth T changes nothing, nor does noise on frozen tokens.
MEANS = {
    "0-5 freeze": "0-5",
    "0-5 noise(shuffle)": "0-5",
    "0-1 freeze 2-3 noise(gaussian) 4-5": "0-1 freeze 2-3 freeze 4-5",
}
MEANS_IN_PARALLEL = {"0 sum[1.attn|1.mlp] 2-5": "0-5"}

# What a family is listed for, and what it would be without that.
SPECIAL = [
    ("mistral", {"sliding_window": None}),
    ("qwen2", {"max_window_layers": 0}),
    ("qwen2", {"max_window_layers": 6}),
    ("gemma2", {"layer_types": ["sliding_attention"] * 6}),
    ("gemma2", {"layer_types": ["full_attention"] * 6}),
    ("gemma2", {"attn_logit_softcapping": None}),
    ("gemma2", {"final_logit_softcapping": None}),
    ("gemma3", {"layer_types": ["sliding_attention"] * 6}),
    ("gemma3", {"layer_types": ["full_attention"] * 6}),
    ("gemma3", {"rope_parameters": None}),
    ("granite", {"embedding_multiplier": 1.0}),
    ("granite", {"attention_multiplier": 1.0}),
    ("granite", {"residual_multiplier": 1.0}),
    ("granite", {"logits_scaling": 1.0}),
    ("gpt_neox", {"use_parallel_residual": False}),
    ("falcon_alibi", {"alibi": False}),
]


def stock(hf, ids):
    with torch.no_grad():
        return hf(input_ids=torch.tensor([ids])).logits[0, -1]


def largest(difference):
    return float(difference.abs().max())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_block_is_its_input_and_what_its_two_parts_add(name, attention):
    hf = family(name, attention)
    spelt, (inputs, calls) = spelling(hf), reference.prepared(hf, IDS)
    for block, rows, call in zip(spelt.blocks_of(hf), inputs, calls, strict=True):
        x = rows[None]
        attended = x + adds(spelt.attention, block, x, call)
        sequential = attended + adds(spelt.mlp, block, attended, call)
        parallel = attended + adds(spelt.mlp, block, x, call)
        right, wrong = (parallel, sequential) if spelt.parallel else (sequential, parallel)
        after = whole(block, x, call)
        torch.testing.assert_close(right, after, atol=1e-5, rtol=0)
        assert largest(wrong - after) > SHOWS


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_the_identity_plan_is_the_stock_model(name, attention):
    hf = family(name, attention)
    for ids in (IDS[:1], IDS[:2], IDS):
        found = reference.next_logits(hf, IDENTITY, ids)
        torch.testing.assert_close(found, stock(hf, ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", thinned(NAMES))
def test_plans_give_the_same_logits_only_where_they_mean_the_same(name):
    hf = family(name)
    same = MEANS | (MEANS_IN_PARALLEL if spelling(hf).parallel else {})
    found = [(str(plan), reference.next_logits(hf, plan, IDS)) for plan in PLANS]
    for (one, logits), (other, others) in combinations(found, 2):
        apart = largest(logits - others)
        if same.get(one, one) == same.get(other, other):
            assert apart < 1e-5, (one, other)
        else:
            assert apart > SHOWS, (one, other)


@pytest.mark.parametrize(("name", "without"), SPECIAL, ids=str)
def test_what_a_family_is_listed_for_shows_in_its_logits(name, without):
    plain = weighted(FAMILIES[name]("eager", **without))
    assert largest(stock(family(name, "eager"), IDS) - stock(plain, IDS)) > SHOWS


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_no_token_is_routed_by_a_hair(name):
    """A choice between experts that rounding could turn would make every comparison a gamble."""
    hf, margins = family(name), []

    def note(router, args, output):
        scores = output[0].sort(descending=True).values
        margins.append(scores[:, router.top_k - 1] - scores[:, router.top_k])

    routers = [block.mlp.gate for block in hf.model.layers if hasattr(block.mlp, "gate")]
    hooks = [router.register_forward_hook(note) for router in routers]
    for plan in PLANS:
        reference.next_logits(hf, plan, IDS)
    for hook in hooks:
        hook.remove()
    assert torch.cat(margins).min() > 1e-4
