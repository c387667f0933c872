"""Questions of a file are asked as they stand there, scored as documented, or refused by row."""

import json
from math import log

import pytest

from impasto.error import UserError
from impasto.tasks import check_entry, injectable, load_suite, questions

ROWS = [
    {"question": "2 + 2?", "answer": "4"},
    {"question": "Capital of Ukraine?", "answer": ["Kyiv", "Kiev"], "id": "ua"},
    {"question": "7 - 2?", "answer": 5},
]
CHOICES = [
    {"question": "Egypt?", "choices": ["Cairo", "Lima"], "answer": 0},
    {"question": "Peru?", "choices": ["Cairo", "Lima", "Rome", "Oslo"], "answer": "Lima"},
]

CHAT = {"apply_chat_template": True}


@pytest.fixture
def write(tmp_path):
    """Give what writes rows into a file and returns its path."""

    def write(*rows, name="quiz.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return write


def asked(task):
    return [[(r.context, r.continuation) for r in some] for some in task.requests()]


def test_a_row_is_a_question_generated_up_to_a_line_s_end(write):
    task = questions(write(*ROWS))
    assert [item.id for item in task.items] == ["1", "ua", "3"]
    requests = [request for [request] in task.requests()]
    assert [r.prompt for r in requests] == [f"Q: {row['question']}\nA:" for row in ROWS]
    assert {(r.stop, r.max_new_tokens) for r in requests} == {(("\n",), 32)}
    assert (task.name, task.title) == ("questions-quiz", "Questions (quiz)")


@pytest.mark.parametrize(
    ("reply", "right"),
    [(" Kyiv\nQ:", True), (" Kiev", True), (" kyiv", False), (" Kyiv.", False), ("", False)],
)
def test_a_reply_is_right_if_it_is_one_of_the_answers(write, reply, right):
    task = questions(write(*ROWS))
    assert task.judge(task.items[1], [reply]) == {"exact_match": right}


def test_case_and_punctuation_are_ignored_where_that_is_asked(write):
    task = questions(write(*ROWS), ignore_case=True, ignore_punctuation=True)
    assert task.judge(task.items[1], [" KYIV!"]) == {"exact_match": True}
    task = questions(write(*ROWS), ignore_case=True)
    assert task.judge(task.items[1], [" KYIV!"]) == {"exact_match": False}


def test_a_number_is_an_answer_too(write):
    task = questions(write(*ROWS))
    assert task.judge(task.items[2], [" 5"]) == {"exact_match": True}


def test_a_choice_is_scored_by_all_its_tokens_and_the_likeliest_taken(write):
    task = questions(write(*CHOICES), score="choices")
    assert asked(task)[0] == [("Q: Egypt?\nA:", " Cairo"), ("Q: Egypt?\nA:", " Lima")]
    first, second = task.items
    assert task.judge(first, [(-4.0, False), (-5.0, False)]) == {"acc": True, "acc_norm": True}
    assert task.judge(first, [(-5.5, False), (-5.0, False)]) == {"acc": False, "acc_norm": True}
    scores = [(-1.0, True), (-2.0, False), (-3.0, False), (-9.0, False)]
    assert task.judge(second, scores) == {"acc": False, "acc_norm": False}


def test_several_choices_can_be_right_and_guessing_knows_it(write):
    task = questions(
        write(CHOICES[0], CHOICES[1] | {"answer": [1, 2]}, name="two.jsonl"), score="choices"
    )
    scores = [(-2.0, False), (-3.0, False), (-1.0, True), (-9.0, False)]
    assert task.judge(task.items[1], scores)["acc"]
    assert task.chance("acc") == (1 / 2 + 2 / 4) / 2


def test_a_likelihood_is_of_the_likeliest_answer_that_counts(write):
    task = questions(write(*ROWS), score="likelihood")
    assert asked(task)[1] == [
        ("Q: Capital of Ukraine?\nA:", " Kyiv"),
        ("Q: Capital of Ukraine?\nA:", " Kiev"),
    ]
    judged = task.judge(task.items[1], [(-3.0, False), (-2.0, True)])
    assert judged == {"acc": True, "perplexity": -2.0}
    whole = task.aggregate("perplexity", [log(1 / 2), log(1 / 8)])
    assert whole.value == pytest.approx(4.0)
    assert task.aggregate("acc", [True, False]).value == 0.5


def test_a_template_shows_any_column_and_keeps_braces_of_the_data(write):
    row = {"context": "{question} x", "question": "Who?", "answer": "Ada"}
    task = questions(write(row), template="{context}\n\n{question} ->\n")
    [[request]] = task.requests()
    assert request.prompt == "{question} x\n\nWho? ->\n"
    task = questions(write(row), template="{context}\n\n{question} ->\n", score="likelihood")
    assert asked(task) == [[("{question} x\n\nWho? ->\n", "Ada")]]  # no space behind white space


def test_columns_are_called_as_the_file_calls_them(write):
    path = write({"problem": "1 + 1", "target": "2", "uid": 17})
    columns = {"question": "problem", "answer": "target", "id": "uid"}
    [item] = questions(path, columns=columns).items
    assert (item.id, item.prompt, item.answer) == ("17", "Q: 1 + 1\nA:", "2")


def test_the_first_rows_are_examples_and_not_asked(write):
    task = questions(write(*ROWS), shots=2)
    [item] = task.items
    assert item.id == "3"
    assert item.prompt == ("Q: 2 + 2?\nA: 4\n\nQ: Capital of Ukraine?\nA: Kyiv\n\nQ: 7 - 2?\nA:")


def test_a_table_has_lists_as_json(tmp_path):
    path = tmp_path / "quiz.csv"
    path.write_text('question,choices,answer\nPeru?,"[""Cairo"", ""Lima""]",Lima\n')
    [item] = questions(str(path), score="choices").items
    assert (item.choices, item.answer) == (("Cairo", "Lima"), "Lima")


def test_a_sample_is_the_same_for_a_seed(write):
    path = write(*({"question": f"{n}?", "answer": "x"} for n in range(30)))
    drawn = [item.id for item in questions(path, limit=10, seed=1).items]
    assert drawn == [item.id for item in questions(path, limit=10, seed=1).items]
    assert drawn != [item.id for item in questions(path, limit=10, seed=2).items]
    assert set(drawn) < {item.id for item in questions(path, limit=20, seed=1).items}


def test_whatever_changes_a_result_changes_the_digest(write):
    path = write(*ROWS)
    other_path = write(*ROWS[:2], {"question": "7 - 2?", "answer": "6"}, name="other.jsonl")
    tasks = [
        questions(path, label="t"),
        questions(other_path, label="t"),
        questions(path, label="t", template="{question}"),
        questions(path, label="t", score="likelihood"),
        questions(path, label="t", ignore_case=True),
        questions(path, label="t", ignore_punctuation=True),
        questions(path, label="t", shots=1),
        questions(path, label="t", stop="."),
        questions(path, label="t", max_new_tokens=8),
        load_suite({"name": "questions", "file": path, "label": "t"} | CHAT).tasks[0],
        load_suite(
            {"name": "questions", "file": path, "label": "t", "system_instruction": "Be brief."}
            | CHAT
        ).tasks[0],
    ]
    assert len({task.digest for task in tasks}) == len(tasks)
    assert questions(path, label="t").digest == tasks[0].digest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "x"}, "row 2: the column 'question' is missing; its columns are answer"),
        ({"question": "a?"}, "row 2: the column 'answer' is missing; its columns are question"),
        ({"question": "a?", "answer": []}, "row 2, column 'answer': must be a text or a list"),
        ({"question": "a?", "answer": 1.5}, "row 2, column 'answer': must be text, not 1.5"),
        ({"question": ["a"], "answer": "x"}, r"row 2, column 'question': must be text, not \['a'"),
        ({"question": "a?", "answer": "x\ny"}, r"row 2, column 'answer': 'x\\ny' holds '\\n'"),
        ({"question": "a?", "answer": "x", "id": "1"}, "row 2: the id '1' again; .*row 1 has it"),
        ({"question": "a?", "answer": "x", "subject": "b"}, "row 2, column 'subject': .*once"),
        ({"question": "a?", "answer": "x", "subject": "a"}, "'1' has no subject, and others have"),
        (["a?", "x"], "row 2 is not a mapping of columns to values"),
        (
            {"question": "a?", "answer": 2, "choices": ["x", "y"]},
            "row 2, column 'answer': 2 is no choice's number; they are 0 to 1",
        ),
        (
            {"question": "a?", "answer": "z", "choices": ["x", "y"]},
            r"row 2, column 'answer': 'z' is none of the choices \['x', 'y'\]; give one of them",
        ),
        (
            {"question": "a?", "answer": "x", "choices": ["x", "x"]},
            "row 2, column 'choices': must be a list of two different texts or more",
        ),
    ],
)
def test_a_bad_row_is_told_with_file_row_and_column(write, row, message):
    with pytest.raises(UserError, match=f"quiz.jsonl.*{message}"):
        questions(write({"question": "q?", "answer": "a"}, row))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "choice"}, "score must be one of exact_match, choices, likelihood.*'choices'"),
        ({"template": "Question:"}, "template says how a question is put, with columns in braces"),
        ({"shots": -1}, "shots must be a whole number from 0 on, not -1"),
        ({"stop": []}, "stop must be a text that ends a reply, or several"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number from 1 on, not 0"),
        ({"ignore_case": "yes"}, "ignore_case must be true or false"),
        ({"ignore_case": True, "score": "likelihood"}, "ignore_case is of score: exact_match"),
        ({"columns": {"anser": "target"}}, "columns has no 'anser'; did you mean 'answer'"),
        ({"columns": ["target"]}, "columns says what the file calls its columns"),
        ({"label": "--"}, "label must be a text"),
        ({"scores": "choices"}, "questions has no option 'scores'; did you mean 'score'"),
        ({"system_instruction": "Be brief."}, "it needs apply_chat_template: true"),
        ({"apply_chat_template": "yes"}, "apply_chat_template must be true or false, not 'yes'"),
        ({"enable_thinking": True} | CHAT, "enable_thinking is false or left out"),
    ],
)
def test_an_option_that_cannot_be_is_refused_without_reading_the_file(options, message):
    with pytest.raises(UserError, match=message):
        check_entry({"name": "questions", "file": "not-there.jsonl"} | options)


