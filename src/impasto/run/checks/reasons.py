"""Why a way of reading gives other logits, where the bare model itself shows it."""

import torch

from impasto.model.checks.decoder import Reason, allowed, difference, read_bare, rows_differ
from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.failing import RAISED
from impasto.run.checks.texts import Lengths, Texts, read_texts
from impasto.run.checks.ways import Way

_SHORT = 8  # tokens


def reason(model: OpenedModel, texts: Texts, way: Way, lengths: Lengths) -> Reason | None:
    """Return which claim about the bare model does not hold, or for which texts a way fails.

    None if the bare model shows nothing, and the way fails for short texts as well.
    """
    return (
        _changes(model, texts)
        or _looks_ahead(model, texts)
        or _mixes_texts(model, texts)
        or _in_longer_texts(model, texts, way, lengths)
    )


def _changes(model: OpenedModel, texts: Texts) -> Reason | None:
    again = read_bare(model, texts.long.ids).logits
    claim = "its own forward gives other logits when it reads the same text again"
    return _unless(model, claim, difference(again, texts.long.logits))


def _looks_ahead(model: OpenedModel, texts: Texts) -> Reason | None:
    count = len(texts.long.ids) - 2
    shorter = read_bare(model, texts.long.ids[:count]).logits
    claim = "its own logits after a token depend on the tokens behind it, and a decoder's do not"
    return _unless(model, claim, rows_differ(model, shorter, texts.long.logits[:count]))


def _mixes_texts(model: OpenedModel, texts: Texts) -> Reason | None:
    count = len(texts.other.ids)
    ids = [texts.long.ids[:count], texts.other.ids]
    beside = model.own_logits(torch.tensor(ids, device=model.device))[1]
    claim = "its own logits for a text depend on the texts beside it"
    return _unless(model, claim, rows_differ(model, beside, texts.other.logits))


def _in_longer_texts(model: OpenedModel, texts: Texts, way: Way, lengths: Lengths) -> Reason | None:
    """Return the reason if short texts are read right: something goes by length or place."""
    apart = _worst(model, texts, way)
    if len(texts.long.ids) <= _SHORT or not _is_right(model, way):
        return None
    names = [f"{name}={value}" for name, value in lengths.named.items() if value < lengths.tokens]
    named = f"; its configuration names {', '.join(names)}" if names else ""
    claim = (
        f"{way.refused} in a text of {len(texts.long.ids)} tokens, though they do in one of "
        f"{_SHORT}: its layers go by the place of a row, or by how many there are{named}"
    )
    return Reason(claim, apart)


def _worst(model: OpenedModel, texts: Texts, way: Way) -> float:
    """Return the largest relative difference that a way of reading makes."""
    return max(rows_differ(model, mine, own) for mine, own in way.read(model, texts))


def _is_right(model: OpenedModel, way: Way) -> bool:
    """Whether short texts get the bare model's logits in this way of reading."""
    try:
        return _worst(model, read_texts(model, _SHORT), way) <= allowed(model)
    except (ModelError, *RAISED):
        return False


def _unless(model: OpenedModel, claim: str, apart: float) -> Reason | None:
    return None if apart <= allowed(model) else Reason(claim, apart)
