"""SQuAD's items are the hub's, its prompt is the documented one, its scores are the official."""

import json
from pathlib import Path

import pytest

import squad_evaluation
from impasto.error import UserError
from impasto.tasks import check_entry, load_suite
from impasto.tasks.squad import EXAMPLE, exact_match, f1, normalised, squad
from realdata import real_file

ROW = {
    "id": "1",
    "context": "The {question} of Ada {context}.\nShe wrote\\1 programs.",
    "question": " Who wrote programs? ",
    "answers": {"text": ["Ada", "Ada Lovelace", "the Countess"], "answer_start": [1, 1, 1]},
}
PUT = (
    "Context: The {question} of Ada {context}.\nShe wrote\\1 programs.\n"
    "Question: Who wrote programs?\nAnswer:"
)


@pytest.fixture
def rows(tmp_path):
    """Give what writes rows into a file and returns it as the study writes it."""

    def write(*rows):
        path = tmp_path / "squad.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"validation": str(path)}

    return write


def row(number, **changes):
    return ROW | {"id": str(number)} | changes


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("The Broncos", "broncos"),
        ("a  New\tYork\n City", "new york city"),
        ("24–10", "24–10"),  # only ASCII punctuation goes
        ("Levi's Stadium", "levis stadium"),
        ("U.S.A.", "usa"),
        ("state-of-the-art", "stateoftheart"),  # punctuation goes before articles do
        ("an apple a day, the end", "apple day end"),
        ("Theatre", "theatre"),
        ("$5,000", "5000"),
        ("The", ""),
    ],
)
def test_answers_are_compared_without_case_punctuation_articles_and_spaces(written, compared):
    assert normalised(written) == compared


@pytest.mark.parametrize(
    ("said", "answers", "right", "words"),
    [
        ("the Denver Broncos!", ["Denver Broncos"], True, 1.0),
        ("Broncos", ["Denver Broncos"], False, 2 / 3),  # precision 1, recall 1/2
        ("the Denver Broncos team of 2015", ["Denver Broncos"], False, 4 / 7),  # 2/5 and 1
        ("Carolina Panthers", ["Denver Broncos"], False, 0.0),
        ("Santa Clara", ["Levi's Stadium", "Santa Clara, California"], False, 0.8),
        ("gold", ["gold", "golden"], True, 1.0),
        ("new new york", ["new york new jersey"], False, 6 / 7),  # words count as often as they are
        ("york", ["new york", "york"], True, 1.0),
        ("", ["Denver"], False, 0.0),
        ("The", ["a"], True, 0.0),  # nothing is left of either: equal, yet no word is shared
    ],
)
def test_exact_match_and_f1_are_those_of_the_official_evaluation(said, answers, right, words):
    assert exact_match(said, answers) is right
    assert f1(said, answers) == pytest.approx(words)


def predictions(answers):
    """Yield replies that are right, nearly right and wrong."""
    first, last = answers[0], answers[-1]
    yield from (first, last.upper() + ".", f"the {first}", f"{first} and {last}", "the", "no")
    yield from (" ".join(first.split()[:-1]), first.replace(" ", "-"), f"It is {last}, in a way")
    yield from ("", " ".join(first.split()[::-1]), f"{last} {last}", f"«{first}»", f"{first}’s")


