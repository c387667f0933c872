"""How much memory a batch may take, and how many rows that is."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import psutil
import torch

from impasto.error import UserError
from impasto.model.checks.failing import is_out_of_memory
from impasto.model.decoder import OpenedModel
from impasto.run.batching.batches import BatchGroup, bundles
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.frames import NUMBERS_OF_A_MASK, makes_no_large_masks
from impasto.run.execute.plan_tree import Node
from impasto.run.inputs import asked_memory
from impasto.run.tuning import SHARE_OF_FREE_MEMORY

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str) -> int:
    """Read an amount of memory: ``8GiB``, ``512M``, a number of bytes.

    Raises:
        UserError: when it is none.
    """
    number = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = number[-1:] if number[-1:] in _UNITS and not number[-1:].isdigit() else ""
    try:
        amount = float(number.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        amount = 0
    if not 0 < amount < 2**60:
        raise UserError(f"{text!r} is no amount of memory; write it as 8GiB, 512MiB or 1.5G")
    return int(amount)


def free_bytes(device: torch.device) -> int:
    """Return how much memory may be taken where nobody says: half of what is free there."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    return int(free * SHARE_OF_FREE_MEMORY)


def allowed_bytes(memory: int | None, device: torch.device) -> int:
    """Return how much memory a batch may take: what the caller said, else half of what is free.

    Raises:
        UserError: when what the caller said is no number of bytes.
    """
    asked = asked_memory(memory)
    return free_bytes(device) if asked is None else asked


def bytes_per_row(model: OpenedModel, tree: Node, width: int) -> int:
    """Estimate the most memory that a row of a batch takes while a tree runs on it.

    States of a row are kept where plans part and it may stand there twice, earlier and current; one
    block works on it (its MLP's inner units, its mask and, in eager attention, its scores against
    ``width`` keys). A mask that would be too large is not made where the model's rule allows that.
    """
    config = model.hf.config.get_text_config(decoder=True)
    inner = getattr(config, "intermediate_size", None) or 4 * model.hidden
    numbers = 2 * (8 * model.hidden + 3 * inner)
    heads = config.num_attention_heads if config._attn_implementation == "eager" else 1
    masked = width
    if width * width > NUMBERS_OF_A_MASK and makes_no_large_masks(model, width):
        masked = NUMBERS_OF_A_MASK // width
    worked_on = numbers * model.hf.dtype.itemsize + 2 * masked * (1 + 4 * heads)
    return kept_per_row(model, tree) + worked_on


def kept_per_row(model: OpenedModel, tree: Node) -> int:
    """Return how much of that is states that wait, of rows in other batches too."""
    return 2 * (tree.forks + 1) * model.hidden * model.hf.dtype.itemsize


def peak_bytes(model: OpenedModel, tree: Node, bundles: Sequence[BatchGroup], each: int) -> int:
    """Estimate the most memory that bundles take, at ``each`` bytes a row of a batch."""
    kept = kept_per_row(model, tree)
    return max((b.rows * kept + b.widest * (each - kept) for b in bundles), default=0)


def fitting(
    model: OpenedModel,
    tree: Node,
    passages: Sequence[TokenRequest],
    memory: int | None,
    merge: bool = True,
) -> "Queue[BatchGroup]":
    """Return the bundles of some passages, each small enough for an amount of memory.

    Args:
        model: The model.
        tree: The plans that will run.
        passages: The passages.
        memory: Bytes; None for what is free.
        merge: Whether passages may share rows.

    Raises:
        UserError: when a bundle of one prefix tree does not fit.
    """
    memory = allowed_bytes(memory, model.device)
    width = max((len(passage.ids) for passage in passages), default=1)
    each = bytes_per_row(model, tree, 2 * width)
    found = list(bundles(model, passages, max(memory // each, 1), merge))
    for bundle in found:
        if len(bundle.prefix_trees) == 1 and bundle.rows * each > memory:
            raise UserError(_too_large(bundle.rows, each, memory))
    return Queue(found, each)


@runtime_checkable
class Waits(Protocol):
    """Rows that run at once, and that can be cut in two."""

    @property
    def rows(self) -> int: ...  # noqa: D102
    def halves(self) -> list[Any]: ...  # noqa: D102


B = TypeVar("B", bound=Waits)


class Queue(Generic[B]):
    """Bundles that wait to be run, and that are cut where memory runs out all the same."""

    def __init__(self, waiting: list[B], bytes_per_row: int) -> None:
        self.rows = sum(bundle.rows for bundle in waiting)
        self.bytes_per_row = bytes_per_row
        self._waiting = waiting[::-1]

    def __iter__(self) -> Iterator[B]:
        while self._waiting:
            yield self._waiting.pop()

    def failed(self, bundle: B, error: BaseException) -> None:
        """Put the halves of a bundle in its place, if it failed for want of memory.

        Raises:
            UserError: when it cannot be cut.
            BaseException: the error itself, if it was another.
        """
        if not is_out_of_memory(error):
            raise error
        halves = bundle.halves()
        if len(halves) == 1:
            raise UserError(_too_large(bundle.rows, self.bytes_per_row, None)) from None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        warnings.warn(
            f"out of memory with {bundle.rows} rows at once: unfinished on with half of them, from "
            "where this batch began; nothing is lost",
            stacklevel=2,
        )
        self._waiting += halves[::-1]


def _too_large(rows: int, each: int, memory: int | None) -> str:
    given = "" if memory is None else f", and {readable(memory)} may be used"
    return (
        f"a batch of one sequence of {rows} tokens needs about {readable(rows * each)}{given}; "
        "allow more memory, shorten the text, run fewer plans at once, or load the model in half "
        "precision"
    )


def readable(amount: int) -> str:
    """Return an amount of memory as people write it."""
    unit = next((u for u in ("T", "G", "M", "K") if amount >= _UNITS[u]), "")
    return f"{amount / _UNITS[unit]:.1f} {unit}iB" if unit else f"{amount:.0f} bytes"
