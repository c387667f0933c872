"""How much memory a batch may take, how many rows that is, and the queue of what fits.

Estimates can be wrong, and others use the same memory: where it runs out all the same, the queue
runs the batch again in two halves, so nothing is lost but time.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import psutil
import torch

from impasto.error import UserError
from impasto.model.decoder import Opened, OpenedModel
from impasto.model.structure.failing import is_out_of_memory
from impasto.plan.tree import Node
from impasto.run.attention.choice import makes_no_large_masks
from impasto.run.batching.batches import BatchGroup, batch_groups, cut
from impasto.run.batching.request import TokenRequest
from impasto.run.inputs import checked_memory
from impasto.run.tuning import NUMBERS_OF_A_MASK, SHARE_OF_FREE_MEMORY

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str) -> int:
    """Return the bytes of an amount of memory: ``8GiB``, ``512M``, a number of bytes.

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
    """Return the bytes that may be taken where the caller does not say: half of the free ones.

    What torch keeps of a GPU's memory without using it is free, too.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + kept
    else:
        free = psutil.virtual_memory().available
    return int(free * SHARE_OF_FREE_MEMORY)


def allowed_bytes(memory: int | None, model: Opened) -> int:
    """Return the bytes that a batch may take: as the caller says, else half of the free ones.

    Of a model that lies on several devices, the fullest one counts: states pass through all.

    Raises:
        UserError: when the caller gives no number of bytes.
    """
    checked = checked_memory(memory)
    if checked is not None:
        return checked
    return min(free_bytes(device) for device in model.devices if device.type != "meta")


def bytes_per_row(model: OpenedModel, tree: Node, keys: int) -> int:
    """Estimate the most bytes that a row of a batch takes while a plan tree runs on it.

    The states of a row wait where plans part, and it may stand there twice, earlier and current;
    one block works on it (its MLP's inner units, its mask and, in eager attention, its scores
    against so many ``keys``). A mask that would be too large is not made where the model's rule
    allows that.
    """
    config = model.hf.config.get_text_config(decoder=True)
    inner = getattr(config, "intermediate_size", None) or 4 * model.hidden
    inner = max(inner) if isinstance(inner, list) else inner  # one for each layer
    numbers = 2 * (8 * model.hidden + 3 * inner)
    is_eager = config._attn_implementation == "eager"
    heads = getattr(config, "num_attention_heads", 1) if is_eager else 1
    masked = keys
    is_large = keys * keys > NUMBERS_OF_A_MASK
    if is_large and model.packs_rows and makes_no_large_masks(model, keys):
        masked = NUMBERS_OF_A_MASK // keys
    in_a_block = numbers * model.hf.dtype.itemsize + 2 * masked * (1 + 4 * heads)
    return waiting_bytes_per_row(model, tree) + in_a_block


def waiting_bytes_per_row(model: OpenedModel, tree: Node) -> int:
    """Return the bytes of :func:`bytes_per_row` that also rows of waiting batches take: states."""
    return 2 * (tree.forks + 1) * model.hidden * model.hf.dtype.itemsize


def peak_bytes(model: OpenedModel, tree: Node, groups: Sequence[BatchGroup], row_bytes: int) -> int:
    """Estimate the most memory that any of the groups takes, at so many bytes a row of a batch."""
    waiting = waiting_bytes_per_row(model, tree)
    working = row_bytes - waiting
    return max((g.rows * waiting + g.rows_at_once * working for g in groups), default=0)


def fitting_groups(
    model: OpenedModel,
    tree: Node,
    requests: Sequence[TokenRequest],
    memory: int | None,
    merge: bool = True,
    finished: int = 0,
) -> "Queue[BatchGroup]":
    """Return the batch groups of some requests, each small enough for an amount of memory.

    Args:
        model: The model.
        tree: The plans that will run.
        requests: The requests.
        memory: Bytes; None for half of the free ones.
        merge: Whether requests may share rows.
        finished: How many final states of each row wait until they are read.

    Raises:
        UserError: when a single prefix tree does not fit.
    """
    memory = allowed_bytes(memory, model)
    longest = max((len(request.ids) for request in requests), default=1)
    row_bytes = bytes_per_row(model, tree, 2 * longest)
    row_bytes += finished * model.hidden * model.hf.dtype.itemsize
    rows = max(memory // row_bytes, 1)
    groups = list(batch_groups(model, requests, rows, merge, tree.tells_prompt))
    fitting: list[BatchGroup] = []
    waiting = groups[::-1]
    while waiting:
        group = waiting.pop()
        if len(group.prefix_trees) > 1 or group.rows * row_bytes <= memory:
            fitting.append(group)
            continue
        parts = cut(group, requests)
        if len(parts) == 1:
            raise UserError(_too_large(group.rows, row_bytes, memory))
        waiting += parts[::-1]
    return Queue(fitting, row_bytes, lambda group: cut(group, requests))


@runtime_checkable
class Divisible(Protocol):
    """Rows that run at once, and that can be cut in two: a batch, or a group of batches."""

    @property
    def rows(self) -> int: ...  # noqa: D102
    def halves(self) -> list[Any]: ...  # noqa: D102


B = TypeVar("B", bound=Divisible)


class Queue(Generic[B]):
    """Batches, or groups of them, that wait to run; those that memory runs out for are halved.

    Args:
        waiting: The batches.
        bytes_per_row: What a row of them takes.
        cut: Parts a batch that has no halves; it returns the batch alone where it has no parts.
    """

    def __init__(
        self,
        waiting: list[B],
        bytes_per_row: int,
        cut: Callable[[B], list[B]] = lambda batch: [batch],
    ) -> None:
        self.rows = sum(batch.rows for batch in waiting)
        self.bytes_per_row = bytes_per_row
        self._waiting, self._cut = waiting[::-1], cut
        self._ran_out = False

    def __iter__(self) -> Iterator[B]:
        while self._waiting:
            if self._ran_out and torch.cuda.is_available():
                torch.cuda.empty_cache()  # here the error is gone, and what its frames held
            self._ran_out = False
            yield self._waiting.pop()

    def failed(self, batch: B, error: BaseException) -> None:
        """Put the halves of a batch that failed for want of memory at the front of the queue.

        Raises:
            UserError: when it cannot be cut.
            BaseException: the error itself, if it was another.
        """
        if not is_out_of_memory(error):
            raise error
        traceback.clear_frames(error.__traceback__)  # else they hold what did not fit
        halves = batch.halves()
        if len(halves) == 1:
            halves = self._cut(batch)
        if len(halves) == 1:
            raise UserError(_too_large(batch.rows, self.bytes_per_row, None)) from None
        self._ran_out = True
        warnings.warn(
            f"out of memory with {batch.rows} rows at once: this batch runs again from its "
            "beginning, with half of them at a time; nothing is lost",
            stacklevel=2,
        )
        self._waiting += halves[::-1]


class Meter:
    """Reports the share of some work that is done, 0 to 1."""

    def __init__(self, report: Callable[[float], None], total: int) -> None:
        self._report, self._total, self._done = report, max(total, 1), 0

    def add(self, work: int) -> None:
        """Count some work as done, and report."""
        self._done += work
        self._report(min(1.0, self._done / self._total))


def _too_large(rows: int, row_bytes: int, memory: int | None) -> str:
    given = "" if memory is None else f", and {readable(memory)} may be used"
    return (
        f"a batch of one sequence of {rows} tokens needs about {readable(rows * row_bytes)}"
        f"{given}; allow more memory, shorten the text, run fewer plans at once, or load the model "
        "in half precision"
    )


def readable(amount: int) -> str:
    """Return a number of bytes as people write it, in powers of 1024."""
    unit = next((u for u in ("T", "G", "M", "K") if amount >= _UNITS[u]), "")
    return f"{amount / _UNITS[unit]:.1f} {unit}iB" if unit else f"{amount:.0f} bytes"
