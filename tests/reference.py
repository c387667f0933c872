"""The naive truth: one sequence, no cache, every prefix recomputed, nothing shared.

What a plan means (DESIGN section 3), written down as plainly as it can be. A layer is called
exactly as the model's own forward calls it on the same prefix; what its parts add is spelt out for
each family in :mod:`spellings`. Nothing here is taken from :mod:`impasto.run` but the numbers that
noise draws. What no plan can change is asked of the model once: how its blocks are called on a
prefix.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from impasto.plan import Freeze, Inject, Layer, Noise, Parallel, Plan, Reach, Step
from impasto.run.noise import NoiseSource, noise, prefix_keys
from spellings import Call, adds, spelling, whole

_SHARED = "shared_kv_states"  # in which layers read the keys and values of others


@dataclass(frozen=True)
class Graft:
    """A donor's tokens, which of its rows are taken, and which rows they replace."""

    ids: list[int]
    source: list[int]
    target: list[int]


@torch.no_grad()
def next_logits(
    hf: Any,
    plan: Plan,
    ids: list[int],
    grafts: Mapping[str, Graft] | None = None,
    prompt: int | None = None,
) -> Tensor:
    """Return the plan's logits after the last of ``ids``, the first ``prompt`` being the prompt."""
    return _heads(hf, [states_of(hf, plan.steps, ids, grafts or {}, prompt)[-1]])[0]


def states_of(
    hf: Any,
    steps: tuple[Step, ...],
    ids: list[int],
    grafts: Mapping[str, Graft],
    prompt: int | None = None,
) -> Tensor:
    """Return all rows (tokens × hidden) after ``steps``, the last token being current.

    The first ``prompt`` tokens are the prompt; None for all.
    """
    inputs, calls = prepared(hf, ids)
    calls = _sharing_anew(calls)
    rows, depth, noises = inputs[0], 0, 0
    frozen, prompt = rows[:0], len(ids) if prompt is None else prompt
    for index, step in enumerate(steps):
        if isinstance(step, (Layer, Parallel)):
            rows = _run(hf, step, rows, calls, frozen)
            depth += 1
        elif isinstance(step, Freeze):
            count = (prompt if step.prompt else len(ids)) - 1
            frozen = rows[: max(count, len(frozen))].clone()
        elif isinstance(step, Noise):
            source = NoiseSource(step.kind, step.seed, depth, noises)
            before, rows = rows, rows.clone()
            for j in range(step.keep, (prompt if step.prompt else len(ids)) - 1):
                drawn = noise(before[j].flatten(), _key(ids[: j + 1]), source)
                rows[j] = drawn.view_as(before[j])
            noises += 1
        elif isinstance(step, Inject) and step.name in grafts:
            graft = grafts[step.name]
            donor = states_of(hf, steps[:index], graft.ids, {})
            rows = rows.clone()
            for target, given in zip(graft.target, graft.source, strict=True):
                if target < len(ids):
                    rows[target] = donor[given]
        rows = torch.cat([frozen, rows[len(frozen) :]])
    return rows


@torch.no_grad()
def score(
    hf: Any,
    plan: Plan,
    context: list[int],
    continuation: list[int],
    grafts: Mapping[str, Graft] | None = None,
) -> tuple[float, bool]:
    """Return (sum of log p, all greedy?), each token predicted from its own recomputed prefix."""
    prefixes = [context + continuation[:count] for count in range(len(continuation))]
    count = len(context)
    ends = [states_of(hf, plan.steps, ids, grafts or {}, count)[-1] for ids in prefixes]
    total, greedy = 0.0, True
    for logits, token in zip(_heads(hf, ends), continuation, strict=True):
        total += float(logits.log_softmax(-1)[token])
        greedy &= int(logits.argmax()) == token
    return total, greedy


@torch.no_grad()
def fidelity(hf: Any, plan: Plan, ids: list[int]) -> tuple[int, float, float, int]:
    """Return (tokens, sum of log p, sum of KL, agreements) of all tokens of a text but its first.

    The full model is the stock one, each prefix of the plan is recomputed, and all is in float64.
    """
    prefixes = [ids[:count] for count in range(1, len(ids))]
    if not prefixes:
        return 0, 0.0, 0.0, 0
    full = hf(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0].double()
    own = _heads(hf, [states_of(hf, plan.steps, prefix, {})[-1] for prefix in prefixes]).double()
    targets = torch.tensor(ids[1:])[:, None]
    log_p, log_q = full.log_softmax(1), own.log_softmax(1)
    return (
        len(prefixes),
        float(log_q.gather(1, targets).sum()),
        float((log_p.exp() * (log_p - log_q)).sum()),
        int((full.argmax(1) == own.argmax(1)).sum()),
    )


def generate(
    hf: Any, plan: Plan, ids: list[int], count: int, grafts: Mapping[str, Graft] | None = None
) -> list[int]:
    """Return ``count`` greedy tokens."""
    new: list[int] = []
    for _ in range(count):
        new.append(int(next_logits(hf, plan, ids + new, grafts, len(ids)).argmax()))
    return new


