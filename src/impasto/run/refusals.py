"""What one kind of model is asked in vain, answered with what to ask instead."""

from typing import Any, NoReturn

from impasto.error import UserError


class PredictsNoNextToken:
    """An encoder: the questions that need a decoder."""

    is_encoder = True

    @property
    def prefix_token(self) -> NoReturn:
        """Refuse: nothing is predicted after an empty context."""
        raise _decoders(self, "prefix_token", "an encoder scores no continuations")

    def scored_tokens(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is how lm-eval reads texts for a decoder."""
        raise _decoders(self, "scored_tokens", "an encoder scores no continuations")

    def token_pair(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: a text has no continuation."""
        raise _decoders(self, "token_pair", "an encoder scores no continuations")

    def next_logits(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `token_logits` gives those at every token."""
        raise _decoders(self, "next_logits", "token_logits gives the logits at every token")

    def loglikelihood(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `masked_scores` gives pseudo-log-likelihoods."""
        raise _decoders(self, "loglikelihood", "masked_scores gives pseudo-log-likelihoods")

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `fill` gives the likeliest tokens at masks."""
        raise _decoders(self, "generate", "fill gives the likeliest tokens at masks")

    def scoring_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is about continuations."""
        raise _decoders(self, "scoring_cost", "an encoder scores no continuations")

    def generating_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is about continuations."""
        raise _decoders(self, "generating_cost", "an encoder writes no continuations")


class MasksNoToken:
    """A decoder: the questions that need an encoder."""

    is_encoder = False

    def token_logits(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `next_logits` gives those after the last token."""
        raise _encoders(self, "token_logits", "next_logits gives the logits after the last token")

    def masked_scores(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `loglikelihood` scores continuations."""
        raise _encoders(self, "masked_scores", "loglikelihood scores continuations")

    def fill(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `generate` writes continuations."""
        raise _encoders(self, "fill", "generate writes continuations")


def _decoders(model: object, what: str, instead: str) -> UserError:
    return UserError(f"{what} is for decoders, and {model!r} is an encoder; {instead}")


def _encoders(model: object, what: str, instead: str) -> UserError:
    return UserError(f"{what} is for encoders, and {model!r} is a decoder; {instead}")
