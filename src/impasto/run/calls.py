"""Calls on one model, one after the other, each on the model as it is meant to compute.

Whatever asks a model for numbers does so within :func:`calling`. Calls of other threads on the same
model wait; calls on other models do not. For the length of a call the model computes as in
evaluation (no dropout), and a plan that :func:`impasto.apply` has applied to it is set aside, as
far as the calling thread goes. A call may be made within another one on the same thread: from the
progress that one tells, for instance.
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

WAIT_SECONDS = 60.0  # that a thread waits for another one to remove its plan, before it is refused

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class SetAside(Protocol):
    """An applied plan, as far as calls on its model go."""

    def set_aside(self) -> AbstractContextManager[object]:
        """Return a context in which this thread's calls run the model without the plan."""
        ...


class Turns:
    """Whose turn it is on a model.

    Attributes:
        lock: Held during a call, and during a forward under an applied plan.
        depth: How many calls are under way, each within the one before.
        opening: What the model was opened as, once a call under way has made sure that it still is.
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
        """Let another thread remove the plan that it has applied, for as long as may be expected.

        Whoever calls this holds the lock, and looks again at what is applied.
        """
        end = monotonic() + WAIT_SECONDS
        while self.applied is not None and self._is_anothers and monotonic() < end:
            self._free.wait(end - monotonic())

    @property
    def _is_anothers(self) -> bool:
        """Whether the applied plan is that of another thread, which still runs."""
        others = (thread.ident for thread in enumerate_threads())
        return self._applied_by != get_ident() and self._applied_by in others

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the model to oneself, whatever is applied to it."""
        with self.lock:
            self.depth, self._owner = self.depth + 1, get_ident()
            try:
                yield
            finally:
                self.depth -= 1
                if not self.depth:
                    self.opening, self._owner = None, 0

    def refuse_within_a_call(self, what: str) -> None:
        """Raise UserError where a call is under way: nothing of its model may change."""
        if self.depth:
            raise UserError(
                f"{what} in the middle of a call on the same model (from its progress, say, or a "
                "hook): wait until the call has returned"
            )


_turns: WeakKeyDictionary[nn.Module, Turns] = WeakKeyDictionary()  # go with their models
_making = Lock()


def turns_of(hf: nn.Module) -> Turns:
    """Return whose turn it is on a model."""
    with _making:
        if hf not in _turns:
            _turns[hf] = Turns()
        return _turns[hf]


@contextmanager
def calling(hf: nn.Module) -> Iterator[None]:
    """Have a model to oneself for the length of a call: in evaluation, without an applied plan."""
    turns = turns_of(hf)
    with turns.held():
        applied = turns.applied
        with nullcontext() if applied is None else applied.set_aside(), evaluating(hf):
            yield


@runtime_checkable
class Asks(Protocol):
    """What puts questions to a Hugging Face model."""

    @property
    def hf(self) -> nn.Module:
        """The Hugging Face model."""
        ...


A = TypeVar("A", bound=Asks)


def one_call(method: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[A, P], R]:
    """Have a method be one call on its object's model."""

    @wraps(method)
    def called(self: A, *args: P.args, **kwargs: P.kwargs) -> R:
        with calling(self.hf):
            return method(self, *args, **kwargs)

    return called


@contextmanager
def evaluating(hf: nn.Module) -> Iterator[None]:
    """Have a model compute as in evaluation, and leave every module of it in the mode it was in."""
    training = [module for module in hf.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
