"""A text ends where its whole text would have it, though only its last tokens are looked at."""

import random

import pytest

import impasto
from impasto.run.generate.decoding_plan import TextEnds

TEXTS = (
    "The answer is 12.\n\nQuestion: how many are there, then? ",
    "naïve façade — “quoted” … 你好，世界 🙂🙂 done.\n",
    "     spaces ,  and . stops ! '' n't 've \t tabs\n\n\n",
)
STOPS = (
    ["\n\n"],
    ["Question:"],
    ["🙂"],
    [" done."],
    ["世界", "\t"],
    ["never there"],
    ["."],
    ["12.\n"],
)


@pytest.fixture(scope="module")
def tokenizer():
    return impasto.load("demo").tokenizer


@pytest.mark.parametrize("stops", STOPS, ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_a_text_ends_at_the_token_at_which_its_whole_text_has_a_stop(tokenizer, stops, seed):
    draw, written = random.Random(seed), list[int]()
    tokens = [
        token for text in TEXTS for token in tokenizer(text, add_special_tokens=False).input_ids
    ]
    text_of = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)  # noqa: E731
    ends = TextEnds({-1}, stops, text_of)
    for _ in range(40):
        begin = draw.randrange(len(tokens))
        written += (
            tokens[begin : begin + draw.randint(1, 12)]
            if draw.random() < 0.8
            else [draw.randrange(len(tokenizer))]
        )
    for count in range(1, len(written) + 1):
        is_there = any(stop in text_of(written[:count]) for stop in stops)
        assert ends.are_reached(written[:count]) == is_there
        if is_there:
            return


def test_a_long_text_is_not_read_whole_at_every_token():
    read = []

    def text_of(ids):
        read.append(len(ids))
        return "".join(map(chr, ids))

    ends, written = TextEnds(set(), ["\n\n"], text_of), list[int]()
    for at in range(2000):
        written.append(97 + at % 20)
        assert not ends.are_reached(written)
    assert sum(read) < 120 * len(written)  # tokens of one character: 16, 32 and 64 of them
    assert not ends.are_reached([*written, 10])
    assert ends.are_reached([*written, 10, 10])
    assert ends.cut([*written, 10, 10, 97]) == "".join(map(chr, written))
