"""What requests need of the model that answers them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Progress = Callable[[float], None]
Pair = tuple[Any, Any]  # context and continuation: two texts, or two lists of token ids


class AskedModel(Protocol):
    """What requests need of a model; `impasto.load` returns one."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        ...

    @property
    def max_positions(self) -> int | None:
        """The most tokens that it can read, where that is known."""
        ...

    def tokens(self, text: str, as_lm_eval: bool = ...) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds."""
        ...

    def scored_tokens(self, text: str) -> list[int]:
        """Return a text's token ids as lm-eval reads a text that is scored."""
        ...

    def token_pair(
        self, context: str, continuation: str, as_lm_eval: bool = ...
    ) -> tuple[list[int], list[int]]:
        """Return the token ids of a context and of its continuation."""
        ...

    @property
    def prefix_token(self) -> int:
        """The token that stands before a text without context."""
        ...

    def loglikelihood(
        self, plans: Any, requests: Any, donors: Any = ..., progress: Progress = ...
    ) -> Any:
        """Score continuations: per plan and request, (sum of log p, all tokens likeliest?)."""
        ...

    def generate(
        self,
        plans: Any,
        prompts: Any,
        max_new_tokens: int = ...,
        stop: Sequence[str] = ...,
        donors: Any = ...,
        progress: Progress = ...,
    ) -> Any:
        """Continue every prompt under every plan."""
        ...

    def fidelity(
        self, plans: Any, texts: Any, *, length: int | None = ..., progress: Progress = ...
    ) -> Any:
        """Compare plans with the full model: (tokens, log p, KL, agreeing) per plan and text."""
        ...

    def masked_scores(
        self, plans: Any, texts: Any, donors: Any = ..., progress: Progress = ...
    ) -> Any:
        """Score texts token by token, each masked alone: (log p, likeliest, tokens)."""
        ...
