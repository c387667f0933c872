"""Any number of threads, and any nesting of ``Model`` and ``apply``: right, or refused with why."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Thread
from typing import Any

import pytest
import torch
from transformers import DynamicCache

import impasto
from encoders import ENCODERS
from families import FAMILIES, VOCABULARY, weighted
from impasto import Donor, Plan, UserError
from impasto.run import Model, calls, load_decoder

PLANS = [
    "0-5", "0-1 freeze 2-5", "0 2-5.mlp", "0-2 noise(gaussian, seed=1) 3-5", "0 [1-4] 5",
    "5-0", "0-2.attn freeze [3|4] 5",
]  # fmt: skip
THREADS = 4


@cache
def models() -> tuple[Model, Model]:
    """Return two models of different weights that were made of one configuration."""
    first = weighted(FAMILIES["llama"]())
    second = type(first)(first.config)
    second.load_state_dict({name: 0.8 * weight for name, weight in first.state_dict().items()})
    return load_decoder(first), load_decoder(second.eval())


def jobs(count: int) -> list[Callable[[], Any]]:
    """Return calls of every kind on both models, in a random order."""
    draw = random.Random(0)
    kinds = [scoring, generating, applying, applied_generating, injecting, states]
    made = []
    for _ in range(count):
        kind, model = draw.choice(kinds), draw.choice(models())
        plan = Plan.parse(draw.choice(PLANS))
        ids = [draw.randrange(VOCABULARY) for _ in range(draw.randint(3, 9))]
        made.append(lambda kind=kind, model=model, plan=plan, ids=ids: kind(model, plan, ids))
    return made


def scoring(model: Model, plan: Plan, ids: list[int]) -> Any:
    return [
        score for score, _ in model.loglikelihood(plan, [(ids[:-1], ids[-1:]), (ids, [1, 2])])[0]
    ]


def generating(model: Model, plan: Plan, ids: list[int]) -> Any:
    return model.generate([plan, Plan.identity(6)], [ids, ids[:2]], max_new_tokens=3)


def applying(model: Model, plan: Plan, ids: list[int]) -> Any:
    with torch.no_grad(), impasto.apply(model.hf, plan):
        return model.hf(torch.tensor([ids])).logits[0, -1].tolist()


def applied_generating(model: Model, plan: Plan, ids: list[int]) -> Any:
    given: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with impasto.apply(model.hf, plan):
        return model.hf.generate(torch.tensor([ids]), **given).tolist()


def injecting(model: Model, plan: Plan, ids: list[int]) -> Any:
    donors = {"donor": Donor([5, 6, 7, 8], (1, 3), (0, 2))}
    plan = Plan.parse("0-1 inject(donor) 2-5")
    return [
        model.next_logits(plan, torch.tensor([ids]), donors=donors)[0].tolist(),
        model.generate(plan, [ids], max_new_tokens=2, donors=donors),
    ]


def states(model: Model, plan: Plan, ids: list[int]) -> Any:
    return [model.hidden_states(plan, [ids])[0].tolist(), model.attention_entropy(ids).tolist()]


def are_close(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(are_close, one, other))
    return one == other if isinstance(one, int) else abs(one - other) < 1e-4


def check_mixed_calls(count: int) -> None:
    alone = [job() for job in jobs(count)]
    before = [left_behind(model.hf) for model in models()]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda job: job(), jobs(count)))
    assert all(map(are_close, found, alone))
    assert [left_behind(model.hf) for model in models()] == before
    assert [job() for job in jobs(20)] == alone[:20]


def left_behind(hf: Any) -> list[Any]:
    """Return what calls could leave on a model's modules."""
    return [
        (module.__dict__.get("forward"), id(module.__dict__.get("config")), module.training,
         len(module._forward_hooks), len(module._forward_pre_hooks))
        for module in hf.modules()
    ]  # fmt: skip


def test_calls_of_every_kind_mixed_over_threads_and_models_are_those_of_one_thread():
    check_mixed_calls(48)


@pytest.mark.slow
def test_a_thousand_calls_mixed_over_threads_and_models_are_those_of_one_thread():
    check_mixed_calls(1000)


@pytest.mark.parametrize("name", ["bloom", "gpt2", "gemma2"])
def test_threads_on_one_model_of_a_family(name: str):
    model = load_decoder(weighted(FAMILIES[name]()))
    plans = [Plan.parse(line) for line in PLANS]
    asked = [([3, 1, 4, n], [1, 5]) for n in range(3)]

    def job(at: int) -> Any:
        plan = plans[at % len(plans)]
        return [
            [score for score, _ in model.loglikelihood(plan, asked)[0]],
            model.generate(plan, [[2, 7, 1]], max_new_tokens=4),
        ]

    alone = [job(at) for at in range(7)]
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(map(are_close, pool.map(job, range(7)), alone))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_threads_on_one_encoder(kind: str):
    model: Any = impasto.load(weighted(ENCODERS[kind]()))
    model.mask_token = 3
    plans = [Plan.parse(line) for line in ("0-3", "0 2-3", "0 [1|2] 3", "0.mlp 1-3")]

    def job(at: int) -> Any:
        plan = plans[at % len(plans)]
        ids = torch.tensor([[5, 6, 7, 8 + at % 3]])
        return [
            [list(map(float, s)) for s in model.masked_scores(plan, [ids[0].tolist()])[0]],
            model.token_logits(plan, ids).tolist(),
        ]

    alone = [job(at) for at in range(12)]
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(map(are_close, pool.map(job, range(12)), alone))