def _run(hf: Any, step: Step, rows: Tensor, calls: list[Call], frozen: Tensor) -> Tensor:
    if isinstance(step, Parallel):
        ends, shared = [], calls[0].get(_SHARED, {})
        before, after = dict(shared), dict(shared)
        for branch in step.branches:
            end = rows
            shared.clear()
            shared.update(before)  # no branch reads what another one has written
            for inner in branch:
                end = _run(hf, inner, end, calls, frozen)
            ends.append(end)
            after |= {name: new for name, new in shared.items() if new is not before.get(name)}
        shared.update(after)
        if step.combine == "mean":
            return rows + step.scale * (torch.stack(ends).mean(0) - rows)
        return rows + step.scale * sum(end - rows for end in ends)
    assert isinstance(step, Layer)
    family = spelling(hf)
    block, call, x = family.blocks_of(hf)[step.index], calls[step.index], rows[None]
    if not call:
        after = x
        return torch.cat([frozen, after[0, len(frozen) :]])
    if step.reach is not None:
        call = call | {"attention_mask": within(hf, step.reach, call["attention_mask"], x)}
    if step.part == "attention":
        after = x + adds(family.attention, block, x, call)
    elif step.part == "mlp":
        after = x + adds(family.mlp, block, x, _unshared(call))
    elif family.streams_first:
        after = whole(block, x.movedim(2, 0), call).movedim(0, 2)
    else:
        after = whole(block, x, call)
    after = x + step.scale * (after - x)
    return torch.cat([frozen, after[0, len(frozen) :]])


def _sharing_anew(calls: list[Call]) -> list[Call]:
    """Return calls in which layers that share keys and values do so in an empty mapping."""
    if _SHARED not in calls[0]:
        return calls
    own = calls[0][_SHARED]
    shared = type(own)()
    shared.stock = own
    return [call | {_SHARED: shared} for call in calls]


def _unshared(call: Call) -> Call:
    """Return a call in which an attention that counts for nothing reads and writes elsewhere."""
    return call if _SHARED not in call else call | {_SHARED: call[_SHARED].stock}


def within(hf: Any, reach: Reach, mask: Tensor | None, x: Tensor) -> Tensor:
    """Return a block's mask (heads × rows × keys) with keys beyond a reach hidden, too."""
    row, key = torch.arange(x.shape[1])[:, None], torch.arange(x.shape[1])
    seen = (key < reach.first) | (key > row - reach.last)
    if mask is None and hf.config._attn_implementation == "sdpa":
        mask = (key <= row)[None, None]
    elif mask is None:
        mask = torch.zeros(row.shape[0], row.shape[0], dtype=x.dtype)[None, None]
        mask = mask.masked_fill(key > row, torch.finfo(x.dtype).min)
    is_bool = mask.dtype == torch.bool
    visible = mask if is_bool else mask > torch.finfo(mask.dtype).min
    hidden = ~visible | ~seen
    hidden &= ~(hidden.all(-1, keepdim=True) & (key == row))  # it sees itself alone
    return ~hidden if is_bool else mask.masked_fill(hidden, torch.finfo(mask.dtype).min)


def prepared(hf: Any, ids: list[int]) -> tuple[list[Tensor], list[Call]]:
    """Return the rows that each block reads in the stock model, and what it is called with."""
    if torch.is_grad_enabled():  # gradients flow through what is prepared, each time anew
        return noted(hf, ids)
    changes = sum(weight._version for weight in hf.parameters())
    return _prepared_before(hf, tuple(ids), (changes, hf.config._attn_implementation))


@lru_cache(maxsize=256)
def _prepared_before(
    hf: Any, ids: tuple[int, ...], as_it_is: tuple[int, str]
) -> tuple[list[Tensor], list[Call]]:
    return noted(hf, list(ids))


def noted(
    hf: Any, ids: list[int], blocks: nn.ModuleList | None = None
) -> tuple[list[Tensor], list[Call]]:
    """Run the stock model, and note what its blocks are given."""
    inputs: list[Tensor] = []
    calls: list[Call] = []
    called: list[nn.Module] = []

    def note(block: nn.Module, args: tuple[Any, ...], kwargs: Call) -> None:
        names = _parameters(type(block))
        call = dict(zip(names, args, strict=False)) | kwargs
        states = call.pop(names[0])
        inputs.append((states.movedim(0, 2) if blocks_have_streams_first else states)[0])
        calls.append(call)
        called.append(block)

    options: Call = {}
    blocks_have_streams_first = blocks is None and spelling(hf).streams_first
    if blocks is None:
        blocks, options = spelling(hf).blocks_of(hf), {"use_cache": False}
    hooks = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        hf(input_ids=torch.tensor([ids]), **options)
    finally:
        for hook in hooks:
            hook.remove()
    if len(calls) < len(blocks):  # a block that the stock model passes over has no call
        own = dict(zip(called, calls, strict=True))
        calls = [own.get(block, {}) for block in blocks]
    return inputs, calls


@lru_cache
def _parameters(block: type[nn.Module]) -> list[str]:
    return list(inspect.signature(block.forward).parameters)[1:]


def _heads(hf: Any, states: Sequence[Tensor]) -> Tensor:
    """Run the stock model on as many tokens, with final states put in place of its own."""
    blocks, rows = spelling(hf).blocks_of(hf), torch.stack(list(states))[None]
    rows = rows.movedim(2, 0) if spelling(hf).streams_first else rows

    def put(_: nn.Module, __: Any, output: Any) -> Any:
        return (rows, *output[1:]) if isinstance(output, tuple) else rows

    _, calls = prepared(hf, [0])
    last = max(layer for layer, call in enumerate(calls[: len(blocks)]) if call)
    hook = blocks[last].register_forward_hook(put)
    try:
        return hf(input_ids=torch.zeros(1, len(states), dtype=torch.long), use_cache=False).logits[
            0
        ]
    finally:
        hook.remove()


def _key(ids: list[int]) -> Tensor:
    tokens = torch.tensor([ids])
    zero = torch.zeros(1, dtype=torch.long)
    return prefix_keys(tokens, torch.ones_like(tokens, dtype=torch.bool), zero, zero)[0][0, -1]
