"""Plans that hold or blur the prompt alone equal the naive reference, on every family."""

from inspect import signature
from typing import Any

import pytest
import torch

import impasto
import reference
from families import FAMILIES, SEQUENTIAL, VOCABULARY, family, one_of_each
from impasto.error import UserError
from impasto.plan import Plan
from impasto.run import Donor
from impasto.run.generate.decoding_plan import end_tokens
from plans import INJECTING_PROMPTED_PLANS, PROMPTED_PLANS
from thinning import thinned

NAMES = [*FAMILIES, *SEQUENTIAL]
WHOLE = ("mamba", "mamba2", "rwkv")  # families without parts
IDS = [5, 17, 3, 88, 41, 2, 60, 9]


def sequences(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


with_gradients: Any = reference.next_logits
with_gradients = with_gradients.__wrapped__


def some_plans(name):
    able = [plan for plan in PROMPTED_PLANS if name not in WHOLE or not plan.divided]
    every = 1 if name == "llama" else 6
    return able[NAMES.index(name) % every :: every]


@pytest.mark.parametrize("name", thinned(NAMES))
def test_continuations_are_scored_behind_their_prompts(name):
    hf = family(name)
    stem = sequences(9, seed=1)[0]
    cuts = [(stem[:4], stem[4:]), (stem[:4], [7, 3]), (stem[:6], stem[6:]), (stem[:1], stem[1:3])]
    requests = [*cuts, *((ids[:5], ids[5:]) for ids in sequences(7, 12))]
    plans = [Plan.identity(6), *some_plans(name)]
    found = impasto.load(hf).loglikelihood(plans, requests)
    for plan, scores in zip(plans, found, strict=True):
        for request, (log_p, greedy) in zip(requests, scores, strict=True):
            expected = reference.score(hf, plan, *request)
            assert log_p == pytest.approx(expected[0], abs=1e-4 * len(request[1])), plan
            assert greedy == expected[1]


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_texts_are_written_behind_their_prompts(name):
    hf, prompts = family(name), sequences(3, 7, 1)
    plans = [Plan.parse("0-2 freeze 3-5"), *some_plans(name)]
    found = impasto.load(hf).generate(plans, prompts, max_new_tokens=4)
    for plan, rows in zip(plans, found, strict=True):
        assert rows == [reference.generate(hf, plan, ids, 4) for ids in prompts], plan


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_donors_reach_what_the_prompt_does_not_hold(name):
    hf, model = family(name), impasto.load(family(name))
    first, second, a, b = sequences(8, 10, 6, 9, seed=1)
    donors = {"a": Donor(a, (2, 5), (1, 3)), "b": Donor(b, (8, 9), (7, 8))}
    grafts = {"a": reference.Graft(a, [3, 4], [1, 2]), "b": reference.Graft(b, [8], [7])}
    plans = INJECTING_PROMPTED_PLANS[NAMES.index(name) % 2 :: 2]
    new = model.generate(plans, [first, second], max_new_tokens=3, donors=donors)
    pairs = [(ids[:8], sequences(3, seed=5)[0]) for ids in (first, second)]
    scores = model.loglikelihood(plans, pairs, donors=donors)
    for plan, rows, scored in zip(plans, new, scores, strict=True):
        for ids, row, pair, (log_p, _) in zip((first, second), rows, pairs, scored, strict=True):
            expected = reference.next_logits(hf, plan, ids, grafts)
            found = model.next_logits(plan, torch.tensor([ids]), donors=donors)[0]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
            assert row == reference.generate(hf, plan, ids, 3, grafts), plan
            assert log_p == pytest.approx(reference.score(hf, plan, *pair, grafts)[0], abs=3e-4)


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_the_first_call_with_a_cache_is_the_prompt(name):
    hf, prompts = family(name), [IDS[:4], IDS]
    impasto.load(hf)
    ids = torch.tensor([[0] * (8 - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (8 - len(p)) + [1] * len(p) for p in prompts])
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    if name == "rwkv":
        pytest.skip("what it keeps has no place for a plan's")
    for plan in some_plans(name)[::2]:
        expected = [reference.generate(hf, plan, prompt, 3) for prompt in prompts]
        with impasto.apply(hf, plan):
            out = hf.generate(ids, attention_mask=mask, use_cache=True, **options)
        assert out[:, 8:].tolist() == expected, plan


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_without_a_cache_it_is_said_how_long_the_prompt_is(name):
    hf, count = family(name), 5
    impasto.load(hf)
    padded = torch.tensor([IDS, [0, 0, *IDS[:6]], [*IDS[:6], 0, 0]])
    mask = torch.tensor([[1] * 8, [0, 0] + [1] * 6, [1] * 6 + [0, 0]])
    given = {"attention_mask": mask, "use_cache": False}
    if "position_ids" in signature(hf.forward).parameters:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    for plan in some_plans(name)[1::2]:
        with torch.no_grad(), impasto.apply(hf, plan, prompt=count):
            found = hf(padded, **given).logits
        for row, begin in zip(found, (0, 2, 0), strict=True):
            length = 8 if row is found[0] else 6
            for end in range(count, length + 1):
                expected = reference.next_logits(hf, plan, IDS[:end], prompt=count)
                own = row[begin + end - 1]
                torch.testing.assert_close(own, expected, atol=1e-4, rtol=0, msg=str(plan))


def test_gradients_flow_through_what_the_prompt_does_not_hold():
    hf, plan = family("llama"), Plan.parse("0-2 freeze(prompt) 3@0.5 4-5")
    weight = hf.model.layers[4].self_attn.v_proj.weight
    with impasto.apply(hf, plan, prompt=4):
        hf(torch.tensor([IDS]), use_cache=False).logits[0, 3:].sum().backward()
    found, weight.grad = weight.grad.clone(), None
    ends = [with_gradients(hf, plan, IDS[:n], prompt=4) for n in range(4, 9)]
    torch.stack(ends).sum().backward()
    torch.testing.assert_close(found, weight.grad, atol=1e-4, rtol=1e-4)
    hf.zero_grad()


@pytest.mark.parametrize(
    ("plan", "prompt", "words"),
    [
        ("0-2 freeze(prompt) 3-5", None, "use_cache=True"),
        ("0-2 freeze(prompt) 3-5", 0, "a number of tokens from 1"),
        ("0-2 freeze 3-5", 4, "leave prompt out"),
    ],
)
def test_a_prompt_is_asked_for_where_it_is_needed(plan, prompt, words):
    hf = family("llama")
    with (
        pytest.raises(impasto.UserError, match=words),
        impasto.apply(hf, Plan.parse(plan), prompt=prompt),
    ):
        hf(torch.tensor([IDS]), use_cache=False)


def test_what_has_no_prompt_is_refused_with_what_has_one():
    model, plan = impasto.load(family("llama")), Plan.parse("0-2 freeze(prompt) 3-5")
    for question, words in (
        (lambda: model.fidelity(plan, [IDS]), "a text has no prompt"),
        (lambda: model.hidden_states(plan, [IDS]), "prompt=n"),
    ):
        with pytest.raises(impasto.UserError, match=words):
            question()


def test_the_tokens_that_end_a_text_are_numbers() -> None:
    assert end_tokens([1, 2], 3) == {1, 2, 3}
    assert end_tokens(None, None) == set()
    for strange in ({"a": 1}, [[1]], ["</s>"], True, 0.5):
        with pytest.raises(UserError, match="eos_token_id"):
            end_tokens(strange, 3)
