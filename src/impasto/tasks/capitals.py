"""Paper A's Capitals: name the capital of a country, after one example (arXiv 2409.03621).

194 questions: the 193 members of the United Nations and Vatican City, one capital each, in English
as in the paper, German, French and Spanish. The names are in `capitals.csv` and beside it;
`README.md` there says where they come from and how doubtful ones were settled. A question's id is
the country's English name in every language, so that the same sample is the same countries.
"""

import csv
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from impasto.error import UserError, near, shown
from impasto.tasks.questions import Question, SubjectQuestions, as_text


@dataclass(frozen=True, slots=True)
class Language:
    """A language in which capitals are asked: its name, its file, and how a question is put."""

    title: str
    file: str
    template: str


LANGUAGES = {
    "en": Language("English", "capitals.csv", "Q: What is the capital of {country}?\nA:"),
    "de": Language(
        "German",
        "capitals_de.csv",
        "Frage: Wie heißt die Hauptstadt dieses Landes: {country}?\nAntwort:",
    ),
    "fr": Language(
        "French",
        "capitals_fr.csv",
        "Question : Quelle est la capitale de ce pays : {country} ?\nRéponse :",
    ),
    "es": Language(
        "Spanish",
        "capitals_es.csv",
        "Pregunta: ¿Cuál es la capital de este país: {country}?\nRespuesta:",
    ),
}
ENGLISH = "en"
SHOTS = ("Spain", "Italy")  # the first that does not give the asked country away
MAX_NEW_TOKENS = 16  # the longest capital, Bandar Seri Begawan, takes 6 to 10 and a newline


@dataclass(frozen=True, slots=True)
class Pair:
    """A country with its capital and other names of that, all in one language."""

    country: str
    capital: str
    also: tuple[str, ...]


@cache
def pairs(language: str = ENGLISH) -> dict[str, Pair]:
    """Return each country with its capital, by English name, in the order of these."""
    file = files("impasto.tasks").joinpath(LANGUAGES[language].file)
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return {
        row.get("english", row["country"]): Pair(
            row["country"], row["capital"], _aliases(row["capital"], row["also"].split("|"))
        )
        for row in rows
    }


def capital_of(language: str = ENGLISH) -> dict[str, str]:
    """Return each country's capital, in the order of the countries' English names."""
    return {pair.country: pair.capital for pair in pairs(language).values()}


def capitals(
    template: str | None = None,
    shot: str = SHOTS[0],
    limit: int | None = None,
    seed: int = 0,
    language: str = ENGLISH,
) -> SubjectQuestions:
    """Return the Capitals task: one solved example, then the question.

    `template` is how one question is put, with `{country}` where the country goes; the example is
    put the same way, followed by its capital. `shot` is the example's country, by its English name
    or that in the `language` (en, de, fr or es); where it is the asked one, or contains it, another
    stands in. Other names of a capital that are in use count as well, and so do names written
    without accents. Raises UserError for a language that there is none of, a country that is
    not among the 194, and a template without exactly one `{country}`.
    """
    if not isinstance(language, str) or language not in LANGUAGES:
        hint = near(language, LANGUAGES) if isinstance(language, str) else ""
        raise UserError(
            f"language must be one of {', '.join(LANGUAGES)}, not {shown(language)}{hint}"
        )
    spoken = LANGUAGES[language]
    template = spoken.template if template is None else template
    if not isinstance(template, str) or template.count("{country}") != 1:
        raise UserError(f"template must contain {{country}} exactly once, not {shown(template)}")
    every = pairs(language)
    named = {pair.country: name for name, pair in every.items()}
    if not isinstance(shot, str) or not (shot in every or shot in named):
        raise UserError(
            f"shot must be one of the 194 countries, such as 'Spain', not {shown(shot)}"
        )
    shot = shot if shot in every else named[shot]
    questions = tuple(_question(name, language, template, shot) for name in every)
    is_english = language == ENGLISH
    name = "capitals" if is_english else f"capitals-{language}"
    title = "Capitals" if is_english else f"Capitals ({spoken.title})"
    task = SubjectQuestions(name, title, questions, max_new_tokens=MAX_NEW_TOKENS)
    return task.sample(limit, seed)


def _question(name: str, language: str, template: str, shot: str) -> Question:
    """Put one country's question after the first example that does not mention it."""
    pair = pairs(language)[name]
    example = next(
        solved
        for solved in (_solved(other, language, template) for other in (shot, *SHOTS))
        if as_text((*solved, ""), "\n").count(pair.country) == template.count(pair.country)
    )
    turns = (*example, template.replace("{country}", pair.country))
    prompt = as_text(turns, "\n")
    return Question(name, prompt, pair.capital, pair.country, pair.also, turns)


def _solved(name: str, language: str, template: str) -> tuple[str, str]:
    pair = pairs(language)[name]
    return template.replace("{country}", pair.country), pair.capital


def _aliases(capital: str, also: Iterable[str]) -> tuple[str, ...]:
    """Return a capital's other names, each also without accents, and with typeset apostrophes."""
    names = [capital, *filter(None, also)]
    every = [spelling for name in names for spelling in (name, _plain(name))]
    every += [name.replace("'", "’") for name in every]
    return tuple(name for name in dict.fromkeys(every) if name != capital)


def _plain(name: str) -> str:
    """Return a name without accents: `Bogotá` is `Bogota`."""
    letters = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))
