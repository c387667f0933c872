"""Models whose rows cannot be packed: whatever is asked of them equals the naive reference."""

from itertools import pairwise

import pytest
import torch

import impasto
import reference
from families import SEQUENTIAL, VOCABULARY, family
from impasto import Donor, Plan
from impasto.error import UserError
from impasto.model.structure.anatomy import ModelError
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.stretches import TokenTree, stretches
from plans import INJECTING_PLANS, PLANS
from thinning import thinned

NAMES = list(SEQUENTIAL)
WHOLE = ("mamba", "mamba2", "rwkv")  # families without parts
TEXT = torch.randint(3, VOCABULARY, (30,), generator=torch.Generator().manual_seed(2)).tolist()
OTHER = torch.randint(3, VOCABULARY, (30,), generator=torch.Generator().manual_seed(3)).tolist()


def plans_of(name, plans=PLANS, every=6):
    """Return some plans, other ones for each family."""
    able = [plan for plan in plans if name not in WHOLE or len(set(plan.occurrences)) == 1]
    return [Plan.identity(6), *able[NAMES.index(name) % every :: every]]


def next_token(hf, plan, ids):
    return int(reference.next_logits(hf, plan, ids).argmax())


@pytest.mark.parametrize("name", thinned(NAMES, 2))
def test_scores_equal_the_reference(name):
    hf, plans = family(name), plans_of(name)
    model = impasto.load(hf)
    assert model.runs_sequences is not None
    requests = [
        (TEXT[:9], TEXT[9:12]), (TEXT[:9], OTHER[:2]), (TEXT[:14], OTHER[:1]), (OTHER[:5], [7, 8]),
        (TEXT[:9], [*TEXT[9:10], 5]),
    ]  # fmt: skip
    for plan, row in zip(plans, model.loglikelihood(plans, requests), strict=True):
        for request, (log_p, greedy) in zip(requests, row, strict=True):
            wanted, is_greedy = reference.score(hf, plan, *request)
            assert log_p == pytest.approx(wanted, rel=1e-5, abs=1e-5), plan
            assert greedy == is_greedy, plan


@pytest.mark.parametrize("name", thinned(NAMES))
def test_what_is_written_equals_the_reference_with_and_without_a_cache(name):
    hf, plans = family(name), plans_of(name, every=11)
    hf.generation_config.pad_token_id = 0
    model, prompts = impasto.load(hf), [TEXT[:8], OTHER[:5], OTHER[:8]]
    written = model.generate(plans, prompts, max_new_tokens=4)
    ids = torch.tensor([TEXT[:8], [0] * 3 + OTHER[:5]])
    mask = (ids > 0).long()
    for plan, row in zip(plans, written, strict=True):
        wanted = [reference.generate(hf, plan, prompt, 4) for prompt in prompts]
        assert row == wanted, plan
        is_padded_right = name != "rwkv" or plan != Plan.identity(6)  # its own affair
        for use_cache in (True, False) if name != "rwkv" else (False,):
            with impasto.apply(hf, plan):
                options = {"max_new_tokens": 4, "do_sample": False, "use_cache": use_cache}
                both = hf.generate(ids, attention_mask=mask, **options)[:, 8:].tolist()
            assert both[0] == wanted[0], plan
            assert both[1] == wanted[1] or not is_padded_right, plan


@pytest.mark.parametrize("name", thinned(NAMES))
def test_logits_under_a_plan_do_not_depend_on_padding(name):
    hf, plans = family(name), plans_of(name, every=9)[1:]
    impasto.load(hf)
    left = torch.tensor([TEXT[:8], [0] * 3 + OTHER[:5]])
    right = torch.tensor([TEXT[:8], OTHER[:5] + [0] * 3])
    for plan in plans:
        wanted = [reference.next_logits(hf, plan, ids) for ids in (TEXT[:8], OTHER[:5])]
        with torch.no_grad(), impasto.apply(hf, plan):
            behind = hf(left, attention_mask=(left > 0).long(), use_cache=False).logits
            before = hf(right, attention_mask=(right > 0).long(), use_cache=False).logits
        found = torch.stack([behind[0, -1], behind[1, -1], before[1, 4]])
        own = torch.stack([*wanted, wanted[1]])
        torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_plan_is_the_model_bit_for_bit(name):
    hf, ids = family(name), torch.tensor([TEXT[:12], OTHER[:12]])
    model = impasto.load(hf)
    with torch.no_grad():
        own = hf(ids, use_cache=False).logits
    assert torch.equal(model.next_logits(Plan.identity(6), ids), own[:, -1])


