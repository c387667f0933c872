"""What figures are drawn from: finished studies and what `impasto similarity` and `probe` wrote.

A figure that lacks its data raises `MissingError`, which says what and how to get it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from impasto.analysis.costs import Timing, measured_costs, timings_of
from impasto.analysis.inside.saved import Inside, read_inside
from impasto.error import ImpastoError, UserError, shown
from impasto.paths import path_of
from impasto.study import Results
from impasto.study.database.opening import DATABASE


@dataclass(frozen=True)
class Found:
    """One folder's finished study (None: it has none), and what it knows of the model inside.

    `timings` are measured times of the study's plans, where there are any. `label` is what the
    model is called beside others, where its name alone does not tell it.
    """

    folder: Path | None
    results: Results | None
    inside: Mapping[str, Inside]
    timings: Sequence[Timing] = ()
    label: str = ""

    @classmethod
    def read(cls, folder: str | Path) -> "Found":
        """Return what a folder holds; raises UserError where that is nothing, or unfinished."""
        folder = path_of(folder, "a study's folder")
        inside = read_inside(folder)
        if inside and not (folder / DATABASE).exists():
            return cls(folder, None, inside)
        return cls.of(Results.read(folder), folder, inside)

    @classmethod
    def read_all(cls, folder: str | Path, study: str | None = None) -> "list[Found]":
        """Return what a folder holds of each model of a study; raises as `read`.

        It is the study that ran there last, or the one that `study` names. Of several models, each
        has what is known of itself inside.
        """
        folder = path_of(folder, "a study's folder")
        inside = read_inside(folder)
        if inside and not (folder / DATABASE).exists():
            return [cls(folder, None, inside)]
        read = Results.read_all(folder, study=study)
        if len(read) == 1:
            return [cls.of(read[0], folder, inside)]
        return [
            cls.of(
                results,
                folder,
                {what: one for what, one in inside.items() if one.model == results.study.model},
            )
            for results in read
        ]

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
        return self.results.frame()

    @property
    def model(self) -> str:
        """The model's name, without the folder that it lies in, or its label."""
        return self.label or short_name(self.model_name)

    @property
    def model_name(self) -> str:
        """The model's whole name; empty where the folder holds nothing."""
        if self.results is not None:
            return self.results.study.model
        return next((inside.model for inside in self.inside.values()), "")

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        if self.results is None:
            return next((inside.layers for inside in self.inside.values()), 0)
        return int(self.frame["layers"].iloc[0])

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
