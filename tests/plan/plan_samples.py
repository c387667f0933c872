"""Random plans and random texts for the tests of plans and for the benchmark of their parser."""

from __future__ import annotations

import random
import string
from typing import Any

from hypothesis import strategies as st

from impasto.plan import Freeze, Inject, Layer, Noise, Parallel, Part, Plan, PlanError, Reach
from impasto.plan.steps import check_steps

DESIGN_EXAMPLES = (
    "0-31",
    "23-8",
    "24-31.mlp",
    "[8-23]",
    "[8 9 | 10 11]",
    "sum[8|9]",
    "(4 5)",
    "16*16",
    "[8-23]*3",
    "(4 5)*2",
    "0-15 freeze 16-31",
    "0-15 noise(gaussian, seed=3) 16-31",
    "0-15 noise(shuffle) 16-31",
    "0-15 inject(donor) 16-31",
    "0-7 [8-23]*3 freeze 24-30.mlp 31",
    "0-7 [8-23]*3 24-31",
    "0-7 8-11@0.5 12-31",
    "0-7 (8-11)@0.5*2 12-31",
    "[8-11]@-0.25",
    "8-11.attn@1.5",
    "[8|]",
    "[8-11 | ]*2",
    "20-31{first=1, last=64}",
    "20-31.attn{last=64}@0.5*2",
    "0-15 freeze(prompt) 16-31",
    "0-15 noise(gaussian, seed=3, prompt) 16-31",
)

_PARTS: tuple[Part, ...] = ("block", "attention", "mlp")
_parts = st.sampled_from(_PARTS)
_scales = st.sampled_from([1.0, 1.0, 0.5, -0.25, 8.0, 0.0, 1e-20, 1 / 3, 0.1])
_reaches = st.none() | st.builds(Reach, st.sampled_from([0, 1, 2**63 - 1]), st.just(64))
_ways: Any = st.sampled_from(_PARTS).flatmap(
    lambda part: st.tuples(st.just(part), st.none() if part == "mlp" else _reaches, _scales)
)
_layers = st.builds(
    lambda index, way: Layer(index, *way), st.integers(0, 9) | st.integers(0, 99_999), _ways
)


@st.composite
def _runs(draw: st.DrawFn) -> tuple:
    """Consecutive layers, repeats included: what the printer compresses."""
    first, last = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    way = draw(_ways | _parts.map(lambda part: (part,)))
    down = 1 if first <= last else -1
    run = tuple(Layer(index, *way) for index in range(first, last + down, down))
    return run * draw(st.integers(1, 3))


