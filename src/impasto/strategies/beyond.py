"""Plans of other papers than the three, each a function of the model's number of layers ``T``."""

from __future__ import annotations

from impasto.error import UserError, shown
from impasto.look import (
    DASH_DOT,
    DASHED,
    GREEN,
    LONG_DASHED,
    ORANGE,
    PURPLE,
    SKY,
    SOLID,
    VERMILION,
    Look,
)
from impasto.plan import Part, Plan
from impasto.plan.steps import NO_REACH, SCALE_RULE, is_scale, spelled_scale
from impasto.strategies.registry import check, family
from impasto.strategies.spans import LEFT, check_depth, depths, marked, span

# Of the next two, which layers go is measured on texts: a study file has ``texts`` where these
# functions take ``order``, and a study measures it with its model before it runs.


@family(
    "selectors",
    Look("Layers by block influence", VERMILION, SOLID, "p"),
    ran="count: all, texts: {file: FILE.txt}",
    count=lambda T: range(1, T),
)
def block_influence(T: int, count: int, order: str) -> Plan:
    """Leave out the ``count`` layers that change states least (ShortGPT, arXiv 2403.03853).

    ``order`` are layers, the least influential first: ``7 5 3``; ``count`` of them at least.
    """
    return one_shot(T, "block", count, order)


@family(
    "selectors",
    Look("One-shot", GREEN, LONG_DASHED, "X"),
    ran="part: all, count: all, texts: {file: FILE.txt}",
    parts={
        "attention": Look("Attention, one-shot", PURPLE, DASH_DOT, "D"),
        "mlp": Look("MLPs, one-shot", ORANGE, DASHED, "s"),
        "block": Look("Layers, one-shot", GREEN, LONG_DASHED, "X"),
    },
    part=lambda T: ("attention", "mlp", "block"),
    count=lambda T: range(1, T),
)
def one_shot(T: int, part: Part, count: int, order: str) -> Plan:
    """Leave out attention, the MLP or all of the ``count`` layers that harm least by themselves.

    ``order`` are layers, the least harmful first: ``7 5 3``; ``count`` of them at least.
    """
    check("T", T, 1, None)
    if part not in tuple(LEFT):
        raise UserError(f"part is one of attention, mlp, block, not {shown(part)}")
    check("count", count, 0, T - 1 if part == "block" else T, T)
    layers = _ordered(order, T)
    if len(layers) < count:
        raise UserError(
            f"order names {len(layers)} layer{'s' * (len(layers) != 1)}, and {count} are to be "
            "left out"
        )
    dropped = set(layers[:count])
    own = [i for i in range(T) if part != "block" or i not in dropped]
    return Plan.parse(" ".join(f"{i}{LEFT[part] if i in dropped else ''}" for i in own))


def _ordered(order: object, T: int) -> list[int]:
    """Return the layers that an order names."""
    words = str(order).split()
    layers = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 7]
    if len(set(layers)) < len(words) or any(layer >= T for layer in layers):
        raise UserError(
            f'order is text that names layers 0 to {T - 1}, each once, those to go first: "7 5 3"; '
            f"not {shown(order)}"
        )
    return layers


def _is_block(i: object, j: object, **others: object) -> bool:
    """Whether there are layers from i up to, and without, j; of what is no number others tell."""
    return not isinstance(i, int) or not isinstance(j, int) or i < j


def _check_block(T: int, i: int, j: int) -> None:
    check("T", T, 1, None)
    check("i", i, 0, T - 1, T)
    check("j", j, i + 1, T, T)


@family(
    "repeat_block",
    Look("Repeat a block", GREEN, LONG_DASHED, "v"),
    "run twice",
    together=_is_block,
    i=range,
    j=lambda T: range(1, T + 1),
)
def repeat_block(T: int, i: int, j: int) -> Plan:
    """Run layers i…j-1 a second time behind their first run ("Repeat Yourself", RYS)."""
    _check_block(T, i, j)
    return Plan.parse(f"{span(0, j - 1)} {span(i, T - 1)}")


