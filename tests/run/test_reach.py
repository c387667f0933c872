"""Attention that sees less: the first tokens, the last ones, and nothing else."""

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, DynamicCache

import impasto
import reference
from families import FAMILIES, family, one_of_each
from impasto import Donor, Plan, UserError
from impasto.model.structure.anatomy import ModelError
from impasto.run.attention import blockwise, geometry, kernels
from impasto.run.batching import batches
from impasto.run.batching.request import TokenRequest
from impasto.run.execute import frames
from impasto.run.generate import kv_pool
from impasto.run.opening import opened
from plans import CORE, REACHING_INJECTING_PLANS, REACHING_PLANS
from thinning import thinned

ATOL = 1e-4
NAMES = list(FAMILIES)
IDS = [5, 17, 3, 88, 41, 2, 60, 9, 33, 71]
"""Longer than the windows of four."""


def some(name, core=2, others=6):
    every = core if name in CORE else others
    return REACHING_PLANS[NAMES.index(name) % every :: every]


def near(log_p):
    return pytest.approx(log_p, abs=ATOL * 3)


def check_scores(name, plans):
    hf = family(name)
    requests = [(IDS[:6], [2, n, 6]) for n in (7, 8)]
    requests += [(IDS[:6], IDS[6:]), ([7, 1], [8, 2, 8, 1, 8, 2, 9]), ([7], [9])]
    for plan, scores in zip(plans, impasto.load(hf).loglikelihood(plans, requests), strict=True):
        for request, (log_p, is_greedy) in zip(requests, scores, strict=True):
            expected = reference.score(hf, plan, *request)
            assert (log_p, is_greedy) == (near(expected[0]), expected[1]), (str(plan), request)


def check_texts(name, plans, count):
    hf, prompts = family(name), [IDS, IDS[:2], IDS[::-1][:7]]
    for plan, texts in zip(plans, impasto.load(hf).generate(plans, prompts, count), strict=True):
        assert texts == [reference.generate(hf, plan, ids, count) for ids in prompts], str(plan)


def check_logits(hf, plan, logits, text):
    """Compare the logits at every position of a text."""
    for at, found in enumerate(logits):
        expected = reference.next_logits(hf, plan, text[: at + 1])
        torch.testing.assert_close(found, expected, atol=ATOL, rtol=0, msg=f"{plan} at {at}")


def padded(side):
    """Return two texts as a batch, the second padded, with their mask."""
    texts, pads = [IDS, IDS[:6]], [0] * 4
    second = [*pads, *texts[1]] if side == "left" else [*texts[1], *pads]
    mask = torch.ones(2, len(IDS), dtype=torch.long)
    mask[1, slice(0, 4) if side == "left" else slice(6, 10)] = 0
    return texts, torch.tensor([IDS, second]), mask


@pytest.fixture
def by_blocks(monkeypatch):
    """Masks of any size are too large, and blocks and tiles so small that there are several."""
    monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", 0)
    monkeypatch.setattr(blockwise, "FEWEST_ROWS", 4)
    monkeypatch.setattr(blockwise, "MOST_ROWS", 4)
    monkeypatch.setattr(geometry, "KEYS_PER_TILE", 3)
    attended = []
    attend = blockwise.attend
    monkeypatch.setattr(
        blockwise, "attend", lambda mask, *given: attended.append(mask) or attend(mask, *given)
    )
    return attended


