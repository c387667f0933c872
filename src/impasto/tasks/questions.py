"""Tasks of our own: questions that are answered by generating, each judged by itself.

A question's prompt is continued greedily up to `max_new_tokens` or a stop, and the reply is right
if it is exactly the answer. Subclasses judge otherwise.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any, Self

from impasto.error import UserError, shown
from impasto.tasks.request import Generation, Response
from impasto.tasks.task import Estimate, Value, mean

EXACT_MATCH = "exact_match"
INJECTED = "answers_injected"
ORIGINAL = "answers_original"


@dataclass(frozen=True, slots=True)
class Question:
    """One item: what the model reads, and the answer that counts.

    `subject` is the text in the prompt that is asked about, and what injection replaces. It occurs
    exactly once in the prompt; None where a task has no such thing.
    """

    id: str
    prompt: str
    answer: str
    subject: str | None = None

    def __post_init__(self) -> None:
        if self.subject is not None and self.prompt.count(self.subject) != 1:
            raise UserError(
                f"the subject {self.subject!r} must occur exactly once in the prompt, "
                f"and occurs {self.prompt.count(self.subject)} times in {self.prompt!r}"
            )


@dataclass(frozen=True, slots=True)
class Questions:
    """A named set of questions, with how long a reply may be and what ends it; a `Task`.

    `pool` is what donors are drawn from: all the questions of which `items` may be a sample. Empty
    means `items`. Items may be of any frozen dataclass with an `id` and a `prompt`.
    """

    name: str
    title: str
    items: tuple[Any, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)
    pool: tuple[Any, ...] = ()
    part_of: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise UserError(f"the task {self.name!r} has no questions")
        repeated = [i for i, n in Counter(q.id for q in self.items).items() if n > 1]
        if repeated:
            raise UserError(f"the task {self.name!r} has several questions {repeated[0]!r}")
        if not self.pool:
            object.__setattr__(self, "pool", self.items)

    @property
    def digest(self) -> str:
        """A sha256 over everything that can change a result: questions, donors, stops, length."""
        content = [self.name, self.max_new_tokens, self.stop]
        content += [[astuple(question) for question in group] for group in (self.items, self.pool)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def requests(self, tokenizer: Any = None) -> list[tuple[Generation]]:
        """Return one generation for each question."""
        return [(Generation(q.prompt, self.stop, self.max_new_tokens),) for q in self.items]

    def judge(self, item: Any, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Say whether the reply gives exactly the question's answer."""
        return {EXACT_MATCH: self._is_right(item, responses)}

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return the mean."""
        return mean(values)

    def chance(self, metric: str) -> float:
        """Return the share that is right when the most frequent answer is always given."""
        answers = Counter(question.answer for question in self.items)
        return max(answers.values()) / len(self.items)

    def answer_of(self, text: str) -> str:
        """Return the answer in a reply: what stands before the first stop, without outer spaces."""
        return text[: _first_stop(text, self.stop)].strip()

    def sample(self, limit: int | None, seed: int = 0) -> Self:
        """Return the task with at most `limit` of its questions, the same ones for a seed.

        They keep their order, and a larger sample holds every smaller one with its seed.
        """
        if limit is None:
            return self
        if not _is_integer(limit) or limit < 1:
            raise UserError(f"limit must be a whole number from 1 on, not {shown(limit)}")
        ids = {question.id for question in self.drawn(seed).items[:limit]}
        return replace(self, items=tuple(q for q in self.items if q.id in ids))

    def drawn(self, seed: int = 0) -> Self:
        """Return the task with its questions in the order in which a seed draws them.

        Its first n are the questions of `sample(n, seed)`.
        """
        if not _is_integer(seed):
            raise UserError(f"seed must be a whole number, not {shown(seed)}")
        drawn = sorted(self.items, key=lambda q: _fingerprint(f"{seed} {q.id}"))
        return replace(self, items=tuple(drawn))

    def _is_right(self, question: Any, responses: Sequence[Response]) -> bool:
        [text] = responses
        assert isinstance(text, str)
        return self.answer_of(text) == question.answer


@dataclass(frozen=True, slots=True)
class SubjectQuestions(Questions):
    """Questions that each have a subject, so that another one's states can be injected."""

    def donor_of(self, question: Any) -> Any:
        """Return the question whose states injection brings into this one (paper A, section 4).

        It has another answer, depends on the question's id alone, and comes from the whole pool,
        so that a sample of a task has the donors that the whole task has. Raises UserError where
        the task offers none.
        """
        start = _fingerprint(f"donor of {question.id}") % len(self.pool)
        for candidate in self.pool[start:] + self.pool[:start]:
            if candidate.answer != question.answer and candidate.subject is not None:
                return candidate
        raise UserError(f"the task {self.name!r} has no question to inject into {question.id!r}")

    def donor(self, item: Question) -> Mapping[str, str]:
        """Return where the donor's states come from and where they go (paper A, Figure 5)."""
        donor = self.donor_of(item)
        if item.subject is None:
            raise UserError(f"{self.name} has no subject to replace in {item.id!r}")
        return {
            "prompt": donor.prompt,
            "donor_span": donor.subject,
            "target_span": item.subject,
        }

    def judge_injected(self, item: Question, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Say whether the reply still gives the question's own answer, and whether the donor's."""
        return {
            ORIGINAL: self._is_right(item, responses),
            INJECTED: self._is_right(self.donor_of(item), responses),
        }


def _first_stop(text: str, stop: tuple[str, ...]) -> int:
    """Return where the first stop begins in the text, or the text's length."""
    return min((text.index(s) for s in stop if s in text), default=len(text))


def _fingerprint(text: str) -> int:
    """Return a number that is the same for a text in every process and version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