@pytest.mark.parametrize("name", thinned(NAMES))
def test_states_fidelity_and_donors_equal_the_reference(name):
    hf, plans = family(name), plans_of(name, every=13)
    model = impasto.load(hf)
    donors = {each: Donor(OTHER[:9], (2, 5), (1, 4)) for each in "ab"}
    grafts = {each: reference.Graft(OTHER[:9], [2, 3, 4], [1, 2, 3]) for each in "ab"}
    for plan in plans:
        [states] = model.hidden_states(plan, [TEXT[:7]])
        for count in (1, 4, 7):
            own = reference.states_of(hf, plan.steps, TEXT[:count], {})[-1]
            torch.testing.assert_close(states[-1, count - 1], own, atol=1e-4, rtol=1e-4)
        [[text]] = model.fidelity(plan, [TEXT[:7]])
        _, log_p, kl, agreeing = reference.fidelity(hf, plan, TEXT[:7])
        assert text.log_p == pytest.approx(log_p, rel=1e-4)
        assert text.kl == pytest.approx(kl, rel=1e-3, abs=1e-4)
        assert text.agreeing == agreeing
    for plan in plans_of(name, INJECTING_PLANS, every=5)[1:]:
        logits = model.next_logits(plan, torch.tensor([TEXT[:8]]), donors=donors)[0]
        own = reference.next_logits(hf, plan, TEXT[:8], grafts)
        torch.testing.assert_close(logits, own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_parts_are_refused_where_a_layer_has_no_two(name):
    model = impasto.load(family(name))
    with pytest.raises(ModelError, match="can only run whole: layer"):
        model.loglikelihood(Plan.parse("0-4 5.mlp"), [([5, 6], [7])])


def test_a_state_of_another_form_is_not_continued_by_hugging_face():
    hf = family("rwkv")
    with (
        impasto.apply(hf, Plan.parse("0-2 4-5")),
        pytest.raises(UserError, match="use_cache=False"),
    ):
        hf.generate(torch.tensor([TEXT[:5]]), max_new_tokens=2, do_sample=False, pad_token_id=0)


def test_padding_between_tokens_is_refused():
    hf, mask = family("bamba"), torch.tensor([[1, 0, 1, 1]])
    with impasto.apply(hf, Plan.parse("0-2 4-5")), pytest.raises(UserError, match="between tokens"):
        hf(torch.tensor([TEXT[:4]]), attention_mask=mask, use_cache=False)


def test_beams_take_the_states_of_others():
    hf, plan = family("qwen3_next"), Plan.parse("0 2 1 1 3-5", layers=6)
    options = {"max_new_tokens": 5, "do_sample": False, "num_beams": 3, "pad_token_id": 0}
    with impasto.apply(hf, plan):
        cached, anew = (
            hf.generate(torch.tensor([TEXT[:6]]), use_cache=use_cache, **options).tolist()
            for use_cache in (True, False)
        )
    assert cached == anew


@pytest.mark.parametrize("name", ["qwen3_next", "lfm2", "mamba2"])
def test_a_plan_of_whole_layers_is_exported(name, tmp_path):
    hf, plan = family(name), Plan.parse("0 2 1 1 3 5", layers=6)
    found = impasto.export(hf, plan, tmp_path / "exported").found
    assert found is not None
    assert found.cached is not None
    assert max(found.plain, found.cached) <= found.limit


def test_layers_that_a_plan_does_not_name_need_not_be_loaded(tmp_path):
    hf, plan = family("qwen3_next"), Plan.parse("1 1 3 5", layers=6)
    hf.save_pretrained(tmp_path)
    loaded = impasto.load(tmp_path, plan=plan)
    requests = [(TEXT[:6], TEXT[6:8])]
    [[(log_p, _)]] = loaded.loglikelihood(plan, requests)
    assert log_p == pytest.approx(reference.score(hf, plan, *requests[0])[0], rel=1e-5)
    with pytest.raises(ModelError, match="not loaded"):
        loaded.loglikelihood(Plan.identity(6), requests)


def test_costs_are_counted_of_layers_without_keys():
    model = impasto.load(family("qwen3_next"))
    kept = [layer.kept for layer in model.shape.layers]
    assert [size > 0 for size in kept] == [False, False, True] * 2
    plans = [Plan.identity(6), Plan.parse("0 freeze 1-5")]
    assert model.scoring_cost(plans, [(TEXT[:6], TEXT[6:8])]).rows > 0


def tree_of(*requests):
    prefix_tree = PrefixTree()
    for index, (ids, first) in enumerate(requests):
        prefix_tree.add(index, TokenRequest(ids, range(first, len(ids)), {}))
    return prefix_tree


@pytest.mark.parametrize("in_step", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_stretches_read_every_token_once_behind_the_one_before_it(single, in_step):
    trees = [
        tree_of(([4, 5, 6, 7], 2), ([4, 5, 6, 8, 9], 2)),
        tree_of(([4, 4], 1)),
        chain(3, TokenRequest([4, 5, 5, 5, 5], range(3, 5), {})),
    ]
    tree = TokenTree.of([1, 2, 3], trees)
    read = []
    every = stretches(tree, single, False, in_step, call_cost=2)
    for stretch in every:
        for sequence, count, parent in zip(
            stretch.rows, stretch.counts, stretch.parents, strict=True
        ):
            if stretch.before is not None:
                before = every[stretch.before]
                assert before.counts[parent] == len(before.rows[parent]), "padding has no successor"
                assert tree.parents[sequence[0]] == before.rows[parent][-1]
            for row, after in pairwise(sequence[:count]):
                assert tree.parents[after] == row
            assert not single or not set(sequence[1:count]) & set(tree.scored)
            read += sequence[:count]
    assert sorted(read) == list(range(len(tree.ids)))
