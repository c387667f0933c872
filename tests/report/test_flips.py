"""What was asked and what was said, as the page shows it."""

import json
from typing import Any, ClassVar

import pandas as pd
import pytest

from impasto.report.flips import find_flips, said
from impasto.report.questions import Asked, asked_of, item_of, shortened
from impasto.study import Results, Study
from impasto.study.file.entries import TaskEntry
from impasto.tasks import capitals, load_suite

CHOICES = ("a very long answer that many tokens make unlikely", "no")
SHOWN = {"question": "Q", "right": CHOICES[0], "choices": CHOICES}
RESPONSES = [[-20.0, False], [-5.0, False]]  # by log p the second, by character the first


def test_the_choice_is_that_which_the_metric_judges():
    assert said(RESPONSES, "acc", SHOWN) == "2: no"
    assert said(RESPONSES, "acc_norm", SHOWN) == f"1: {CHOICES[0]}"
    assert said(RESPONSES, "acc_bytes", SHOWN) == f"1: {CHOICES[0]}"
    assert said(RESPONSES, "acc_norm") == (
        "a choice by log p per character, not known without the task's data"
    )
    assert said([*RESPONSES, [0.0, True], [0.0, True]], "acc", SHOWN) == "2: no"


def test_what_is_said_agrees_with_what_the_benchmark_judges(tmp_path):
    docs: list[dict[str, Any]] = [
        {"id": str(i), "question": f"Question {i}?", "answerKey": "AB"[i % 2]}
        | {"choices": {"text": list(CHOICES), "label": ["A", "B"]}}
        for i in range(4)
    ]
    file = tmp_path / "arc.jsonl"
    file.write_text("\n".join(map(json.dumps, docs)))
    [task] = load_suite({"name": "arc_easy", "num_fewshot": 0, "data": {"test": str(file)}}).tasks
    for item, doc in zip(task.items, docs, strict=True):
        shown = item_of(task, item)
        right = CHOICES["AB".index(doc["answerKey"])]
        assert shown["choices"] == CHOICES
        assert shown["right"] == right
        assert doc["question"] in shown["question"]
        judged = task.judge(item, [tuple(response) for response in RESPONSES])
        for metric in ("acc", "acc_norm"):
            chosen = said(RESPONSES, metric, shown).split(": ")[1]
            assert (chosen == right) == bool(judged[metric])


def test_a_question_of_ours_shows_its_prompt_and_answer():
    task = capitals(limit=1)
    shown = item_of(task, task.items[0])
    assert shown["question"] == task.items[0].prompt
    assert shown["right"] == task.items[0].answer


def test_a_long_question_keeps_its_beginning_and_its_end():
    line = shortened("one  two\n" + "x" * 500 + " the end?", 60)
    assert line.startswith("one two xxx")
    assert line.endswith("the end?")
    assert len(line) <= 60
    assert shortened("short\nline") == "short line"


def results(entry, data):
    class Answers(list):
        definitions: ClassVar = {"capitals": data}

    return Results(Study("s", ("m",), (TaskEntry(entry),), ()), pd.DataFrame(), Answers())


def test_questions_are_those_that_were_asked_or_a_line_says_why_not():
    there = asked_of(results({"name": "capitals", "limit": 3}, capitals(limit=3).digest))
    assert len(there.items["capitals"]) == 3
    assert there.lacking == ()
    changed = asked_of(results({"name": "capitals", "limit": 3}, "another"))
    assert changed.items == {}
    assert "the task's data have changed since they were asked" in changed.lacking[0]
    gone = asked_of(results({"name": "squad", "data": {"validation": "gone.jsonl"}}, "d"))
    assert gone.items == {}
    assert "squad: the questions are not shown, since the task is not here:" in gone.lacking[0]
    assert "gone.jsonl" in gone.lacking[0]


@pytest.mark.parametrize(
    ("metric", "values", "lost", "line"),
    [
        ("perplexity", [-2.0, -3.0], 1, "log p -3.000"),
        ("perplexity", [-2.0, -1.0], 0, "log p -1.000"),
        ("word_perplexity", [(-20.0, 10), (-30.0, 10)], 1, "log p -3.000 per word"),
        ("kl", [0.1, 0.5], 1, "log p -1.00"),
        ("acc", [1.0, 0.0], 1, "log p -1.00"),
    ],
)
def test_an_item_is_lost_where_it_is_worse(metric, values, lost, line):
    records = [
        {"task": "t", "digest": digest, "item": "i", "responses": [[-1.0, True]]}
        | {"metrics": {metric: value}}
        for digest, value in zip("bp", values, strict=True)
    ]
    cell = find_flips(records, {"t": metric}, "b", 2, Asked()).cells["t"]["p"]
    assert (cell.lost, cell.gained) == (lost, 1 - lost)
    assert (cell.some_lost or cell.some_gained) == [(0, line)]
