"""The exercises are all those of the rules, 110 and 1,210, each asked after another one."""

from itertools import product

import pytest

from impasto.tasks import arithmetic
from impasto.tasks.arithmetic import exercises


@pytest.mark.parametrize(("terms", "count"), [(2, 110), (3, 1210)])
def test_there_are_exactly_as_many_exercises_as_the_rules_allow(terms, count):
    assert len(exercises(terms)) == count
    assert len({q.prompt for q in arithmetic(terms).items}) == count


@pytest.mark.parametrize("terms", [2, 3])
def test_the_exercises_are_those_that_python_counts_too(terms):
    expected = {}
    for digits in product(range(10), repeat=terms):
        for signs in product((1, -1), repeat=terms - 1):
            partial = [digits[0]]
            for sign, digit in zip(signs, digits[1:], strict=True):
                partial.append(partial[-1] + sign * digit)
            if all(0 <= value <= 9 for value in partial):
                words = [
                    f"{'+' if s > 0 else '-'} {d}" for s, d in zip(signs, digits[1:], strict=True)
                ]
                expected[" ".join([str(digits[0]), *words])] = str(partial[-1])
    assert exercises(terms) == expected


def test_the_prompt_is_one_solved_exercise_and_the_asked_one():
    assert {q.id: q.prompt for q in arithmetic(2).items}["4 - 1"] == "2 + 3 = 5\n4 - 1 ="
    assert {q.id: q.prompt for q in arithmetic(3).items}["4 - 1 + 6"] == (
        "2 + 3 - 1 = 4\n4 - 1 + 6 ="
    )


@pytest.mark.parametrize("terms", [2, 3])
@pytest.mark.parametrize("shot", [None, *exercises(2), "2 + 3 - 1", "7 - 4 + 5", "1 + 1 + 1"])
def test_whatever_the_example_no_exercise_is_given_away(terms, shot):
    for question in arithmetic(terms, shot=shot).items:
        example, asked = question.prompt.split("\n")
        assert question.id not in example
        assert asked == f"{question.id} ="


@pytest.mark.parametrize("terms", [2, 3])
def test_a_donor_has_as_many_digits_and_signs(terms):
    task = arithmetic(terms)
    assert {len(task.donor_of(q).id.split()) for q in task.items} == {2 * terms - 1}


def test_the_template_and_the_example_can_be_chosen():
    task = arithmetic(2, template="{exercise} equals", shot="1 + 1")
    assert {q.id: q.prompt for q in task.items}["9 - 9"] == "1 + 1 equals 2\n9 - 9 equals"


def test_the_two_tasks_have_names_of_their_own():
    assert [arithmetic(terms).name for terms in (2, 3)] == ["arithmetic-2", "arithmetic-3"]


@pytest.mark.parametrize("terms", [1, 4, "2", True, None, 2.5])
def test_other_numbers_of_terms_are_refused(terms):
    with pytest.raises(ValueError, match="terms must be 2 or 3"):
        arithmetic(terms)


@pytest.mark.parametrize("shot", ["9 + 9", "2+3", "", 5])
def test_an_example_that_is_no_exercise_is_refused(shot):
    with pytest.raises(ValueError, match="shot must be an exercise"):
        arithmetic(2, shot=shot)


@pytest.mark.parametrize("template", ["=", "{exercise} {exercise}", None])
def test_a_template_without_one_place_for_the_exercise_is_refused(template):
    with pytest.raises(ValueError, match=r"\{exercise\} exactly once"):
        arithmetic(2, template=template)
