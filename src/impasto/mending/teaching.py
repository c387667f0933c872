"""The full model's predictions, which training goes towards.

Either the full model is asked beside every step, or its log-probabilities of the likeliest tokens
were written down beforehand, with what all others have together. The loss of both is the same sum:
KL(full model || healed plan) per token, and how far the final states are from the full model's
(which say more of each token than its prediction: Muralidharan et al., arXiv 2407.14679), mixed
with the cross-entropy of the texts.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from impasto.aside import written_aside
from impasto.error import UserError
from impasto.mending.sides import Ids

LOGITS, TOKENS, STATES = "log_p", "tokens", "states"


class Stored:
    """The full model's likeliest tokens, row by row, in a file.

    Attributes:
        path: The file.
        starts: Where the rows of each piece begin; the last is how many there are.
    """

    def __init__(self, path: Path, starts: Sequence[int]) -> None:
        self.path, self.starts = path, starts
        with safe_open(path, "pt") as file:
            self._kept = {name: file.get_tensor(name) for name in (LOGITS, TOKENS, STATES)}

    def rows(self, pieces: Sequence[int], length: int) -> "Likeliest":
        """Return the rows of some pieces, padded on the right to a length."""
        return Likeliest(
            self._rows(LOGITS, pieces, length), self._rows(TOKENS, pieces, length).long()
        )

    def states(self, pieces: Sequence[int], length: int) -> Float[Tensor, "batch rows hidden"]:
        """Return the final states of the same rows, of no units if none are kept."""
        return self._rows(STATES, pieces, length)

    def _rows(self, name: str, pieces: Sequence[int], length: int) -> Tensor:
        values = self._kept[name]
        padded = values.new_zeros(len(pieces), length, values.shape[1])
        for row, piece in enumerate(pieces):
            own = values[self.starts[piece] : self.starts[piece + 1]]
            padded[row, : len(own)] = own
        return padded


class Predicted(NamedTuple):
    """What a model predicts behind all tokens but the last of each sequence.

    Attributes:
        logits: Of the next token.
        states: What its head made them of; of no units if that is not asked.
    """

    logits: Float[Tensor, "batch rows vocab"]
    states: Float[Tensor, "batch rows hidden"]


class Predicting:
    """Asks a model for its predictions, and notes on the way what its head reads.

    Args:
        hf: The model; the same with adapters around it.
        states: Whether the states are wanted.
    """

    def __init__(self, hf: Any, states: bool) -> None:
        self._hf, self._states = hf, states

    def __call__(self, **given: Tensor) -> Predicted:
        """Return what the model predicts from the arguments of its forward.

        Raises:
            UserError: when states are wanted, and the model calls no head.
        """
        read: list[Tensor] = []
        with self._noting(read):
            logits = self._hf(**given, use_cache=False).logits[:, :-1]
        if self._states and not read:
            raise UserError(
                f"{type(self._hf).__name__} calls no head that reads its final states, so these "
                "cannot be compared: set states to 0"
            )
        return Predicted(logits, read[-1][:, :-1] if read else logits[..., :0])

    @contextmanager
    def _noting(self, read: list[Tensor]) -> Iterator[None]:
        head = self._hf.get_output_embeddings() if self._states else None
        if head is None:
            yield
            return
        handle = head.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            yield
        finally:
            handle.remove()


class Likeliest(NamedTuple):
    """Log-probabilities of the likeliest tokens of each row."""

    log_p: Float[Tensor, "batch rows likeliest"]
    tokens: Int[Tensor, "batch rows likeliest"]


@torch.no_grad()
def store(
    path: Path,
    predict: Callable[[Tensor], Predicted],
    pieces: Sequence[Ids],
    top_k: int,
    temperature: float,
    device: torch.device,
    progress: Callable[[float], None],
) -> Stored:
    """Write down the likeliest tokens of the full model, unless they are there already.

    Args:
        path: The file.
        predict: Returns what the full model predicts behind all tokens but the last.
        pieces: What it reads.
        top_k: How many tokens.
        temperature: What logits are divided by.
        device: Where it reads them.
        progress: Called with the share that is done, 0 to 1.
    """
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece) - 1)
    if not path.exists():
        log_p, tokens, states = [], [], []
        for number, piece in enumerate(pieces):
            predicted = predict(torch.tensor([piece], device=device))
            logits = predicted.logits[0].float() / temperature
            best = logits.log_softmax(-1).topk(min(top_k, logits.shape[-1]))
            log_p.append(best.values.cpu())
            tokens.append(best.indices.int().cpu())
            states.append(predicted.states[0].cpu())
            progress((number + 1) / len(pieces))
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as place:
            kept = {LOGITS: log_p, TOKENS: tokens, STATES: states}
            save_file({name: torch.cat(each) for name, each in kept.items()}, place)
    return Stored(path, starts)


def kl_of_all(
    full: Float[Tensor, "batch rows vocab"], healed: Float[Tensor, "batch rows vocab"]
) -> Float[Tensor, "batch rows"]:
    """Return KL(full model || healed plan) of each row, from logits."""
    told = full.float().log_softmax(-1)
    return (told.exp() * (told - healed.float().log_softmax(-1))).sum(-1)


def kl_of_likeliest(
    full: Likeliest, healed: Float[Tensor, "batch rows vocab"]
) -> Float[Tensor, "batch rows"]:
    """Return the same from the likeliest tokens; all others count as one."""
    own = healed.float().log_softmax(-1).gather(-1, full.tokens)
    kl = (full.log_p.exp() * (full.log_p - own)).sum(-1)
    return kl + _rest(full.log_p) * (_log_rest(full.log_p) - _log_rest(own))


def distance(
    full: Float[Tensor, "rows hidden"], healed: Float[Tensor, "rows hidden"]
) -> Float[Tensor, ""]:
    """Return the mean squared distance of states, as a share of the full model's squared norm."""
    full, healed = full.float(), healed.float()
    return (full - healed).square().sum() / full.square().sum().clamp(min=1e-8)


def cross_entropy(
    logits: Float[Tensor, "batch rows vocab"], tokens: Int[Tensor, "batch rows"]
) -> Float[Tensor, "batch rows"]:
    """Return −log p of each row's token, in nats."""
    found: Any = functional.cross_entropy(logits.float().transpose(1, 2), tokens, reduction="none")
    return found


def _rest(log_p: Float[Tensor, "*rows likeliest"]) -> Float[Tensor, "*rows"]:
    """Return what the likeliest tokens leave to all others."""
    return (1 - log_p.exp().sum(-1)).clamp(min=1e-8)


def _log_rest(log_p: Float[Tensor, "*rows likeliest"]) -> Float[Tensor, "*rows"]:
    return _rest(log_p).log()
