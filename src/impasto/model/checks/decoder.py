"""The opening check of decoder blocks: what plans rely on, proved on the model at hand.

Two claims about the layers that are loaded, on a text that the model's own forward has read. First,
running every block in order, with the arguments that the model's own forward prepares, gives the
model's own logits. Second, a block is residual + attention + MLP, so that either part can be left
out and nothing else changes. Where the second does not hold of a layer, plans cannot name its parts
(:attr:`impasto.model.opened.Opened.undivided`), and run it whole as ever.
:mod:`impasto.run.checks` proves the same of the other ways in which the engine calls blocks. A
family that nobody thought of works if all of it holds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.loading.quantised import remedy
from impasto.model.measured.shape import ACTIVE_EXPERTS
from impasto.model.opened import Opened
from impasto.model.structure.anatomy import Anatomy, ModelError, unnamed
from impasto.model.structure.block import Arguments, Block, first_tensor, named_call
from impasto.model.structure.failing import RAISED, is_out_of_memory

_MOST_ROWS = 0.7  # of a model with experts in half precision; see `rows_differ`


@dataclass(frozen=True)
class BareReading:
    """A text read by the model's own forward, without plan and cache.

    Attributes:
        ids: The text's tokens.
        logits: The logits after each token.
        before: For each layer, the hidden states that it reads.
        after: For each layer, the hidden states that it returns.
    """

    ids: list[int]
    logits: Float[Tensor, "rows vocab"]
    before: dict[int, Float[Tensor, "1 rows hidden"]]
    after: dict[int, Float[Tensor, "1 rows hidden"]]


@dataclass(frozen=True, slots=True)
class BlockCheck:
    """What was measured, each as the largest difference relative to the largest value.

    Attributes:
        logits: Identity plan against the model's own logits.
        silence: A block with both parts left out against its input; of the layers whose parts can
            be left out. None where there is no such layer.
        parts: A block against its two parts put together; of the same layers.
        wiring: ``sequential`` where the MLP reads attention's output, ``parallel`` where both read
            the block's input.
        undivided: The layers whose parts cannot be left out, each with the reason.
    """

    logits: float
    silence: float | None
    parts: float | None
    wiring: str
    undivided: dict[int, str]


@torch.no_grad()
def read_bare(model: OpenedModel, ids: Sequence[int]) -> BareReading:
    """Return a text as read by the model's own forward, which passes over absent layers."""
    before: list[Tensor] = []
    after: list[Tensor] = []
    flat = model.habits.form.flat
    modules = {id(m): m for m in (model.blocks[layer].module for layer in model.present)}.values()

    def begins(module: torch.nn.Module, args: tuple[Tensor, ...], given: Arguments) -> None:
        before.append(flat(named_call(module, args, given)["hidden_states"]))

    def ends(module: torch.nn.Module, args: object, output: object) -> None:
        after.append(flat(first_tensor(output)))

    hooks = [m.register_forward_pre_hook(begins, with_kwargs=True) for m in modules]
    hooks += [module.register_forward_hook(ends) for module in modules]
    try:
        logits = model.own_logits(torch.tensor([list(ids)], device=model.device))[0]
    finally:
        for hook in hooks:
            hook.remove()
    return BareReading(
        list(ids),
        logits,
        dict(zip(model.present, before, strict=True)),
        dict(zip(model.present, after, strict=True)),
    )


@torch.no_grad()
def check_blocks(model: OpenedModel, own: BareReading) -> BlockCheck:
    """Check the blocks of a model that was just opened.

    Args:
        model: The model.
        own: A text that its own forward has read.

    Raises:
        ModelError: when a claim does not hold, saying which and by how much.
    """
    ids = torch.tensor([own.ids], device=model.device)
    entered = model.enter(ids, torch.arange(len(own.ids), device=model.device)[None])
    states = entered.states
    apart: dict[int, PartsCheck] = {}
    for layer in model.present:
        apart[layer] = _check_parts(model, layer, states, entered.arguments[layer])
        states = model.blocks[layer](states, entered.arguments[layer])
    logits = refuse_above(
        model,
        "the identity plan does not give the model's own logits",
        rows_differ(model, model.leave(states[0]), own.logits),
        lambda: _why(model, own, entered.states),
    )
    undivided = {layer: each.fault for layer, each in apart.items() if each.fault}
    divided = [each for each in apart.values() if not each.fault]
    if not divided:
        return BlockCheck(logits, None, None, "", undivided)
    wired = {each.wiring for each in divided}
    return BlockCheck(
        logits,
        max(each.silence for each in divided),
        max(each.parts for each in divided),
        " or ".join(sorted(wired, reverse=True)),
        undivided,
    )


class PartsCheck(NamedTuple):
    """What was measured of one layer's parts; see :class:`BlockCheck`.

    Attributes:
        silence: Without both parts, against the input.
        parts: The two parts put together, against the whole block.
        wiring: How they were put together.
        fault: Why they cannot be left out; empty where they can.
    """

    silence: float
    parts: float
    wiring: str
    fault: str


