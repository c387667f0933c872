"""What a given text is worth: the metrics of one cell, question by question.

A plan that injects is asked two things: did the model answer for the donor's subject
(`answers_injected`), or still for its own (`answers_original`)? Every other plan has `exact_match`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan, sqrt

from impasto.plan import Plan
from impasto.tasks import Question, Task

EXACT_MATCH = "exact_match"
INJECTED = "answers_injected"
ORIGINAL = "answers_original"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one plan made the model say to one question, and whether that is right, by metric."""

    question: str
    text: str
    right: Mapping[str, bool]


def metrics_of(plan: Plan) -> tuple[str, ...]:
    """Return the metrics by which a plan is judged."""
    return (ORIGINAL, INJECTED) if plan.injections else (EXACT_MATCH,)


def judge(task: Task, question: Question, text: str, metric: str) -> bool:
    """Say whether a text is right for a question by a metric."""
    asked = task.donor_of(question) if metric == INJECTED else question
    return task.is_right(asked, text)


def judged(task: Task, plan: Plan, texts: list[str]) -> list[Answer]:
    """Return the judged answers of one plan to a task's questions, in their order."""
    return [
        Answer(question.id, text, {m: judge(task, question, text, m) for m in metrics_of(plan)})
        for question, text in zip(task.questions, texts, strict=True)
    ]


def share(task: Task, texts: list[str], metric: str) -> float:
    """Return the share of a task's questions that the texts answer rightly by a metric."""
    pairs = zip(task.questions, texts, strict=True)
    return sum(judge(task, question, text, metric) for question, text in pairs) / len(texts)


def standard_error(share: float, n: int) -> float:
    """Return the standard error of a share of n independent questions.

    It is the sample's standard deviation over √n, with n − 1 in the variance, as evaluation
    harnesses report it; not a number for a single question.
    """
    return sqrt(share * (1 - share) / (n - 1)) if n > 1 else nan