@pytest.mark.parametrize("name", thinned(NAMES))
def test_scores_equal_the_reference(name):
    check_scores(name, some(name))


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_cached_generation_equals_recomputing_every_prefix(name):
    check_texts(name, some(name), 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_family_runs_every_plan(name):
    check_scores(name, REACHING_PLANS)
    check_texts(name, REACHING_PLANS, 12)


@pytest.mark.parametrize(("name", "at_once"), thinned([("llama", 64), ("gemma3", 1), ("bloom", 4)]))
def test_what_texts_begin_with_is_read_once_and_held_as_far_as_they_see_it(
    name, at_once, monkeypatch
):
    hf, model = family(name), impasto.load(family(name))
    prompts = [[*IDS[:7], last, *more] for last, more in [(9, []), (2, [6, 1]), (9, [5])]]
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 4)
    monkeypatch.setattr(batches, "ROWS_AT_ONCE", {"cpu": at_once})
    requests = [TokenRequest(ids, range(7, 8), {}) for ids in prompts]
    [group] = batches.batch_groups(opened(hf), requests, merge=False)
    assert group.prefix == IDS[:7]
    assert (len(group.batches) > 1) == (at_once < 64)
    written = model.generate(REACHING_PLANS, prompts, max_new_tokens=4)
    scores = model.loglikelihood(REACHING_PLANS, [(ids, [8, 2]) for ids in prompts])
    for plan, rows, scored in zip(REACHING_PLANS, written, scores, strict=True):
        for ids, new, (log_p, is_greedy) in zip(prompts, rows, scored, strict=True):
            assert new == reference.generate(hf, plan, ids, 4), str(plan)
            expected = reference.score(hf, plan, ids, [8, 2])
            assert (log_p, is_greedy) == (near(expected[0]), expected[1]), str(plan)


PROMPTED = [
    Plan.parse("0-1 freeze(prompt) 2-5{first=1, last=2}"),
    Plan.parse("0-1{last=2} noise(gaussian, prompt) 2-3 freeze(prompt) [4{first=1}|] 5{last=3}"),
    Plan.parse("0 freeze(prompt) 1-2{last=4} freeze 3-5{first=2, last=1}"),
]


@pytest.mark.parametrize("name", ["llama", "gemma3", "bloom"])
def test_the_prompt_alone_is_held_or_blurred(name):
    hf = family(name)
    check_scores(name, PROMPTED)
    check_texts(name, PROMPTED, 4)
    texts, ids, mask = padded("left")
    for plan in PROMPTED[1:]:
        with impasto.apply(hf, plan):
            out = hf.generate(
                ids, attention_mask=mask, max_new_tokens=3, do_sample=False, pad_token_id=0
            )
        expected = [reference.generate(hf, plan, text, 3) for text in texts]
        assert out[:, len(IDS) :].tolist() == expected, str(plan)


@pytest.mark.parametrize("name", ["llama", "gemma3", "bloom"])
def test_donors_give_their_states(name):
    hf, donor = family(name), [9, 8, 7, 1, 2, 3]
    donors = {"a": Donor(donor, (2, 5), (1, 4))}
    graft = {"a": reference.Graft(donor, [2, 3, 4], [1, 2, 3])}
    for plan in REACHING_INJECTING_PLANS:
        model, request = impasto.load(hf), (IDS, [8, 1])
        [[(log_p, _)]] = model.loglikelihood(plan, [request], donors=donors)
        assert log_p == near(reference.score(hf, plan, *request, grafts=graft)[0])
        [[written]] = model.generate(plan, [IDS], 3, donors=donors)
        assert written == reference.generate(hf, plan, IDS, 3, graft)


@pytest.mark.parametrize("name", thinned(["llama", "mistral", "falcon_alibi"]))
def test_long_generation_goes_round_the_ring_many_times(name):
    """Buffers are made anew on the way, and plans that see more and less decode side by side."""
    hf, prompts = family(name), [IDS, IDS[:2]]
    lines = ["0-5{first=2, last=3}", "0-5", "0-2{first=2, last=5} freeze 3-5{last=4}"]
    plans = [Plan.parse(line) for line in lines]
    for plan, texts in zip(plans, impasto.load(hf).generate(plans, prompts, 80), strict=True):
        for ids, written in zip(prompts, texts, strict=True):
            for at in (*range(8), *range(64, 80, 2)):
                logits = reference.next_logits(hf, plan, ids + written[:at])
                assert logits[written[at]] > logits.max() - ATOL, (str(plan), at)