def compare_with_the_official_evaluation(path, count, sorts):
    """Judge each item by a reply of one of these sorts, in turn."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    task = squad(data={"validation": str(path)}, limit=count)
    ids = {item.id for item in task.items}
    said = {
        item.id: list(predictions(item.answers))[sorts[number % len(sorts)]]
        for number, item in enumerate(task.items)
    }
    articles = squad_evaluation.as_articles(row for row in rows if row["id"] in ids)
    official = squad_evaluation.evaluate(articles, said)
    judged = [task.judge(item, [said[item.id]]) for item in task.items]
    for metric in ("exact_match", "f1"):
        found = task.aggregate(metric, [values[metric] for values in judged])
        assert 100 * found.value == pytest.approx(official[metric], abs=1e-9), metric


@pytest.mark.parametrize("sort", range(14))
def test_scores_equal_the_official_evaluations_on_the_same_predictions(sort, rows):
    answers = [["Ada", "Ada Lovelace"], ["the U.S.A."], ["24–10", "24-10"], ["New York", "York"]]
    data = rows(*(row(i, answers={"text": each}) for i, each in enumerate(answers)))
    compare_with_the_official_evaluation(Path(data["validation"]), None, [sort])


def test_scores_equal_the_official_evaluations_on_a_thousand_real_items():
    compare_with_the_official_evaluation(real_file("squad_validation.jsonl"), 1000, range(14))


def test_the_prompt_is_one_solved_example_and_the_passage(rows):
    data = rows(ROW)
    [item] = squad(data=data).items
    assert item.prompt == (
        f"Context: {EXAMPLE['context']}\nQuestion: {EXAMPLE['question']}\n"
        f"Answer: Henry Winstanley\n\n{PUT}"
    )
    [item] = squad(data=data, shots=0).items
    assert item.prompt == PUT
    [item] = squad(data=data, shots=0, template="{question} / {context} /").items
    assert item.prompt.startswith("Who wrote programs? / The {question} of")


def test_a_reply_is_judged_up_to_its_first_newline(rows):
    task = squad(data=rows(ROW))
    [item] = task.items
    assert task.judge(item, [" The Countess.\nContext: Ada"]) == {"exact_match": True, "f1": 1.0}
    assert task.judge(item, [" Countess of Lovelace"]) == {
        "exact_match": False,
        "f1": pytest.approx(0.5),
    }
    [[request]] = task.requests()
    assert (request.prompt, request.stop) == (item.prompt, ("\n",))


def test_chance_is_what_the_answer_that_is_right_most_often_scores(rows):
    answers = [["York", "New York"], ["the york"], ["Leeds"], ["New Leeds", "Old Leeds"]]
    task = squad(data=rows(*(row(i, answers={"text": a}) for i, a in enumerate(answers))))
    assert task.chance("exact_match") == 0.5
    assert task.chance("f1") == pytest.approx(0.5)  # York shares no word with the others


def test_the_sample_is_the_same_for_a_seed_and_holds_no_more_than_it_asks(rows):
    data = rows(*(row(i) for i in range(30)))
    ids = [item.id for item in squad(data=data, limit=10, seed=1).items]
    assert len(ids) == 10
    assert ids == [item.id for item in squad(data=data, limit=10, seed=1).items]
    assert ids != [item.id for item in squad(data=data, limit=10, seed=2).items]
    assert len(squad(data=data, limit=None).items) == 30
    assert squad(data=data, limit=10, seed=1).pool == squad(data=data, limit=10, seed=1).items


def test_a_thousand_real_items_are_drawn_unless_the_study_says_otherwise():
    task = squad(data={"validation": str(real_file("squad_validation.jsonl"))})
    assert len(task.items) == 1000
    assert len({item.id for item in task.items}) == 1000
    assert all(item.answers for item in task.items)
    assert 0 < task.chance("exact_match") < task.chance("f1") < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": {"text": []}}, "row 2, column 'answers': must be"),
        ({"answers": "Ada"}, "row 2, column 'answers': must be"),
        ({"answers": {"text": [3]}}, "row 2, column 'answers': must be text, not 3"),
        ({"question": None}, "row 2: the column 'question' is missing"),
    ],
)
def test_a_malformed_row_is_named(rows, changes, message):
    with pytest.raises(UserError, match=message):
        squad(data=rows(row(1), row(2, **changes)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "{question}"}, "exactly once"),
        ({"shots": 5}, "shots must be 0 or 1, not 5"),
        ({"shots": True}, "shots must be 0 or 1"),
        ({"limit": 0}, "limit must be"),
    ],
)
def test_other_options_are_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        squad(data=rows(ROW), **options)


def test_a_study_checks_the_options_without_reading_any_data(tmp_path):
    entry = {"name": "squad", "data": {"validation": str(tmp_path / "not-there.jsonl")}}
    assert check_entry(entry) == "squad"
    with pytest.raises(ValueError, match="shots must be 0 or 1"):
        check_entry(entry | {"shots": 2})
    with pytest.raises(ValueError, match="it has template, shots, data, limit, seed"):
        check_entry(entry | {"shot": 1})
    with pytest.raises(UserError, match=r"not-there\.jsonl does not exist"):
        load_suite(entry)


def test_a_study_names_it_with_its_data(rows):
    [task] = load_suite({"name": "squad", "data": rows(ROW), "limit": 5}).tasks
    assert (task.name, task.title, len(task.items)) == ("squad", "SQuAD", 1)