def _check_parts(
    model: OpenedModel, layer: int, states: Float[Tensor, "1 rows hidden"], arguments: Arguments
) -> PartsCheck:
    """Return whether a block is residual + attention + MLP, and how its parts are wired."""
    block, anatomy = model.blocks[layer], model.anatomy
    if not anatomy.attention or not anatomy.mlp:
        return PartsCheck(math.nan, math.nan, "", unnamed(anatomy))
    try:
        silent, one_by_one, side_by_side, after = _taken_apart(block, states, arguments)
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        first = (str(error).strip() or "no message").splitlines()[0]
        fault = f"its own code fails where one is left out: {type(error).__name__}: {first}"
        return PartsCheck(math.nan, math.nan, "", fault)
    silence = rows_differ(model, silent, states)
    sequential = rows_differ(model, one_by_one, after)
    parallel = rows_differ(model, side_by_side, after)
    is_sequential = not parallel < sequential
    parts = sequential if is_sequential else parallel
    limit, fault = allowed(model), ""
    if not silence <= limit:
        fault = _lacking(block, anatomy) or (
            "without attention and MLP it still changes its input, by a norm behind them or a "
            f"further part (relative difference {silence:.1e}, allowed {limit:.0e})"
        )
    elif not parts <= limit:
        fault = (
            f"it is not its input + attention + MLP (relative difference {parts:.1e}, allowed "
            f"{limit:.0e})"
        )
    return PartsCheck(silence, parts, "sequential" if is_sequential else "parallel", fault)


def _why(
    model: OpenedModel, own: BareReading, entered: Float[Tensor, "1 rows hidden"]
) -> "Reason | None":
    """Return why blocks run one by one give other logits; None where the cause does not show."""
    last: int | None = None
    for layer in model.present:
        if last is not None:
            changed = difference(own.before[layer], own.after[last])
            if not changed <= allowed(model):
                between = f"its own forward changes the states between layers {last} and {layer}"
                return Reason(between, changed)
        last = layer
    again = read_bare(model, own.ids)
    changed = difference(again.logits, own.logits)
    if not changed <= allowed(model):
        claim = "its own forward gives other logits when it reads the same text again"
        return Reason(claim, changed)
    changed = difference(entered, own.before[model.present[0]])
    if not changed <= allowed(model):
        claim = "its first layer is handed other states when no layer runs behind it"
        return Reason(claim, changed)
    return None


def _lacking(block: Block, anatomy: Anatomy) -> str:
    """Say which part a block that is not residual + parts lacks; empty where it has both."""
    lacks = [n for n, part in (("attention", block.attention), ("MLP", block.mlp)) if not part]
    if not lacks:
        return ""
    names = ", ".join(name for name, _ in block.module.named_children())
    known = "+".join(anatomy.attention if lacks[0] == "attention" else anatomy.mlp)
    return (
        f"it has no {' and no '.join(lacks)} of the kind that other layers have ({known}); what it "
        f"does have ({names}) is more than plans can leave out"
    )


def _taken_apart(
    block: Block, states: Float[Tensor, "1 rows hidden"], arguments: Arguments
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a block's output in four ways.

    Without its parts; with one part after the other; with both contributions added up; whole.
    """
    attended = block(states, arguments, "attention")
    with block.without("attention", "mlp"):
        silent = block(states, arguments)
    side_by_side = attended + block(states, arguments, "mlp") - states.to(attended.device)
    return silent, block(attended, arguments, "mlp"), side_by_side, block(states, arguments)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a claim does not hold.

    Attributes:
        claim: What is wrong.
        difference: By how much, relative to the largest value.
    """

    claim: str
    difference: float


def demand(
    model: Opened, claim: str, actual: Shaped[Tensor, "*any"], expected: Shaped[Tensor, "*any"]
) -> float:
    """Return how far two tensors differ; raise ModelError, with the claim, if that is too far."""
    return refuse_above(model, claim, difference(actual, expected))


def difference(actual: Shaped[Tensor, "*any"], expected: Shaped[Tensor, "*any"]) -> float:
    """Return the largest difference, relative to the largest value."""
    expected = expected.to(actual.device).float()
    return float((actual.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def rows_differ(
    model: Opened, actual: Float[Tensor, "*rows hidden"], expected: Float[Tensor, "*rows hidden"]
) -> float:
    """Return the largest difference of rows, relative to the largest value.

    In half precision, rounding alone sends a token to another expert now and then. So for models
    with experts, the largest differences are left out there, those of 30 % of the rows.
    """
    if allowed(model) < _HALF or not _has_experts(model):
        return difference(actual, expected)
    expected = expected.to(actual.device).float()
    rows = (actual.float() - expected).abs().flatten(0, -2).amax(-1)
    return float(rows.quantile(_MOST_ROWS) / expected.abs().max().clamp(min=1e-6))


def _has_experts(model: Opened) -> bool:
    config = model.hf.config.get_text_config(decoder=True)
    return any(getattr(config, name, None) for name in ACTIVE_EXPERTS)


_HALF, _LAYERS = 5e-2, 16  # the limit in half precision, for models of so many layers


def allowed(model: Opened) -> float:
    """Return the largest relative difference that counts as rounding in a model's dtype.

    Rounding adds up from layer to layer like a random walk: a Llama of 32 layers in bf16 differs
    from itself by 5e-2 where its rows are called in other numbers. So in half precision the limit
    grows with the square root of the number of layers.
    """
    if model.hf.dtype in (torch.float32, torch.float64):
        return 1e-4
    return _HALF * max(1.0, model.num_layers / _LAYERS) ** 0.5


def refuse_above(
    model: Opened, claim: str, measured: float, why: Callable[[], Reason | None] = lambda: None
) -> float:
    """Return a relative difference; raise ModelError, with the claim, if it is too large.

    Then ``why`` may return a reason that says more than the claim.
    """
    limit = allowed(model)
    if measured <= limit:  # a NaN is refused too
        return measured
    reason = why() or Reason(claim, measured)
    raise ModelError(
        f"{type(model.hf).__name__} cannot be opened: {reason.claim} "
        f"(relative difference {reason.difference:.1e}, allowed {limit:.0e}){remedy(model.hf)}"
    )
