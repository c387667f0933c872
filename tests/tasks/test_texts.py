"""Texts as a task: which are read, what their tokens come to, and what is told of a mistake."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

import impasto
from characters import Characters
from impasto import Plan, UserError
from impasto.model.structure.anatomy import ModelError
from impasto.tasks import (
    Fidelity,
    ReadByTokenizer,
    RollingLogLikelihood,
    Suite,
    Texts,
    check_entry,
    load_suite,
)
from impasto.tasks.answering import answer
from impasto.tasks.task import perplexity, ratio

PROMPTED = Plan.parse("0-7 freeze(prompt) 8-11")
LINES = ["a line of text", "b", "another, which is longer than the first", "the last"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some lines.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return str(path)


def loaded(**options) -> Texts:
    [task] = load_suite({"name": "texts", **options}).tasks
    assert isinstance(task, Texts)
    return task


def read(**options) -> Texts:
    return loaded(**options).read_by(Characters().tokens, 128)


def texts_of(task):
    return ["".join(map(chr, item.ids)) for item in task.items]


# ------------------------------------------------------------------ which texts are read


def test_as_many_texts_are_read_as_the_tokens_take_and_the_last_is_cut(file):
    assert texts_of(read(file=file)) == LINES
    assert texts_of(read(file=file, tokens=20)) == ["a line of text", "b", "anoth"]
    assert texts_of(read(file=file, tokens=15)) == LINES[:2]
    assert texts_of(read(file=file, tokens=20, limit=1)) == LINES[:1]
    for tokens in range(2, 70):
        count = sum(len(item.ids) for item in read(file=file, tokens=tokens).items)
        assert count == min(tokens, sum(map(len, LINES)))


def test_it_has_no_items_before_it_is_read_and_a_suite_is_read_by_a_model(file):
    task = loaded(file=file, tokens=20)
    assert isinstance(task, ReadByTokenizer)
    assert list(task.items) == []
    other = load_suite({"name": "capitals", "limit": 3})
    suite = Suite((task, *other.tasks)).read_by(Characters())
    assert texts_of(suite.tasks[0]) == texts_of(read(file=file, tokens=20))
    assert suite.tasks[1:] == other.tasks


def test_only_what_the_tokens_take_is_read_of_a_file(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text('{"text": "ab"}\n{"text": "cdef"}\nno JSON\n')
    assert texts_of(read(file=str(path), tokens=5)) == ["ab", "cde"]
    with pytest.raises(UserError, match="row 3 is not JSON"):
        read(file=str(path))


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_files_with_columns_are_read_by_their_column(ending, tmp_path):
    path, rows = tmp_path / f"t.{ending}", [{"id": n, "body": text} for n, text in enumerate(LINES)]
    if ending == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        import pandas as pd

        frame = pd.DataFrame(rows)
        frame.to_csv(path) if ending == "csv" else frame.to_parquet(path)
    assert texts_of(read(file=str(path), column="body")) == LINES


def test_a_split_of_the_hub_is_read_and_its_empty_rows_are_passed_over(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return [{"text": ""}, {"text": " = A title = \n"}, {"text": " \n"}, {"text": "Words.\n"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = loaded(dataset="someone/wiki", config="raw", split="validation")
    assert task.name == "texts-wiki"
    assert texts_of(task.read_by(Characters().tokens, 128)) == [" = A title = \n", "Words.\n"]
    assert asked[0] == (("someone/wiki", "raw"), {"split": "validation"})

    def unreachable(*args, **options):
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError) as told:
        loaded(dataset="someone/wiki")
    assert "someone/wiki (test) is not on this machine" in str(told.value)
    assert "or give a file of texts: file: FILE.jsonl" in str(told.value)
    assert "no network)" in str(told.value)


# ------------------------------------------------------------------ what it is called and told by


def test_texts_are_called_by_their_file_or_label(file, tmp_path):
    assert check_entry({"name": "texts", "file": "data/wikitext2.test.jsonl"}) == (
        "texts-wikitext2.test"
    )
    assert check_entry({"name": "texts", "dataset": "a/wikitext"}) == "texts-wikitext"
    assert loaded(file=file).name == "texts-some-lines"
    named = loaded(file=file, label="Wiki (raw)")
    assert (named.name, named.title) == ("texts-Wiki-raw", "Texts (Wiki (raw))")


def test_the_digest_and_the_requests_say_all_that_changes_a_result(file):
    base = read(file=file)
    others = [
        read(file=file, length=64),
        read(file=file, tokens=9),
        read(file=file, label="x"),
        loaded(file=file).read_by(lambda text: [1, *map(ord, text)], 128),
    ]
    told = [(task.digest, repr(task.requests())) for task in (base, *others)]
    assert len(set(told)) == len(told)
    assert all(one != other for one, other in pairwise(told))
    # What changes no result is told by nothing: a budget that is not used up.
    assert (read(file=file, tokens=500).digest, repr(read(file=file, tokens=500).requests())) == (
        told[0]
    )
    assert loaded(file=file).digest == base.digest  # so that a study is summed up without a model


# ------------------------------------------------------------------ what tokens come to


def test_metrics_are_means_over_all_tokens_with_errors_over_texts(file):
    task = read(file=file)
    answers = [(13, -20.0, 1.5, 10), (0, 0.0, 0.0, 0), (38, -90.5, 2.0, 30), (7, -9.0, 0.0, 7)]
    judged = [task.judge(item, [one]) for item, one in zip(task.items, answers, strict=True)]
    found = {
        metric: task.aggregate(metric, [each[metric] for each in judged])
        for metric in ("perplexity", "kl", "agreement")
    }
    assert found["perplexity"].value == pytest.approx(math.exp(119.5 / 58))
    assert found["kl"].value == pytest.approx(3.5 / 58)
    assert found["agreement"].value == pytest.approx(47 / 58)
    assert {each.n for each in found.values()} == {4}
    assert math.isnan(task.chance("kl"))


def test_the_standard_error_of_a_ratio_is_the_spread_over_other_texts():
    draw = np.random.default_rng(0)
    tokens = draw.integers(5, 60, size=200)
    sums = [float(draw.normal(-2, 0.7, n).sum() + n * draw.normal(0, 0.3)) for n in tokens]
    values = list(zip(sums, map(int, tokens), strict=True))
    resampled = [
        [values[i] for i in draw.integers(0, len(values), len(values))] for _ in range(2000)
    ]
    for estimate in (ratio, perplexity):
        spread = np.std([estimate(some).value for some in resampled])
        assert estimate(values).stderr == pytest.approx(spread, rel=0.1)
    # Of equal texts it is that of the mean.
    equal = [(value, 10) for value in sums]
    assert ratio(equal).stderr == pytest.approx(np.std(sums, ddof=1) / 10 / math.sqrt(len(sums)))


def test_what_cannot_be_known_is_no_number():
    assert math.isnan(ratio([(0.0, 0)]).value)
    assert math.isnan(ratio([(-3.0, 2)]).stderr)
    assert math.isnan(ratio([(-3.0, 2), (0.0, 0)]).stderr)
    assert ratio([(-3.0, 2), (0.0, 0)]).value == -1.5
    assert perplexity([(-2000.0, 1), (-2000.0, 1)]).value == math.inf


# ------------------------------------------------------------------ asking


def test_requests_are_answered_by_the_model_each_as_if_alone(file):
    model, plans = impasto.load("demo"), [Plan.identity(12), Plan.parse("0-5 freeze 6-11")]
    task = loaded(file=file, length=8, tokens=40).read_by(model.tokens, 128)
    items = [*task.requests(), [Fidelity(tuple(task.items[0].ids), 4)]]
    together = answer(model, plans, items).responses
    for plan, row in zip(plans, together, strict=True):
        for requests, [response] in zip(items, row, strict=True):
            [[[alone]]] = answer(model, [plan], [requests]).responses
            assert response == pytest.approx(alone, abs=1e-4)
    whole = model.fidelity(plans, LINES, length=8, tokens=40)
    for own, theirs in zip(together, whole, strict=True):
        for [response], expected in zip(own, theirs, strict=False):
            assert response == pytest.approx(tuple(expected), abs=1e-4)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"reads a file .* or a data set .*, not neither"),
        ({"file": "a.txt", "dataset": "a/b"}, "not both"),
        ({"file": 3}, "file of texts is a text, not 3"),
        ({"file": "a.txt", "column": ""}, "column of texts is a text, not ''"),
        ({"file": "a.txt", "label": 3}, "label of texts is a text, not 3"),
        ({"file": "a.txt", "split": "test"}, r"split is of a data set on the hub.*a\.txt"),
        ({"file": "a.txt", "config": "raw"}, "config is of a data set on the hub"),
        ({"file": "a.txt", "length": 1}, "length is a whole number from 2, not 1"),
        ({"file": "a.txt", "length": True}, "length is a whole number from 2, not True"),
        ({"file": "a.txt", "tokens": 1}, "tokens is a whole number from 2, not 1"),
        ({"file": "a.txt", "tokens": "many"}, "tokens is a whole number from 2, not 'many'"),
        ({"file": "a.txt", "limit": 0}, "limit is a whole number from 1, not 0"),
        ({"file": "a.txt", "seed": 0}, "texts has no option 'seed'; it has file, dataset"),
    ],
)
def test_a_wrong_entry_is_told_before_anything_is_read(options, says):
    with pytest.raises(UserError, match=says):
        check_entry({"name": "texts", **options})


def test_what_cannot_be_read_is_told_before_a_model_is_loaded(tmp_path, file):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"body": "a"}\n')
    notes = tmp_path / "notes.md"
    notes.write_text("a")
    for given, says in [
        ("nowhere.txt", r"nowhere\.txt does not exist"),
        (str(rows), r"row 1: the column 'text' is missing; its columns are body"),
        (str(notes), r"data files end in \.txt, \.jsonl"),
    ]:
        with pytest.raises(UserError, match=says):
            load_suite({"name": "texts", "file": given})
    short = tmp_path / "short.txt"
    short.write_text("a\nb\n")
    with pytest.raises(UserError, match=r"texts-short: no text of .*short\.txt has two tokens"):
        read(file=str(short))


def test_a_model_of_fewer_positions_or_of_another_kind_says_what_would_be_right(file):
    demo = impasto.load("demo")
    task = loaded(file=file).read_by(demo.tokens, 1536)
    plans = [Plan.identity(12)]
    whole = loaded(file=file, length=256).read_by(demo.tokens, 1536)
    said = answer(demo, plans, task.requests()).responses
    assert said == answer(demo, plans, whole.requests()).responses
    with pytest.raises(UserError, match="length is at most 256"):
        answer(demo, plans, loaded(file=file, length=512).read_by(demo.tokens, 1536).requests())
    with pytest.raises((UserError, ModelError), match="injects, and texts have no token"):
        answer(demo, [Plan.parse("0 inject(donor) 1-11")], task.requests())


def test_a_guess_among_all_tokens_has_a_perplexity_and_the_other_metrics_no_chance(file):
    task = loaded(file=file).read_by(Characters().tokens, 128)
    assert task.chance("perplexity") == 128
    assert math.isnan(task.chance("kl"))
    assert math.isnan(loaded(file=file).chance("perplexity"))


def test_whole_texts_are_not_asked_of_a_plan_about_the_prompt():
    model, request = impasto.load("demo"), RollingLogLikelihood("4 - 1 = 3")
    for asked in (request, Fidelity(tuple(model.tokens("4 - 1 = 3")), 64)):
        with pytest.raises(UserError, match="a text has no prompt"):
            answer(model, [PROMPTED], [[asked]])
