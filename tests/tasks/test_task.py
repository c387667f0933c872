"""A task is a value: its answers, donors, samples and digest follow from what it holds."""

from dataclasses import replace
from math import isnan, sqrt

import pytest

from impasto.tasks import Question, SubjectQuestions, arithmetic, capitals, load_suite
from impasto.tasks.task import mean

TASKS = [capitals(), arithmetic(2), arithmetic(3)]
all_tasks = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def two_questions(**changes) -> SubjectQuestions:
    questions = (Question("a", "a?", "1", "a"), Question("b", "b?", "2", "b"))
    return SubjectQuestions("t", "T", questions, max_new_tokens=3, **changes)


@pytest.mark.parametrize("reply", [" Paris\n", "Paris", " Paris\nQ: What is", "  Paris  \n\n"])
def test_a_reply_counts_up_to_the_first_stop_and_without_outer_spaces(reply):
    task = capitals()
    france = next(q for q in task.items if q.id == "France")
    assert task.answer_of(reply) == "Paris"
    assert task.judge(france, [reply])["exact_match"]


@pytest.mark.parametrize("reply", ["", "\nParis", " paris", " Paris.", " Paris, France", " Lyon\n"])
def test_only_the_exact_answer_is_right(reply):
    task = capitals()
    france = next(q for q in task.items if q.id == "France")
    assert not task.judge(france, [reply])["exact_match"]


def test_whichever_stop_comes_first_ends_the_reply():
    assert two_questions(stop=("\n", ".")).answer_of(" 1. 2\n") == "1"
    assert two_questions(stop=("\n", ".")).answer_of(" 1\n2.") == "1"
    assert two_questions(stop=()).answer_of(" 1\n2.") == "1\n2."


@all_tasks
def test_every_subject_stands_exactly_once_in_its_prompt(task):
    assert all(q.subject and q.prompt.count(q.subject) == 1 for q in task.items)


def test_a_subject_that_is_missing_or_repeated_is_refused():
    for prompt in ("Mali and Mali?", "Niger?"):
        with pytest.raises(ValueError, match="exactly once"):
            Question("x", prompt, "Bamako", subject="Mali")


@all_tasks
def test_a_donor_is_another_question_with_another_answer(task):
    donors = [(q, task.donor_of(q)) for q in task.items]
    assert all(d.id != q.id and d.answer != q.answer and d in task.items for q, d in donors)


@all_tasks
def test_donors_vary_over_the_questions(task):
    assert len({task.donor_of(q).id for q in task.items}) > len(task.items) / 2


@all_tasks
def test_a_sample_keeps_order_and_the_donors_of_the_whole(task):
    sample = task.sample(40)
    assert len(sample.items) == 40
    assert [q for q in task.items if q in sample.items] == list(sample.items)
    assert all(sample.donor_of(q) == task.donor_of(q) for q in sample.items)


def test_a_sample_depends_on_its_seed_alone_and_grows_with_its_limit():
    task = capitals()
    assert task.sample(30, seed=1) == task.sample(30, seed=1)
    assert task.sample(30, seed=1).items != task.sample(30, seed=2).items
    assert set(task.sample(30).items) < set(task.sample(60).items)
    assert task.sample(10_000).items == task.items
    assert task.sample(None) == task


@pytest.mark.parametrize("limit", [0, -1, 2.5, "10", True])
def test_a_limit_that_is_no_positive_whole_number_is_refused(limit):
    with pytest.raises(ValueError, match="limit"):
        capitals(limit=limit)


def test_a_task_without_a_donor_says_so():
    question = Question("a", "a?", "1", "a")
    with pytest.raises(ValueError, match="no question to inject"):
        SubjectQuestions("t", "T", (question,), max_new_tokens=3).donor_of(question)


def test_a_task_without_questions_or_with_two_of_one_id_is_refused():
    with pytest.raises(ValueError, match="no questions"):
        SubjectQuestions("t", "T", (), max_new_tokens=3)
    twice = (Question("a", "a?", "1"), Question("a", "b?", "2"))
    with pytest.raises(ValueError, match="several"):
        SubjectQuestions("t", "T", twice, max_new_tokens=3)


def test_chance_is_the_share_of_the_most_frequent_answer():
    assert capitals().chance("exact_match") == 1 / 194
    assert arithmetic(2).chance("exact_match") == arithmetic(3).chance("exact_match") == 0.1


def test_the_digest_is_the_same_in_every_process_and_version():
    assert [task.digest[:16] for task in TASKS] == [
        "0d208d830ef0b39e",
        "e067f40564a65035",
        "47e0808db14a01cf",
    ]


def test_the_digest_tells_apart_whatever_changes_a_result():
    task = two_questions()
    others = [
        replace(task, name="u"),
        replace(task, max_new_tokens=4),
        replace(task, stop=(".",)),
        replace(task, items=task.items[:1]),
        replace(task, pool=task.items[:1]),
        replace(task, items=(replace(task.items[0], answer="3"), task.items[1])),
    ]
    assert len({task.digest, *(other.digest for other in others)}) == 7
    assert replace(task, title="U").digest == task.digest


def test_a_study_names_a_task_or_a_mapping_with_options():
    sampled = {"name": "arithmetic", "terms": 3, "limit": 200}
    assert load_suite("capitals").tasks == load_suite({"name": "capitals"}).tasks == (capitals(),)
    assert load_suite(sampled).tasks == (arithmetic(3, limit=200),)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("capitols", "did you mean 'capitals'"),
        ("zzz", "The tasks are arithmetic, capitals"),
        ({"name": "capitals", "terms": 2}, "it has template, shot, limit, seed"),
        ({"name": "arithmetic", "terms": 4}, "terms must be 2 or 3, not 4"),
        ({"name": "arithmetic", "terms": [2]}, "terms must be 2 or 3"),
        ({"name": "arithmetic", "seed": "x", "limit": 3}, "seed must be a whole number"),
        ({"name": "capitals", "shot": ["Spain"]}, "shot must be one of the 194 countries"),
        ({"terms": 2}, "a task is a name or a mapping"),
        (None, "a task is a name or a mapping"),
    ],
)
def test_a_wrong_task_entry_says_what_would_be_right(spec, message):
    with pytest.raises(ValueError, match=message):
        load_suite(spec)


def test_the_mean_has_the_standard_error_of_a_sample():
    found = mean([1, 1, 1, 0])
    variance = sum((a - 0.75) ** 2 for a in (1, 1, 1, 0)) / 3
    assert (found.value, found.n) == (0.75, 4)
    assert found.stderr == pytest.approx(sqrt(variance / 4))
    assert isnan(mean([1.0]).stderr)
