"""What a task is: questions, the answers that count, and how a reply is judged.

A task is a value. It knows nothing of models, tokenizers or plans: whoever runs it gives each
question's `prompt` to a model, generates greedily up to `max_new_tokens` or a `stop`, and asks
`is_right`. For injection, `donor_of` names the question whose hidden states replace the subject's.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Question:
    """One item of a task: what the model reads, and the answer that counts.

    `subject` is the text in the prompt that is asked about, and what injection replaces. It occurs
    exactly once in the prompt; None where a task has no such thing.
    """

    id: str
    prompt: str
    answer: str
    subject: str | None = None

    def __post_init__(self) -> None:
        if self.subject is not None and self.prompt.count(self.subject) != 1:
            raise ValueError(
                f"the subject {self.subject!r} must occur exactly once in the prompt, "
                f"and occurs {self.prompt.count(self.subject)} times in {self.prompt!r}"
            )


@dataclass(frozen=True, slots=True)
class Task:
    """A named set of questions, with how long a reply may be and what ends it.

    `name` is short and unique (`arithmetic-2`), `title` is for figures. `pool` is what donors are
    drawn from: all the questions of which `questions` may be a sample. Empty means `questions`.
    """

    name: str
    title: str
    questions: tuple[Question, ...]
    max_new_tokens: int
    stop: tuple[str, ...] = ("\n",)
    pool: tuple[Question, ...] = ()

    def __post_init__(self) -> None:
        if not self.questions:
            raise ValueError(f"the task {self.name!r} has no questions")
        repeated = [i for i, n in Counter(q.id for q in self.questions).items() if n > 1]
        if repeated:
            raise ValueError(f"the task {self.name!r} has several questions {repeated[0]!r}")
        if not self.pool:
            object.__setattr__(self, "pool", self.questions)

    @property
    def chance(self) -> float:
        """The share that is right when the most frequent answer is always given."""
        answers = Counter(question.answer for question in self.questions)
        return max(answers.values()) / len(self.questions)

    @property
    def digest(self) -> str:
        """A sha256 over everything that can change a result: questions, donors, stops, length."""
        content = [self.name, self.max_new_tokens, self.stop]
        for group in (self.questions, self.pool):
            content.append([(q.id, q.prompt, q.answer, q.subject) for q in group])
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def answer_of(self, text: str) -> str:
        """Return the answer in a reply: what stands before the first stop, without outer spaces."""
        return text[: _first_stop(text, self.stop)].strip()

    def is_right(self, question: Question, text: str) -> bool:
        """Say whether a reply gives exactly the question's answer."""
        return self.answer_of(text) == question.answer

    def donor_of(self, question: Question) -> Question:
        """Return the question whose states injection brings into this one (paper A, section 4).

        It has another answer, depends on the question's id alone, and comes from the whole pool,
        so that a sample of a task has the donors that the whole task has. Raises ValueError where
        the task offers none.
        """
        start = _fingerprint(f"donor of {question.id}") % len(self.pool)
        for candidate in self.pool[start:] + self.pool[:start]:
            if candidate.answer != question.answer and candidate.subject is not None:
                return candidate
        raise ValueError(f"the task {self.name!r} has no question to inject into {question.id!r}")

    def sample(self, limit: int | None, seed: int = 0) -> "Task":
        """Return the task with at most `limit` of its questions, the same ones for a seed.

        They keep their order, and a larger sample holds every smaller one with its seed.
        """
        if limit is None:
            return self
        if not _is_integer(limit) or limit < 1:
            raise ValueError(f"limit must be a whole number from 1 on, not {limit!r}")
        if not _is_integer(seed):
            raise ValueError(f"seed must be a whole number, not {seed!r}")
        drawn = sorted(self.questions, key=lambda q: _fingerprint(f"{seed} {q.id}"))[:limit]
        ids = {question.id for question in drawn}
        return replace(self, questions=tuple(q for q in self.questions if q.id in ids))


def _first_stop(text: str, stop: tuple[str, ...]) -> int:
    """Return where the first stop begins in the text, or the text's length."""
    return min((text.index(s) for s in stop if s in text), default=len(text))


def _fingerprint(text: str) -> int:
    """Return a number that is the same for a text in every process and version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
