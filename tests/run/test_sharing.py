"""A plan costs what it runs, and plans that begin alike share it."""

from collections import Counter

import pytest
import torch

import reference
from families import family
from impasto import strategies
from impasto.plan import Plan
from impasto.run import Donor, load, load_decoder
from impasto.run.batching import batches
from impasto.run.batching.request import TokenRequest
from plans import INJECTING_PLANS, PLANS
from thinning import thinned


@pytest.fixture
def calls():
    """Count the rows that each block and each of its two parts runs."""
    hf, rows, hooks = family("llama"), Counter(), []

    def count(name):
        def hook(module, args, kwargs):
            states = args[0] if args else kwargs["hidden_states"]
            rows[name] += states.shape[0] * states.shape[1]

        return hook

    for index, block in enumerate(hf.model.layers):
        for name, module in [("attn", block.self_attn.q_proj), ("mlp", block.mlp.up_proj)]:
            hook = module.register_forward_pre_hook(count(f"{index}.{name}"), with_kwargs=True)
            hooks.append(hook)
    load(hf)
    rows.clear()
    yield rows
    for hook in hooks:
        hook.remove()


IDS = list(range(10))


def score(*lines):
    plans = [Plan.parse(line) for line in lines]
    return load(family("llama")).loglikelihood(plans, [(IDS[:8], IDS[8:])])


def test_a_skipped_layer_and_a_dropped_part_run_nothing(calls):
    score("0 2.attn 3.mlp 5")
    assert {name for name in calls if calls[name]} == {
        "0.attn", "0.mlp", "2.attn", "3.mlp", "5.attn", "5.mlp",
    }  # fmt: skip


def test_plans_share_what_they_begin_with(calls):
    score("0-5", "0-3 5", "0-3 5 4", "0-3 freeze 4-5")
    assert calls["0.mlp"] == calls["3.mlp"] == 9


def test_a_loop_of_many_lengths_is_one_chain(calls):
    score(*[f"0 [1-2]*{n} 5" for n in (1, 2, 3, 4)])
    assert calls["0.mlp"] == 9
    assert calls["1.mlp"] == 4 * 9


def test_frozen_tokens_run_no_mlp_and_no_queries_of_their_own_above(calls):
    score("0-1 freeze 2-5")
    assert calls["1.mlp"] == 9
    assert calls["2.mlp"] == calls["5.mlp"] == 2


def test_above_the_last_attention_only_scored_rows_run(calls):
    score("0-2 3-5.mlp")
    assert calls["1.mlp"] == 9
    assert calls["2.mlp"] == calls["3.mlp"] == calls["5.mlp"] == 2


def test_sharing_does_not_change_a_score(calls):
    plans = [plan for _, plan in strategies.expand("freeze", 6, k="all")]
    plans += [plan for _, plan in strategies.expand("looped_parallel", 6, n=1, loops=[1, 2, 3])]
    model = load(family("llama"))
    together = model.loglikelihood(plans, [(IDS[:8], IDS[8:])])
    for plan, found in zip(plans, together, strict=True):
        alone = model.loglikelihood(plan, [(IDS[:8], IDS[8:])])[0]
        assert found[0][0] == pytest.approx(alone[0][0], abs=1e-4)


def test_weights_are_untouched_and_nothing_is_left_behind():
    hf = family("llama")
    before = {name: weight.clone() for name, weight in hf.state_dict().items()}
    places = {name: weight.data_ptr() for name, weight in hf.named_parameters()}
    score("0-1 [2-3]*2 freeze 4.mlp 5")
    with pytest.raises(RuntimeError, match="stop"):
        load(hf).loglikelihood(Plan.parse("0-5"), [(IDS, IDS)], progress=_stop)
    assert all(torch.equal(before[name], weight) for name, weight in hf.state_dict().items())
    assert places == {name: weight.data_ptr() for name, weight in hf.named_parameters()}
    assert all("forward" not in module.__dict__ for module in hf.modules())


def _stop(share):
    raise RuntimeError("stop")


