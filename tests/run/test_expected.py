"""What writing is expected to cost is a bound of what it takes, counted in calls of layers."""

import pytest

import impasto
from called import Called
from families import family
from impasto import Plan, strategies
from impasto.run.generate.decoding_plan import Stopping
from impasto.run.generate.greedy import generate
from impasto.run.opening import opened
from plans import PLANS

DEPTH = 6
CASES = {
    "one plan, one text": ([Plan.identity(DEPTH)], 1),
    "one plan, many texts": ([Plan.identity(DEPTH)], 70),
    "plans that freeze": ([strategies.freeze(DEPTH, k) for k in range(DEPTH)], 4),
    "plans that skip": ([Plan.parse(f"0 {k}-5") for k in range(1, 6)], 9),
    "plans that share little": (
        [Plan.parse(line) for line in ("3 1 4 0 5 2", "5-0", "0-5", "[0-5]", "2 0 [1|3] 4.mlp 5")],
        30,
    ),
    "more plans than decode together": (
        [plan for plan in PLANS if not plan.injections], 12,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_writing_is_expected_to_call_at_least_the_layers_that_it_calls(case, monkeypatch):
    plans, count = CASES[case]
    hf = family("llama")
    model, tokens = impasto.load(hf), 9
    prompts = [[3, 1, 4 + at % 80, 1, 5] for at in range(count)]
    cost = model.generating_cost(plans, prompts, tokens)
    called = Called(monkeypatch)
    assert isinstance(model, impasto.Model)
    requests = model._begin(plans, prompts, tokens, None)
    never = Stopping(tokens, lambda written: False)
    generate(opened(hf), plans, requests, never, lambda share: None)
    blocks = called.blocks
    assert blocks <= cost.calls <= 4 * blocks + 30  # keys of a layer so small are bytes, too


def test_more_texts_and_longer_prompts_cost_more_bytes_and_more_plans_more_calls():
    model = impasto.load(family("llama"))

    def calls(plans, texts, length, tokens=5):
        return model.generating_cost(plans, [[3] * length] * texts, tokens).calls

    one = [Plan.identity(DEPTH)]
    assert calls(one, 8, 40) > calls(one, 8, 10) > calls(one, 1, 10)
    apart = [*one, Plan.parse("5-0")]
    assert calls(apart, 8, 10) > 1.8 * calls(one, 8, 10)
    assert calls(one, 8, 10, tokens=9) > 1.8 * calls(one, 8, 10)
    assert calls(one, 1, 10, tokens=1) < 10
