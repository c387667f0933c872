"""Texts that fit, that are held out and that measure are never the same."""

import random

import pytest

from impasto import UserError
from impasto.mending.sides import Sides, batches, divided


def read(text: str) -> list[int]:
    """Return a token for each character, behind a token that begins every text."""
    return [0, *map(ord, text)]


def made(texts: list[str], length: int = 16, tokens: int = 10_000, seed: int = 0) -> Sides:
    return divided(texts, read, [0], tokens=tokens, length=length, seed=seed)


def pieces(items) -> set[tuple[int, ...]]:
    return {piece for item in items for piece in item.pieces}


@pytest.mark.parametrize("count", [3, 60])
def test_no_piece_is_on_two_sides_however_often_a_text_is_there(count):
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcdefgh ", k=50)) for _ in range(count)]
    repeated = [*texts, texts[0], *texts, f" {texts[0]}\n", *[texts[1]] * 50]
    draw.shuffle(repeated)
    found = made(repeated)
    fitting, held_out, measuring = map(pieces, (found.fitting, found.held_out, found.measuring))
    assert fitting
    assert held_out
    assert measuring
    assert not fitting & held_out
    assert not fitting & measuring
    assert not held_out & measuring
    items = [*found.fitting, *found.held_out, *found.measuring]
    assert sum(len(item.pieces) for item in items) == len(pieces(items)), "each once"


def test_the_division_follows_from_the_seed_alone():
    texts = [f"text number {number}" for number in range(80)]
    assert made(texts) == made(texts)
    assert made(texts) != made(texts, seed=1)


def test_a_quarter_measures_and_an_eighth_is_held_out():
    found = made([f"text number {number:04}" for number in range(400)])
    total = sum(item.tokens for item in (*found.fitting, *found.held_out, *found.measuring))
    assert sum(item.tokens for item in found.measuring) / total == pytest.approx(0.25, abs=0.02)
    assert sum(item.tokens for item in found.held_out) / total == pytest.approx(0.125, abs=0.02)


def test_no_more_tokens_are_read_than_asked_for_and_every_piece_begins_as_its_text():
    found = made(["a" * 10 + str(number) for number in range(500)], tokens=300)
    items = (*found.fitting, *found.held_out, *found.measuring)
    assert sum(item.tokens for item in items) <= 300
    long = made(["".join(chr(98 + (7 * n) % 23) for n in range(500))], length=20)
    for piece in pieces((*long.fitting, *long.held_out, *long.measuring)):
        assert piece[0] == 0
        assert len(piece) <= 20


def test_too_few_texts_are_told_with_how_many_are_needed():
    with pytest.raises(UserError, match=r"1 different pieces .* takes 4 at the least"):
        made(["one", "one", " one "])


def test_batches_have_pieces_of_one_length_and_hold_each_once():
    found = made(["x" * (number % 7 + 3) + str(number) for number in range(60)])
    some = list(batches(found.fitting, 4, seed=3))
    assert all(len({len(piece) for _, piece in batch}) == 1 for batch in some)
    assert max(map(len, some)) <= 4
    assert sorted(piece for batch in some for _, piece in batch) == sorted(
        piece for item in found.fitting for piece in item.pieces
    )
