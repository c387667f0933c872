"""Where memory limits how many texts decode at once, plans with few attentions have their turn."""

from typing import Any

import pytest
from test_memory import llama

import impasto
from called import Called
from families import FAMILIES, family
from impasto import Plan, strategies
from impasto.error import UserError
from impasto.plan.lowering import lower
from impasto.run.batching.live_bytes import LiveBytes
from impasto.run.generate.decoding_plan import Stopping
from impasto.run.generate.greedy import generate
from impasto.run.generate.sets import plan_sets
from impasto.run.opening import opened
from thinning import thinned

LINES = ("0", "0-5", "5-0", "0.mlp 1-5", "0 [1-4]*4 5", "0 [1-4]*9 5", "2.mlp")
PLANS = [*map(Plan.parse, LINES), strategies.gaussian(6, 2), strategies.freeze(6, 3)]
BEGINNING = [at % 90 for at in range(3, 43)]
PROMPTS = [[*BEGINNING, at, 7 + at] for at in range(10)]
TOKENS = 12


def sets(model, memory, prompts=PROMPTS, plans=PLANS, tokens=TOKENS):
    requests = model._begin(plans, prompts, tokens, None)
    programs = list(map(lower, plans))
    return list(plan_sets(opened(model.hf), programs, requests, tokens, memory))


def limited(model, share=0.06):
    """Return a share of the bytes that all plans would take together."""
    return int(model.generating_cost(PLANS, PROMPTS, TOKENS).peak_bytes * share)


def most_texts(groups):
    return max(len(group.prefix_trees) for group in groups)


def test_what_memory_allows_all_plans_is_one_set():
    [one] = sets(impasto.load(llama()), 2**32)
    assert list(one.programs) == list(map(lower, PLANS))
    assert most_texts(one.queue) == len(PROMPTS)


def test_under_reaches_a_plan_leaves_room_for_as_many_texts_as_one_with_few_attentions():
    model = impasto.load(llama())
    wide, narrow = (Plan.parse(line) for line in ("0-5", "0-5{first=1, last=4}"))
    prompts = [[at, *BEGINNING] for at in range(10)]
    of_wide = model.generating_cost(wide, prompts, 200).peak_bytes
    found = sets(model, of_wide // 3, prompts, [wide, narrow], 200)
    assert [list(each.programs) for each in found] == [[lower(wide)], [lower(narrow)]]
    few, many = (most_texts(each.queue) for each in found)
    assert many > few


def test_questions_that_begin_unlike_are_one_set_although_few_run_together():
    model = impasto.load(llama())
    prompts = [[at * 7 + k for k in range(300)] for at in range(4)]
    assert len(sets(model, 2**32, prompts)) == 1


def test_sets_part_the_plans_by_how_many_texts_fit():
    model = impasto.load(llama())
    found = sets(model, limited(model))
    assert len(found) > 2
    programs = [program for each in found for program in each.programs]
    assert sorted(map(repr, programs)) == sorted(repr(lower(plan)) for plan in PLANS)
    groups = [list(each.queue) for each in found]
    texts = list(map(most_texts, groups))
    assert texts == sorted(texts)
    assert texts[-1] > 2 * texts[0]
    for each in groups:
        assert sorted(at for group in each for at in group.requests) == [*range(10)]


@pytest.mark.parametrize("name", thinned(FAMILIES, 3))
def test_sets_write_what_each_plan_writes_alone(name):
    model = impasto.load(family(name))
    plans = [Plan.parse(line) for line in LINES]
    prompts = [prompt[-12:] for prompt in PROMPTS]
    alone = [model.generate(plan, prompts, max_new_tokens=5)[0] for plan in plans]
    model.memory = int(model.generating_cost(plans, prompts, 5).peak_bytes * 0.05)
    assert len(sets(model, model.memory, prompts, plans, 5)) > 1
    assert model.generate(plans, prompts, max_new_tokens=5) == alone


def test_sets_call_fewer_layers_than_all_plans_in_the_texts_of_the_longest(monkeypatch):
    model: Any = impasto.load(llama())
    memory = limited(model, 0.1)
    requests = model._begin(PLANS, PROMPTS, TOKENS, None)
    cost = model.generating_cost(PLANS, PROMPTS, TOKENS)
    called = Called(monkeypatch)
    never, opened_model = Stopping(TOKENS, lambda written: False), opened(model.hf)

    def calls():
        before = called.blocks
        generate(opened_model, PLANS, requests, never, lambda share: None, memory)
        return called.blocks - before

    apart = calls()
    model.memory = memory
    limit = model.generating_cost(PLANS, PROMPTS, TOKENS)
    assert cost.calls < limit.calls
    assert apart <= limit.calls
    monkeypatch.setattr("impasto.run.generate.sets.TIMES_THE_TEXTS", 1e9)
    assert calls() > 1.5 * apart


@pytest.mark.parametrize("share", [0.06, 0.1, 0.3])
def test_what_is_held_keeps_within_the_memory_that_is_allowed(share):
    hf = llama()
    model = impasto.load(hf)
    model.generate(PLANS, PROMPTS[:2], max_new_tokens=2)
    model.memory = limited(model, share)
    with LiveBytes([*hf.parameters(), *hf.buffers()]) as live:
        model.generate(PLANS, PROMPTS, max_new_tokens=TOKENS)
    assert live.most <= 1.1 * model.memory


def test_progress_goes_from_set_to_set_up_to_all():
    model: Any = impasto.load(llama())
    requests, shares = model._begin(PLANS, PROMPTS, TOKENS, None), []
    never = Stopping(TOKENS, lambda written: False)
    generate(opened(model.hf), PLANS, requests, never, shares.append, limited(model))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_a_prompt_that_does_not_fit_is_an_error():
    model = impasto.load(llama())
    with pytest.raises(UserError, match="allow more memory"):
        sets(model, 1000)
