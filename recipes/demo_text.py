"""What the demo model reads in training: solved capitals and exercises, put in many ways.

A document is a run of solved items in one form, as in a prompt with zero to a dozen examples, and a
sequence is documents one after another, cut at its length. So a sequence always starts where a
document starts, and a task's prompt at position 0 is what the model has seen. Every item draws its
country or its exercise anew: nothing but the prompt tells the model what is asked.

A text is a list of pieces, each with the weight of its tokens in the loss. Answers weigh 1. What is
asked cannot be foreseen and weighs little.
"""

import random
from dataclasses import dataclass
from functools import cache

from transformers import PreTrainedTokenizerBase

from impasto.tasks import arithmetic, capitals
from impasto.tasks.arithmetic import TEMPLATE as EXERCISE_FORM
from impasto.tasks.arithmetic import exercises
from impasto.tasks.capitals import ENGLISH, LANGUAGES, capital_of

CAPITAL_FORM = LANGUAGES[ENGLISH].template
ASKED, ANSWER = 0.1, 1.0  # weights in the loss


@dataclass(frozen=True, slots=True)
class Form:
    """One way to put an item: the text before the answer, and what follows the answer."""

    question: str
    end: str
    share: float


CAPITAL_FORMS = (
    Form(CAPITAL_FORM + " ", "\n", 0.7),
    Form("{country}: ", "\n", 0.1),
    Form("The capital of {country} is ", ".\n", 0.1),
    Form("Question: What city is the capital of {country}?\nAnswer: ", "\n", 0.05),
    Form("Q: Which country has the capital {capital}?\nA: ", "\n", 0.05),
)
EXERCISE_FORMS = (
    Form(EXERCISE_FORM + " ", "\n", 0.85),
    Form("{compact}=", "\n", 0.05),
    Form("Q: What is {exercise}?\nA: ", "\n", 0.1),
)
CAPITAL_SHARE = 0.4  # of the documents
THREE_TERMS_SHARE = 0.8  # of the exercise documents
LENGTHS = {"capital": (1, 2, 2, 2, 3, 5), "exercise": (1, 2, 2, 4, 8)}  # items in a document


def document(rng: random.Random) -> list[tuple[str, float]]:
    """Return one document as pieces of text with their weights."""
    if rng.random() < CAPITAL_SHARE:
        form = _drawn(CAPITAL_FORMS, rng)
        return [p for _ in range(rng.choice(LENGTHS["capital"])) for p in _capital(form, rng)]
    form = _drawn(EXERCISE_FORMS, rng)
    terms = 3 if rng.random() < THREE_TERMS_SHARE else 2
    items = range(rng.choice(LENGTHS["exercise"]))
    return [piece for _ in items for piece in _exercise(form, terms, rng)]


def _drawn(forms: tuple[Form, ...], rng: random.Random) -> Form:
    return rng.choices(forms, [form.share for form in forms])[0]


def _capital(form: Form, rng: random.Random) -> list[tuple[str, float]]:
    country = rng.choice(_listed("capitals", 0))
    capital = capital_of()[country]
    asked = form.question.replace("{country}", country).replace("{capital}", capital)
    return _solved(asked, country if "{capital}" in form.question else capital, form.end)


def _exercise(form: Form, terms: int, rng: random.Random) -> list[tuple[str, float]]:
    exercise = rng.choice(_listed("exercises", terms))
    asked = form.question.replace("{exercise}", exercise)
    asked = asked.replace("{compact}", exercise.replace(" ", ""))
    return _solved(asked, exercises(terms)[exercise], form.end)


def _solved(asked: str, answer: str, end: str) -> list[tuple[str, float]]:
    """Return the pieces of a solved item; a space before the answer belongs to the answer."""
    space = " " if asked.endswith(" ") else ""
    return [(asked.removesuffix(" "), ASKED), (f"{space}{answer}{end}", ANSWER)]


@cache
def _listed(what: str, terms: int) -> list[str]:
    return list(capital_of() if what == "capitals" else exercises(terms))


class Sequences:
    """An endless, seeded stream of training sequences of one length."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, end: str, length: int, seed: int
    ) -> None:
        self.tokenizer, self._end, self._length = tokenizer, tokenizer.get_vocab()[end], length
        self._rng = random.Random(seed)
        self._ids: dict[str, list[int]] = {}

    def draw(self, rows: int) -> tuple[list[list[int]], list[list[float]]]:
        """Return so many sequences of token ids, and the weight of each token in the loss."""
        drawn = [self._sequence() for _ in range(rows)]
        return [ids for ids, _ in drawn], [weights for _, weights in drawn]

    def _sequence(self) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) < self._length:
            for text, weight in document(self._rng):
                piece = self._encoded(text)
                ids += piece
                weights += [weight] * len(piece)
            ids.append(self._end)
            weights.append(ASKED)
        return ids[: self._length], weights[: self._length]

    def _encoded(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self._ids[text]


def tokenizer_text() -> list[str]:
    """Return what the tokenizer learns its pieces from: every name, most of all the countries'."""
    names = [f" {country}" for country in capital_of() for _ in range(40)]
    names += [f" {capital}" for capital in capital_of().values() for _ in range(10)]
    prompts = [q.prompt for task in (capitals(), arithmetic(2)) for q in task.items]
    rng = random.Random(0)
    texts = ["".join(text for text, _ in document(rng)) for _ in range(2000)]
    return names + prompts + texts
