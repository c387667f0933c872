"""What a task can ask of a model, and what each kind of request is answered with.

Three kinds are for decoders, with lm-evaluation-harness's meaning, one asks decoders how near a
plan stays to the full model, and two are for encoders. Nothing
here knows models or tokenizers.

`as_lm_eval` says that a text is read as lm-eval's `HFLM` reads it also where that is not as a text
that goes on should be read: with the special tokens that some tokenizers append (see `run.text`).
Requests of lm-eval's tasks have it. It follows from the task, so it is no part of what a request is
told by (`repr`).
"""

from dataclasses import dataclass, field

from impasto.tasks.problem import Problem


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """How likely is the continuation after the context?

    Answered with (sum of log p in nats, whether every token was the likeliest).
    """

    context: str
    continuation: str
    as_lm_eval: bool = field(default=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RollingLogLikelihood:
    """How likely is the whole text, read in as few windows as the model's context allows?

    Answered with the sum of log p in nats. There is no other reading of it than lm-eval's.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Generation:
    """How does the prompt go on, up to the first of the stops? Answered with the text before it.

    `think_end`, where given, ends a model's thinking, as a text or as a token id: the answer is
    what stands behind the last one.
    """

    prompt: str
    stop: tuple[str, ...]
    max_new_tokens: int
    think_end: str | int | None = field(default=None, repr=False)
    as_lm_eval: bool = field(default=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How near to the full model's predictions are a plan's, at each token of a text?

    The text is given as token ids, and read in pieces of at most `length` tokens. Answered with
    (how many tokens were predicted, sum of log p in nats, sum of KL(full model || plan) in nats, at
    how many tokens both have the same likeliest one).
    """

    ids: tuple[int, ...]
    length: int


@dataclass(frozen=True, slots=True)
class MaskedText:
    """How likely is each token of a text, masked alone?

    Answered with (sum of log p in nats, how many were the likeliest, how many there were).
    """

    text: str


@dataclass(frozen=True, slots=True)
class HeadQuestion:
    """What does a head that was fitted to a problem say of a text, or of two?

    Answered with a class, as a number from 0, or with the number that was to be told.
    """

    problem: Problem
    first: str
    second: str | None


Request = LogLikelihood | RollingLogLikelihood | Generation | Fidelity | MaskedText | HeadQuestion
Response = tuple[float, bool] | tuple[float, int, int] | tuple[int, float, float, int] | float | str
