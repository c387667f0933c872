"""Long texts: no mask of tokens × tokens is made, and answers stay what they are."""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM, MistralForCausalLM

import impasto
import reference
from families import FAMILIES, family, one_of_each, small, weighted
from impasto import Donor, Plan
from impasto.model.arguments.visibility import Causal, Chunk, Window
from impasto.run.attention import blockwise, geometry, kernels
from impasto.run.attention.blockwise import UnmadeError, UnmadeMask
from impasto.run.attention.choice import takes_unmade
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.batching.request import TokenRequest
from impasto.run.execute import frames
from impasto.run.execute.frames import Frames
from impasto.run.execute.rows import first_batch, following_batch
from impasto.run.opening import opened
from plans import PLANS, spread
from reference import Graft
from thinning import thinned

ATOL = 1e-4
READ = ("bloom", "falcon", "falcon_alibi", "falcon_new", "gemma2", "gptj")  # by the blocks
NAMES = [name for name in FAMILIES if name not in READ]
CONTEXT = [5, 17, 3, 88, 41, 2, 60, 9, 33]  # longer than the windows of four
FREEZE = Plan.parse("0-2 freeze 3-5")


@pytest.fixture(params=["run by run", "under a mask"])
def both_ways(request, monkeypatch):
    """As a processor attends, and as any other device does."""
    if request.param == "under a mask":
        monkeypatch.delitem(kernels.KERNELS, "cpu")


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


def near(log_p):
    return pytest.approx(log_p, abs=ATOL * 3)


@pytest.mark.parametrize("name", thinned(NAMES))
def test_scores_are_the_reference(name, both_ways, by_blocks):
    """Contexts alone and shared, of several lengths, behind a common prefix or not."""
    hf = family(name)
    requests = [(CONTEXT, [2, n, 6]) for n in (7, 8)]
    requests += [([7, 1, 8], [2, 8, 1, 8]), ([7, 1, 8, 2], [9])]
    plans = spread(name, NAMES, core=11, others=23)
    for plan, scores in zip(plans, impasto.load(hf).loglikelihood(plans, requests), strict=True):
        for request, (log_p, is_greedy) in zip(requests, scores, strict=True):
            expected = reference.score(hf, plan, *request)
            assert (log_p, is_greedy) == (near(expected[0]), expected[1]), (str(plan), request)
    assert by_blocks


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_texts_are_written_as_the_reference_writes_them(name, by_blocks):
    hf = family(name)
    prompts = [CONTEXT, [*CONTEXT[:5], 1, 2], [4, 2]]
    plans = spread(name, NAMES, core=12, others=16)
    for plan, texts in zip(plans, impasto.load(hf).generate(plans, prompts, 3), strict=True):
        assert texts == [reference.generate(hf, plan, ids, 3) for ids in prompts], str(plan)
    assert by_blocks


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", thinned(["llama", "gpt2", "gemma3", "mistral", "qwen2"]))
def test_padded_batches_under_apply(name, side, both_ways, by_blocks):
    hf = family(name)
    texts = [CONTEXT, CONTEXT[:6]]
    pads = [0] * 3
    second = [*pads, *texts[1]] if side == "left" else [*texts[1], *pads]
    ids = torch.tensor([texts[0], second])
    mask = torch.ones_like(ids)
    mask[1, :3] = mask[1, :3] if side == "right" else 0
    mask[1, -3:] = mask[1, -3:] if side == "left" else 0
    real = mask.bool()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for plan in PLANS[2::9]:
        with impasto.apply(hf, plan), torch.no_grad():
            logits = hf(ids, attention_mask=mask, position_ids=positions).logits
        for row, text, where in zip(logits, texts, real, strict=True):
            for at, found in enumerate(row[where]):
                expected = reference.next_logits(hf, plan, text[: at + 1])
                torch.testing.assert_close(found, expected, atol=ATOL, rtol=0, msg=str(plan))
    assert by_blocks


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_generating_under_apply(name, by_blocks):
    hf = family(name)
    for plan in (FREEZE, Plan.parse("0-1 noise(gaussian) [2|3] 4-5")):
        with impasto.apply(hf, plan), torch.no_grad():
            given = torch.tensor([CONTEXT])
            written = hf.generate(given, max_new_tokens=3, do_sample=False, pad_token_id=0)
        assert written[0, len(CONTEXT) :].tolist() == reference.generate(hf, plan, CONTEXT, 3)
    assert by_blocks


