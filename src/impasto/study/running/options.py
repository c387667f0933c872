"""`Running`: how a study is run, as a value."""

from collections.abc import Callable
from dataclasses import dataclass

from impasto.error import UserError, shown
from impasto.study.cluster.wanted import Cluster
from impasto.study.following.standing import Progress

SAVE_EVERY = 45.0  # seconds of work that a killed run loses at the most, or about that


def _unheard(told: object) -> None:
    pass


@dataclass(frozen=True)
class Running:
    """How a study is run.

    Attributes:
        limit: At most so many questions of each task.
        memory: The bytes that a batch may take.
        save_every: About how many seconds of work are saved at once. How a task is divided is kept
            from its first run on.
        fresh: Whether all results that the folder holds are thrown away first.
        track: Who else is told of the run: tensorboard, wandb or mlflow.
        bench: With how many sequences of each length to time every plan, once its answers are
            there; None times none.
        allow_code: Whether folders of task files that the study names (`include_path`) may run
            their code.
        cluster: The Ray cluster whose workers answer; None for this process itself.
        command: What started it, as the results are to say.
        progress: Called with a `Standing` whenever there is something to show.
        say: Called with what a user should know, sentence by sentence.
    """

    limit: int | None = None
    memory: int | None = None
    save_every: float = SAVE_EVERY
    fresh: bool = False
    track: str | None = None
    bench: int | None = None
    allow_code: bool = False
    cluster: Cluster | None = None
    command: str = "Study.run"
    progress: Progress = _unheard
    say: Callable[[str], None] = _unheard

    def __post_init__(self) -> None:
        """Refuse what no study can be run by."""
        for name, least in (("limit", 1), ("memory", 1), ("bench", 2)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < least):
                raise UserError(f"{name} is a whole number from {least}, not {shown(value)}")
        if not isinstance(self.save_every, int | float) or not self.save_every > 0:
            raise UserError(f"save_every is a number of seconds, not {shown(self.save_every)}")
        if not isinstance(self.allow_code, bool):
            raise UserError(f"allow_code is True or False, not {shown(self.allow_code)}")
        if isinstance(self.cluster, str):
            raise UserError(f"cluster is Cluster({shown(self.cluster)}), not its address alone")
