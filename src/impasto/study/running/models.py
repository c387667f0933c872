"""The models of a study, one after the other: what each takes of it, and whose turn it is.

What a model takes is known by its configuration, before any weights are read. Of a study of several
models, tasks and plans that only decoders or only encoders take are left out for the others, and
that is said; one that none of them takes is a mistake.
"""

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from impasto.error import UserError
from impasto.study.file.document import StudyError
from impasto.study.file.entries import BASELINE, LabelledPlan, PlanEntry, TaskEntry, at
from impasto.study.file.study import WrittenStudy, joined
from impasto.study.following.standing import Standing
from impasto.study.results.several import of_all
from impasto.study.results.table import Results
from impasto.study.running.options import Running
from impasto.study.running.stopping import Stopped
from impasto.study.work.asking import KnownModel
from impasto.study.work.scoring import is_for_encoders, takes
from impasto.tasks import Suite

if TYPE_CHECKING:
    from impasto.run import Encoder, Model

FOR_DECODERS, FOR_ENCODERS = "for decoders only", "for encoders only"
BY_DECODERS = "its layers are chosen by texts that only decoders read"
NO_DONORS = "its tasks name no donors"
NO_PROMPTS = "its tasks are whole texts, which have no prompt"

Entry = TaskEntry | PlanEntry


@dataclass(frozen=True)
class ModelPart:
    """What of a study one of its models takes.

    Attributes:
        study: The study with this model alone, and the entries that it takes.
        suite: Its tasks and groups.
        is_encoder: Whether it is an encoder; None where that is not known yet.
        left_out: Each entry that it does not take, and why.
    """

    study: WrittenStudy
    suite: Suite
    is_encoder: bool | None = None
    left_out: Sequence[tuple[Entry, str]] = ()

    def notices(self) -> Iterator[str]:
        """Yield what is left out for this model, a sentence for each reason."""
        kind = "an encoder" if self.is_encoder else "a decoder"
        for reason in dict.fromkeys(reason for _, reason in self.left_out):
            names = [_name(entry) for entry, why in self.left_out if why == reason]
            yield f"{self.study.model}, {kind}, runs without {', '.join(names)} ({reason})"


def parts_of(study: WrittenStudy, several: bool, loaded: Any = None) -> list[ModelPart]:
    """Return what each model of a study takes of it.

    Args:
        study: The study with the models that are to be run.
        several: Whether it was written for several, and may have entries that one does not take.
        loaded: The model where it is loaded already.

    Raises:
        StudyError: for an entry that no model takes, a model that takes no task, and a layer that
            one lacks, as far as its configuration says how many there are.
        UserError: where a task cannot be loaded or a model cannot be read.
    """
    entries = study.load_entries()
    for entry in study.plans:
        if entry.texts is not None:
            entry.texts.load()  # what cannot be read is said before a model is loaded
    if not several:
        return [ModelPart(study, joined([suite for _, suite in entries]))]
    parts = [
        _part(study.as_run(name), entries, *_known(name, study.load, loaded))
        for name in study.models
    ]
    for entry in (*study.tasks, *study.plans):
        reasons = [why for part in parts for other, why in part.left_out if other is entry]
        if len(reasons) == len(parts) > 1:
            with at(entry.where):
                raise UserError(f"none of the models takes {_name(entry)} ({reasons[0]})")
    return parts


def check_kinds(parts: Sequence[ModelPart], running: Running) -> None:
    """Raise UserError where an encoder among several models cannot be run as it is wanted."""
    for part in parts:
        if part.is_encoder and running.bench is not None:
            raise UserError(f"--bench times decoders, and {part.study.model} is an encoder")
        if part.is_encoder and running.cluster is not None:
            raise UserError(
                f"{part.study.model} is an encoder; its studies run in one process: no --cluster"
            )


def load_model(name: str, options: Mapping[str, Any], memory: int | None) -> "Model | Encoder":
    """Return the model of this name, whose batches may take so many bytes."""
    from impasto.run import load

    model = load(name, **options)
    model.memory = memory
    return model


def where_weights_are(model: Any) -> str | None:
    """Return where a model's weights are, where there is a choice; None elsewhere."""
    from impasto.model.loading.placing import told

    return told(getattr(model, "hf", None))


def release() -> None:
    """Give back the memory of a model that nobody has any more, before the next one is loaded."""
    gc.collect()  # modules and their hooks refer to each other
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _known(name: str, load: Any, loaded: Any) -> tuple[int | None, bool | None]:
    """Return how many layers a model has and whether it is an encoder, as far as that is known."""
    if loaded is None:
        from impasto.model.loading.load import outline

        return outline(name, **load)
    from impasto.run import Encoder, Model

    known = isinstance(loaded, Model | Encoder)
    return loaded.num_layers, isinstance(loaded, Encoder) if known else None