def test_a_prompt_that_is_read_in_parts_sees_what_was_read_before(by_blocks):
    hf = family("gemma3")
    plan = Plan.parse("0-1 noise(shuffle) 2-3 freeze 4-5")
    with impasto.apply(hf, plan), torch.no_grad():
        first = hf(torch.tensor([CONTEXT[:4]]), use_cache=True)
        second = hf(torch.tensor([CONTEXT[4:]]), past_key_values=first.past_key_values)
    found = torch.cat([first.logits, second.logits], 1)[0]
    for at, row in enumerate(found):
        expected = reference.next_logits(hf, plan, CONTEXT[: at + 1])
        torch.testing.assert_close(row, expected, atol=ATOL, rtol=0)
    assert by_blocks


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_donors_give_their_states(name, by_blocks):
    hf, donor = family(name), [9, 8, 7, 1, 2, 3]
    donors = {"a": Donor(donor, (2, 5), (1, 4))}
    graft = {"a": Graft(donor, [2, 3, 4], [1, 2, 3])}
    for plan in map(Plan.parse, ("0-2 inject(a) 3-5", "0-1 inject(a) 2 freeze 3-5")):
        model, request = impasto.load(hf), (CONTEXT, [8, 1])
        [[(log_p, _)]] = model.loglikelihood(plan, [request], donors=donors)
        assert log_p == near(reference.score(hf, plan, *request, grafts=graft)[0])
        [[written]] = model.generate(plan, [CONTEXT], 3, donors=donors)
        assert written == reference.generate(hf, plan, CONTEXT, 3, graft)
    assert by_blocks


@pytest.mark.parametrize("name", ["gpt_neox", "mistral"])
def test_states_of_every_token_at_every_depth(name, by_blocks):
    hf, plan = family(name), FREEZE
    [found] = impasto.load(hf).hidden_states(plan, [CONTEXT])
    for depth in range(7):
        steps = plan.steps[: depth + (depth > 3)]
        for at in range(len(CONTEXT)):
            expected = reference.states_of(hf, steps, CONTEXT[: at + 1], {})[-1]
            torch.testing.assert_close(found[depth, at], expected, atol=ATOL, rtol=1e-5)
    assert by_blocks


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_gradients_are_those_of_the_whole_mask(name, by_blocks, monkeypatch):
    hf, ids = family(name), torch.tensor([CONTEXT, CONTEXT[::-1]])

    def gradients():
        with impasto.apply(hf, FREEZE):
            loss = hf(ids, labels=ids).loss
        return torch.autograd.grad(loss, list(hf.parameters()), allow_unused=True)

    found = gradients()
    assert by_blocks
    monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", 2**30)
    for one, other in zip(found, gradients(), strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_half_precision_is_as_near_as_with_the_whole_mask(both_ways, by_blocks, monkeypatch):
    exact = family("llama")
    half = FAMILIES["llama"]()
    half.load_state_dict(exact.state_dict())
    half = half.to(torch.bfloat16).eval()
    request = [(CONTEXT * 4, [2, 7, 6])]
    [[(expected, _)]] = impasto.load(exact).loglikelihood(FREEZE, request)
    errors = []
    for large in (0, 2**30):
        monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", large)
        [[(log_p, _)]] = impasto.load(half).loglikelihood(FREEZE, request)
        errors.append(abs(log_p - expected))
    assert by_blocks
    assert errors[0] < 2 * errors[1] + 0.1


def trie_of(*texts):
    prefix_tree = PrefixTree()
    for number, ids in enumerate(sorted(texts)):
        prefix_tree.add(number, TokenRequest(list(ids), range(max(0, len(ids) - 3), len(ids)), {}))
    return prefix_tree


def batches(device):
    """Return batches of several kinds: alone, padded, prefix trees, and behind a prefix."""
    long, short = list(range(40)), [3, 1, 4, 1, 5]
    whole = trie_of([*long, 1, 2], [*long, 1, 3, 4], [*long[:20], 9, 9, 9], [*long[:20], 50])
    alone = chain(0, TokenRequest(long, range(30, 40), {}))
    less = chain(1, TokenRequest(short, range(2, 5), {}))
    prefix = first_batch([chain(0, TokenRequest(long[:30], range(0), {}))], device)
    return {
        "alone": first_batch([alone], device),
        "padded": first_batch([alone, less], device),
        "a prefix tree": first_batch([whole], device),
        "prefix trees, padded": first_batch([whole, trie_of(short, [3, 1, 9])], device),
        "behind a prefix": following_batch(prefix, [whole, less]),
    }


@pytest.mark.parametrize("rule", [Causal(), Window(1), Window(7), Chunk(8)])
@pytest.mark.parametrize("kind", ["joint", "split", "current"])
@pytest.mark.parametrize("name", batches(torch.device("cpu")))
def test_vectors_say_what_the_whole_mask_says(name, kind, rule, by_blocks):
    """Of every pair; and pieces hold all that rows see, and call nothing seen that is not."""
    model, batch = opened(family("llama")), batches(torch.device("cpu"))[name]
    frame = getattr(Frames(model, batch), kind)
    [unmade] = frame._unmade
    said = geometry.Geometry(rule, *list(vars(unmade.geometry).values())[1:9])
    keys = frame._keys[:, None, :]
    by_rule = (keys <= frame.rows[..., None]) & (keys >= rule.first_visible(frame.rows)[..., None])
    expected = frame._allowed & by_rule
    assert torch.equal(said.dense()[:, 0], expected)
    seen = torch.zeros_like(expected)
    for piece in said.pieces(5):
        for begin, end in piece.runs:
            seen[piece.entry, piece.rows, begin:end] = True
        for part in piece.partial:
            seen[piece.entry, piece.rows, slice(*part)] = said.visible(
                piece.entry, piece.rows, part
            )
    leading = torch.zeros_like(expected)
    leading[:, : said.causal, : expected.shape[2]] = True
    seen |= leading.tril() if said.causal else leading
    real = said.is_row
    assert torch.equal(seen[real], expected[real])
    assert seen.any(2).all()


def test_a_mask_that_was_not_made_cannot_be_read():
    [unmade] = Frames(opened(family("llama")), batches(torch.device("cpu"))["alone"]).split._unmade
    assert unmade.shape == (1, 1, 50, 50)
    assert unmade.to("cpu") is unmade
    for read in (lambda: unmade + 1, lambda: unmade[:, :, :, :3], lambda: torch.cat([unmade]),
                 lambda: unmade.sum(), lambda: unmade == 0):  # fmt: skip
        with pytest.raises(UnmadeError, match="was not made"):
            read()
    assert isinstance(unmade, UnmadeMask)


@pytest.mark.parametrize("name", one_of_each(READ))
def test_models_that_read_their_masks_get_whole_ones(name, by_blocks):
    hf, request = family(name), (CONTEXT, [2, 7])
    assert not takes_unmade(opened(hf))
    [[(log_p, _)]] = impasto.load(hf).loglikelihood(FREEZE, [request])
    assert log_p == near(reference.score(hf, FREEZE, *request)[0])
    assert not by_blocks


class Largest(TorchDispatchMode):
    """Notes the largest tensor of its own memory that is made meanwhile.

    Attributes:
        numbers: How many numbers it has.
    """

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, torch.Tensor):
                held = each.untyped_storage().nbytes() // each.element_size()
                self.numbers = max(self.numbers, held)
        return made


