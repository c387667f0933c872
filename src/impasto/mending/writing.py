"""More texts to train on, written by the full model: it goes on from the beginnings of those given.

A plan is brought near to the full model's predictions, and these can be asked of any text (Liu et
al., LLM-QAT, arXiv 2305.17888). Where texts are few, training on them alone learns them by heart.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from impasto.aside import written_aside
from impasto.mending.sides import Ids

BEGINNING = 4
"""Tokens of a given text that a written one begins with."""

WEIGHTS_TIMES_TOKENS = 2e11
"""How much is written where nothing is said; it takes twice as many operations."""

MOST_AT_ONCE, STATES_AT_ONCE = 512, 2**26


def usual_count(hf: Any, pieces: Sequence[Ids], read: int) -> int:
    """Return how many pieces are written where nothing is said.

    Those that training lacks to read none twice; none with a model that would take long.

    Args:
        hf: The full model.
        pieces: Those that there are.
        read: How many training reads.
    """
    length = max(map(len, pieces))
    weights = sum(weight.numel() for weight in hf.parameters())
    return max(0, min(read - len(pieces), int(WEIGHTS_TIMES_TOKENS / weights / length)))


def written(
    hf: Any,
    pieces: Sequence[Ids],
    count: int,
    seed: int,
    path: Path,
    progress: Callable[[float], None],
) -> list[Ids]:
    """Return texts that the full model writes, each as long as the longest of some pieces.

    Args:
        hf: The full model.
        pieces: What they begin as.
        count: How many.
        seed: What they are drawn from.
        path: Where they are kept; those that are there are taken.
        progress: Called with the share that is done, 0 to 1.
    """
    if not path.exists():
        with written_aside(path) as place:
            place.write_text(json.dumps(_written(hf, pieces, count, seed, progress)))
    return [tuple(row) for row in json.loads(path.read_text(encoding="utf-8"))]


@torch.no_grad()
def _written(
    hf: Any, pieces: Sequence[Ids], count: int, seed: int, progress: Callable[[float], None]
) -> list[list[int]]:
    length = max(map(len, pieces))
    begins = [piece[:BEGINNING] for piece in pieces if len(piece) >= BEGINNING] or [pieces[0][:1]]
    config = hf.config.get_text_config(decoder=True)
    states = length * config.hidden_size * config.num_hidden_layers
    size = min(MOST_AT_ONCE, max(8, STATES_AT_ONCE // states))
    found: list[list[int]] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while len(found) < count:
            numbers = range(len(found), min(count, len(found) + size))
            ids = torch.tensor([begins[k % len(begins)] for k in numbers], device=hf.device)
            new = length - ids.shape[1]
            rows = hf.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                min_new_tokens=new,
                max_new_tokens=new,
                eos_token_id=None,
                pad_token_id=0,
            )
            found += rows.tolist()
            progress(len(found) / count)
    return found
