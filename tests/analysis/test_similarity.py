"""Similarity of depths: both measures against the formula, groups, constant memory, texts read."""

import tracemalloc
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

import impasto
from families import family
from impasto import UserError
from impasto.analysis.inside.groups import layer_groups
from impasto.analysis.inside.similarity import MEASURES, similarities
from impasto.analysis.inside.states import TextStates, read_states
from impasto.tasks.text_files import read_labelled, read_texts


def made_up(texts=7, depths=5, hidden=6, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 9, texts)
    return [
        TextStates(rng.normal(size=(depths, n, hidden)) + 1, np.arange(n) > 0, cut=False)
        for n in lengths
    ]


def cosine(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_every_measure_is_its_formula_over_all_texts():
    texts = made_up()
    found = similarities(texts)
    tokens: list[float] = []
    for i, j in combinations(range(5), 2):
        tokens = [
            cosine(text.states[i, t], text.states[j, t])
            for text in texts
            for t in range(1, text.states.shape[1])
        ]
        flat = [cosine(text.states[i].ravel(), text.states[j].ravel()) for text in texts]
        assert found["tokens"].mean[i, j] == pytest.approx(np.mean(tokens), abs=1e-12)
        assert found["flattened"].mean[i, j] == pytest.approx(np.mean(flat), abs=1e-12)
        half_width = 1.96 * np.std(flat, ddof=1) / np.sqrt(len(flat))
        assert found["flattened"].half_width[i, j] == pytest.approx(half_width, rel=1e-3)
    assert found["tokens"].tokens == len(tokens)
    np.testing.assert_allclose(found["tokens"].with_previous, np.diag(found["tokens"].mean, 1))


def test_the_interval_over_texts_holds_the_mean_of_other_texts():
    truth = similarities(made_up(texts=4000, seed=99))["tokens"].mean[0, 3]
    held = 0
    for seed in range(200):
        found = similarities(made_up(texts=60, seed=seed))["tokens"]
        held += abs(found.mean[0, 3] - truth) <= found.half_width[0, 3]
    assert 0.88 <= held / 200 <= 0.99


@pytest.mark.parametrize("measure", MEASURES)
def test_one_text_has_no_interval_and_none_is_refused(measure):
    assert np.isnan(similarities(made_up(texts=1))[measure].half_width).all()
    with pytest.raises(ValueError, match="at least one text"):
        similarities([])


def test_a_state_of_length_zero_is_like_no_other():
    [text] = made_up(texts=1)
    text.states[2] = 0
    assert similarities([text])["tokens"].mean[2, 0] == 0


class Tokenizer:
    bos_token_id = 1


def test_states_are_the_models_own_in_whatever_batches_and_bos_is_no_text():
    model: Any = impasto.load(family("llama"))
    model.tokenizer = Tokenizer()
    texts: Any = [[1, *range(2, 2 + n)] for n in (3, 9, 1, 5, 7)] + [
        [2 + i % 90 for i in range(150)]
    ]
    model.tokens = lambda text: text
    together, alone = (list(read_states(model, texts, at_once=size)) for size in (2**30, 1))
    for one, other, ids in zip(together, alone, texts, strict=True):
        np.testing.assert_allclose(one.states, other.states, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            own = model.hf(input_ids=torch.tensor([ids[:128]]), output_hidden_states=True)
        np.testing.assert_allclose(
            one.states[3], own.hidden_states[3][0].numpy(), rtol=1e-4, atol=1e-5
        )
    assert [bool(text.is_text[0]) for text in together] == [False] * 5 + [True]
    assert [text.cut for text in together] == [False] * 5 + [True]


def test_similarity_takes_no_more_memory_for_more_texts():
    def peak(texts):
        rng = np.random.default_rng(0)
        many = (
            TextStates(rng.normal(size=(9, 20, 64)), np.arange(20) > 0, cut=False)
            for _ in range(texts)
        )
        tracemalloc.start()
        similarities(many)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(5)
    assert peak(300) < 1.2 * peak(30)


def block_matrix(*sizes):
    run = np.repeat(range(len(sizes)), sizes)
    return np.where(run[:, None] == run, 0.9, 0.2) + 0.1 * np.eye(len(run))


@pytest.mark.parametrize("sizes", [(1, 6, 2), (2, 9, 1), (4, 4, 4), (1, 1, 1)])
def test_groups_are_the_blocks_that_the_matrix_has(sizes):
    found: Any = layer_groups(block_matrix(*sizes))
    assert [len(g) for g in (found.beginning, found.middle, found.end)] == list(sizes)
    assert found.between == pytest.approx(0.2)
    if sizes != (1, 1, 1):
        assert found.within == pytest.approx(0.9)


def test_groups_have_the_least_scatter_of_all_cuts():
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(9, 5)).cumsum(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def scatter(part):
        return ((part - part.mean(0)) ** 2).sum()

    cuts = combinations(range(1, 9), 2)
    best = min(cuts, key=lambda c: sum(map(scatter, np.split(vectors, c))))
    found: Any = layer_groups(vectors @ vectors.T)
    assert (found.middle.start, found.middle.stop) == best
    assert layer_groups(np.eye(2)) is None


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one\ntwo \n\n", ["one", "two"]),
        ("\none\ntwo\n\n\nthree\n", ["one\ntwo", "three"]),
        ("\ufeffone\n", ["one"]),
        ("one\n \ntwo", ["one", "two"]),
    ],
)
def test_a_text_file_is_cut_at_blank_lines_or_else_at_lines(content, texts, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text(content, encoding="utf-8")
    assert list(read_texts(file)) == texts


def test_other_files_have_a_column_of_texts(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a", "kind": 1}\n{"text": "b", "kind": null}\n{"text": ""}\n')
    assert list(read_texts(file)) == ["a", "b"]  # a row without a word is passed over
    with pytest.raises(UserError, match=r"row 1: the column 'body' is missing; its columns are te"):
        list(read_texts(file, "body"))
    with pytest.raises(UserError, match=r"row 2: the column 'kind'"):
        list(read_labelled(file, "text", "kind"))
    with pytest.raises(UserError, match="has no labels"):
        list(read_labelled(tmp_path / "a.txt", "text", "kind"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("no.txt", None, "does not exist"),
        ("empty.txt", b"\n \n", "has no texts"),
        ("bytes.txt", b"\xff\xfe\x00", "not a text file"),
        ("a.md", b"x", "data files end in"),
        ("list.jsonl", b"[1]\n", "not a mapping"),
        ("blank.jsonl", b'{"text": " "}\n', "has no texts"),
        ("number.jsonl", b'{"text": 3}\n', "row 1, column 'text': must be text, not 3"),
    ],
)
def test_files_that_cannot_be_read_are_users_mistakes(name, content, says, tmp_path):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=says):
        list(read_texts(file))
