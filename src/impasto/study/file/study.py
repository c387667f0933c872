"""`Study`: a model, some tasks and many plans, as a value read from a file.

Reading checks all that can be checked without the model; `run` checks the rest, runs every plan on
every task that has not run yet, and returns the results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from impasto.study.file.document import StudyError, read_document
from impasto.study.file.entries import (
    LabelledPlan,
    PlanEntry,
    TaskEntry,
    labelled_plans,
    plan_entry,
)
from impasto.study.file.schema import read_study_file
from impasto.tasks import Suite

if TYPE_CHECKING:
    from impasto.study.cluster.wanted import Cluster
    from impasto.study.following.standing import Progress
    from impasto.study.results.table import Results
    from impasto.study.running.estimate import Estimate
    from impasto.study.work.asking import StudiedModel


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
    cluster: "Cluster | None" = None
    command: str = "Study.run"
    progress: "Progress" = _unheard
    say: Callable[[str], None] = _unheard


@dataclass(frozen=True, slots=True)
class Study:
    """A model's name, the tasks and the plans to run on it; `name` labels the results.

    `load` is how the model is loaded, options of `impasto.load`: dtype, device_map, and so on.
    """

    name: str
    model: str
    tasks: tuple[TaskEntry, ...]
    plans: tuple[PlanEntry, ...]
    load: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    @classmethod
    def from_yaml(cls, path: str | Path, *, checked: bool = False) -> "Study":
        """Return the study that a file describes; the file's name is its name unless it has one.

        `checked` says that its tasks were checked before, so that it reads without their data.
        Raises StudyError, with the line and what is allowed there, for anything that cannot run.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise StudyError(_missing(path)) from None
        except IsADirectoryError:
            raise StudyError(f"{path} is a folder, not a study file") from None
        except UnicodeDecodeError:
            raise StudyError(f"{path} is not a text file") from None
        except OSError as error:
            raise StudyError(f"{path} cannot be read: {error.strerror}") from None
        return cls.from_text(text, name=path.stem, source=str(path), checked=checked)

    @classmethod
    def from_text(
        cls, text: str, *, name: str = "study", source: str = "study", checked: bool = False
    ) -> "Study":
        """Return the study that a YAML text describes; see `from_yaml`."""
        document = read_document(text, source)
        written = read_study_file(document)
        study = cls(
            name=written.name or name,
            model=written.model,
            tasks=tuple(
                TaskEntry(options, document.where(("tasks", i)))
                for i, options in enumerate(written.tasks)
            ),
            plans=tuple(
                plan_entry(entry, document.where(("plans", i)))
                for i, entry in enumerate(written.plans)
            ),
            load=written.load.model_dump(exclude_none=True),
            source=source,
        )
        if not checked:
            study.check_tasks()
        return study

    def as_run(self, model: str | None = None, limit: int | None = None) -> "Study":
        """Return the study with another model, or with at most `limit` questions for each task.

        Another model is loaded as the study's own would be, but for the revision.
        """
        tasks = tuple(entry.limited(limit) for entry in self.tasks)
        other = model is not None and model != self.model
        load = {key: value for key, value in self.load.items() if key != "revision" or not other}
        return replace(self, model=model or self.model, tasks=tasks, load=load)

    def check_tasks(self) -> None:
        """Raise StudyError, with the line, for a task that cannot be or is here twice."""
        self._check_names([(entry.check(), entry) for entry in self.tasks])

    def load_suite(self) -> Suite:
        """Return the tasks and groups; raises StudyError where one cannot be or is here twice."""
        loaded = [(entry.load(), entry) for entry in self.tasks]
        self._check_names(
            [(t.name, entry) for suite, entry in loaded for t in (*suite.tasks, *suite.groups)]
        )
        return Suite(
            tuple(task for suite, _ in loaded for task in suite.tasks),
            tuple(group for suite, _ in loaded for group in suite.groups),
        )

    def labelled_plans(self, layers: int) -> list[LabelledPlan]:
        """Return every plan for a model of so many layers, the baseline first.

        Raises StudyError, with the line, for a layer or a depth that such a model lacks.
        """
        return labelled_plans(self.plans, layers)

    @staticmethod
    def _check_names(named: Sequence[tuple[str, TaskEntry]]) -> None:
        """Raise StudyError at the second of two entries that results could not tell apart."""
        seen: set[str] = set()
        for name, entry in named:
            if name in seen:
                raise StudyError(
                    f"{entry.where}: the task {name!r} is here twice; results tell tasks apart by "
                    "their names, so put the other into a study of its own"
                )
            seen.add(name)

    def to_yaml(self) -> str:
        """Return the study as a file that reads as an equal study."""
        content: Mapping[str, Any] = {
            "name": self.name,
            "model": self.model,
            "tasks": [entry.written() for entry in self.tasks],
            "plans": [entry.written() for entry in self.plans],
            **({"load": dict(self.load)} if self.load else {}),
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

    def estimate(
        self, *, model: str | None = None, limit: int | None = None, memory: int | None = None
    ) -> "Estimate":
        """Return what running the study costs on this machine, running none of it.

        `memory` is the bytes that a batch may take. Raises UserError as `run` does.
        """
        from impasto.study.running.runner import estimate_study

        return estimate_study(self, model, limit, memory)

    def run(
        self,
        out: str | Path | None = None,
        *,
        model: "str | StudiedModel | None" = None,
        limit: int | None = None,
        memory: int | None = None,
        **more: Any,
    ) -> "Results":
        """Run every plan on every task and return the results, saved in `out` where given.

        In a folder that holds results already, only what is new is run; a run that was stopped goes
        on where it was. `model` stands in for the study's own: a name, or a model that
        `impasto.load` returned. `limit` bounds the questions of each task, `memory` the bytes that
        a batch may take (None: half of what is free; a model that is loaded already has its own).
        `more` are the other attributes of `Running`. Raises UserError before anything runs for what
        cannot, and `Stopped` (a KeyboardInterrupt) when it is interrupted and has saved its work.
        """
        from impasto.study.running.runner import run_study

        running = Running(limit=limit, memory=memory, **more)
        return run_study(self, None if out is None else Path(out), model, running)


def _missing(path: Path) -> str:
    """Say that a file does not exist, and which near ones do."""
    message = f"{path} does not exist"
    folder = path.parent
    if not folder.is_dir():
        return f"{message}, nor does the folder {folder}"
    there = sorted(p.name for p in folder.iterdir() if p.suffix in {".yaml", ".yml"})
    near = [n for n in there if Path(n).stem == path.name] or get_close_matches(path.name, there)
    if near:
        return f"{message}; did you mean {' or '.join(str(folder / name) for name in near)}?"
    return f"{message}; study files there: {', '.join(there)}" if there else message
