"""Calls on a model: one at a time, in evaluation mode, without an applied plan.

All code that runs a model does so within :func:`calling`. Calls of other threads on the same model
wait; calls on other models do not. For the length of a call the model computes as in evaluation (no
dropout), and a plan that :func:`impasto.apply` has applied to it is set aside, as far as the
calling thread goes. A call may be made within another one on the same thread: from the progress
that it reports, for instance.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from threading import Condition, Lock, RLock, get_ident
from threading import enumerate as enumerate_threads
from time import monotonic
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable
from weakref import WeakKeyDictionary, ref

from torch import nn

from impasto.error import UserError

WAIT_SECONDS = 60.0
"""Seconds that a thread waits for another one to remove its plan, before it is refused."""

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class SetAside(Protocol):
    """An applied plan that calls on its model can set aside."""

    def set_aside(self) -> AbstractContextManager[object]:
        """Return a context in which this thread's calls run the model without the plan."""
        ...


class Turns:
    """Which thread may run a model, and the plan that is applied to it.

    Attributes:
        lock: Taken for a call, and for a forward pass under an applied plan.
        depth: How many calls are under way, each within the one before.
        opening: The model's opening, once a call under way has made sure that it is still right.
    """

    def __init__(self) -> None:
        self.lock, self.depth = RLock(), 0
        self._owner = 0
        self.opening: Any = None
        self._applied: ref[SetAside] | None = None
        self._applied_by = 0
        self._free = Condition(self.lock)

    @property
    def is_own(self) -> bool:
        """Whether a call of this thread is under way."""
        return self._owner == get_ident()

    @property
    def applied(self) -> SetAside | None:
        """The plan that is applied to the model, if there is one."""
        return None if self._applied is None else self._applied()

    @applied.setter
    def applied(self, plan: SetAside | None) -> None:
        self._applied = None if plan is None else ref(plan)
        self._applied_by = 0 if plan is None else get_ident()
        self._free.notify_all()

    def wait_until_none_is_applied(self) -> None:
        """Wait until no other thread has a plan applied, for :data:`WAIT_SECONDS` at the most.

        The caller has taken the lock, and checks again what is applied.
        """
        end = monotonic() + WAIT_SECONDS
        while self.applied is not None and self._is_of_another_thread and monotonic() < end:
            self._free.wait(end - monotonic())

    @property
    def _is_of_another_thread(self) -> bool:
        """Whether another thread, which still runs, has applied the plan."""
        others = (thread.ident for thread in enumerate_threads())
        return self._applied_by != get_ident() and self._applied_by in others

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Return a context in which only this thread runs the model, whatever is applied to it."""
        with self.lock:
            self.depth, self._owner = self.depth + 1, get_ident()
            try:
                yield
            finally:
                self.depth -= 1
                if not self.depth:
                    self.opening, self._owner = None, 0

    def refuse_within_a_call(self, what: str) -> None:
        """Raise UserError if a call is under way: its model must not change meanwhile."""
        if self.depth:
            raise UserError(
                f"{what} in the middle of a call on the same model (from its progress, say, or a "
                "hook): wait until the call has returned"
            )


_turns: WeakKeyDictionary[nn.Module, Turns] = WeakKeyDictionary()  # go with their models
_making = Lock()


def turns_of(hf: nn.Module) -> Turns:
    """Return the turns of a model, which are made at the first call."""
    with _making:
        if hf not in _turns:
            _turns[hf] = Turns()
        return _turns[hf]


@contextmanager
def calling(hf: nn.Module) -> Iterator[None]:
    """Return a context in which only this thread runs a model: evaluating, without a plan."""
    turns = turns_of(hf)
    with turns.taken():
        applied = turns.applied
        with nullcontext() if applied is None else applied.set_aside(), evaluating(hf):
            yield


@runtime_checkable
class HasModel(Protocol):
    """An object whose methods run a Hugging Face model."""

    @property
    def hf(self) -> nn.Module:
        """The Hugging Face model."""
        ...


A = TypeVar("A", bound=HasModel)


def one_call(method: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[A, P], R]:
    """Return a method that is one call on its object's model; see :func:`calling`."""

    @wraps(method)
    def called(self: A, *args: P.args, **kwargs: P.kwargs) -> R:
        with calling(self.hf):
            return method(self, *args, **kwargs)

    return called


@contextmanager
def evaluating(hf: nn.Module) -> Iterator[None]:
    """Return a context in which a model evaluates; every module returns to the mode it was in."""
    training = [module for module in hf.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
