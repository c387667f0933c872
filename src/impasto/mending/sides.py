"""Texts on three sides that never overlap: those that fit, those that say when to stop, those that
measure.

A text that is there twice counts once, so no side can see what another one has. Where there are few
texts they are cut into pieces first, and the pieces are what is divided.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from impasto.error import UserError

FEW_TEXTS = 24  # fewer are cut into pieces before they are divided
MEASURING, HELD_OUT = 0.25, 0.125  # of the tokens
FEWEST_ITEMS = 2  # of a side that measures: one alone has no interval

Ids = tuple[int, ...]


class Item(NamedTuple):
    """A text, or a piece of one, as the pieces that are read of it, each a sequence of token ids.

    The tokens that the tokenizer puts before every text begin every piece.
    """

    pieces: tuple[Ids, ...]

    @property
    def tokens(self) -> int:
        """How many tokens its pieces have."""
        return sum(map(len, self.pieces))


@dataclass(frozen=True)
class Sides:
    """Texts, divided.

    Attributes:
        fitting: What a repair is fitted to.
        held_out: What chooses the ridge, and when training stops.
        measuring: What the scores are told from.
        length: The most tokens of a piece.
    """

    fitting: tuple[Item, ...]
    held_out: tuple[Item, ...]
    measuring: tuple[Item, ...]
    length: int

    @property
    def fitting_tokens(self) -> int:
        """How many tokens a repair is fitted to."""
        return sum(item.tokens for item in self.fitting)


def divided(
    texts: Iterable[str],
    read: Callable[[str], Sequence[int]],
    before: Sequence[int],
    *,
    tokens: int,
    length: int,
    seed: int,
) -> Sides:
    """Return texts on three sides, drawn from a seed.

    Args:
        texts: The texts; read until there are enough tokens.
        read: Makes token ids of a text.
        before: The special tokens that the tokenizer puts before every text.
        tokens: How many tokens are read of all texts together.
        length: The most tokens of a piece.
        seed: What the order is drawn from.

    Raises:
        UserError: when there are too few different texts for three sides.
    """
    items = _items(_read(texts, read, tokens), tuple(before), length)
    if len(items) < FEWEST_ITEMS + 2:
        raise UserError(
            f"the texts have {len(items)} different pieces of {length} tokens at the most, and "
            f"healing takes {FEWEST_ITEMS + 2} at the least, for texts that fit, that are held out "
            "and that measure are never the same; give more texts, or a smaller length"
        )
    random.Random(seed).shuffle(items)
    total = sum(item.tokens for item in items)
    measuring = _taken(items, MEASURING * total, FEWEST_ITEMS)
    held_out = _taken(items, HELD_OUT * total, 1)
    return Sides(tuple(items), tuple(held_out), tuple(measuring), length)


def _read(texts: Iterable[str], read: Callable[[str], Sequence[int]], tokens: int) -> Iterator[Ids]:
    """Yield the token ids of different texts, the last one cut where there are enough."""
    seen: set[str] = set()
    left = tokens
    for text in texts:
        plain = " ".join(text.split())
        if plain in seen:
            continue
        seen.add(plain)
        ids = tuple(read(text))[:left]
        left -= len(ids)
        yield ids
        if left <= 0:
            return


def _items(texts: Iterable[Ids], before: Ids, length: int) -> list[Item]:
    """Return what is divided: whole texts, or pieces where these are few; each once."""
    cut = [_pieces(ids, before, length) for ids in texts]
    if len(cut) < FEW_TEXTS:
        cut = [(piece,) for pieces in cut for piece in pieces]
    seen: set[Ids] = set()
    items = []
    for pieces in cut:
        new = tuple(piece for piece in dict.fromkeys(pieces) if piece not in seen)
        seen.update(new)
        if new:
            items.append(Item(new))
    return items


def _pieces(ids: Ids, before: Ids, length: int) -> tuple[Ids, ...]:
    """Return the pieces of a text that have a token to predict."""
    at = len(before) if ids[: len(before)] == before else 0
    start, step = ids[:at], max(length - at, 1)
    found = (start + ids[begin : begin + step] for begin in range(at, len(ids), step))
    return tuple(piece for piece in found if len(piece) > max(at, 1))


def _taken(items: list[Item], tokens: float, least: int) -> list[Item]:
    """Take so many tokens' items off the end of a list, but leave some."""
    taken: list[Item] = []
    while items[1:] and (len(taken) < least or sum(item.tokens for item in taken) < tokens):
        taken.append(items.pop())
    return taken


def batches(
    items: Sequence[Item], size: int, seed: int | None = None
) -> Iterator[list[tuple[int, Ids]]]:
    """Yield pieces of equal length together, each with the number of its item.

    Nothing is padded. With a seed the order of the batches is drawn, else short ones come first.

    Args:
        items: The items.
        size: The most pieces of a batch.
        seed: What the order is drawn from.
    """
    by_length: dict[int, list[tuple[int, Ids]]] = {}
    for number, item in enumerate(items):
        for piece in item.pieces:
            by_length.setdefault(len(piece), []).append((number, piece))
    made = [
        alike[begin : begin + size]
        for _, alike in sorted(by_length.items())
        for begin in range(0, len(alike), size)
    ]
    if seed is not None:
        random.Random(seed).shuffle(made)
    yield from made
