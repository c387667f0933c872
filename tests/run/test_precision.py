"""Half precision and eager attention: as exact under a plan as the bare model is."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
import reference
from families import FAMILIES, VOCABULARY, family
from plans import PLANS
from thinning import thinned

NAMES = list(FAMILIES)
IDS = torch.randint(VOCABULARY, (16, 12), generator=torch.Generator().manual_seed(0))


def error(found, expected):
    """The median, for a token that half precision sends to another expert is all wrong."""
    return float((found.float() - expected).abs().median())


QUICK = {"llama", "gpt2", "bloom", "mixtral"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "name", thinned([n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
)
def test_a_plan_loses_no_more_to_half_precision_than_twice_what_the_bare_model_does(name, dtype):
    hf = family(name)
    exact, half = impasto.load(hf), impasto.load(copy.deepcopy(hf).to(dtype))
    bare = error(half.next_logits(PLANS[0], IDS), exact.next_logits(PLANS[0], IDS))
    requests = [(row[:j].tolist(), [int(row[j])]) for row in IDS for j in range(1, 12)]
    own = torch.tensor(exact.loglikelihood(PLANS[0], requests)[0])[:, 0]
    bare_score = error(torch.tensor(half.loglikelihood(PLANS[0], requests)[0])[:, 0], own)
    for plan in PLANS[NAMES.index(name) % 8 :: 8]:
        assert error(half.next_logits(plan, IDS), exact.next_logits(plan, IDS)) < 2 * bare, plan
        own = torch.tensor(exact.loglikelihood(plan, requests)[0])[:, 0]
        found = torch.tensor(half.loglikelihood(plan, requests)[0])[:, 0]
        assert error(found, own) < 2 * bare_score, plan


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_deep_model_in_half_precision_is_opened_though_its_rounding_adds_up(dtype):
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_attention_heads=2,
        num_hidden_layers=64,
    )  # fmt: skip
    torch.manual_seed(0)
    claims = dict(impasto.load(LlamaForCausalLM(config).to(dtype)).checked)
    assert claims.pop("allowed") == pytest.approx(0.1)
    assert all(apart is None or apart <= 0.1 for apart in claims.values())


@pytest.mark.parametrize("name", thinned([name for name in NAMES if family(name)._supports_sdpa]))
def test_eager_attention_gives_the_reference(name):
    hf = family(name, "eager")
    plans = PLANS[NAMES.index(name) % 6 :: 6]
    requests = [(row[:4].tolist(), row[4:7].tolist()) for row in IDS[:2]]
    for plan, scores in zip(plans, impasto.load(hf).loglikelihood(plans, requests), strict=True):
        for request, (log_p, _) in zip(requests, scores, strict=True):
            assert log_p == pytest.approx(reference.score(hf, plan, *request)[0], abs=2e-4), plan
