"""Donors of the user's own are bound to questions by id, or refused by row."""

import json

import pytest

from impasto.error import UserError
from impasto.tasks import check_entry, load_suite

DONOR = {
    "prompt": "Q: What is the capital of Italy?\nA:",
    "donor_span": "Italy",
    "answer": ["Rome", "Roma"],
}


@pytest.fixture
def load(tmp_path):
    """Give what loads Capitals with the donors of these rows."""

    def load(*rows, **options):
        path = tmp_path / "donors.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        entry = {"name": "capitals", "donors": str(path)} | options
        return load_suite(entry).tasks[0]

    return load


def of(task, country):
    return next(item for item in task.items if item.id == country)


def test_a_row_without_an_id_is_for_all_that_have_none_of_their_own(load):
    own = DONOR | {"id": "France", "prompt": "Peru, Peru: Lima; Chad", "donor_span": "Chad"}
    task = load(DONOR, own | {"target_span": "capital of France", "answer": "N'Djamena"})
    assert task.donor(of(task, "Oman")) == {
        "prompt": DONOR["prompt"],
        "donor_span": "Italy",
        "target_span": "Oman",
    }
    assert task.donor(of(task, "France")) == {
        "prompt": "Peru, Peru: Lima; Chad",
        "donor_span": "Chad",
        "target_span": "capital of France",
    }
    judged = task.judge_injected(of(task, "Oman"), [" Roma\n"])
    assert judged == {"answers_original": False, "answers_injected": True}


def test_other_donors_are_another_task(load):
    tasks = [load_suite("capitals").tasks[0], load(DONOR), load(DONOR | {"answer": "Rome"})]
    assert len({task.digest for task in tasks}) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([DONOR | {"id": "Francia"}], "capitals has no question 'Francia'; did you mean 'France'"),
        ([DONOR | {"id": "France"}], "has a question 'Afghanistan' without a donor"),
        ([DONOR, DONOR], "row 2: a second donor without an id"),
        ([DONOR | {"id": "Peru"}] * 2, "row 2: a second donor of the question 'Peru'"),
        ([DONOR | {"donor_span": "Spain"}], "row 1, column 'donor_span': 'Spain' .* 0 times"),
        ([DONOR | {"donor_span": "a"}], "row 1, column 'donor_span': 'a' .* 4 times"),
        ([DONOR | {"target_span": "Oz"}], "the target_span 'Oz' occurs 0 times"),
        ([{"prompt": "x", "donor_span": "x"}], "row 1: the column 'answer' is missing"),
        ([DONOR | {"prompt": None}], "row 1: the column 'prompt' is missing"),
        ([["x"]], "row 1 is not a mapping"),
        ([], "has no rows"),
    ],
)
def test_a_wrong_donor_is_told_with_file_and_row(load, rows, message):
    with pytest.raises(UserError, match=rf"donors\.jsonl.*{message}"):
        load(*rows)


def test_only_tasks_with_prompts_of_their_own_take_donors(tmp_path, load):
    with pytest.raises(UserError, match="squad has no option 'donors'"):
        check_entry({"name": "squad", "donors": "d.jsonl"})
    with pytest.raises(UserError, match="donors is the path of a file or folder, not 3"):
        check_entry({"name": "capitals", "donors": 3})
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text('{"question": "Oman?", "answer": "Muscat"}\n')
    entry = {"name": "questions", "file": str(quiz)}
    with pytest.raises(UserError, match=r"'1' without a subject: .* target_span"):
        load(DONOR, **entry)
    task = load(DONOR | {"target_span": "Oman"}, **entry)
    assert task.donor(task.items[0])["target_span"] == "Oman"
    with pytest.raises(UserError, match="donors are for replies that are generated"):
        load(DONOR | {"target_span": "Oman"}, score="likelihood", **entry)
