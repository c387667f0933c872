"""Keys that texts have in common lie in memory once: answers are the same, bytes are fewer."""

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
import reference
from families import FAMILIES, family, weighted
from impasto import Plan
from impasto.model.checks.decoder import difference
from impasto.model.structure.anatomy import ModelError
from impasto.run import common_keys
from impasto.run.attention import few_rows, kernels
from impasto.run.attention.few_rows import Scores, few_row_attention
from impasto.run.batching import batches
from impasto.run.common_keys import CommonKeys, CommonRun, hand_over, handing, take
from impasto.run.generate import kv_pool
from impasto.run.generate.trial import try_common_keys
from impasto.run.opening import opened
from thinning import thinned

SHOTS, TEXTS = 64, 24
# Families whose attention is not looked up by name, or is asked for more than a mask.
OF_THEIR_OWN = {"gemma2", "gptj", "falcon", "falcon_new", "falcon_alibi", "bloom"}
LINES = (
    "0-2{last=7}", "0-3", "0-1 freeze 2-3", "3-0", "0 1 1 2 2 3", "0-1 [2|3]", "0 sum[1 2|3] 2",
    "0-1 3.attn 2.mlp 3", "0-1 noise(gaussian) 2-3", "0 noise(shuffle) 1 freeze 2-3",
    "0 1{first=2, last=9} 2-3", "0-1 freeze(prompt) 2-3", "0-1 noise(gaussian, prompt) 2-3",
    "0-2", "0-1",
)  # fmt: skip


def prompts_behind_one_beginning(seed=0, shots=SHOTS, count=TEXTS):
    draw = random.Random(seed)
    first = [draw.randrange(3, 90) for _ in range(shots)]
    return [first + [draw.randrange(3, 90) for _ in range(1 + at % 5)] for at in range(count)]


@pytest.fixture
def in_common(monkeypatch):
    """Of how many tokens keys were in common at each attention that read some."""
    lengths, original = [], few_rows._attend_common

    def noted(memory, common, *given):
        lengths.append(common.length)
        return original(memory, common, *given)

    monkeypatch.setattr(few_rows, "_attend_common", noted)
    return lengths


@pytest.mark.parametrize("name", FAMILIES)
def test_which_families_read_keys_in_common_is_found_by_trying(name):
    model = impasto.load(family(name))
    inner = opened(model.hf)
    try_common_keys(inner)
    assert inner.reads_common is (name not in OF_THEIR_OWN)


@pytest.mark.parametrize("first", ["0-2{last=7}", "0-2.mlp"])
def test_plans_with_nothing_in_common_decode_beside_others(first, in_common):
    model, prompts = impasto.load(family("llama")), prompts_behind_one_beginning()
    plans = [Plan.parse(first), Plan.parse("1-3")]  # in this order they lie side by side
    rows = model.generate(plans, prompts, max_new_tokens=4)
    assert SHOTS in in_common
    for plan, row in zip(plans, rows, strict=True):
        assert row[1] == reference.generate(model.hf, plan, prompts[1], 4), plan


@pytest.mark.parametrize("name", thinned(FAMILIES, 5))
def test_texts_behind_one_beginning_equal_those_written_alone(name, in_common):
    model = impasto.load(family(name))
    prompts = prompts_behind_one_beginning()
    plans = [Plan.parse(line) for line in LINES]
    together = model.generate(plans, prompts, max_new_tokens=5)
    tried = {8}  # tokens, the first time that a model writes
    assert set(in_common) - tried == (set() if name in OF_THEIR_OWN else {SHOTS})
    for plan, row in zip(plans, together, strict=True):
        for at in (0, 13):
            alone = model.generate(plan, [prompts[at]], max_new_tokens=5)
            assert row[at] == alone[0][0], plan


def test_they_equal_the_naive_reference(in_common):
    model, prompts = impasto.load(family("llama")), prompts_behind_one_beginning()
    plans = [Plan.parse(line) for line in LINES]
    rows = model.generate(plans, prompts, max_new_tokens=4)
    assert in_common
    for plan, row in zip(plans, rows, strict=True):
        for at in (1, 22):
            assert row[at] == reference.generate(model.hf, plan, prompts[at], 4), plan


def refuse(*_, **__):
    raise AssertionError("the stock attention reads no keys in common")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mask_heads", [1, 4])
