"""A plan in plain English: one sentence per item, for explanations and captions."""

from __future__ import annotations

from collections.abc import Sequence

from impasto.plan.items import Brackets, Item, Repeat, Span, compress
from impasto.plan.plan import Plan
from impasto.plan.steps import Freeze, Inject, Marker, Noise, Part

_ONLY: dict[Part, str] = {
    "block": "",
    "attention": ", attention only (no MLP)",
    "mlp": ", MLP only (no attention)",
}


def in_words(plan: Plan) -> list[str]:
    """Return one plain sentence for each item of the plan, in order."""
    depths = iter(plan.markers)
    sentences: list[str] = []
    for item in compress(plan.steps):
        if isinstance(item, Span | Repeat | Brackets):
            sentences.append(_layers(item))
        else:
            sentences.append(_marker(item, next(depths)[0]))
    return sentences


def _marker(marker: Marker, depth: int) -> str:
    match marker:
        case Freeze():
            return f"from here on earlier tokens keep the state they have at depth {depth}"
        case Noise(kind, seed, keep):
            noise = "shuffled" if kind == "shuffle" else "replaced by gaussian noise"
            spared = f"; the first {keep} tokens are spared" if keep > 1 else ""
            spared = "; the first token is spared" if keep == 1 else spared
            return (
                f"at depth {depth} earlier tokens' states are {noise}, "
                f"each keeping its norm (seed {seed}{spared})"
            )
        case Inject(name):
            return f"at depth {depth} the target tokens' states become those of donor {name}"


def _layers(item: Item) -> str:
    match item:
        case Span():
            return _span(item)
        case Repeat(items, times):
            turns = "twice" if times == 2 else f"{times} times"
            if len(items) == 1:
                return f"{_layers(items[0])}, {turns}"
            return f"{turns} in a row: {_sequence(items)}"
        case Brackets(branches, combine, spread):
            inner = _span(spread) if spread else "; beside ".join(map(_sequence, branches))
            if item.size == 1:
                return f"{inner}, as a single branch"
            return f"in parallel ({inner}), {combine} of {item.size} branches"
        case _:  # markers stand at the top level only
            raise AssertionError(item)


def _sequence(items: Sequence[Item]) -> str:
    return ", then ".join(map(_layers, items))


def _span(span: Span) -> str:
    only = _ONLY[span.part]
    if span.size == 1:
        return f"layer {span.first}{only}"
    down = " downwards" if span.first > span.last else ""
    if span.size == 2:
        return f"layers {span.first} and {span.last}{only}"
    return f"layers {span.first} to {span.last}{down}{only}"
