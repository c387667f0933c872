"""Whether a model's answers under plans are right on this machine, by every way to ask for them.

Each plan writes a few tokens behind a prompt. Then the logits that were worked by hand
(:mod:`impasto.speed.doctor.by_hand`) are those that the engine's packed, cached and applied ways
must give, but for rounding.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.checks.decoder import allowed, difference, rows_differ
from impasto.model.checks.precision import full_precision
from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.run import Model, apply
from impasto.run.calls import evaluating
from impasto.run.opening import opened
from impasto.speed.bench import random_tokens
from impasto.speed.doctor.by_hand import Trial, last_logits, trials

_PROMPT, _NEW = 24, 4  # tokens
IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class Answer:
    """How far a plan's answers are from those worked by hand, relative to the largest logit.

    Attributes:
        name: What the plan does.
        plan: The plan.
        applied: Of the logits of the whole text, without a cache.
        cached: Of the logits as Hugging Face's ``generate`` writes under the plan, with its cache.
        packed: Of the mean log-probability of the tokens, scored with all other plans.
        written: How far the tokens that the engine wrote are below the likeliest.
        limit: What counts as rounding in the model's dtype.
    """

    name: str
    plan: str
    applied: float
    cached: float
    packed: float
    written: float
    limit: float

    @property
    def apart(self) -> float:
        """The largest of the differences."""
        return max(self.applied, self.cached, self.packed, self.written)

    @property
    def is_right(self) -> bool:
        """Whether all are rounding; a difference that is no number is not."""
        ways = (self.applied, self.cached, self.packed, self.written)
        return all(each <= self.limit for each in ways)


@torch.no_grad()
def compared(model: Model, watching: AbstractContextManager[object]) -> list[Answer]:
    """Return how right the identity plan and others are, in the full precision of the dtype.

    The engine writes and scores in the context ``watching``; what is worked by hand is not.
    """
    with full_precision():
        inner = opened(model.hf)
        tried: list[Trial | None] = [None, *trials(inner)]
        plans = [Plan.identity(inner.num_layers) if t is None else t.plan for t in tried]
        prompt = _prompt(model)
        with watching:
            every = model.generate(plans, [prompt], max_new_tokens=_NEW)
            written = [tokens for [tokens] in every]
            texts = [_filled(prompt, tokens) for tokens in written]
            scores = model.loglikelihood(plans, [(prompt, text[len(prompt) :]) for text in texts])
        answers = []
        for index, trial in enumerate(tried):
            by_hand = _by_hand(inner, trial, texts[index], len(prompt))
            found = _Found(
                model, plans[index], texts[index], written[index], scores[index][index][0]
            )
            answers.append(found.beside(by_hand, IDENTITY if trial is None else trial.name))
    return answers


@dataclass(frozen=True)
class _Found:
    """What the engine said of one plan: the text it went on to, and its score."""

    model: Model
    plan: Plan
    text: list[int]
    written: list[int]
    score: float

    def beside(self, by_hand: Float[Tensor, "new vocab"], name: str) -> Answer:
        """Return how far it is from the logits by hand, those before each token that is new."""
        inner = opened(self.model.hf)
        limit = allowed(inner)
        largest = float(by_hand.abs().max().clamp(min=1e-6))
        new = torch.tensor(self.text[-len(by_hand) :], device=by_hand.device)[:, None]
        mean = by_hand.double().log_softmax(-1).gather(1, new).mean()
        least = by_hand.amax(1) - by_hand.gather(1, new)[:, 0]
        read = torch.tensor([self.text[:-1]])
        applied = self.model.next_logits(self.plan, read)[0]
        cached = self._cached(self.text[: -len(by_hand)])
        # Of a log-probability, the logit may be off and what all are divided by, too.
        return Answer(
            name,
            str(self.plan),
            difference(applied, by_hand[-1]),
            rows_differ(inner, cached, by_hand[: len(cached)]),
            abs(self.score / len(by_hand) - float(mean)) / largest / 2,
            float(least[: len(self.written)].amax()) / largest / 2 if self.written else 0.0,
            limit,
        )

    def _cached(self, prompt: Sequence[int]) -> Float[Tensor, "new vocab"]:
        """Return logits as Hugging Face's own loop writes, as long as it writes this text."""
        hf = self.model.hf
        ids = torch.tensor([list(prompt)], device=opened(hf).device)
        with evaluating(hf), apply(hf, self.plan):
            out = hf.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_NEW,
                do_sample=False,
                num_beams=1,
                pad_token_id=0,
                return_dict_in_generate=True,
                output_logits=True,
            )
        own, new = out.sequences[0, len(prompt) :].tolist(), self.text[len(prompt) :]
        count = 1
        while count < len(own) and own[:count] == new[:count]:
            count += 1
        return torch.cat(out.logits[:count])


def _by_hand(
    inner: OpenedModel, trial: Trial | None, text: list[int], begin: int
) -> Float[Tensor, "new vocab"]:
    """Return the logits before each token of a text that is new, each of a prefix read anew."""
    rows = [last_logits(inner, trial, text[:end]) for end in range(begin, len(text))]
    return torch.stack(rows).float()


def _prompt(model: Model) -> list[int]:
    longest = _PROMPT if model.max_positions is None else min(_PROMPT, model.max_positions - _NEW)
    return random_tokens(model, 1, max(longest, 1), seed=0)[0].tolist()


def _filled(prompt: list[int], tokens: list[int]) -> list[int]:
    """Return a prompt with so many tokens behind it, also where the model ended early."""
    return prompt + tokens[:_NEW] + prompt[: _NEW - len(tokens)]