def _sequences(items: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    parts = st.lists(_runs() | items.map(lambda item: (item,)), min_size=1, max_size=4)
    flat = parts.map(lambda parts: sum(parts, ()))
    return st.builds(lambda steps, times: steps * times, flat, st.integers(1, 3))


_moving = st.recursive(
    _layers,
    lambda items: st.builds(
        Parallel,
        st.lists(_sequences(items) | st.just(()), min_size=1, max_size=4).map(tuple).filter(any),
        st.sampled_from(["mean", "sum"]),
        _scales,
    ),
    max_leaves=6,
)
_options = st.sampled_from([0, 0, 1, 7, 2**63 - 1])
_markers = (
    st.builds(Freeze, st.booleans())
    | st.builds(Noise, st.sampled_from(["shuffle", "gaussian"]), _options, _options, st.booleans())
    | st.builds(Inject, st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", fullmatch=True))
)


def _is_within_bounds(steps: tuple) -> bool:
    """Say whether a plan of the steps runs no more layers than a plan may."""
    try:
        check_steps(steps)
    except PlanError:
        return False
    return True


plans = (
    st.lists(_sequences(_moving) | _markers.map(lambda m: (m,)), min_size=1, max_size=5)
    .map(lambda parts: sum(parts, ()))
    .filter(_is_within_bounds)
    .map(Plan)
)

_WORDS = [
    *("0", "1", "8", "9", "31", "40", "99999", "100000", "-1", "0-31", "23-8", "-", "."),
    *("*", "(", ")", "[", "]", "|", "=", ",", ".attn", ".mlp", ".norm", "*2", "*0", "*10000"),
    *("freeze", "frezze", "freeze(", "noise", "inject", "noise(shuffle)", "noise(gaussian,"),
    *("noise(", "seed=3", "keep=1)", "sum[", "sum", "inject(donor)", "attn", "mlp"),
    *("@", "@0.5", "@-8", "@9", "@.", "{", "}", "{last=64}", "first=1", "prompt", "prompt)"),
    *("é", "²", "٣", "–", "\x00", "\ud800", "𝟘", "((((", "]]]]", " ", "\n", "\t"),
]


def random_text(rng: random.Random) -> str:
    """Return words of the notation in any order, a mutated plan, plain noise, or one long word."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(("", " ")).join(rng.choices(_WORDS, k=rng.randrange(30)))
    if kind == 1:
        return "".join(chr(rng.randrange(0x2100)) for _ in range(rng.randrange(40)))
    if kind == 2:
        return "".join(rng.choices(string.printable, k=rng.randrange(60)))
    if kind == 3 and rng.random() < 0.02:
        size = rng.randrange(1, 4)
        return ("".join(rng.choices(_WORDS, k=size)) * 10_000)[: rng.randrange(9_000, 10_500)]
    return _mutated(rng.choice(DESIGN_EXAMPLES), rng)


def _mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randrange(1, 5)):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(4):
            case 0:
                text = text[:at] + text[to:]
            case 1:
                text = text[:at] + text[at:to] * rng.randrange(2, 4) + text[to:]
            case 2:
                text = text[:at] + rng.choice(_WORDS) + text[at:]
            case _:
                text = text[:at] + rng.choice(string.printable) + text[at + 1 :]
    return text


#: Long texts that would be slow for a reader that is not linear, or that expands before it counts.
HOSTILE = {
    "open brackets": "[" * 10_000,
    "open groups": "(" * 10_000,
    "deep nesting": "(" * 33 + "0" + ")" * 33,
    "deep brackets": "[" * 33 + "0" + "]" * 33,
    "many brackets": "[0]" * 3_333,
    "many nested brackets": ("[" * 31 + "0" + "]" * 31) * 150,
    "many brackets, many layers": "[0]" * 500 + " 0" * 4_250,
    "many lanes": "[" + "0|" * 4_999 + "0",
    "repeats of repeats": "0" + "*10000" * 1_600,
    "repeats of one": "0" + "*1" * 4_999,
    "nested repeats": "(" * 30 + "0" + "*10)" * 30,
    "a wide range": "0-99999",
    "many wide ranges": "0-9999 " * 1_400,
    "a full plan": "0-9999",
    "a full plan downwards, lanes": "[9999-0]",
    "many single layers": "0 " * 5_000,
    "many different layers": " ".join(map(str, range(1, 2_200)))[:10_000],
    "many different ranges": " ".join(f"{i}-{i + 1}.mlp" for i in range(10, 900))[:10_000],
    "a long number": "9" * 10_000,
    "many zeros": "0" * 10_000,
    "a long seed": f"noise(shuffle, seed={'1' * 9_000})",
    "a long word": "a" * 10_000,
    "almost a known word": "freezefreez" * 900,
    "a long name": f"inject({'n' * 9_000})",
    "many markers": "noise(gaussian,seed=1,keep=2)" * 340,
    "many spaces": "0" + " " * 9_998 + "!",
    "spaces inside a range": ("0" + " " * 4_900 + "- 1 ") * 2,
    "an error at the end": "0 " * 4_999 + "!",
    "newlines": "\n" * 10_000,
    "too long": "0 " * 6_000,
    "far too long": "0 " * 6_000_000,
    "control characters": "\x00\x1b[31m" * 1_500,
}
