"""Capitals asks 194 countries, each after an example that does not give it away."""

import pytest

from impasto.tasks import capitals
from impasto.tasks.capitals import capital_of


def test_there_are_194_countries_each_with_a_capital_of_its_own():
    assert len(capital_of()) == 194
    assert len(set(capital_of().values())) == 194
    assert len(capitals().items) == 194


def test_names_are_plain_and_in_alphabetical_order():
    assert list(capital_of()) == sorted(capital_of())
    assert all(
        name == name.strip() and name.isascii() for pair in capital_of().items() for name in pair
    )


@pytest.mark.parametrize(
    ("country", "capital"),
    [
        ("Bolivia", "Sucre"),
        ("Burundi", "Gitega"),
        ("Indonesia", "Jakarta"),
        ("Israel", "Jerusalem"),
        ("Ivory Coast", "Yamoussoukro"),
        ("Kazakhstan", "Astana"),
        ("Myanmar", "Naypyidaw"),
        ("Netherlands", "Amsterdam"),
        ("South Africa", "Pretoria"),
        ("Sri Lanka", "Colombo"),
        ("Eswatini", "Mbabane"),
        ("Vatican City", "Vatican City"),
    ],
)
def test_doubtful_capitals_are_settled(country, capital):
    assert capital_of()[country] == capital


@pytest.mark.parametrize("name", ["Taiwan", "Kosovo", "Palestine", "Greenland", "Puerto Rico"])
def test_who_is_no_member_of_the_united_nations_is_not_asked(name):
    assert name not in capital_of()


def test_the_prompt_has_the_published_form():
    prompt = {q.id: q.prompt for q in capitals().items}["France"]
    assert prompt == (
        "Q: What is the capital of Spain?\nA: Madrid\nQ: What is the capital of France?\nA:"
    )


@pytest.mark.parametrize("shot", list(capital_of()))
def test_whatever_the_example_no_question_is_given_away(shot):
    for question in capitals(shot=shot).items:
        example = question.prompt.split("\nQ:")[0]
        assert question.prompt.count(question.id) == 1
        assert question.id not in example
        assert (f"of {shot}?" in example) or question.id in (shot, *_inside(shot))


def _inside(shot: str) -> list[str]:
    """Return the countries whose names stand in the example, as Guinea does in Guinea-Bissau."""
    return [country for country in capital_of() if country in f"{shot} {capital_of()[shot]}"]


def test_the_template_and_the_example_can_be_chosen():
    task = capitals(template="{country} ->", shot="Japan", limit=5)
    assert len(task.items) == 5
    assert all(q.prompt == f"Japan -> Tokyo\n{q.id} ->" for q in task.items)
    assert capitals(template="{country} ->").digest != capitals().digest


@pytest.mark.parametrize("template", ["What?", "{country} {country}", "", 3])
def test_a_template_without_one_place_for_the_country_is_refused(template):
    with pytest.raises(ValueError, match=r"\{country\} exactly once"):
        capitals(template=template)


def test_a_template_that_names_a_country_is_refused():
    with pytest.raises(ValueError, match="exactly once"):
        capitals(template="Unlike Chad, {country} has the capital")


def test_an_unknown_example_is_refused():
    with pytest.raises(ValueError, match="such as 'Spain', not 'Atlantis'"):
        capitals(shot="Atlantis")
