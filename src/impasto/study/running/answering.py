"""Who answers a study's units: a model in this process, or another place's workers.

A run needs to know of them which model they have, how fast they are and what memory they have; and
it needs an `Executor`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from impasto.error import UserError
from impasto.plan.cost import Shape
from impasto.study.database.register import NeededTask
from impasto.study.following.standing import Standing
from impasto.study.running.estimate import expected_seconds
from impasto.study.running.models import load_model, where_weights_are
from impasto.study.running.options import Running
from impasto.study.work.asking import Asking, Here, KnownModel, StudiedModel
from impasto.study.work.units import UnitRunner

if TYPE_CHECKING:
    from impasto.run.batching.memory import Free


class Answering(Protocol):
    """Who answers units."""

    @property
    def model(self) -> KnownModel:
        """The model that answers."""
        ...

    @property
    def workers(self) -> int:
        """How many units are answered at once."""
        ...

    @property
    def free(self) -> "Free | None":
        """The memory that is free for batches; None where what they take cannot be bounded."""
        ...

    @property
    def shape(self) -> Shape | None:
        """What of the model costs something; None where nobody can say."""
        ...

    def allowed(self, memory: int | None) -> AbstractContextManager[None]:
        """Let a batch take so many bytes in the block; None leaves it to the model."""
        ...

    def expected(
        self, tasks: Sequence[NeededTask], asked: Mapping[str, Asking]
    ) -> Mapping[str, float | None]:
        """Return how many seconds each task takes under its plans, asked all that it may be.

        None where nobody knows.
        """
        ...

    def executor(self, asked: Mapping[str, Asking]) -> UnitRunner:
        """Return what has units answered."""
        ...


class Loads(Protocol):
    """What says which model is loaded, and how: a study of one model."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def load(self) -> Mapping[str, Any]:
        """Options of `impasto.load`."""
        ...


@dataclass(frozen=True)
class InProcess:
    """A model in this process, which answers one unit after the other."""

    model: StudiedModel
    workers: int = 1

    @property
    def free(self) -> "Free | None":
        """What is free on the model's device."""
        from impasto.run import Encoder, Model
        from impasto.run.batching.memory import free_memory

        model = self.model
        return free_memory(model.hf.device) if isinstance(model, Model | Encoder) else None

    @property
    def shape(self) -> Shape | None:
        """What of the model costs something."""
        model: Any = self.model
        return getattr(model, "shape", None)

    @contextmanager
    def allowed(self, memory: int | None) -> Iterator[None]:
        """Let a batch take so many bytes in the block."""
        if memory is None:
            yield
            return
        model: Any = self.model
        before, model.memory = model.memory, memory
        try:
            yield
        finally:
            model.memory = before

    def expected(
        self, tasks: Sequence[NeededTask], asked: Mapping[str, Asking]
    ) -> Mapping[str, float | None]:
        """Return how many seconds each task takes, counted and by this machine's speed."""
        return expected_seconds(self.model, tasks, asked)

    def executor(self, asked: Mapping[str, Asking]) -> Here:
        """Return what has units answered."""
        return Here(self.model, asked)


@contextmanager
def answering_for(
    study: Loads,
    loaded: StudiedModel | None,
    running: Running,
    log: logging.Logger,
    say: Callable[[str], None],
) -> Iterator[Answering]:
    """Give who answers a study of one model: that model in this process, or workers that have it.

    `loaded` is the model where it is there already; `say` is called with what a user should know.
    """
    if loaded is not None:
        if running.cluster is not None:
            raise UserError("a cluster's workers load the model themselves: give its name")
        yield InProcess(loaded)
    elif running.cluster is None:
        running.progress(Standing(0.0, f"loading {study.model}"))
        model = load_model(study.model, study.load, running.memory)
        if notice := where_weights_are(model):
            say(notice)
        yield InProcess(model)
    else:
        from impasto.study.cluster.hiring import hired

        def doing(what: str) -> None:
            running.progress(Standing(0.0, what))

        with hired(running.cluster, study.model, study.load, log, say, doing) as crew:
            yield crew