def test_a_plan_is_applied_to_the_calls_of_every_thread():
    """As where a streamer's text is read on one thread, and written on another."""
    hf = models()[0].hf
    plan, ids = Plan.parse("0-1 freeze 2-5"), torch.tensor([[3, 1, 4, 1, 5]])
    found: list[Any] = []
    with impasto.apply(hf, plan), torch.no_grad():
        expected = hf(ids).logits
        thread = Thread(target=lambda: found.append(hf(ids).logits.detach()))
        thread.start()
        thread.join()
    torch.testing.assert_close(found[0], expected)
    assert not torch.allclose(hf(ids).logits, expected, atol=1e-2)


def test_forwards_of_many_threads_run_one_applied_plan():
    hf, plan = models()[0].hf, Plan.parse("0 [1-3] freeze 4-5")
    texts = [torch.tensor([[n, 3, 1, 4, 1, n]]) for n in range(12)]

    def job(ids: torch.Tensor) -> torch.Tensor:
        return hf.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)

    with impasto.apply(hf, plan):
        alone = [job(ids) for ids in texts]
        with ThreadPoolExecutor(THREADS) as pool:
            assert all(map(torch.equal, pool.map(job, texts), alone))


def test_the_bare_model_may_be_called_while_another_thread_runs_plans_on_it():
    model, ids, stop = models()[0], torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]), Barrier(2)
    with torch.no_grad():
        expected = model.hf(ids).logits
    done: list[int] = []

    def sweep() -> None:
        stop.wait()
        for _ in range(3):
            model.loglikelihood([Plan.parse(line) for line in PLANS], [([3, 1, 4], [1, 5])])
            model.generate(Plan.parse("0-5.mlp"), [[3, 1]], max_new_tokens=3)
        done.append(1)

    thread = Thread(target=sweep)
    thread.start()
    stop.wait()
    calls = 0
    with torch.no_grad():
        while not done or not calls:
            torch.testing.assert_close(model.hf(ids).logits, expected)
            calls += 1
    thread.join()
    assert calls > 3


@pytest.mark.parametrize("ask", [scoring, generating, injecting, states])
@pytest.mark.parametrize("line", ["0-5", "0-1 freeze 2-5", "0 2-5.mlp"])
def test_a_model_asked_within_apply_answers_for_the_plan_that_is_asked(ask: Any, line: str):
    model, plan, ids = models()[0], Plan.parse("0-3 5 4"), [3, 1, 4, 1, 5]
    expected = ask(model, plan, ids)
    applied, rows = Plan.parse(line), torch.tensor([ids])
    with torch.no_grad(), impasto.apply(model.hf, applied):
        under_plan = model.hf(rows).logits
        assert are_close(ask(model, plan, ids), expected)
        assert torch.equal(model.hf(rows).logits, under_plan)
    assert are_close(ask(model, plan, ids), expected)


def test_a_model_asked_between_cached_steps_of_an_applied_plan_disturbs_nothing():
    model, plan = models()[0], Plan.parse("0-2 freeze 3-5")
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    with torch.no_grad(), impasto.apply(model.hf, plan):
        expected = model.hf(ids).logits[:, -1]
        cache, logits = DynamicCache(), expected
        for at in range(6):
            logits = model.hf(ids[:, at : at + 1], past_key_values=cache).logits[:, -1]
            model.generate(Plan.parse("5-0"), [[1, 2, 3]], max_new_tokens=2)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_a_model_asked_from_within_its_own_progress_answers_rightly():
    model, plan, asked = models()[0], Plan.parse("0-1 freeze 2-5"), [([3, 1, 4], [1, 5])]
    expected, inner = model.loglikelihood(plan, asked), []
    found = model.loglikelihood(
        plan, asked, progress=lambda share: inner.append(model.loglikelihood(plan, asked))
    )
    assert found == expected
    assert inner
    assert all(each == expected for each in inner)


def test_a_plan_is_neither_applied_nor_removed_in_the_middle_of_a_call():
    model, asked = models()[0], [([3, 1, 4], [1, 5])]

    def applying_within(share: float) -> None:
        impasto.apply(model.hf, Plan.parse("0-4"))

    with pytest.raises(UserError, match="cannot be applied in the middle of a call"):
        model.loglikelihood(Plan.identity(6), asked, progress=applying_within)
    handle = impasto.apply(model.hf, Plan.parse("0-4"))
    with pytest.raises(UserError, match="cannot be removed in the middle of a call"):
        model.loglikelihood(Plan.identity(6), asked, progress=lambda share: handle.remove())
    handle.remove()
    assert all("forward" not in module.__dict__ for module in model.hf.modules())


def test_a_plan_that_another_thread_keeps_applied_is_named_and_not_mixed_with(monkeypatch):
    monkeypatch.setattr(calls, "WAIT_SECONDS", 0.1)
    hf = models()[1].hf
    handle = impasto.apply(hf, Plan.parse("0-4"))
    errors: list[str] = []

    def other() -> None:
        try:
            impasto.apply(hf, Plan.parse("1-5"))
        except UserError as error:
            errors.append(str(error))

    thread = Thread(target=other)
    thread.start()
    thread.join()
    handle.remove()
    assert len(errors) == 1
    assert "the plan 0-4 is applied to this model already" in errors[0]