@pytest.mark.parametrize("name", ["llama", "gemma3", "bloom", "gpt2", "falcon_alibi"])
def test_a_reach_as_long_as_the_text_is_none(name):
    hf, ids = family(name), torch.tensor([IDS])
    model = impasto.load(hf)
    for line in ("0-5", "0-1 freeze 2-5", "0-1 noise(shuffle) 2-5"):
        for reach in ("{last=10}", "{first=3, last=7}", "{first=10}", "{last=9000000000000000000}"):
            bare, plan = Plan.parse(line), Plan.parse(line.replace("-5", f"-5{reach}"))
            assert torch.equal(model.next_logits(plan, ids), model.next_logits(bare, ids))
            with torch.no_grad():
                with impasto.apply(hf, bare):
                    own = hf(ids).logits
                with impasto.apply(hf, plan):
                    assert torch.equal(hf(ids).logits, own)
        less = Plan.parse(line.replace("-5", "-5{last=9}"))
        assert not torch.equal(model.next_logits(less, ids), model.next_logits(bare, ids))


def test_a_row_that_would_see_nothing_sees_itself_alone():
    """Mistral's window of four has left the first token behind from the fourth on."""
    model = impasto.load(family("mistral"))
    for line, begin in (("0{first=1}", 4), ("0{last=1}", 0)):
        [[_, found]] = model.hidden_states(Plan.parse(line), [IDS])
        for at, token in enumerate(IDS):
            [[_, alone]] = model.hidden_states(Plan.parse("0"), [[token]])
            is_alone = torch.allclose(found[at], alone[0], atol=1e-5)
            assert is_alone == (at >= begin or at == 0), (line, at)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "bloom", "falcon_alibi", "mistral"])
def test_padded_batches_under_apply(name, side):
    check_padded(name, side, some(name, core=4, others=4))


def check_padded(name, side, plans):
    hf, (texts, ids, mask) = family(name), padded(side)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    given = {"attention_mask": mask}
    if name not in ("bloom", "falcon_alibi"):
        given["position_ids"] = positions
    for plan in plans:
        with impasto.apply(hf, plan), torch.no_grad():
            logits = hf(ids, **given).logits
        for row, text, where in zip(logits, texts, mask.bool(), strict=True):
            check_logits(hf, plan, row[where], text)


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_hugging_faces_generate_gives_the_references_tokens_with_left_padding(name):
    hf, (texts, ids, mask) = family(name), padded("left")
    for plan in some(name, core=4, others=11):
        for use_cache in (True, False):
            with impasto.apply(hf, plan):
                out = hf.generate(
                    ids, attention_mask=mask, max_new_tokens=7, do_sample=False,
                    use_cache=use_cache, pad_token_id=0,
                )  # fmt: skip
            expected = [reference.generate(hf, plan, text, 7) for text in texts]
            assert out[:, len(IDS) :].tolist() == expected, (str(plan), use_cache)


@pytest.mark.parametrize("cut", [1, 4, 9])
@pytest.mark.parametrize("name", ["llama", "gemma3", "bloom"])
def test_a_prompt_that_is_read_in_parts_sees_what_was_read_before(name, cut):
    hf = family(name)
    for plan in REACHING_PLANS[cut % 3 :: 3]:
        with impasto.apply(hf, plan), torch.no_grad():
            first = hf(torch.tensor([IDS[:cut]]), use_cache=True)
            second = hf(torch.tensor([IDS[cut:]]), past_key_values=first.past_key_values)
        check_logits(hf, plan, torch.cat([first.logits, second.logits], 1)[0], IDS)


