"""`WrittenStudy`: what a study file says, models, some tasks and many plans, as a value.

Reading checks all that can be checked without the model. `impasto.study.running.study` runs it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

import yaml

from impasto.error import shown
from impasto.paths import path_of
from impasto.study.file.document import StudyError, YamlDocument, read_document
from impasto.study.file.entries import (
    LabelledPlan,
    PlanEntry,
    TaskEntry,
    at,
    labelled_plans,
    plan_entries,
)
from impasto.study.file.places import WORKING, absolute, placed_name, placed_options, placed_plan
from impasto.study.file.schema import StudyFile, read_study_file
from impasto.study.file.shipped import found_or_shipped, shipped
from impasto.table import Table
from impasto.tasks import Suite


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WrittenStudy:
    """The names of models, the tasks and the plans to run on each; `name` labels the results.

    `load` is how the models are loaded, options of `impasto.load`: dtype, max_length, and so on.
    Two that say the same are equal, wherever they were written (`source`).
    """

    name: str
    models: tuple[str, ...]
    tasks: tuple[TaskEntry, ...]
    plans: tuple[PlanEntry, ...]
    load: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        """Raise StudyError unless the models are names, one at least."""
        names = self.models
        if not (isinstance(names, tuple) and names and all(isinstance(n, str) for n in names)):
            raise StudyError(f"models is a tuple of names, one at least, not {shown(names)}")

    @classmethod
    def from_yaml(cls, path: str | Path, *, checked: bool = False) -> Self:
        """Return the study that a file describes; the file's name is its name unless it has one.

        Paths in it are relative to its folder. Where there is no such file, a name is that of a
        study that comes with impasto: attend_first.

        `checked` says that its tasks were checked before, so that it reads without their data.
        Raises StudyError, with the line and what is allowed there, for anything that cannot run.
        """
        path = found_or_shipped(path_of(path, "a study file"))
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
        return cls.from_text(
            text, name=path.stem, source=str(path), checked=checked, folder=path.parent
        )

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        name: str = "study",
        source: str = "study",
        checked: bool = False,
        folder: Path | None = WORKING,
    ) -> Self:
        """Return the study that a YAML text describes; see `from_yaml`.

        Paths are relative to `folder`, the working folder unless another is given, and made
        absolute; None leaves them as they are.
        """
        document = read_document(text, source)
        written = read_study_file(document)
        if folder is not None:
            written = _placed(written, document, folder)
        study = cls(
            name=written.name or name,
            models=written.all_models,
            tasks=tuple(
                TaskEntry(options, document.where(("tasks", i)))
                for i, options in enumerate(written.tasks)
            ),
            plans=tuple(
                plan
                for i, entry in enumerate(written.plans)
                for plan in plan_entries(entry, document.where(("plans", i)))
            ),
            load=written.load.model_dump(exclude_none=True),
            source=source,
        )
        study.check_texts_apart()
        if not checked:
            study.check_tasks()
        return study

    @property
    def model(self) -> str:
        """The name of its one model; raises StudyError where it has several."""
        if len(self.models) != 1:
            raise StudyError(
                f"the study {self.name} has several models: {', '.join(self.models)}; say which "
                "one is meant (--model, or model= in Python)"
            )
        [name] = self.models
        return name

    def as_run(self, model: str | None = None, limit: int | None = None) -> Self:
        """Return the study with one model, or with at most `limit` questions for each task.

        A model that is none of its own is loaded as those would be, but for the revision. One of
        its own may be said as a path from the working folder, too.
        """
        if model is not None and model not in self.models:
            model = placed if (placed := absolute(model)) in self.models else model
        tasks = tuple(entry.limited(limit) for entry in self.tasks)
        other = model is not None and model not in self.models
        load = {key: value for key, value in self.load.items() if key != "revision" or not other}
        models = self.models if model is None else (model,)
        return replace(self, models=models, tasks=tasks, load=load)

    def loading(self, options: Mapping[str, Any]) -> Self:
        """Return the study with options of `impasto.load` beside its own, or in their place."""
        return replace(self, load={**self.load, **options})

    def check_tasks(self) -> None:
        """Raise StudyError, with the line, for a task that cannot be or is here twice."""
        self._check_names([(entry.check(), entry) for entry in self.tasks])

    def check_texts_apart(self) -> None:
        """Raise StudyError for a task whose texts heal a plan: it would say too much of it."""
        heal = [
            source
            for plan in self.plans
            if plan.heal is not None
            for source in [_source(plan.heal["texts"])]
        ]
        for entry in self.tasks:
            if entry.options.get("name") == "texts" and _source(entry.options) in heal:
                place = entry.options.get("file") or entry.options.get("dataset")
                raise StudyError(
                    f"{entry.where}: {place} heals a plan of this study, so what it measures of "
                    "that plan would be too good; measure on other texts"
                )

    def load_suite(self) -> Suite:
        """Return the tasks and groups; raises StudyError where one cannot be or is here twice."""
        return joined([suite for _, suite in self.load_entries()])

    def load_entries(self) -> list[tuple[TaskEntry, Suite]]:
        """Return each entry of the tasks with what it names; raises as `load_suite`."""
        loaded = [(entry, entry.load()) for entry in self.tasks]
        self._check_names(
            [(t.name, entry) for entry, suite in loaded for t in (*suite.tasks, *suite.groups)]
        )
        return loaded

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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WrittenStudy):
            return NotImplemented
        ours, theirs = (
            (study.name, study.models, study.tasks, study.plans, study.load)
            for study in (self, other)
        )
        return ours == theirs

    def to_yaml(self) -> str:
        """Return the study as a file that reads as an equal study."""
        return yaml.safe_dump(self._written(), sort_keys=False, allow_unicode=True)

    def _written(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **({"models": [*self.models]} if len(self.models) > 1 else {"model": self.model}),
            "tasks": [entry.written() for entry in self.tasks],
            "plans": [entry.written() for entry in self.plans],
            **({"load": dict(self.load)} if self.load else {}),
        }

    def __repr__(self) -> str:
        said = f"{len(self.tasks)} entries of tasks, {len(self.plans)} of plans"
        return f"<{type(self).__name__} {self.name} of {', '.join(self.models)}: {said}>"

    def _repr_html_(self) -> str:
        """Return a table of what the study says, an entry a row, as its file writes it."""
        return Table(("", "the study"), [*_rows(self._written())]).written("html")


def _rows(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key of each part of a study once, and each of its entries on a line."""
    for key, value in content.items():
        for number, entry in enumerate(value if isinstance(value, list) else [value]):
            flow = yaml.safe_dump(entry, default_flow_style=True, allow_unicode=True, width=1000)
            yield "" if number else key, flow.removesuffix("\n...\n").rstrip()


