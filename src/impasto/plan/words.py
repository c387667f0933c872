"""A plan in plain English: one sentence per item, for explanations and captions."""

from __future__ import annotations

from collections.abc import Sequence

from impasto.plan.diagram import seen, times
from impasto.plan.items import Brackets, Item, Repeat, Span, compress
from impasto.plan.plan import Plan
from impasto.plan.steps import Freeze, Inject, Marker, Noise, Part, spelled_scale

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
        case Freeze(prompt):
            return f"from here on {_whose(prompt)} keep the state they have at depth {depth}"
        case Noise(kind, seed, keep, prompt):
            noise = "shuffled" if kind == "shuffle" else "replaced by gaussian noise"
            spared = f"; the first {keep} tokens are spared" if keep > 1 else ""
            spared = "; the first token is spared" if keep == 1 else spared
            return (
                f"at depth {depth} {_states_of(prompt)} are {noise}, "
                f"each keeping its norm (seed {seed}{spared})"
            )
        case Inject(name):
            return f"at depth {depth} the target tokens' states become those of donor {name}"


def _layers(item: Item) -> str:
    match item:
        case Span():
            return _span(item)
        case Repeat(items, count):
            turns = "twice" if count == 2 else f"{count} times"
            if len(items) == 1:
                return f"{_layers(items[0])}, {turns}"
            return f"{turns} in a row: {_sequence(items)}"
        case Brackets(branches, combine, spread, scale):
            inner = _span(spread) if spread else "; beside ".join(map(_sequence, branches))
            scaled = "" if scale == 1 else f", what they add together × {spelled_scale(scale)}"
            if item.size == 1:
                return f"{inner}{scaled or ', as a single branch'}"
            return f"in parallel ({inner}), {combine} of {item.size} branches{scaled}"
        case _:  # markers stand at the top level only
            raise AssertionError(item)


def _sequence(items: Sequence[Item]) -> str:
    return ", then ".join(map(_layers, items)) or "nothing"


def _whose(prompt: bool) -> str:
    return "the prompt's tokens, its last one excepted," if prompt else "earlier tokens"


def _states_of(prompt: bool) -> str:
    return f"the states of {_whose(prompt)}" if prompt else "earlier tokens' states"


def _span(span: Span) -> str:
    manner = (seen(span.reach), times(span.scale))
    only = _ONLY[span.part] + "".join(f", {each}" for each in manner if each)
    if span.size == 1:
        return f"layer {span.first}{only}"
    down = " downwards" if span.first > span.last else ""
    if span.size == 2:
        return f"layers {span.first} and {span.last}{only}"
    return f"layers {span.first} to {span.last}{down}{only}"
