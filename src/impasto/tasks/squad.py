"""SQuAD v1.1: answer a question with a span of the passage before it (Rajpurkar et al. 2016).

Paper A (arXiv 2409.03621) reports exact match on 1,000 validation items. Which ones, and how they
were put to the model, is not in the code published with it: here `seed` draws them, and the prompt
is

    Context: {context}
    Question: {question}
    Answer:

after one solved example put the same way, as the paper's Capitals and math exercises have one. The
example is ours and no part of SQuAD. A reply is read up to its first newline.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from impasto.error import UserError, shown
from impasto.tasks.data import HubSplit, check_data, load_rows, text
from impasto.tasks.questions import EXACT_MATCH, Questions, as_text
from impasto.tasks.request import Response
from impasto.tasks.task import Value

NAME = "squad"
F1 = "f1"

SPLIT = HubSplit("rajpurkar/squad", "validation")
TEMPLATE = "Context: {context}\nQuestion: {question}\nAnswer:"
EXAMPLE = {
    "context": "The Eddystone Rocks lie off the coast of Cornwall. The first lighthouse on them, a "
    "wooden tower built by Henry Winstanley, was lit in 1698; five years later a storm swept it "
    "away.",
    "question": "Who built the first lighthouse on the Eddystone Rocks?",
    "answer": "Henry Winstanley",
}
SAMPLE = 1000
MAX_NEW_TOKENS = 50  # the longest answer that is needed has 22 words; a newline ends a reply

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Passage:
    """One question about a passage, with every answer that annotators gave."""

    id: str
    prompt: str
    answers: tuple[str, ...]
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Squad(Questions):
    """Passages whose replies are judged as SQuAD's own evaluation of version 1.1 does."""

    def judge(self, item: Passage, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return whether the reply is one of the answers, and how many words they share."""
        [reply] = responses
        said = self.answer_of(str(reply))
        return {
            EXACT_MATCH: exact_match(said, item.answers),
            F1: f1(said, item.answers),
        }

    def chance(self, metric: str) -> float:
        """Return what always giving the answer that is right most often scores."""
        right = Counter(
            answer for item in self.items for answer in {normalised(a) for a in item.answers}
        )
        guess = max(right, key=lambda answer: (right[answer], answer))
        score = exact_match if metric == EXACT_MATCH else f1
        return fmean(score(guess, item.answers) for item in self.items)


def squad(
    template: str = TEMPLATE,
    shots: int = 1,
    data: Mapping[str, str] | None = None,
    limit: int | None = SAMPLE,
    seed: int = 0,
) -> Squad:
    """Return SQuAD v1.1 with `limit` validation items, drawn by `seed`; all of them for None.

    `template` is how a question is put, with `{context}` and `{question}` where they go; `shots` is
    1 for the solved example before it, or 0. `data` is {validation: FILE} in the hub's columns (id,
    context, question, answers), read in place of the hub's `rajpurkar/squad`. Raises UserError
    for other values, and UserError naming file, row and column where the data are not right.
    """
    check_squad(template, shots, data)
    example = (_put(template, EXAMPLE), EXAMPLE["answer"]) if shots else ()
    columns = {"id": text, "context": text, "question": text, "answers": _answers}
    items = tuple(
        Passage(row["id"], as_text(turns, "\n\n"), row["answers"], turns)
        for row in load_rows(SPLIT, columns, data)
        for turns in [(*example, _put(template, row))]
    )
    task = Squad(NAME, "SQuAD", items, max_new_tokens=MAX_NEW_TOKENS).sample(limit, seed)
    return replace(task, pool=())  # nothing is injected, so the rest is not needed


def check_squad(
    template: object = TEMPLATE, shots: object = 1, data: object = None, **sample: object
) -> str:
    """Return the task's name; raises UserError for what no data can make right."""
    places = ("{context}", "{question}")
    if not isinstance(template, str) or any(template.count(place) != 1 for place in places):
        raise UserError(
            "template must contain {context} and {question} exactly once, not "
            f"{shown(template)}"
        )
    if type(shots) is not int or shots not in (0, 1):
        raise UserError(f"shots must be 0 or 1, not {shown(shots)}")
    check_data(SPLIT, data)
    return NAME


def normalised(answer: str) -> str:
    """Return an answer as SQuAD's evaluation compares it.

    In this order: small letters, ASCII punctuation out, the words a, an and the out, one space
    between words.
    """
    plain = answer.lower().translate(PUNCTUATION)
    return " ".join(ARTICLES.sub(" ", plain).split())


def exact_match(said: str, answers: Sequence[str]) -> bool:
    """Say whether a reply is, normalised, one of the answers."""
    return normalised(said) in {normalised(answer) for answer in answers}


def f1(said: str, answers: Sequence[str]) -> float:
    """Return the greatest F1 of a reply's words against those of any one answer.

    Words count as often as they occur. A reply or an answer that normalises to nothing has F1 0,
    even if both do, as in the evaluation of version 1.1.
    """
    return max(_shared_words(said, answer) for answer in answers)


def _shared_words(said: str, answer: str) -> float:
    ours, theirs = normalised(said).split(), normalised(answer).split()
    shared = (Counter(ours) & Counter(theirs)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


def _put(template: str, row: Mapping[str, Any]) -> str:
    """Return the template with the row's context and question, whatever braces they hold."""
    return re.sub(r"\{(context|question)\}", lambda place: row[place[1]].strip(), template)


def _answers(value: Any) -> tuple[str, ...]:
    """Read the column of answers: {text: [one or more], answer_start: …}."""
    texts = value.get("text") if isinstance(value, Mapping) else None
    if not isinstance(texts, list) or not texts:
        raise UserError('must be {"text": [one answer or more], …}')
    return tuple(text(answer) for answer in texts)