def test_positions_that_begin_elsewhere_are_no_places_in_the_text():
    hf, plan = family("llama"), Plan.parse("0-5{first=2, last=2}")
    ids, positions = torch.tensor([IDS]), torch.arange(20, 30)[None]
    with torch.no_grad(), impasto.apply(hf, plan):
        own = hf(ids).logits
        torch.testing.assert_close(hf(ids, position_ids=positions).logits, own, atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_beams_are_reordered_with_what_their_rings_hold(name):
    hf, plan = family(name), Plan.parse("0-1{last=3} freeze [2|3{first=1, last=2}] 4-5{last=2}")
    beams = {"num_beams": 3, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    with impasto.apply(hf, plan):
        cached, plain = (
            hf.generate(torch.tensor([IDS]), use_cache=use_cache, **beams)
            for use_cache in (True, False)
        )
    assert torch.equal(cached, plain)


def test_prompt_lookup_is_refused_once_tokens_are_no_longer_held_and_works_before():
    hf, prompt = family("llama"), IDS + IDS + IDS[:3]
    lookup = {"prompt_lookup_num_tokens": 3, "do_sample": False, "pad_token_id": 0}
    with (
        impasto.apply(hf, Plan.parse("0-4 5{last=9}")),
        pytest.raises(UserError, match=r"see 9 tokens at the most.*cannot take back"),
    ):
        hf.generate(torch.tensor([prompt]), max_new_tokens=8, **lookup)
    plan = Plan.parse("0-5{first=4, last=60}")
    with impasto.apply(hf, plan):
        out = hf.generate(torch.tensor([prompt]), max_new_tokens=8, **lookup)
    assert out[0, len(prompt) :].tolist() == reference.generate(hf, plan, prompt, 8)


def test_gradients_are_those_of_a_forward_without_a_cache():
    hf, ids = family("llama"), torch.tensor([IDS])
    plan = Plan.parse("0-2{first=1, last=3} freeze 3-5{last=4}")

    def gradients(**options):
        with impasto.apply(hf, plan):
            loss = hf(ids, labels=ids, **options).loss
        return torch.autograd.grad(loss, list(hf.parameters()), allow_unused=True)

    for one, other in zip(gradients(), gradients(use_cache=False), strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ways", ["run by run", "under a mask"])
@pytest.mark.parametrize("name", thinned(["llama", "mistral", "gemma3", "gpt2"], 2))
def test_long_texts_are_read_without_masks_of_all_tokens(name, ways, by_blocks, monkeypatch):
    if ways == "under a mask":
        monkeypatch.delitem(kernels.KERNELS, "cpu")
    check_scores(name, some(name, core=3, others=3))
    check_texts(name, REACHING_PLANS[::6], 2)
    for side in ("left", "right"):
        check_padded(name, side, REACHING_PLANS[3::6])
    assert any(mask.geometry.reach is not None for mask in by_blocks)


def bytes_in(cache: DynamicCache) -> int:
    held: Any = cache.layers[1:]  # behind the tokens that were read
    return sum(each.keys.nbytes + each.values.nbytes for each in held)


def test_a_hugging_face_cache_takes_the_same_bytes_from_the_width_of_the_reach_on():
    hf, plan = family("llama"), Plan.parse("0-5{first=4, last=64}")
    text = torch.randint(97, (2, 90))
    sizes = []
    with torch.no_grad(), impasto.apply(hf, plan):
        cache = DynamicCache(config=hf.config)
        for at in range(90):
            hf(text[:, at : at + 1], past_key_values=cache)
            sizes.append(bytes_in(cache))
        whole = DynamicCache(config=hf.config)
        hf(text, past_key_values=whole)
    assert sizes[:68] == [sizes[0] * (at + 1) for at in range(68)]
    assert set(sizes[67:]) == {sizes[67]}
    assert bytes_in(whole) == sizes[67]


def test_the_kv_pool_takes_the_same_bytes_from_the_width_of_the_reach_on(monkeypatch):
    pools, held = [], []
    make = kv_pool.KVPool.of

    def noted(plans, capacity):
        held.append(max(each.length for plan in plans for each in plan.keys_values.values()))
        pool = make(plans, capacity)
        buffers = [buffer for run in pool.buffers.values() for _, buffer in run]
        pools.append(sum(each.keys.nbytes + each.values.nbytes for each in buffers))
        return pool

    monkeypatch.setattr(kv_pool.KVPool, "of", noted)
    model, plan = impasto.load(family("llama")), Plan.parse("0-5{first=4, last=64}")
    for length in (20, 68, 90, 110):
        model.generate(plan, [(IDS * 11)[:length]], max_new_tokens=10)
    assert held == [20, 68, 68, 68]
    assert pools[0] < pools[1] == pools[2] == pools[3]


def test_what_has_no_such_attention_is_refused():
    config = BertConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    plan = Plan.parse("0-1{last=3}")
    encoder = BertForMaskedLM(config).eval()
    with pytest.raises(ModelError, match="in an encoder every token sees all others"):
        impasto.apply(encoder, plan)
    with pytest.raises(ModelError, match="reads sequences as they are, under its own masks"):
        impasto.load(family("mamba")).next_logits(plan, torch.tensor([IDS]))
