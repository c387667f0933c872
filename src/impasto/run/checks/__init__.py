"""The opening check of decoders: what plans rely on, proved on the model at hand.

The bare model reads a text (:mod:`impasto.run.checks.texts`) by its own forward, without a cache;
that is the truth. Then the engine reads it under the identity plan in every way in which it reads
texts (:mod:`impasto.run.checks.ways`), and must give the same. What the text is too short to show
is listed as not checked.
"""

from typing import NamedTuple

import torch

from impasto.model.checks.decoder import check_blocks, refuse_above, rows_differ
from impasto.model.decoder import OpenedModel
from impasto.model.structure.failing import failing
from impasto.run.checks.layers import check_layers
from impasto.run.checks.places import settle_positions
from impasto.run.checks.reasons import reason
from impasto.run.checks.texts import Lengths, lengths_of, read_texts
from impasto.run.checks.ways import WAYS


class Checked(NamedTuple):
    """What was checked of a model.

    Attributes:
        claims: Each claim, with the largest relative difference.
        not_checked: What the texts were too short to show.
    """

    claims: list[tuple[str, float]]
    not_checked: list[str]


@torch.no_grad()
def check_decoder(model: OpenedModel) -> Checked:
    """Check a decoder that was just opened.

    Raises:
        ModelError: when a claim does not hold, with the reason.
    """
    name, lengths = type(model.hf).__name__, lengths_of(model)
    with failing(name, f"reads {lengths.tokens} tokens"):
        texts = read_texts(model, lengths.tokens)
    with failing(name, "is given positions"):
        settle_positions(model, texts.long.ids)
    with failing(name, "calls its blocks one by one"):
        apart = check_blocks(model, texts.long)
    passed = dict.fromkeys(model.passed_over, "the model's own forward passes over it on texts")
    model.undivided = passed | apart.undivided
    tokens = f"({lengths.tokens} tokens)"
    claims = [(f"the identity plan gives the model's own logits {tokens}", apart.logits)]
    if apart.silence is not None and apart.parts is not None:
        claims.append(("a block without attention and MLP returns its input", apart.silence))
        claims.append((f"a block is its two parts ({apart.wiring})", apart.parts))
    for way in WAYS:
        with failing(name, way.doing):
            pairs = way.read(model, texts)
        worst = max(rows_differ(model, mine, own) for mine, own in pairs)
        refuse_above(model, way.refused, worst, lambda way=way: reason(model, texts, way, lengths))
        claims.append((f"{way.holds} give the model's own logits", worst))
    return Checked(claims, _unchecked(model, lengths))


def _unchecked(model: OpenedModel, lengths: Lengths) -> list[str]:
    """Check layers one by one on longer texts, and return what no text was long enough for."""
    return [
        f"the {name.replace('_', ' ')} of {value} (the check reads {tokens} tokens)"
        for name, value, tokens in check_layers(model, lengths)
    ]
