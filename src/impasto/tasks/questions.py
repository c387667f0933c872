"""Tasks of our own: questions that are answered by generating, each judged by itself.

A question's prompt is continued greedily up to `max_new_tokens` or a stop, and the reply is right
if it is exactly one of the answers. Subclasses judge otherwise. With `chat` set, prompts are put by
the model's chat template, each solved example as two turns.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from impasto.error import UserError, near, shown
from impasto.tasks.chat import Chat
from impasto.tasks.donors import GivenDonor, donor_for
from impasto.tasks.request import Generation, Response
from impasto.tasks.task import Estimate, Value, mean

EXACT_MATCH = "exact_match"
INJECTED = "answers_injected"
ORIGINAL = "answers_original"


@dataclass(frozen=True, slots=True)
class Question:
    """One item: what the model reads, and the answer that counts.

    `subject` is the text in the prompt that is asked about, and what injection replaces. It occurs
    exactly once in the prompt; None where a task has no such thing. `aliases` are other answers
    that count as well. `turns` are what the prompt consists of, the questions and answers of solved
    examples in turn, and last the question. `given` is a donor of the user's own.
    """

    id: str
    prompt: str
    answer: str
    subject: str | None = None
    aliases: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    given: GivenDonor | None = None

    def __post_init__(self) -> None:
        if self.subject is not None and self.prompt.count(self.subject) != 1:
            raise UserError(
                f"the subject {self.subject!r} must occur exactly once in the prompt, "
                f"and occurs {self.prompt.count(self.subject)} times in {self.prompt!r}"
            )

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers that count, the usual one first."""
        return (self.answer, *self.aliases)


def as_text(turns: Sequence[str], between: str) -> str:
    """Return turns as a prompt that is no chat: `between` stands behind every solved example.

    A space stands between a question and its answer, unless the question ends in white space.
    """
    solved = zip(turns[:-1:2], turns[1::2], strict=True)
    return "".join(f"{asked}{gap(asked)}{answer}{between}" for asked, answer in solved) + turns[-1]


def gap(asked: str) -> str:
    """Return what stands between a question's text and its answer."""
    return "" if asked[-1:].isspace() else " "


@dataclass(frozen=True, slots=True)
class Questions:
    """A named set of questions, with how long a reply may be and what ends it; a `Task`.

    `pool` is what donors are drawn from: all the questions of which `items` may be a sample. Empty
    means `items`. Items may be of any frozen dataclass with an `id`, a `prompt` and `turns`. `chat`
    says how they are put as a chat; None: as the text that they are.
    """

    name: str
    title: str
    items: tuple[Any, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)
    pool: tuple[Any, ...] = ()
    part_of: str = ""
    chat: Chat | None = None

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
        return self.digest_with(())

    def digest_with(self, more: Sequence[object]) -> str:
        """Return the digest of the task's content and of more that is a subclass's."""
        content: list[Any] = [self.name, self.max_new_tokens, self.stop]
        content += [[_told(question) for question in group] for group in (self.items, self.pool)]
        if self.chat is not None:
            content.append(repr((self.chat, [question.turns for question in self.items])))
        content += more
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def requests(self, tokenizer: Any = None) -> Sequence[Sequence[Any]]:
        """Return one generation for each question.

        Raises UserError for a chat where the tokenizer has no chat template.
        """
        put = self.writer(tokenizer)
        return [(Generation(put(q), self.stop, self.max_new_tokens),) for q in self.items]

    def writer(self, tokenizer: Any) -> Callable[[Any], str]:
        """Return what gives a question's prompt as the model reads it."""
        if self.chat is None:
            return lambda question: question.prompt
        write = self.chat.writer(tokenizer)
        return lambda question: write(question.turns or (question.prompt,))

    def judge(self, item: Any, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Say whether the reply gives exactly one of the question's answers."""
        return {EXACT_MATCH: self.is_right(item, responses, item.answers)}

    def is_right(self, item: Any, responses: Sequence[Response], answers: Sequence[str]) -> bool:
        """Say whether the responses to an item give one of these answers."""
        [text] = responses
        assert isinstance(text, str)
        return self.answer_of(text) in answers

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return the mean."""
        return mean(values)

    def chance(self, metric: str) -> float:
        """Return the share that is right when the most frequent answer is always given."""
        answers = Counter(answer for item in self.items for answer in set(item.answers))
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

    @property
    def has_donors(self) -> bool:
        """Whether states can be injected: from donors of the user's own, or between questions."""
        items = (*self.items, *self.pool)
        return any(item.given or item.subject is not None for item in items)

    def with_donors(self, donors: Mapping[str | None, GivenDonor], source: str) -> Self:
        """Return the task with donors of the user's own, by the id of a question; None: all others.

        Raises UserError, naming the `source`, for an id that no question has, a question without a
        donor, and one in which there is nothing to replace.
        """
        known = {item.id for item in self.pool}
        for name in donors:
            if name is not None and name not in known:
                raise UserError(
                    f"{source}: {self.name} has no question {name!r}{near(name, sorted(known))}"
                )
        return replace(
            self,
            items=tuple(
                replace(item, given=donor_for(item, donors, f"{source}: {self.name}"))
                for item in self.items
            ),
        )

    def donor(self, item: Question, tokenizer: Any = None) -> Mapping[str, str]:
        """Return where the donor's states come from and where they go (paper A, Figure 5)."""
        put = self.writer(tokenizer)
        if item.given is not None:
            given = item.given
            prompt = Question(item.id, given.prompt, "")
            return {
                "prompt": put(prompt),
                "donor_span": given.donor_span,
                "target_span": given.target_span or str(item.subject),
            }
        donor = self.donor_of(item)
        if item.subject is None:
            raise UserError(f"{self.name} has no subject to replace in {item.id!r}")
        return {
            "prompt": put(donor),
            "donor_span": donor.subject,
            "target_span": item.subject,
        }

    def judge_injected(self, item: Question, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Say whether the reply still gives the question's own answer, and whether the donor's."""
        theirs = self.donor_of(item).answers if item.given is None else item.given.answers
        return {
            ORIGINAL: self.is_right(item, responses, item.answers),
            INJECTED: self.is_right(item, responses, theirs),
        }


def _first_stop(text: str, stop: tuple[str, ...]) -> int:
    """Return where the first stop begins in the text, or the text's length."""
    return min((text.index(s) for s in stop if s in text), default=len(text))


def _fingerprint(text: str) -> int:
    """Return a number that is the same for a text in every process and version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _told(question: Any) -> list[Any]:
    """Return what can change a result of a question: all its fields that say something.

    The prompt says what its turns do. What came to be later counts only where it is given, so that
    results without it stay what they were.
    """
    later = ("aliases", "given")
    return [
        repr(value) if field.name == "given" else value
        for field in fields(question)
        for value in [getattr(question, field.name)]
        if field.name != "turns" and (value or field.name not in later)
    ]
