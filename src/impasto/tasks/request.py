"""What a task can ask of a model: three kinds of request, and what each is answered with.

The kinds and their meaning are lm-evaluation-harness's. Nothing here knows models or tokenizers.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """How likely is the continuation after the context?

    Answered with (sum of log p in nats, whether every token was the likeliest).
    """

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class RollingLogLikelihood:
    """How likely is the whole text, read in as few windows as the model's context allows?

    Answered with the sum of log p in nats.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Generation:
    """How does the prompt go on, up to the first of the stops? Answered with the text before it."""

    prompt: str
    stop: tuple[str, ...]
    max_new_tokens: int


Request = LogLikelihood | RollingLogLikelihood | Generation
Response = tuple[float, bool] | float | str