def joined(suites: Sequence[Suite]) -> Suite:
    """Return the tasks and groups of several suites as one."""
    return Suite(
        tuple(task for suite in suites for task in suite.tasks),
        tuple(group for suite in suites for group in suite.groups),
        {name: wanted for suite in suites for name, wanted in suite.precisions.items()},
    )


def _placed(written: StudyFile, document: YamlDocument, folder: Path) -> StudyFile:
    """Return a study file with the paths in it made absolute; raises StudyError with the line."""

    def each(key: str, place: Callable[[Any, Path], Any]) -> list[Any]:
        placed = []
        for number, value in enumerate(getattr(written, key)):
            with at(document.where((key, number))):
                placed.append(place(value, folder))
        return placed

    update: dict[str, Any] = {
        "tasks": each("tasks", placed_options),
        "plans": each("plans", placed_plan),
    }
    if written.models is not None:
        update["models"] = each("models", placed_name)
    else:
        with at(document.where(("model",))):
            update["model"] = placed_name(str(written.model), folder)
    return written.model_copy(update=update)


def _source(texts: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells where texts come from."""
    file = texts.get("file")
    if isinstance(file, str):
        return (Path(file).resolve(),)
    return texts.get("dataset"), texts.get("config"), texts.get("split") or "test"


def _missing(path: Path) -> str:
    """Say that a file does not exist, and which near ones do."""
    message, folder = f"{path} does not exist", path.parent
    ours = [found.name for found in shipped() if found.kind != "texts"]
    there = []
    if folder.is_dir():
        there = sorted(p.name for p in folder.iterdir() if p.suffix in {".yaml", ".yml"})
    near = [n for n in there if Path(n).stem == path.name] or get_close_matches(path.name, there)
    near = [str(folder / name) for name in near]
    if len(path.parts) == 1:
        near += get_close_matches(path.name, ours)
    if near:
        return f"{message}; did you mean {' or '.join(near)}?"
    if path.stem in ours:
        return f"{message}; what comes with impasto has no folder: {path.stem}"
    if not folder.is_dir():
        return f"{message}, nor does the folder {folder}"
    said = f"{message}; study files there: {', '.join(there)}" if there else message
    return f"{said}\nimpasto studies lists those that come with impasto."
