"""How much memory a batch may take, how many rows that is, and the queue of what fits.

Estimates can be wrong, and others use the same memory: where it runs out all the same, the queue
runs the batch again in two halves, so nothing is lost but time.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import psutil
import torch

from impasto.error import UserError
from impasto.model.decoder import Opened
from impasto.model.structure.failing import is_out_of_memory
from impasto.run.batching.batches import BatchGroup, batch_groups, cut
from impasto.run.batching.demand import Asked
from impasto.run.batching.prefix_tree import chain
from impasto.run.batching.request import TokenRequest
from impasto.run.inputs import checked_memory
from impasto.run.tuning import SHARE_OF_FREE_MEMORY, SHARE_OF_FREE_MEMORY_ELSEWHERE

_FEW_ROWS = 4  # sequences by which is told how many rows fit
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


class Free(NamedTuple):
    """The memory that is free on a device, in bytes.

    Attributes:
        bytes: All of it.
        for_batches: What a batch may take of it where nobody says.
    """

    bytes: int
    for_batches: int

    def shared(self, share: float) -> "Free":
        """Return the share of one of several that use it."""
        return Free(*(int(each * share) for each in self))


def free_memory(device: torch.device) -> Free:
    """Return the memory that is free; what torch keeps of a GPU's without using it is free, too."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + kept
    else:
        free = psutil.virtual_memory().available
    return Free(free, int(free * share_of_free(device.type)))


def share_of_free(kind: str) -> float:
    """Return the share of the free memory that a batch may take on a kind of device."""
    return SHARE_OF_FREE_MEMORY.get(kind, SHARE_OF_FREE_MEMORY_ELSEWHERE)


def allowed_bytes(memory: int | None, model: Opened) -> int:
    """Return the bytes that a batch may take: as the caller says, else a share of the free ones.

    Of a model that lies on several devices, the fullest one counts: states pass through all.

    Raises:
        UserError: when the caller gives no number of bytes.
    """
    checked = checked_memory(memory)
    if checked is not None:
        return checked
    places = [device for device in model.devices if device.type != "meta"]
    return min(free_memory(device).for_batches for device in places)


def fitting_groups(
    asked: Asked, requests: Sequence[TokenRequest], memory: int | None
) -> "Queue[BatchGroup]":
    """Return the batch groups of some requests, each small enough for an amount of memory.

    Args:
        asked: What is asked, and of which model.
        requests: The requests.
        memory: Bytes; None for a share of the free ones.

    Raises:
        UserError: when a single request does not fit.
    """
    memory = allowed_bytes(memory, asked.model)
    needs = lambda group: asked.bytes(group, requests)  # noqa: E731
    merge, whole_prompts = asked.reads != "texts", asked.tree.tells_prompt
    rows = _rows_that_fit(requests, memory, needs, 1 if merge else 2)
    fitting: list[BatchGroup] = []
    waiting = list(batch_groups(asked.model, requests, rows, merge, whole_prompts))[::-1]
    while waiting:
        group = waiting.pop()
        needed = needs(group)
        if needed <= memory:
            fitting.append(group)
            continue
        parts = group.halves()
        if len(parts) == 1:
            parts = cut(group, requests)
        if len(parts) == 1:
            raise UserError(_too_large(group.rows, needed, memory))
        waiting += parts[::-1]
    return Queue(fitting, needs, lambda group: cut(group, requests))


def _rows_that_fit(
    requests: Sequence[TokenRequest],
    memory: int,
    needs: Callable[[BatchGroup], int],
    batches: int,
) -> int:
    """Return about how many rows of a group fit, by what a few of the longest request need.

    Either they are all one batch, or each few of them are one of several batches.
    """
    if not requests:
        return 1
    at = max(range(len(requests)), key=lambda index: len(requests[index].ids))
    trees = [chain(at, requests[at])]
    few = needs(BatchGroup([trees * _FEW_ROWS], []))
    many = needs(BatchGroup([trees * (2 * _FEW_ROWS // batches)] * batches, []))
    rows = _FEW_ROWS * len(trees[0].ids)
    each = max(1.0, (many - few) / rows)
    return max(1, int((memory - few) / each) + rows)


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
        needs: Returns the most bytes that one of them takes.
        cut: Parts a batch that has no halves; it returns the batch alone where it has no parts.
    """

    def __init__(
        self,
        waiting: list[B],
        needs: Callable[[B], int],
        cut: Callable[[B], list[B]] = lambda batch: [batch],
    ) -> None:
        self.rows = sum(batch.rows for batch in waiting)
        self.needs = needs
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
            raise UserError(_too_large(batch.rows, self.needs(batch), None)) from None
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


def _too_large(rows: int, needed: int, memory: int | None) -> str:
    given = "" if memory is None else f", and {readable(memory)} may be used"
    return (
        f"a batch of one sequence of {rows} tokens needs about {readable(needed)}"
        f"{given}; allow more memory, shorten the text, run fewer plans at once, or load the model "
        "in half precision"
    )


def readable(amount: int) -> str:
    """Return a number of bytes as people write it, in powers of 1024."""
    unit = next((u for u in ("T", "G", "M", "K") if amount >= _UNITS[u]), "")
    return f"{amount / _UNITS[unit]:.1f} {unit}iB" if unit else f"{amount:.0f} bytes"
