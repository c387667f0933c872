"""Questions of the user's own, from a file: generated, chosen, or scored by likelihood.

`exact_match` generates a reply and compares it with the answers that count. `choices` takes the
likeliest of given choices, by the log-likelihood of all its tokens. `likelihood` asks how likely
the answer is, all its tokens together; of several answers the likeliest counts.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from impasto.error import UserError, near, shown
from impasto.paths import path_of
from impasto.tasks.data import labelled
from impasto.tasks.donors import GivenDonor
from impasto.tasks.question_file import TEMPLATE, FileQuestion, Form, read_questions
from impasto.tasks.questions import EXACT_MATCH, SubjectQuestions, gap
from impasto.tasks.request import LogLikelihood, Response
from impasto.tasks.task import Estimate, Value, mean, perplexity

NAME = "questions"
CHOICES, LIKELIHOOD = "choices", "likelihood"
SCORES = (EXACT_MATCH, CHOICES, LIKELIHOOD)
ACC, ACC_NORM, PERPLEXITY = "acc", "acc_norm", "perplexity"
STOP, MAX_NEW_TOKENS = "\n", 32
PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class FileQuestions(SubjectQuestions):
    """Questions of a file, and how their answers are scored: one of `SCORES`.

    `ignore_case` and `ignore_punctuation` are of exact matches, as in lm-eval.
    """

    score: str = EXACT_MATCH
    ignore_case: bool = False
    ignore_punctuation: bool = False

    @property
    def digest(self) -> str:
        """A sha256 over everything that can change a result."""
        told = [self.score, self.ignore_case, self.ignore_punctuation]
        return self.digest_with(told)

    @property
    def has_donors(self) -> bool:
        """Whether states can be injected: only a reply that is generated can be the donor's."""
        return self.score == EXACT_MATCH and super(FileQuestions, self).has_donors

    def with_donors(self, donors: Mapping[str | None, GivenDonor], source: str) -> Self:
        """Return the task with donors of the user's own; raises UserError, too, without replies."""
        if self.score != EXACT_MATCH:
            raise UserError(
                f"donors are for replies that are generated, score: {EXACT_MATCH}; score is "
                f"{self.score}"
            )
        return super(FileQuestions, self).with_donors(donors, source)

    def requests(self, tokenizer: Any = None) -> Sequence[Sequence[Any]]:
        """Return a generation for each question, or what is to be scored of it.

        Raises UserError where no answer fits into `max_new_tokens`.
        """
        if self.score == EXACT_MATCH:
            self._check_lengths(tokenizer)
            return super(FileQuestions, self).requests(tokenizer)
        put = self.writer(tokenizer)
        return [
            [LogLikelihood(prompt, self._gap(prompt) + answer) for answer in self._scored(item)]
            for item in self.items
            for prompt in [put(item)]
        ]

    def judge(self, item: FileQuestion, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return whether the answer is right; of a likelihood also log p of the answer in nats."""
        if self.score == EXACT_MATCH:
            return {EXACT_MATCH: self.is_right(item, responses, item.answers)}
        if self.score == CHOICES:
            by_length = [len(choice) for choice in item.choices]
            return {
                ACC: self.is_right(item, responses, item.answers),
                ACC_NORM: _likeliest(item, responses, by_length) in item.answers,
            }
        scores: Any = responses
        return {
            ACC: any(is_greedy for _, is_greedy in scores),
            PERPLEXITY: max(log_p for log_p, _ in scores),
        }

    def is_right(self, item: Any, responses: Sequence[Response], answers: Sequence[str]) -> bool:
        """Say whether the reply, or the choice that was taken, is one of these answers."""
        if self.score == CHOICES:
            return _likeliest(item, responses) in answers
        [text] = responses
        said = self._plain(self.answer_of(str(text)))
        return said in {self._plain(answer) for answer in answers}

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return the mean; of log p, exp(−log p per answer), as lm-eval's LAMBADA has it."""
        if metric == PERPLEXITY:
            return perplexity([(log_p, 1) for log_p in values])
        return mean(values)

    def chance(self, metric: str) -> float:
        """Return what choosing at random, or always giving the most frequent answer, scores."""
        if metric == PERPLEXITY:
            return nan
        if self.score == CHOICES:
            return fmean(len(item.answers) / len(item.choices) for item in self.items)
        every = Counter(
            said for item in self.items for said in {self._plain(text) for text in item.answers}
        )
        return max(every.values()) / len(self.items)

    def told(self, item: FileQuestion) -> Mapping[str, Any]:
        """Return what a reader is told of a question: with its choices, and the right answer."""
        choices = self._scored(item) if self.score != EXACT_MATCH else ()
        return {"question": item.prompt, "choices": choices, "right": item.answer}

    def _scored(self, item: FileQuestion) -> tuple[str, ...]:
        return item.choices if self.score == CHOICES else item.answers

    def _gap(self, prompt: str) -> str:
        """Return what stands before an answer; a chat's reply begins with it."""
        return gap(prompt) if self.chat is None else ""

    def _plain(self, text: str) -> str:
        """Return a text as it is compared."""
        text = text.translate(PUNCTUATION) if self.ignore_punctuation else text
        text = text.casefold() if self.ignore_case else text
        return " ".join(text.split())

    def _check_lengths(self, tokenizer: Any) -> None:
        if tokenizer is None:
            return
        for item in self.items:
            lengths = [
                len(tokenizer.encode(text, add_special_tokens=False)) for text in item.answers
            ]
            if min(lengths) > self.max_new_tokens:
                raise UserError(
                    f"{self.name}: the answer to the question {item.id!r} has {min(lengths)} "
                    f"tokens, and a reply ends after {self.max_new_tokens}: raise max_new_tokens, "
                    f"or have long answers scored by likelihood (score: {LIKELIHOOD})"
                )


def _likeliest(
    item: FileQuestion, responses: Sequence[Response], lengths: Sequence[int] | None = None
) -> str:
    """Return the choice with the greatest log p, divided by these lengths; the first of equals."""
    scores: list[Any] = list(responses)
    values = [log_p / (lengths[at] if lengths else 1) for at, (log_p, _) in enumerate(scores)]
    return item.choices[values.index(max(values))]


def questions(
    file: str,
    score: str = EXACT_MATCH,
    template: str = TEMPLATE,
    columns: Mapping[str, str] | None = None,
    shots: int = 0,
    stop: str | Sequence[str] = STOP,
    max_new_tokens: int = MAX_NEW_TOKENS,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    label: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> FileQuestions:
    r"""Return the questions of a file as a task.

    Args:
        file: JSONL, JSON, CSV or Parquet; a row has a question and an answer, and for `choices`
            the choices. Several answers that count are a list.
        score: `exact_match` of what is generated, the likeliest of `choices`, or `likelihood` of
            the answer.
        template: How a question is put; names of columns stand in braces.
        columns: What the file calls its columns, by our names: id, question, answer, choices,
            subject.
        shots: How many first rows are solved examples before each question; they are not asked.
        stop: What ends a generated reply, one text or several.
        max_new_tokens: The longest generated reply.
        ignore_case: Whether an exact match may differ in small and capital letters.
        ignore_punctuation: Whether it may differ in ASCII punctuation.
        label: What results call the task, behind `questions-`; the file's name unless given.
        limit: At most so many questions, drawn by `seed`.
        seed: What draws them.

    Raises UserError, naming file, row and column, for what cannot be asked.
    """
    name = check_questions(
        file,
        score,
        template,
        columns,
        shots,
        stop,
        max_new_tokens,
        ignore_case,
        ignore_punctuation,
        label,
    )
    path = path_of(file, "a file of questions")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    generates = score == EXACT_MATCH
    items = read_questions(path, Form(template, columns, shots), stops if generates else ())
    if score == CHOICES:
        _check_choices(items, path)
    _check_subjects(items, path)
    task = FileQuestions(
        name,
        f"Questions ({label or path.stem})",
        tuple(items),
        max_new_tokens,
        stops,
        score=score,
        ignore_case=ignore_case,
        ignore_punctuation=ignore_punctuation,
    )
    return task.sample(limit, seed)


def check_questions(
    file: Any,
    score: Any = EXACT_MATCH,
    template: Any = TEMPLATE,
    columns: Any = None,
    shots: Any = 0,
    stop: Any = STOP,
    max_new_tokens: Any = MAX_NEW_TOKENS,
    ignore_case: Any = False,
    ignore_punctuation: Any = False,
    label: Any = None,
    **sample: object,
) -> str:
    """Return the task's name; raises UserError for what no file can make right."""
    path = path_of(file, "a file of questions")
    if score not in SCORES:
        hint = near(score, SCORES) if isinstance(score, str) else ""
        raise UserError(f"score must be one of {', '.join(SCORES)}, not {shown(score)}{hint}")
    Form(template, columns, shots).check()
    stops = [stop] if isinstance(stop, str) else stop
    is_list = isinstance(stops, list | tuple) and bool(stops)
    if not is_list or not all(isinstance(text, str) and text for text in stops):
        raise UserError(f"stop must be a text that ends a reply, or several, not {shown(stop)}")
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise UserError(
            f"max_new_tokens must be a whole number from 1 on, not {shown(max_new_tokens)}"
        )
    ignoring = {"ignore_case": ignore_case, "ignore_punctuation": ignore_punctuation}
    for option, value in ignoring.items():
        if type(value) is not bool:
            raise UserError(f"{option} must be true or false, not {shown(value)}")
        if value and score != EXACT_MATCH:
            raise UserError(f"{option} is of score: {EXACT_MATCH}, and score is {score}")
    if label is not None and not (isinstance(label, str) and re.search(r"\w", label)):
        raise UserError(f"label must be a text, not {shown(label)}")
    return labelled(NAME, label or path.stem)


def _check_choices(items: Sequence[FileQuestion], path: Path) -> None:
    for item in items:
        if not item.choices:
            raise UserError(
                f"{path}: the question {item.id!r} has no choices, which score: {CHOICES} chooses "
                "among; give each row a list, or another score"
            )


def _check_subjects(items: Sequence[FileQuestion], path: Path) -> None:
    """Raise UserError where some questions have a subject and others have none."""
    without = [item.id for item in items if item.subject is None]
    if without and len(without) < len(items):
        raise UserError(
            f"{path}: the question {without[0]!r} has no subject, and others have; give every row "
            "one, or none"
        )
