"""Capitals asks 194 countries, each after an example that does not give it away."""

import pytest

from impasto.tasks import capitals
from impasto.tasks.capitals import LANGUAGES, capital_of, pairs

languages = pytest.mark.parametrize("language", LANGUAGES)


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


@languages
def test_each_language_has_the_same_countries_with_capitals_of_their_own(language):
    found = pairs(language)
    assert list(found) == list(pairs())
    for names in ([p.country for p in found.values()], [p.capital for p in found.values()]):
        assert len(set(names)) == 194
        assert all(name == name.strip() and name[:1].isupper() for name in names)
    answers = [{pair.capital, *pair.also} for pair in found.values()]
    assert sum(map(len, answers)) == len(set().union(*answers)), "no answer is right of two"


@languages
def test_names_count_without_their_accents_and_with_typeset_apostrophes(language):
    found = pairs(language)
    assert {"N'Djamena", "N’Djamena"} <= {found["Chad"].capital, *found["Chad"].also}
    assert {"Bogotá", "Bogota"} <= {found["Colombia"].capital, *found["Colombia"].also}


@languages
def test_no_question_gives_its_answer_away(language):
    for question in capitals(language=language).items:
        assert question.prompt.count(question.subject) == 1
        example = question.prompt.split("\n")[1]
        assert not any(example.endswith(f" {answer}") for answer in question.answers)


@pytest.mark.parametrize(
    ("language", "name", "prompt", "answers"),
    [
        ("en", "capitals", "A: Madrid\nQ: What is the capital of Ukraine?\nA:", "Kyiv Kiev"),
        (
            "de",
            "capitals-de",
            "Frage: Wie heißt die Hauptstadt dieses Landes: Spanien?\nAntwort: Madrid\n"
            "Frage: Wie heißt die Hauptstadt dieses Landes: Ukraine?\nAntwort:",
            "Kyjiw Kiew Kyiv",
        ),
        ("fr", "capitals-fr", "ce pays : Ukraine ?\nRéponse :", "Kiev Kyiv"),
        ("es", "capitals-es", "este país: Ucrania?\nRespuesta:", "Kiev Kyiv"),
    ],
)
def test_a_language_has_its_prompt_and_the_names_that_are_in_use(language, name, prompt, answers):
    task = capitals(language=language)
    [question] = [q for q in task.items if q.id == "Ukraine"]
    assert task.name == name
    assert question.prompt.endswith(prompt)
    assert list(question.answers) == answers.split()
    for answer in answers.split():
        assert task.judge(question, [f" {answer}\n"])["exact_match"]


def test_names_count_without_their_accents():
    [question] = [q for q in capitals(language="es").items if q.id == "Colombia"]
    assert question.answers == ("Bogotá", "Bogota")
    [question] = [q for q in capitals().items if q.id == "Colombia"]
    assert question.answers == ("Bogota", "Bogotá")


def test_a_sample_is_the_same_countries_in_every_language():
    ids = [[q.id for q in capitals(language=one, limit=20).items] for one in LANGUAGES]
    assert ids == [ids[0]] * len(ids)


def test_the_example_is_named_in_english_or_in_the_language():
    task = capitals(language="fr", shot="Allemagne")
    assert task.items[0].prompt.split("\n")[1] == "Réponse : Berlin"
    assert task == capitals(language="fr", shot="Germany")


@pytest.mark.parametrize(
    ("language", "message"),
    [("fra", "one of en, de, fr, es, not 'fra'; did you mean 'fr'"), (3, "not 3"), (None, "None")],
)
def test_an_unknown_language_is_refused(language, message):
    with pytest.raises(ValueError, match=message):
        capitals(language=language)


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