def test_what_only_the_file_can_say_is_said_when_it_is_read(write):
    assert check_entry({"name": "questions", "file": "not-there.jsonl"}) == "questions-not-there"
    with pytest.raises(UserError, match=r"not-there\.jsonl does not exist"):
        load_suite({"name": "questions", "file": "not-there.jsonl"})
    with pytest.raises(UserError, match="needs the option 'file'"):
        check_entry("questions")
    with pytest.raises(UserError, match="'1' has no choices"):
        questions(write(*ROWS), score="choices")
    with pytest.raises(UserError, match="3 rows; shots: 3 takes that many as examples"):
        questions(write(*ROWS), shots=3)
    with pytest.raises(UserError, match="the column 'passage' is missing"):
        questions(write(*ROWS), template="{passage} {question}")


def test_an_answer_that_is_longer_than_any_reply_is_refused(write):
    class Letters:
        def encode(self, text, add_special_tokens=True):
            return list(text)

    task = questions(write({"question": "a?", "answer": ["Ouagadougou", "Wagadugu"]}))
    assert task.requests(Letters())
    task = questions(write({"question": "a?", "answer": "Ouagadougou"}), max_new_tokens=5)
    with pytest.raises(UserError, match="'1' has 11 tokens, and a reply ends after 5"):
        task.requests(Letters())


def test_only_generated_replies_to_questions_with_subjects_can_be_a_donor_s(write):
    rows = [
        {"question": f"Capital of {land}?", "answer": city, "subject": land}
        for land, city in (("Peru", "Lima"), ("Oman", "Muscat"))
    ]
    assert injectable(questions(write(*ROWS))) is None
    assert injectable(questions(write(*rows), score="likelihood")) is None
    task = questions(write(*rows))
    assert injectable(task) is task
    assert task.donor(task.items[0]) == {
        "prompt": "Q: Capital of Oman?\nA:",
        "donor_span": "Oman",
        "target_span": "Peru",
    }
    judged = task.judge_injected(task.items[0], [" Muscat"])
    assert judged == {"answers_original": False, "answers_injected": True}
