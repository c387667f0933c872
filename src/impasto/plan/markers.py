"""Reading markers: freeze, noise and inject."""

from __future__ import annotations

from typing import Any

from impasto.plan.cursor import Cursor
from impasto.plan.hints import did_you_mean
from impasto.plan.steps import (
    INJECT_NAME,
    INJECT_NAME_RULE,
    Freeze,
    Inject,
    Marker,
    Noise,
    NoiseKind,
)

_KINDS: dict[str, NoiseKind] = {"shuffle": "shuffle", "gaussian": "gaussian"}
_OPTIONS = ("seed", "keep", "prompt")
_NOT_DONE = {"*": "repeated", "@": "scaled", "{": "given a reach"}


def read_marker(cursor: Cursor, word: str) -> Marker:
    """Return the marker that begins with ``word``, at which the cursor stands."""
    start = cursor.at
    cursor.at += 1
    match word:
        case "freeze(":
            word, marker = "freeze", _frozen_prompt(cursor)
        case "freeze":
            marker = Freeze()
        case "noise":
            marker = _noise(cursor)
        case _:
            marker = _donor(cursor)
    done = _NOT_DONE.get(cursor.tokens[cursor.at][:1])
    if done:
        cursor.fail(f"{word} is a marker and cannot be {done}", start, cursor.at)
    return marker


def _frozen_prompt(cursor: Cursor) -> Freeze:
    rule = "freeze takes prompt or nothing; a group after it needs a space: freeze (8 9)"
    cursor.expect("prompt", rule)
    cursor.at += 1
    cursor.expect(")", "freeze takes one word, as in freeze(prompt)")
    cursor.at += 1
    return Freeze(prompt=True)


def _donor(cursor: Cursor) -> Inject:
    cursor.expect("(", "inject names its donor, as in inject(donor)")
    cursor.at += 1
    name = cursor.tokens[cursor.at]
    if not INJECT_NAME.fullmatch(name):
        cursor.fail(f"inject needs the donor's name: {INJECT_NAME_RULE}")
    cursor.at += 1
    cursor.expect(")", "inject takes one name, as in inject(donor)")
    cursor.at += 1
    return Inject(name)


def _noise(cursor: Cursor) -> Noise:
    cursor.expect("(", "noise names its kind: noise(shuffle) or noise(gaussian)")
    cursor.at += 1
    kind = cursor.tokens[cursor.at]
    if kind not in _KINDS:
        cursor.fail(f"noise is shuffle or gaussian{did_you_mean(kind, _KINDS)}")
    cursor.at += 1
    options: dict[str, Any] = {}
    while cursor.tokens[cursor.at] == ",":
        cursor.at += 1
        if cursor.tokens[cursor.at] == "prompt" and "prompt" not in options:
            options["prompt"] = True
            cursor.at += 1
        else:
            cursor.named(options, _OPTIONS, "noise's options are seed, keep and prompt")
    cursor.expect(")", "noise looks like noise(gaussian, seed=3, keep=1)")
    cursor.at += 1
    return Noise(_KINDS[kind], **options)