@pytest.mark.parametrize("without_kernels", [False, True])
def test_attention_to_keys_in_common_is_that_to_all(
    dtype, rows, groups, mask_heads, without_kernels, monkeypatch
):
    if without_kernels:
        monkeypatch.delitem(kernels.KERNELS, "cpu")
    draw = torch.Generator().manual_seed(0)
    made = lambda *shape: torch.randn(shape, generator=draw).to(dtype)  # noqa: E731
    counts, length, own = (3, 1), 11, 5
    batch = sum(counts)
    query, key, value = (
        made(batch, 4, rows, 8),
        made(batch, groups, own, 8),
        made(batch, groups, own, 8),
    )
    pairs = [(made(1, groups, length, 8), made(1, groups, length, 8)) for _ in counts]
    mask = made(batch, mask_heads, rows, length + own)
    hidden = torch.rand(mask.shape, generator=draw) < 0.4
    hidden[0, ..., :length] = True  # sees none of the keys in common
    hidden[..., -1] = False
    mask = mask.masked_fill(hidden, torch.finfo(dtype).min)
    common = CommonKeys(
        length, [CommonRun(n, *pair) for n, pair in zip(counts, pairs, strict=True)]
    )
    before = [
        torch.cat([pair[at].expand(n, -1, -1, -1) for n, pair in zip(counts, pairs, strict=True)])
        for at in (0, 1)
    ]
    both = zip(before, (key, value), strict=True)
    whole = [torch.cat(each, 2).repeat_interleave(4 // groups, 1) for each in both]
    scores = query.double() @ whole[0].double().transpose(2, 3) * 8**-0.5 + mask.double()
    wanted = (scores.softmax(-1) @ whole[1].double()).transpose(1, 2)
    with handing():
        hand_over(common)
        attended, _ = few_row_attention(Scores())(refuse, None, query, key, value, mask)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 2e-2)
    assert difference(attended, wanted.to(dtype)) < tolerance


def test_keys_that_no_attention_takes_are_an_error():
    common = CommonKeys(1, [CommonRun(1, *[torch.zeros(1, 1, 1, 2)] * 2)])
    for times in (1, 2):
        with pytest.raises(ModelError, match="attention of its own"):
            _handed_over(common, times)
    with handing():
        hand_over(common)
        assert take() is common
        assert take() is None


def _handed_over(common, times, error=None):
    with handing():
        for _ in range(times):
            hand_over(common)
        if error is not None:
            raise error


def test_a_failed_step_leaves_nothing_behind():
    common = CommonKeys(1, [CommonRun(1, *[torch.zeros(1, 1, 1, 2)] * 2)])
    with pytest.raises(MemoryError):
        _handed_over(common, 1, MemoryError)
    assert common_keys.take() is None


def test_the_pool_holds_a_beginning_once_for_all_texts_and_for_plans_that_begin_alike(monkeypatch):
    pools, make = [], kv_pool.KVPool.of

    def noted(plans, capacity):
        pools.append(make(plans, capacity))
        return pools[-1]

    monkeypatch.setattr(kv_pool.KVPool, "of", noted)
    model = impasto.load(family("llama"))
    plans = [Plan.parse("0-5"), Plan.parse("0-3 5")]
    model.generate(plans, prompts_behind_one_beginning(), max_new_tokens=3)
    pool = max(pools, key=lambda pool: sum(map(len, pool.common.values())))
    for occurrence, pairs in pool.common.items():
        kept = {pair.keys.data_ptr(): tuple(pair.keys.shape) for _, pair in pairs}
        assert all((size, keys) == (1, SHOTS) for size, _, keys, _ in kept.values())
        assert len(kept) == 1 if occurrence.layer < 4 else len(kept) <= 2
    for runs in pool.buffers.values():
        assert all(buffer.keys.shape[2] < SHOTS for _, buffer in runs)


def test_more_texts_fit_where_their_beginning_is_held_once(monkeypatch):
    config = LlamaConfig(
        vocab_size=99, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=1024,
    )  # fmt: skip
    model = impasto.load(weighted(LlamaForCausalLM(config)))
    prompts = prompts_behind_one_beginning(shots=900, count=64)
    model.memory = 12 * 2**20
    sizes = []
    for reads in (False, True):
        opened(model.hf).reads_common = reads
        cost = model.generating_cost([Plan.identity(4)], prompts, 20)
        sizes.append((cost.peak_bytes, cost.calls))
        assert cost.peak_bytes <= model.memory
    assert sizes[1][1] < sizes[0][1] / 2


def test_off_the_processor_the_rest_of_a_beginning_keeps_masks_aligned():
    inner = opened(impasto.load(family("llama")).hf)
    try_common_keys(inner)
    assert [batches.in_common(inner, length) for length in (64, 67, 7)] == [64, 67, 7]
    from impasto.model.opened import counting_for

    with counting_for(torch.device("cuda")):
        assert [batches.in_common(inner, length) for length in (64, 67, 7)] == [64, 64, 0]
