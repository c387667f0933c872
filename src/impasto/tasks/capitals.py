"""Paper A's Capitals: name the capital of a country, after one example (arXiv 2409.03621).

194 questions: the 193 members of the United Nations and Vatican City, one capital each. The pairs
are in `capitals.csv`; `README.md` beside it says where they come from and how doubtful ones were
settled.
"""

import csv
from functools import cache
from importlib.resources import files

from impasto.error import UserError, shown
from impasto.tasks.questions import Question, SubjectQuestions

TEMPLATE = "Q: What is the capital of {country}?\nA:"
SHOTS = ("Spain", "Italy")  # the first that does not give the asked country away
MAX_NEW_TOKENS = 16  # the longest capital, Bandar Seri Begawan, takes 6 to 10 and a newline


@cache
def capital_of() -> dict[str, str]:
    """Return each country's capital, in the countries' alphabetical order."""
    text = files("impasto.tasks").joinpath("capitals.csv").read_text(encoding="utf-8")
    return {row["country"]: row["capital"] for row in csv.DictReader(text.splitlines())}


def capitals(
    template: str = TEMPLATE, shot: str = SHOTS[0], limit: int | None = None, seed: int = 0
) -> SubjectQuestions:
    """Return the Capitals task: one solved example, then the question.

    `template` is how one question is put, with `{country}` where the country goes; the example is
    put the same way, followed by its capital. `shot` is the example's country; where that is the
    asked one, or contains it, another stands in. Raises UserError for a country that is not among
    the 194 and for a template without exactly one `{country}`.
    """
    if not isinstance(template, str) or template.count("{country}") != 1:
        raise UserError(f"template must contain {{country}} exactly once, not {shown(template)}")
    if not isinstance(shot, str) or shot not in capital_of():
        raise UserError(
            f"shot must be one of the 194 countries, such as 'Spain', not {shown(shot)}"
        )
    questions = tuple(_question(country, template, shot) for country in capital_of())
    task = SubjectQuestions("capitals", "Capitals", questions, max_new_tokens=MAX_NEW_TOKENS)
    return task.sample(limit, seed)


def _question(country: str, template: str, shot: str) -> Question:
    """Put one country's question after the first example that does not mention it."""
    example = next(
        text
        for text in (_solved(other, template) for other in (shot, *SHOTS))
        if text.count(country) == template.count(country)
    )
    prompt = example + template.replace("{country}", country)
    return Question(id=country, prompt=prompt, answer=capital_of()[country], subject=country)


def _solved(country: str, template: str) -> str:
    return template.replace("{country}", country) + f" {capital_of()[country]}\n"