@family(
    "half_step",
    Look("Damped loop", SKY, DASH_DOT, "^"),
    "run as a damped loop",
    ran="i: 25%, j: 75%, times: all, scale: all",
    together=_is_block,
    i=range,
    j=lambda T: range(1, T + 1),
    times=lambda T: range(1, 5),
    scale=lambda T: (0.25, 0.5, 0.75, 1.0),
)
def half_step(T: int, i: int, j: int, times: int = 2, scale: float = 0.5) -> Plan:
    """Run layers i…j-1 ``times`` in a row, each time with ``scale`` times what they add together.

    It is the damped loop of *Training-Free Looped Transformers* (arXiv 2605.23872).
    """
    _check_block(T, i, j)
    check("times", times, 1, None)
    if type(scale) not in (int, float) or not is_scale(float(scale)):
        raise UserError(f"{SCALE_RULE}, not {shown(scale)}")
    loop = f"({span(i, j - 1)})@{spelled_scale(float(scale))}*{times}"
    return Plan.parse(f"{span(0, i - 1)} {loop} {span(j, T - 1)}")


PAIRS = {
    "parts": "sum[{0}.attn|{1}.attn] sum[{0}.mlp|{1}.mlp]",
    "sum": "sum[{0}|{1}]",
    "mean": "[{0}|{1}]",
}


def _are_pairs(from_: object, to: object, **others: object) -> bool:
    """Whether the layers between two, both included, are pairs; of what is no number others."""
    if not isinstance(from_, int) or not isinstance(to, int):
        return True
    return from_ < to and (to - from_) % 2 == 1


@family(
    "pairs_parallel",
    Look("Pairs side by side", SKY, SOLID, "s"),
    "run in pairs side by side",
    together=_are_pairs,
    from_=lambda T: range(T - 1),
    to=lambda T: range(1, T),
    form=lambda T: tuple(PAIRS),
)
def pairs_parallel(T: int, from_: int, to: int, form: str = "parts") -> Plan:
    """Run layers from…to, both included, in pairs of neighbours that read the same state (LP).

    Layer parallelism (arXiv 2502.02790) runs both attentions and then both MLPs: ``form`` is
    ``parts``. It is ``sum`` where whole layers run side by side and what both add is summed up,
    ``mean`` for the mean of their outputs.
    """
    check("T", T, 2, None)
    check("from", from_, 0, T - 2, T)
    check("to", to, from_ + 1, T - 1, T)
    if (to - from_) % 2 == 0:
        raise UserError(
            f"from {from_} to {to}, both included, are {to - from_ + 1} layers, of which one is "
            "left without a neighbour: pairs are an even number of layers"
        )
    if form not in tuple(PAIRS):
        raise UserError(f"form is one of {', '.join(PAIRS)}, not {shown(form)}")
    pairs = " ".join(PAIRS[form].format(at, at + 1) for at in range(from_, to, 2))
    return Plan.parse(f"{span(0, from_ - 1)} {pairs} {span(to + 1, T - 1)}")


@family(
    "reach",
    Look("Reach", GREEN, SOLID, "s"),
    "narrowing attention",
    ran="k: all, first: 1, last: [4, 16, 64]",
    together=lambda k, first, last: not first == last == 0,
    k=depths,
)
def reach(T: int, k: int, first: int = 0, last: int = 0) -> Plan:
    """Let attention from layer k on see only ``first`` positions and the ``last`` up to its own.

    With both it sees what StreamingLLM (arXiv 2309.17453) keeps. k = T is the baseline.
    """
    check_depth(T, k)
    check("first", first, 0, None)
    check("last", last, 0, None)
    if not (first or last):
        raise UserError(NO_REACH)
    return Plan.parse(f"{span(0, k - 1)} {span(k, T - 1, f'{{first={first}, last={last}}}')}")


@family(
    "freeze_prompt",
    Look("Freeze the prompt", ORANGE, DASHED, "s"),
    "freezing the prompt",
    k=depths,
)
def freeze_prompt(T: int, k: int) -> Plan:
    """Hold the prompt's tokens at depth k, its last one excepted; all that is written runs whole.

    Layers behind k make of a prompt only keys and values (SwiftKV, POP, without training).
    """
    return marked(T, k, "freeze(prompt)")
