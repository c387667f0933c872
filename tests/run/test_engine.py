"""The engine equals the naive reference: every item, alone and combined, on every family."""

import pytest
import torch

import reference
from families import FAMILIES, VOCABULARY, family
from impasto.run import Donor, load
from plans import INJECTING_PLANS, PLANS, spread
from thinning import thinned

TOLERANCE = 1e-4
NAMES = list(FAMILIES)


def sequences(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def check_next_logits(name, plan, lengths):
    hf = family(name)
    for ids in sequences(*lengths):
        found = load(hf).next_logits(plan, torch.tensor([ids]))[0]
        torch.testing.assert_close(
            found, reference.next_logits(hf, plan, ids), atol=TOLERANCE, rtol=0
        )


def check_scores(name, plans):
    hf = family(name)
    texts = sequences(3, 11, 6, 8)
    requests = [(ids[:cut], ids[cut:]) for ids, cut in zip(texts, (1, 5, 5, 6), strict=True)]
    found = load(hf).loglikelihood(plans, requests)
    for plan, scores in zip(plans, found, strict=True):
        for request, (log_p, greedy) in zip(requests, scores, strict=True):
            expected = reference.score(hf, plan, *request)
            assert log_p == pytest.approx(expected[0], abs=TOLERANCE * len(request[1])), plan
            assert greedy == expected[1]


def check_generation(name, plans, count):
    hf = family(name)
    prompts = sequences(3, 7, 1)
    found = load(hf).generate(plans, prompts, max_new_tokens=count)
    for plan, rows in zip(plans, found, strict=True):
        assert rows == [reference.generate(hf, plan, ids, count) for ids in prompts], plan


@pytest.mark.parametrize(
    ("name", "plan"), [(n, p) for n in NAMES for p in spread(n, NAMES)], ids=str
)
def test_next_logits_equal_the_reference(name, plan):
    check_next_logits(name, plan, lengths=(2, 9))


@pytest.mark.parametrize("name", thinned(NAMES, 2))
def test_many_plans_scored_together_equal_the_reference_one_by_one(name):
    check_scores(name, spread(name, NAMES, core=2, others=6))


@pytest.mark.parametrize("name", thinned(NAMES, 2))
def test_cached_generation_equals_recomputing_every_prefix(name):
    check_generation(name, spread(name, NAMES, core=2, others=6), 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_family_runs_every_plan(name):
    for plan in PLANS:
        check_next_logits(name, plan, lengths=(1, 5, 12))
    check_scores(name, PLANS)
    check_generation(name, PLANS, 5)


@pytest.mark.parametrize("name", thinned(NAMES))
def test_injection_equals_the_reference(name):
    hf = family(name)
    plans = INJECTING_PLANS[:: 1 if name == "llama" else 3]
    model = load(hf)
    first, second, a, b = sequences(8, 10, 6, 9, seed=1)
    donors = {"a": Donor(a, (2, 5), (1, 3)), "b": Donor(b, (8, 9), (7, 8))}
    grafts = {
        "a": reference.Graft(a, [3, 4], [1, 2]),
        "b": reference.Graft(b, [8], [7]),
    }
    new = model.generate(plans, [first, second], max_new_tokens=4, donors=donors)
    pairs = [(ids[:8], sequences(3, seed=5)[0]) for ids in (first, second)]
    scores = model.loglikelihood(plans, pairs, donors=donors)
    for plan, rows, scored in zip(plans, new, scores, strict=True):
        for ids, row, pair, (log_p, _) in zip((first, second), rows, pairs, scored, strict=True):
            expected = reference.next_logits(hf, plan, ids, grafts)
            found = model.next_logits(plan, torch.tensor([ids]), donors=donors)[0]
            torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)
            assert row == reference.generate(hf, plan, ids, 4, grafts), plan
            assert log_p == pytest.approx(
                reference.score(hf, plan, *pair, grafts)[0], abs=TOLERANCE * 3
            )


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_plan_gives_the_models_own_logits_bit_for_bit(name):
    hf = family(name)
    ids = torch.tensor(sequences(9, 9))
    with torch.no_grad():
        own = hf(input_ids=ids, use_cache=False).logits[:, -1]
    assert torch.equal(load(hf).next_logits(PLANS[0], ids), own)
