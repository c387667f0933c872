"""Questions that a kind of model cannot answer: errors that name the question to ask instead."""

from typing import Any, NoReturn

from impasto.error import UserError


class PredictsNoNextToken:
    """The questions that only a decoder answers, as an encoder refuses them."""

    is_encoder = True

    def class_logits(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; under `apply`, the model's own forward gives what its head says."""
        raise _for_decoders(
            self, "class_logits", "with impasto.apply(model.hf, plan), model.hf gives its own"
        )

    @property
    def prefix_token(self) -> NoReturn:
        """Refuse: nothing is predicted after an empty context."""
        raise _for_decoders(self, "prefix_token", "an encoder scores no continuations")

    def scored_tokens(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is how lm-eval reads texts for a decoder."""
        raise _for_decoders(self, "scored_tokens", "an encoder scores no continuations")

    def token_pair(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: a text has no continuation."""
        raise _for_decoders(self, "token_pair", "an encoder scores no continuations")

    def next_logits(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `token_logits` gives those at every token."""
        raise _for_decoders(self, "next_logits", "token_logits gives the logits at every token")

    def loglikelihood(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `masked_scores` gives pseudo-log-likelihoods."""
        raise _for_decoders(self, "loglikelihood", "masked_scores gives pseudo-log-likelihoods")

    def fidelity(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `masked_scores` scores the tokens of texts, each masked alone."""
        raise _for_decoders(self, "fidelity", "masked_scores scores texts, each token masked alone")

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `fill` gives the likeliest tokens at masks."""
        raise _for_decoders(self, "generate", "fill gives the likeliest tokens at masks")

    def scoring_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is about continuations."""
        raise _for_decoders(self, "scoring_cost", "an encoder scores no continuations")

    def fidelity_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is about next tokens."""
        raise _for_decoders(self, "fidelity_cost", "an encoder predicts no next tokens")

    def generating_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: it is about continuations."""
        raise _for_decoders(self, "generating_cost", "an encoder writes no continuations")


class MasksNoToken:
    """The questions that only another kind of model answers, as a decoder refuses them."""

    is_encoder = False

    def class_logits(self, *_: Any, **__: Any) -> Any:
        """Refuse: it is about decoders whose head classifies; `next_logits` is about tokens."""
        raise UserError(
            f"class_logits is for decoders with a head that classifies, and {self!r} predicts "
            "tokens; next_logits gives the logits after the last token"
        )

    def token_logits(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `next_logits` gives those after the last token."""
        raise _for_encoders(
            self, "token_logits", "next_logits gives the logits after the last token"
        )

    def masked_scores(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `loglikelihood` scores continuations."""
        raise _for_encoders(self, "masked_scores", "loglikelihood scores continuations")

    def fill(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse; `generate` writes continuations."""
        raise _for_encoders(self, "fill", "generate writes continuations")


def _for_decoders(model: object, what: str, instead: str) -> UserError:
    return UserError(f"{what} is for decoders, and {model!r} is an encoder; {instead}")


def _for_encoders(model: object, what: str, instead: str) -> UserError:
    return UserError(f"{what} is for encoders, and {model!r} is a decoder; {instead}")
