"""Own questions in a study: what changes an answer or its worth is asked or judged anew."""

import json

import pytest

from impasto.study import Study, StudyError
from special_tokens import tokenizer_of

ROWS = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(4)]


@pytest.fixture
def quiz(tmp_path):
    path = tmp_path / "quiz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def model(model):
    """Return a model that says `2` to all questions and can be put a chat."""
    model.tokenizer = tokenizer_of("none")
    model._says = lambda plan, prompt, index, donors: " 2"
    return model


def run(model, out, quiz, **options):
    """Run it, and return its one value and whether the model was asked."""
    entry = json.dumps({"name": "questions", "file": str(quiz)} | options)
    model.calls.clear()
    study = Study.from_text(f"model: m\ntasks: [{entry}]\nplans: [baseline]\n", name="mine")
    [value] = study.run(out, model=model).table["value"]
    return value, bool(model.calls)


def test_the_same_questions_are_asked_once(model, tmp_path, quiz):
    assert run(model, tmp_path / "out", quiz) == (0.25, True)
    assert run(model, tmp_path / "out", quiz) == (0.25, False)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"template": "Exercise: {question}"}, 0.25),
        ({"shots": 1}, 1 / 3),
        ({"apply_chat_template": True}, 0.25),
        ({"apply_chat_template": True, "system_instruction": "Be brief."}, 0.25),
        ({"stop": ["?"]}, 0.25),
        ({"max_new_tokens": 5}, 0.25),
    ],
)
def test_another_way_of_asking_reuses_no_answer(model, tmp_path, quiz, options, value):
    run(model, tmp_path / "out", quiz)
    assert run(model, tmp_path / "out", quiz, **options) == (value, True)
    assert run(model, tmp_path / "out", quiz) == (0.25, False)  # the first answers are kept


def test_other_answers_in_the_file_are_judged_anew(model, tmp_path, quiz):
    run(model, tmp_path / "out", quiz)
    quiz.write_text(quiz.read_text().replace('"answer": "1"', '"answer": ["1", "2"]'))
    assert run(model, tmp_path / "out", quiz) == (0.5, True)


def test_other_donors_share_no_cell(model, tmp_path, quiz):
    donors = tmp_path / "donors.jsonl"
    row = {"prompt": "Q: 8 + 1?\nA:", "donor_span": "8", "target_span": "+", "answer": "2"}
    entry = {"name": "questions", "file": str(quiz), "donors": str(donors)}
    text = f"model: m\ntasks: [{json.dumps(entry)}]\nplans: [inject: {{k: 0}}]\n"
    values = []
    for answer in ("2", "9"):
        donors.write_text(json.dumps(row | {"answer": answer}))
        model.calls.clear()
        frame = Study.from_text(text, name="mine").run(tmp_path / "out", model=model).table
        [injected] = frame[frame.metric == "answers_injected"]["value"]
        values.append((injected, bool(model.calls)))
    assert values == [(1.0, True), (0.0, True)]
    donor = model.calls[-1]["donors"][0]["donor"]
    assert (donor.prompt, donor.donor_span, donor.target_span) == ("Q: 8 + 1?\nA:", "8", "+")


def test_questions_without_subjects_take_no_plan_that_injects(model, quiz):
    text = f"model: m\ntasks: [{{name: questions, file: {quiz}}}]\nplans: [inject: {{k: 0}}]\n"
    with pytest.raises(StudyError, match="questions with subjects or a file of donors"):
        Study.from_text(text).run(model=model)


def test_a_bad_row_ends_the_study_with_its_line_and_the_file_s(model, quiz):
    quiz.write_text('{"question": "1 + 1?"}\n')
    text = f"model: m\ntasks:\n  - {{name: questions, file: {quiz}}}\nplans: [baseline]\n"
    study = Study.from_text(text, source="mine.yaml")
    with pytest.raises(StudyError, match=r"mine.yaml, line 3: .*quiz.jsonl, row 1: the column 'an"):
        study.run(model=model)
