"""Texts cut into the pieces in which they are read, every token of which is to be predicted.

A piece is read as a text of its own. Where a text begins with the special tokens that the tokenizer
puts before every text (BOS, for most models that have one), so does each of its pieces: a model
that was trained behind BOS makes little of a text without it. So the pieces of such a text have
every token of it but BOS to predict, whatever their length. The pieces of other texts are simply
one after the other, and nothing predicts the first token of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from impasto.error import UserError
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.tokenisation import Prompt, Reader, naming_request
from impasto.run.inputs import checked_tokens


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text.

    Attributes:
        text: The text, by index.
        request: What is read: the piece without its last token, which is only predicted.
        targets: The tokens that the scored ones should predict, the last of the piece included.
    """

    text: int
    request: TokenRequest
    targets: list[int]


def pieces_of(
    reader: Reader, texts: Sequence[Prompt], length: int | None, tokens: int | None
) -> list[Piece]:
    """Return the pieces of some texts that have a token to predict.

    Args:
        reader: Reads texts.
        texts: Texts, or token ids.
        length: The most tokens of a piece; None for as many as the model has positions.
        tokens: How many tokens are read of all texts together, the special ones before each
            included, those before its later pieces not; None for all.

    Raises:
        UserError: when a text cannot be read, or a number of tokens is none.
    """
    start, left = reader.prepended, None if tokens is None else checked_tokens(tokens, "tokens", 2)
    most = _piece_length(reader, length, len(start))
    pieces = []
    for number, text in enumerate(texts):
        with naming_request(number, "text"):
            ids = reader.prompt(text)[:left]
        if left is not None:
            left -= len(ids)
        pieces += [_piece(number, one, before) for one, before in _cut(ids, start, most)]
        if left == 0:
            break
    return pieces


def _piece_length(reader: Reader, length: int | None, before: int) -> int | None:
    """Return the most tokens of a piece; None where nothing bounds them."""
    if length is None:
        return reader.max_positions
    most, least = checked_tokens(length, "length", 2), before + 1
    if most < least:
        raise UserError(
            f"length is at least {least}, for each piece begins with {before} special tokens; it "
            f"is {most}"
        )
    if reader.max_positions is not None and most > reader.max_positions:
        raise UserError(
            f"pieces of {most} tokens exceed the model's {reader.max_positions} positions: length "
            f"is at most {reader.max_positions}"
        )
    return most


def _cut(
    ids: list[int], start: tuple[int, ...], most: int | None
) -> Iterator[tuple[list[int], int]]:
    """Yield the pieces with a token to predict, and how many special ones each begins with."""
    before = len(start) if tuple(ids[: len(start)]) == start else 0
    step = len(ids) if most is None else most - before
    for at in range(before, len(ids), max(step, 1)):
        piece = ids[:before] + ids[at : at + step]
        if len(piece) > max(before, 1):
            yield piece, before


def _piece(text: int, ids: list[int], before: int) -> Piece:
    first = max(before, 1)  # the first token to be predicted
    return Piece(text, TokenRequest(ids[:-1], range(first - 1, len(ids) - 1), {}), ids[first:])
