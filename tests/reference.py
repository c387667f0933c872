"""The naive truth: one sequence, no cache, every prefix recomputed, nothing shared.

What a plan means (DESIGN section 3), written down as plainly as it can be. A layer is called
exactly as the model's own forward calls it on the same prefix; the parts are spelt out for each
family. Nothing here is taken from :mod:`impasto.run` but the numbers that noise draws.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from impasto.plan import Freeze, Inject, Layer, Noise, Parallel, Plan, Step
from impasto.run.noise import NoiseSource, noise, prefix_keys

Contribution = Callable[[nn.Module, Tensor, dict[str, Any]], Tensor]


def _attend(name: str, norm: str) -> Contribution:
    """x → attention(norm(x)), for families that norm before the part."""

    def contribution(block: nn.Module, x: Tensor, call: dict[str, Any]) -> Tensor:
        return getattr(block, name)(getattr(block, norm)(x), **call)[0]

    return contribution


def _feed(norm: str) -> Contribution:
    """x → mlp(norm(x))."""

    def contribution(block: Any, x: Tensor, call: dict[str, Any]) -> Tensor:
        return block.mlp(getattr(block, norm)(x))

    return contribution


@dataclass(frozen=True)
class Spelling:
    """Where a family keeps things, and what its two parts add to the residual stream."""

    blocks: Callable[[Any], nn.ModuleList]
    attention: Contribution
    mlp: Contribution


SPELLINGS: dict[str, Spelling] = {
    "llama": Spelling(
        lambda hf: hf.model.layers,
        _attend("self_attn", "input_layernorm"),
        _feed("post_attention_layernorm"),
    ),
    "gpt2": Spelling(lambda hf: hf.transformer.h, _attend("attn", "ln_1"), _feed("ln_2")),
    "gpt_neox": Spelling(
        lambda hf: hf.gpt_neox.layers,
        _attend("attention", "input_layernorm"),
        _feed("post_attention_layernorm"),
    ),
}


@dataclass(frozen=True)
class Graft:
    """A donor's tokens, which of its rows are taken, and which rows they replace."""

    ids: list[int]
    source: list[int]
    target: list[int]


@torch.no_grad()
def next_logits(
    hf: Any, plan: Plan, ids: list[int], grafts: Mapping[str, Graft] | None = None
) -> Tensor:
    """Return the plan's logits after the last of ``ids``."""
    return _head(hf, ids, states_of(hf, plan.steps, ids, grafts or {})[-1])


def states_of(
    hf: Any, steps: tuple[Step, ...], ids: list[int], grafts: Mapping[str, Graft]
) -> Tensor:
    """Return all rows (tokens × hidden) after ``steps``, the last token being current."""
    embeddings, calls = _prepared(hf, ids)
    rows, frozen, depth, noises = embeddings, None, 0, 0
    for index, step in enumerate(steps):
        if isinstance(step, (Layer, Parallel)):
            rows = _run(hf, step, rows, calls, frozen)
            depth += 1
        elif isinstance(step, Freeze) and frozen is None:
            frozen = rows[:-1].clone()
        elif isinstance(step, Noise):
            source = NoiseSource(step.kind, step.seed, depth, noises)
            rows = rows.clone()
            for j in range(step.keep, len(ids) - 1):
                rows[j] = noise(rows[j], _key(ids[: j + 1]), source)
            noises += 1
        elif isinstance(step, Inject) and step.name in grafts:
            graft = grafts[step.name]
            donor = states_of(hf, steps[:index], graft.ids, {})
            rows = rows.clone()
            for target, given in zip(graft.target, graft.source, strict=True):
                if target < len(ids):
                    rows[target] = donor[given]
        if frozen is not None:
            rows = torch.cat([frozen, rows[-1:]])
    return rows


def score(
    hf: Any,
    plan: Plan,
    context: list[int],
    continuation: list[int],
    grafts: Mapping[str, Graft] | None = None,
) -> tuple[float, bool]:
    """Return (sum of log p, all greedy?), each token predicted from its own recomputed prefix."""
    total, greedy = 0.0, True
    for count, token in enumerate(continuation):
        logits = next_logits(hf, plan, context + continuation[:count], grafts)
        total += float(logits.log_softmax(-1)[token])
        greedy &= int(logits.argmax()) == token
    return total, greedy


def generate(
    hf: Any, plan: Plan, ids: list[int], count: int, grafts: Mapping[str, Graft] | None = None
) -> list[int]:
    """Return ``count`` greedy tokens."""
    new: list[int] = []
    for _ in range(count):
        new.append(int(next_logits(hf, plan, ids + new, grafts).argmax()))
    return new


def _run(
    hf: Any, step: Step, rows: Tensor, calls: list[dict[str, Any]], frozen: Tensor | None
) -> Tensor:
    if isinstance(step, Parallel):
        ends = []
        for branch in step.branches:
            end = rows
            for inner in branch:
                end = _run(hf, inner, end, calls, frozen)
            ends.append(end)
        if step.combine == "mean":
            return torch.stack(ends).mean(0)
        return rows + sum(end - rows for end in ends)
    assert isinstance(step, Layer)
    spelling = SPELLINGS[hf.config.model_type]
    block, call, x = spelling.blocks(hf)[step.index], calls[step.index], rows[None]
    if step.part == "attention":
        after = x + spelling.attention(block, x, call)
    elif step.part == "mlp":
        after = x + spelling.mlp(block, x, call)
    else:
        after = block(x, **call)
        after = after[0] if isinstance(after, tuple) else after
    return after[0] if frozen is None else torch.cat([frozen, after[0, -1:]])


def _prepared(hf: Any, ids: list[int]) -> tuple[Tensor, list[dict[str, Any]]]:
    """Run the stock model, and note the embeddings and what it calls each block with."""
    inputs: list[Tensor] = []
    calls: list[dict[str, Any]] = []

    def note(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = list(inspect.signature(type(block).forward).parameters)[1:]
        call = dict(zip(names, args, strict=False)) | kwargs
        inputs.append(call.pop("hidden_states"))
        calls.append(call)

    blocks = SPELLINGS[hf.config.model_type].blocks(hf)
    hooks = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    try:
        hf(input_ids=torch.tensor([ids]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs[0][0], calls


def _head(hf: Any, ids: list[int], state: Tensor) -> Tensor:
    """Run the stock model with the last token's final state put in place of its own."""
    blocks = SPELLINGS[hf.config.model_type].blocks(hf)

    def put(_: nn.Module, __: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        states = states.clone()
        states[0, -1] = state
        return (states, *output[1:]) if isinstance(output, tuple) else states

    hook = blocks[-1].register_forward_hook(put)
    try:
        return hf(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    finally:
        hook.remove()


def _key(ids: list[int]) -> Tensor:
    tokens = torch.tensor([ids])
    zero = torch.zeros(1, dtype=torch.long)
    return prefix_keys(tokens, torch.ones_like(tokens, dtype=torch.bool), zero, zero)[0][0, -1]