@pytest.mark.parametrize(("name", "at_once"), thinned([("llama", 64), ("llama", 1), ("gpt2", 4)]))
def test_shared_beginnings_change_nothing(name, at_once, monkeypatch):
    """Sequences that begin alike read that once.

    However many of them walk in one batch, they decode together.
    """
    hf, model = family(name), load_decoder(family(name))
    prompts = [[3, 1, 4, 1, 5, last, *more] for last, more in [(9, []), (2, [6]), (9, [5])]]
    donors = {"a": Donor([2, 7, 1, 8], (1, 3), (5, 6))}
    plans = [*PLANS[::3], *INJECTING_PLANS[1:7:2]]
    plans = [plan for plan in plans if set(plan.injections) <= {"a"}]
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 4)
    requests = [TokenRequest(ids, range(5, 6), {}) for ids in prompts]
    monkeypatch.setattr(batches, "ROWS_AT_ONCE", {"cpu": at_once})
    [group] = batches.batch_groups(model._opened, requests, merge=False)
    assert group.prefix == prompts[0][:5]
    assert (len(group.batches) > 1) == (at_once < 64)
    written = model.generate(plans, prompts, max_new_tokens=4, donors=donors)
    scores = model.loglikelihood(plans, [(ids, [8, 2]) for ids in prompts], donors=donors)
    graft = {"a": reference.Graft([2, 7, 1, 8], [2], [5])}
    for plan, rows, scored in zip(plans, written, scores, strict=True):
        for ids, new, (log_p, greedy) in zip(prompts, rows, scored, strict=True):
            assert new == reference.generate(hf, plan, ids, 4, graft), plan
            expected = reference.score(hf, plan, ids, [8, 2], graft)
            assert log_p == pytest.approx(expected[0], abs=2e-4)
            assert greedy == expected[1]


@pytest.mark.parametrize("begin", [[], [7, 3, 9, 9, 2]])
@pytest.mark.parametrize("name", thinned(["llama", "gpt2"], 2))
def test_answers_that_share_a_context_score_what_each_scores_alone(name, begin, monkeypatch, calls):
    """Contexts of unlike lengths, answers of unlike lengths, all behind one instruction or none."""
    hf, model = family(name), load(family(name))
    contexts = [[3, 1, 4], [1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9]]
    answers = [[2], [3, 8], [4, 6, 2]]
    asked = [([*begin, *context], answer) for context in contexts for answer in answers]
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 4)
    calls.clear()
    plans = PLANS[:: 3 if begin else 5]
    scores = model.loglikelihood(plans, asked[::2] + asked[1::2])
    if name == "llama":
        alone = sum(len(context) + len(answer) - 1 for context, answer in asked)
        assert 0 < calls["0.mlp"] < len(plans) * alone
    for plan, found in zip(plans, scores, strict=True):
        for (context, answer), (log_p, greedy) in zip(asked[::2] + asked[1::2], found, strict=True):
            expected = reference.score(hf, plan, context, answer)
            assert log_p == pytest.approx(expected[0], abs=2e-4), plan
            assert greedy == expected[1]


def test_a_context_is_read_once_for_all_its_answers(calls):
    asked = [([*range(start, start + 20)], [answer]) for start in (0, 40) for answer in range(4)]
    load(family("llama")).loglikelihood(Plan.parse("0-5"), asked)
    assert calls["0.mlp"] == 2 * 20


def test_an_instruction_is_read_once_for_questions_of_many_batches(monkeypatch, calls):
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 4)
    monkeypatch.setattr(batches, "ROWS_AT_ONCE", {"cpu": 100})
    instruction, hf = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], family("llama")
    model, plans = load(hf), [Plan.parse("0-5"), *PLANS[1::6]]
    questions = [[(7 * n + i * i) % 90 for i in range(40 + n % 3)] for n in range(8)]
    asked = [([*instruction, *question], [question[5], 7]) for question in questions]
    alone = sum(len(context) + 1 for context, _ in asked)
    calls.clear()
    scores = model.loglikelihood(plans[:1], asked)
    assert alone - 7 * len(instruction) <= calls["0.mlp"] < alone - 6 * len(instruction)
    scores += model.loglikelihood(plans[1:], asked)
    for plan, row in zip(plans, scores, strict=True):
        for (context, answer), (log_p, greedy) in zip(asked, row, strict=True):
            expected = reference.score(hf, plan, context, answer)
            assert log_p == pytest.approx(expected[0], abs=2e-4), plan
            assert greedy == expected[1]


def test_donors_of_batches_that_walk_together_may_begin_unlike(monkeypatch):
    """Those of one batch have more in common than those of all."""
    hf, model = family("llama"), load_decoder(family("llama"))
    prompts = [[first, 1, 4, 1, 5, 9] for first in (3, 4, 5, 6)]
    heads = [[9, 4, 4], [4, 9, 9], [2, 7, 1], [2, 7, 1]]
    given = [[*head, 8, last] for last, head in enumerate(heads, 20)]
    donors = [{"a": Donor(ids, (3, 5), (2, 4))} for ids in given]
    plan = Plan.parse("0-2 inject(a) 3-5")
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 1)
    monkeypatch.setattr(batches, "ROWS_AT_ONCE", {"cpu": 12})
    [written] = model.generate(plan, prompts, max_new_tokens=3, donors=donors)
    for ids, donor, new in zip(prompts, given, written, strict=True):
        graft = {"a": reference.Graft(donor, [3, 4], [2, 3])}
        assert new == reference.generate(hf, plan, ids, 3, graft)