@contextmanager
def no_larger_than(numbers):
    with Largest() as largest:
        yield
    assert 0 < largest.numbers <= numbers


LONG = 3000


@pytest.fixture(scope="module", params=["llama", "mistral"])
def long_model(request):
    if request.param == "mistral":
        return reading_far(MistralForCausalLM, sliding_window=40)
    return reading_far(LlamaForCausalLM)


def reading_far(kind, **special):
    shape = {"num_key_value_heads": 2, "hidden_size": 16, "intermediate_size": 16}
    return weighted(small(kind, max_position_embeddings=2 * LONG, **shape, **special))


def text():
    return torch.randint(3, 97, (LONG,), generator=torch.Generator().manual_seed(0)).tolist()


WORK = {
    "generate": lambda m, plan: m.generate(plan, [text()], max_new_tokens=2),
    "score": lambda m, plan: m.loglikelihood(plan, [(text(), [1, 2, 3])]),
    "choices": lambda m, plan: m.loglikelihood(plan, [(text(), [n, 2, 3]) for n in range(4)]),
    "hidden states": lambda m, plan: m.hidden_states(plan, [text()]),
}


@pytest.mark.parametrize("plan", ["0-5", "0-2 freeze 3-5", "0 noise(gaussian) [1|2] 3-5"])
@pytest.mark.parametrize("name", thinned(WORK, 2))
def test_nothing_as_large_as_tokens_by_tokens_is_made(name, plan, long_model, monkeypatch):
    monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", 2**18)
    monkeypatch.setattr(blockwise, "MASK_NUMBERS_AT_ONCE", 2**18)
    model = impasto.load(long_model)
    with no_larger_than(LONG * LONG // 8):
        WORK[name](model, Plan.parse(plan))


@pytest.mark.parametrize("plan", ["0-5", "0-2 freeze 3-5", "0 noise(gaussian) [1|2] 3-5"])
def test_nor_under_apply(plan, monkeypatch):
    monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", 2**18)
    monkeypatch.setattr(blockwise, "MASK_NUMBERS_AT_ONCE", 2**18)
    hf, ids = reading_far(LlamaForCausalLM), torch.tensor([text()])
    with impasto.apply(hf, Plan.parse(plan)), torch.no_grad(), no_larger_than(LONG * LONG // 8):
        hf(ids)
        hf.generate(ids, max_new_tokens=2, do_sample=False, pad_token_id=0)


def test_a_long_text_is_scored_as_the_whole_mask_scores_it(long_model, both_ways, monkeypatch):
    requests = [(text(), [n, 2, 3]) for n in range(2)]
    plans = [Plan.parse(plan) for plan in ("0-2 freeze 3-5", "0 noise(gaussian) [1|2] 3-5")]
    monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", 2**18)
    model = impasto.load(long_model)
    found = model.loglikelihood(plans, requests)
    monkeypatch.setattr(frames, "NUMBERS_OF_A_MASK", 2**30)
    whole = model.loglikelihood(plans, requests)
    for one, other in zip(found, whole, strict=True):
        for (log_p, _), (expected, _) in zip(one, other, strict=True):
            assert log_p == near(expected)
