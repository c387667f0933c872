"""Texts that the full model writes to train on: drawn from a seed, kept, and never measured."""

import json

import pytest
import torch

from families import VOCABULARY, family
from impasto import UserError
from impasto.mending.settings import read_settings
from impasto.mending.writing import BEGINNING, usual_count, written

PIECES = [tuple((7 * row + place) % VOCABULARY for place in range(12)) for row in range(5)]


def test_written_texts_begin_as_those_given_and_are_drawn_from_the_seed(tmp_path):
    hf = family("llama")
    state = torch.random.get_rng_state()
    found = [
        written(hf, PIECES, 9, seed, tmp_path / name, lambda share: None)
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    ]
    assert found[0] == found[1] != found[2]
    assert [len(row) for row in found[0]] == [12] * 9
    assert [row[:BEGINNING] for row in found[0]] == [PIECES[k % 5][:BEGINNING] for k in range(9)]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_texts_that_were_written_before_are_taken(tmp_path):
    path = tmp_path / "written.json"
    path.write_text(json.dumps([[1, 2, 3]]), encoding="utf-8")
    assert written(family("llama"), PIECES, 9, 0, path, lambda share: None) == [(1, 2, 3)]


def test_as_many_are_written_as_are_read_and_none_by_a_large_model():
    hf = family("llama")
    assert usual_count(hf, PIECES, 40) == 35
    assert usual_count(hf, PIECES, 5) == 0

    class Large:
        def parameters(self):
            return [torch.empty(7_000_000_000, device="meta")]

    assert usual_count(Large(), [tuple(range(512))], 16_000) == 0


@pytest.mark.parametrize("value", [-1, 1.5, "many"])
def test_how_many_are_written_is_a_number(value):
    with pytest.raises(UserError, match="written cannot be"):
        read_settings("lora", {"written": value})
