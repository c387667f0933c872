"""The full model's predictions, which training goes towards.

Either the full model is asked beside every step, or its log-probabilities of the likeliest tokens
were written down beforehand, with what all others have together. The loss of both is the same sum,
KL(full model || healed plan) per token, mixed with the cross-entropy of the texts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from impasto.aside import written_aside
from impasto.mending.sides import Ids

LOGITS, TOKENS = "log_p", "tokens"


class Stored:
    """The full model's likeliest tokens, row by row, in a file.

    Attributes:
        path: The file.
        starts: Where the rows of each piece begin; the last is how many there are.
    """

    def __init__(self, path: Path, starts: Sequence[int]) -> None:
        self.path, self.starts = path, starts
        with safe_open(path, "pt") as file:
            self._log_p, self._tokens = file.get_tensor(LOGITS), file.get_tensor(TOKENS)

    def rows(self, pieces: Sequence[int], length: int) -> "Likeliest":
        """Return the rows of some pieces, padded on the right to a length."""
        found = []
        for values in (self._log_p, self._tokens):
            padded = values.new_zeros(len(pieces), length, values.shape[1])
            for row, piece in enumerate(pieces):
                own = values[self.starts[piece] : self.starts[piece + 1]]
                padded[row, : len(own)] = own
            found.append(padded)
        return Likeliest(found[0], found[1].long())


class Likeliest(NamedTuple):
    """Log-probabilities of the likeliest tokens of each row."""

    log_p: Float[Tensor, "batch rows likeliest"]
    tokens: Int[Tensor, "batch rows likeliest"]


@torch.no_grad()
def store(
    path: Path,
    logits_of: Callable[[Tensor], Float[Tensor, "batch rows vocab"]],
    pieces: Sequence[Ids],
    top_k: int,
    temperature: float,
    device: torch.device,
    progress: Callable[[float], None],
) -> Stored:
    """Write down the likeliest tokens of the full model, unless they are there already.

    Args:
        path: The file.
        logits_of: Returns the full model's logits behind all tokens but the last of each sequence.
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
        log_p, tokens = [], []
        for number, piece in enumerate(pieces):
            logits = logits_of(torch.tensor([piece], device=device))[0].float() / temperature
            best = logits.log_softmax(-1).topk(min(top_k, logits.shape[-1]))
            log_p.append(best.values.cpu())
            tokens.append(best.indices.int().cpu())
            progress((number + 1) / len(pieces))
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as place:
            save_file({LOGITS: torch.cat(log_p), TOKENS: torch.cat(tokens)}, place)
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
