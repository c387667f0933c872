"""Telling a tracker of a run; never needed, and off unless it is asked for.

Each tracker is a package of its own, installed as an extra: `pip install "impasto[wandb]"`. Of one
that fails on the way (a network that is gone) the user is told once; the study goes on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from impasto.error import UserError
from impasto.study.following.standing import Standing
from impasto.table import Table

PROJECT = "impasto"


class Tracker(Protocol):
    """What a tracker is told: numbers as a run goes on, and the table that it comes to."""

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers by name at a step."""
        ...

    def table(self, frame: pd.DataFrame) -> None:
        """Take a study's table."""
        ...

    def close(self) -> None:
        """End the run."""
        ...


class TensorBoard:
    """Writes event files for `tensorboard --logdir`; curves over depth have k as their step."""

    def __init__(self, name: str, about: Mapping[str, str], folder: Path, part: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard" / part))
        self._writer.add_text(name, "\n\n".join(f"{key}: {value}" for key, value in about.items()))

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        for name, value in numbers.items():
            self._writer.add_scalar(f"run/{name}", value, step)

    def table(self, frame: pd.DataFrame) -> None:
        """Add every value of the table; one plan without a depth is a curve of one point."""
        for row in frame.to_dict(orient="records"):
            if not isnan(row["value"]):
                k = 0 if pd.isna(row["k"]) else int(row["k"])
                self._writer.add_scalar(_curve(row), row["value"], k)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class Wandb:
    """Tells Weights & Biases."""

    def __init__(self, name: str, about: Mapping[str, str], folder: Path, part: str) -> None:
        self._wandb: Any = import_module("wandb")
        self._run = self._wandb.init(
            project=PROJECT, name=_named(name, part), config=dict(about), dir=str(folder)
        )

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers."""
        self._run.log(dict(numbers), step=step)

    def table(self, frame: pd.DataFrame) -> None:
        """Log the table."""
        plain = frame.astype({"k": "float64", "seed": "float64"})
        self._run.log({"results": self._wandb.Table(dataframe=plain)})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


class MLflow:
    """Tells MLflow, at the tracking server that its own settings name."""

    def __init__(self, name: str, about: Mapping[str, str], folder: Path, part: str) -> None:
        self._mlflow: Any = import_module("mlflow")
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=_named(name, part))
        self._mlflow.log_params(dict(about))

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers."""
        self._mlflow.log_metrics(dict(numbers), step=step)

    def table(self, frame: pd.DataFrame) -> None:
        """Log the table as an artifact."""
        self._mlflow.log_text(Table.of_frame(frame).written("csv"), "results.csv")

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[str, Mapping[str, str], Path, str], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
}


def check_tracker(name: str | None) -> None:
    """Raise UserError for a tracker that there is not, or whose package is not installed."""
    if name is None:
        return
    if name not in TRACKERS:
        raise UserError(f"there is no tracker {name!r}; the trackers are {', '.join(TRACKERS)}")
    if find_spec(name) is None:
        raise UserError(f'tracking by {name} needs its package: pip install "impasto[{name}]"')


class Telling:
    """A tracker that may be there, and may fail; the run does not notice."""

    def __init__(self, tracker: Tracker | None, say: Callable[[str], None]) -> None:
        self._tracker, self._say = tracker, say

    def standing(self, standing: Standing) -> None:
        """Tell how far the run is."""
        numbers = {"cells": float(standing.cells), "share": standing.share}
        if standing.pace is not None:
            numbers["items_per_second"] = standing.pace
        self._try(lambda tracker: tracker.numbers(standing.cells, numbers))

    def table(self, frame: pd.DataFrame) -> None:
        """Tell what the study came to."""
        self._try(lambda tracker: tracker.table(frame))

    def close(self) -> None:
        """End it."""
        self._try(lambda tracker: tracker.close())

    def _try(self, tell: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            tell(self._tracker)
        except Exception as error:
            self._tracker = None
            self._say(
                "the tracker failed and is told no more; the study goes on "
                f"({type(error).__name__}: {error})"
            )


@contextmanager
def tracked(
    tracker: str | None,
    name: str,
    about: Mapping[str, str],
    folder: Path,
    say: Callable[[str], None],
    part: str = "",
) -> Iterator[Telling]:
    """Give what tells a tracker of a run in the block; nobody is told where `tracker` is None.

    `part` tells the runs of a study's models apart.
    """
    made = None
    if tracker is not None:
        try:
            made = TRACKERS[tracker](name, about, folder, part)
        except Exception as error:
            raise UserError(
                f"{tracker} cannot be told of the run: {type(error).__name__}: {error}"
            ) from error
    telling = Telling(made, say)
    try:
        yield telling
    finally:
        telling.close()


def _named(name: str, part: str) -> str:
    return f"{name} {part}".rstrip()


def _curve(row: Mapping[Any, Any]) -> str:
    """Return the name of the curve that a row of the table is a point of."""
    strategy = row["strategy"] if row["strategy"] != "plan" else row["plan"]
    seed = "" if pd.isna(row["seed"]) else f" seed={int(row['seed'])}"
    parameters = "" if row["parameters"] == "{}" else f" {row['parameters']}"
    return f"{row['task']}/{row['metric']}/{strategy}{seed}{parameters}"