def _part(
    study: WrittenStudy,
    entries: Sequence[tuple[TaskEntry, Suite]],
    layers: int | None,
    is_encoder: bool | None,
) -> ModelPart:
    """Return what a model of so many layers takes of a study of this model alone."""
    reason = FOR_DECODERS if is_encoder else FOR_ENCODERS
    taken = [(entry, suite) for entry, suite in entries if _fits(suite, is_encoder)]
    tasks = tuple(entry for entry, _ in taken)
    left_out: list[tuple[Entry, str]] = [(e, reason) for e in study.tasks if e not in tasks]
    if not taken:
        kind = "an encoder" if is_encoder else "a decoder"
        raise StudyError(f"{study.model} is {kind}, and the study's tasks are {reason}")
    suite = joined([suite for _, suite in taken])
    plans = []
    for entry in study.plans:
        with _about(study.model, layers):
            why = _why_not(entry, suite, layers, bool(is_encoder))
        if why is None:
            plans.append(entry)
        else:
            left_out.append((entry, why))
    kept = replace(study, tasks=tasks, plans=tuple(plans) or (PlanEntry(BASELINE),))
    return ModelPart(kept, suite, is_encoder, left_out)


def _fits(suite: Suite, is_encoder: bool | None) -> bool:
    return is_encoder is None or all(is_for_encoders(task) == is_encoder for task in suite.tasks)


def _why_not(entry: PlanEntry, suite: Suite, layers: int | None, is_encoder: bool) -> str | None:
    """Return why a model cannot run a plan of an entry; None where it can, or nobody knows yet."""
    if is_encoder and entry.texts is not None:
        return BY_DECODERS
    for labelled in [] if layers is None else entry.standing_in(layers).expand(layers):
        if is_encoder and labelled.plan.has_history:
            return FOR_DECODERS
        if not any(takes(task, labelled.plan) for task in suite.tasks):
            return NO_DONORS if labelled.plan.injections else NO_PROMPTS
    return None


@contextmanager
def _about(model: str, layers: int | None) -> Iterator[None]:
    """Have a mistake in the block say which model it is about."""
    try:
        yield
    except StudyError as error:
        raise StudyError(f"{error}\nThat is the model {model}, with {layers} layers.") from None


def _name(entry: Entry) -> str:
    if isinstance(entry, TaskEntry):
        return str(entry.options["name"])
    return entry.strategy if entry.line is None else entry.line


def check_taken(suite: Suite, plans: Sequence[LabelledPlan]) -> None:
    """Raise StudyError for a plan that no task takes: without donors, or without prompts."""
    for labelled in plans:
        if not any(takes(task, labelled.plan) for task in suite.tasks):
            raise StudyError(
                f"{labelled.plan} injects, and none of the study's tasks names donors; "
                "capitals and arithmetic do, and questions with subjects or a file of donors"
                if labelled.plan.injections
                else f"{labelled.plan} does something to the prompt alone, and the study's tasks "
                "are whole texts, which have no prompt; capitals and arithmetic have prompts"
            )


@dataclass(frozen=True)
class Turn:
    """A model's turn in the run of a study.

    Attributes:
        study: The study as it is run, with all its models.
        part: What the model takes of it.
        number: Which of the models it is, from 1.
        began: When the run began, in seconds since 1970.
        before: What the models before it came to.
    """

    study: WrittenStudy
    part: ModelPart
    number: int
    began: float
    before: Sequence[Results] = field(default=(), repr=False)

    @property
    def is_last(self) -> bool:
        """Whether no model comes after it."""
        return self.number == len(self.study.models)

    @property
    def label(self) -> str:
        """Which model of how many this is; empty where there is one."""
        count = len(self.study.models)
        return f"model {self.number} of {count}, {self._short}" if count > 1 else ""

    @property
    def slug(self) -> str:
        """What files and runs of this model alone are called; empty where there is one."""
        name = re.sub(r"[^\w.-]+", "-", self._short)
        return f"{self.number}-{name}" if self.label else ""

    @property
    def _short(self) -> str:
        """The model's name without the folder or the owner before it."""
        return self.part.study.model.rstrip("/").rsplit("/", 1)[-1]

    def read_by(self, model: KnownModel) -> "Turn":
        """Return the turn with the items of those tasks that depend on how the model reads texts.

        Raises UserError for texts of which there is nothing to ask.
        """
        return replace(self, part=replace(self.part, suite=self.part.suite.read_by(model)))

    def running(self, running: Running) -> Running:
        """Return how it is run: progress and notices say which model it is."""
        if not self.label:
            return running

        def progress(standing: Standing) -> None:
            running.progress(replace(standing, model=self.label))

        def say(notice: str) -> None:
            running.say(f"{self._short}: {notice}")

        return replace(running, progress=progress, say=say)

    def whole(self, results: Results) -> Results | None:
        """Return what all models came to, this one last; None while others are still to come."""
        return of_all(self.study, [*self.before, results]) if self.is_last else None

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Have a stop in the block say at which model that was."""
        try:
            yield
        except Stopped as stopped:
            raise (Stopped(f"{self.label}: {stopped}") if self.label else stopped) from None
