"""What figures are drawn from: studies, searches, what `impasto similarity` and `probe` wrote.

A figure that lacks its data raises `MissingError`, which says what and how to get it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from impasto.analysis.costs import Timing, measured_costs, timings_of
from impasto.analysis.inside.saved import Inside, read_inside
from impasto.error import ImpastoError, UserError, shown
from impasto.paths import path_of
from impasto.searching.found import Found as Search
from impasto.searching.found import has_search
from impasto.study import Results
from impasto.study.database.asked import names_in
from impasto.study.database.opening import DATABASE


@dataclass(frozen=True)
class Found:
    """One folder's finished study (None: it has none), and what it knows of the model inside.

    `timings` are measured times of the study's plans, where there are any; `search` is what a
    search in the folder found. `label` is what the model is called beside others, where its name
    alone does not tell it.
    """

    folder: Path | None
    results: Results | None
    inside: Mapping[str, Inside]
    timings: Sequence[Timing] = ()
    label: str = ""
    search: Search | None = None

    @classmethod
    def read(cls, folder: str | Path) -> "Found":
        """Return what a folder holds; raises UserError where that is nothing, or unfinished."""
        folder = path_of(folder, "a study's folder")
        beside = _beside(folder)
        if beside.is_known and not _has_study(folder):
            return beside
        return replace(cls.of(Results.read(folder), folder, beside.inside), search=beside.search)

    @classmethod
    def read_all(cls, folder: str | Path, study: str | None = None) -> "list[Found]":
        """Return what a folder holds of each model of a study; raises as `read`.

        It is the study that ran there last, or the one that `study` names. Of several models, each
        has what is known of itself inside, and the one that was searched what was found; where that
        is none of them, the first has it.
        """
        folder = path_of(folder, "a study's folder")
        beside = _beside(folder)
        if beside.is_known and study is None and not _has_study(folder):
            return [beside]
        return _with(beside, Results.read_all(folder, study=study))

    @classmethod
    def all_of(cls, results: Results, folder: Path) -> "list[Found]":
        """Return what each model of a study came to, with what else its folder holds."""
        return _with(_beside(folder), list(results.models.values()))

    @classmethod
    def of(
        cls,
        results: Results,
        folder: Path | None = None,
        inside: Mapping[str, Inside] | None = None,
    ) -> "Found":
        """Return what a finished study has found, with the times of its plans."""
        if not isinstance(results, Results):
            raise UserError(
                f"figures are drawn from what Study.run or Results.read return, not from "
                f"{shown(results)}"
            )
        if len(results.models) > 1:
            names = ", ".join(results.models)
            raise UserError(
                f"these are results of {names}: give those of one, results.models[NAME]"
            )
        return cls(folder, results, inside or {}, timings_of(results.costs))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The study's table; raises UserError where there is no study."""
        if self.results is None:
            raise UserError(f"{self.folder} holds no study")
        return self.results.table

    @property
    def model(self) -> str:
        """The model's name, without the folder that it lies in, or its label."""
        return self.label or short_name(self.model_name)

    @property
    def model_name(self) -> str:
        """The model's whole name; empty where the folder holds nothing."""
        if self.results is not None:
            return self.results.study.model
        if self.search is not None:
            return self.search.model
        return next((inside.model for inside in self.inside.values()), "")

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        if self.results is None:
            known = [each for each in (self.search, *self.inside.values()) if each is not None]
            return known[0].layers if known else 0
        return int(self.frame["layers"].iloc[0])

    @property
    def is_known(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.results or self.inside or self.search)

    @property
    def named(self) -> str:
        """The model and how many layers it has."""
        return f"{self.model}, {self.layers} layers"

    @property
    def costs(self) -> "tuple[str, Mapping[str, float]] | None":
        """Measured costs of plans by digest, after their unit; None where none was measured."""
        return measured_costs(self.timings)

    @property
    def tasks(self) -> list[str]:
        """The names of the study's tasks."""
        return [] if self.results is None else list(dict.fromkeys(self.frame["task"]))

    @property
    def strategies(self) -> set[str]:
        """The families of the study's plans."""
        return set() if self.results is None else set(self.frame["strategy"])


def _beside(folder: Path) -> Found:
    """Return what a folder holds beside a study."""
    search = Search.read(folder) if has_search(folder) else None
    return Found(folder, None, read_inside(folder), search=search)


def _with(beside: Found, read: Sequence[Results]) -> list[Found]:
    """Return the results of a folder's models, with what the folder holds beside them."""
    every = [Found.of(results, beside.folder, _inside(beside, read, results)) for results in read]
    if beside.search is not None:
        names = [found.model_name for found in every]
        name = beside.search.model
        at = names.index(name) if name in names else 0
        every[at] = replace(every[at], search=beside.search)
    return every


def _inside(beside: Found, read: Sequence[Results], results: Results) -> Mapping[str, Inside]:
    """Return what is known inside of one of the models that a folder has results of."""
    if len(read) == 1:
        return beside.inside
    model = results.study.model
    return {what: inside for what, inside in beside.inside.items() if inside.model == model}


def _has_study(folder: Path) -> bool:
    """Say whether a study was run in a folder: a search writes to the same database."""
    return (folder / DATABASE).exists() and bool(names_in(folder))


def short_name(model: str) -> str:
    """Return the last part of a folder or a hub id."""
    return model.rstrip("/").rsplit("/", 1)[-1]


class MissingError(ImpastoError):
    """A figure lacks its data: the entries that a study file would need, or another command.

    Attributes:
        tasks, plans: What to write under `tasks` and `plans` of the study file.
        command: What makes the data, in place of running the study again.
        what: What the command makes, where that has a name.
        reason: Why what there is does not do, in a sentence.
    """

    def __init__(
        self,
        tasks: Sequence[str] = (),
        plans: Sequence[str] = (),
        command: str = "",
        what: Sequence[str] = (),
        reason: str = "",
    ) -> None:
        super().__init__(", ".join(filter(None, [reason, *tasks, *plans, *what, command])))
        self.tasks, self.plans, self.command = tuple(tasks), tuple(plans), command
        self.what, self.reason = tuple(what), reason

    def told(self, found: Found) -> list[str]:
        """Return what is missing and the command that would make it, in lines."""
        folder = found.folder or Path("OUT")
        lines = [self.reason] if self.reason else []
        lines += [f"missing {what}" for what in self.what]
        for what, entries in (("tasks", self.tasks), ("plans", self.plans)):
            if entries:
                lines.append(f"missing {what}, as a study file has them:")
                lines += [f"  - {entry}" for entry in entries]
        study = "STUDY.yaml" if found.results is None else folder / "study.yaml"
        command = self.command or "impasto run {study} --out {out}"
        model = found.model_name or "MODEL"
        command = command.format(study=study, out=folder, model=model)
        if not (self.tasks or self.plans):
            return [*lines, f"make it by:  {command}"] if self.command else lines
        first = "write a study file of them" if found.results is None else f"add to {study}"
        return [*lines, f"{first}, then:  {command}"]
