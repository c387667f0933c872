"""Where fitted heads and trained checkpoints are kept, beside a study's results.

A name is made of the plan and of the problem with its protocol; the folder belongs to one model.
What is there is whole: it is written aside and then renamed.
"""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from impasto.aside import remove, written_aside
from impasto.error import UserError
from impasto.heads.linear import Linear
from impasto.plain_data import read_json_file
from impasto.plan import Plan
from impasto.tasks.problem import Problem

CONFIGURATIONS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Keep:
    """The folder of one model's heads and checkpoints; None keeps nothing."""

    folder: Path | None

    def head(self, plan: Plan, problem: Problem) -> Linear | None:
        """Return a head that was kept, if it is there and can be read."""
        file = self._place(plan, problem, ".safetensors")
        if file is None or not file.exists():
            return None
        try:
            return Linear.stored(load_file(file))
        except (OSError, SafetensorError, KeyError):  # damaged: it is fitted anew
            return None

    def keep_head(self, plan: Plan, problem: Problem, head: Linear) -> None:
        """Keep a head."""
        file = self._place(plan, problem, ".safetensors")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(file) as place:
                save_file(head.tensors(), place, {"plan": str(plan), "problem": problem.name})

    def checkpoint(self, plan: Plan, problem: Problem) -> Path | None:
        """Return the folder of a trained model, if it is there and can be read.

        What its training kept is not needed any more, and goes.
        """
        place, training = self._place(plan, problem, ""), self.training(plan, problem)
        if place is None or training is None or not place.exists():
            return None
        if not is_whole_model(place):
            remove(place)
            return None
        remove(training)
        return place

    def training(self, plan: Plan, problem: Problem) -> Path | None:
        """Return the folder in which a training that is under way keeps where it is."""
        return self._place(plan, problem, ".training")

    def finish(self, plan: Plan, problem: Problem, written: Path) -> None:
        """Put a trained model in its place, and drop what its training kept."""
        place, training = self._place(plan, problem, ""), self.training(plan, problem)
        assert place is not None
        assert training is not None
        written.replace(place)
        remove(training)

    def _place(self, plan: Plan, problem: Problem, ending: str) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(f"{plan.digest} {problem.digest}".encode()).hexdigest()[:32]
        return self.folder / f"{problem.name}-{name}{ending}"


def last_whole(training: Path) -> Path | None:
    """Return the last checkpoint of a training that is whole; None where none is.

    Those that a kill left half written, or half removed, go.
    """
    checkpoints = [path for path in training.glob("checkpoint-*") if _step(path) is not None]
    for path in sorted(checkpoints, key=lambda path: _step(path) or 0, reverse=True):
        if _is_whole_checkpoint(path):
            return path
        remove(path)
    return None


def is_whole_model(folder: Path) -> bool:
    """Say whether a folder holds a configuration and weights that can be read to their end.

    It is a model's, or that of an adapter of PEFT.
    """
    names = [name for name in CONFIGURATIONS if (folder / name).exists()]
    try:
        read_json_file(folder / (names or CONFIGURATIONS)[0])
        weights = list(folder.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, "pt"):  # which sees where the file is cut
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights)


def _is_whole_checkpoint(folder: Path) -> bool:
    """Say whether a training can go on from a checkpoint; its state is what is written last."""
    try:
        state = read_json_file(folder / "trainer_state.json")
    except UserError:
        return False
    if not isinstance(state, dict):
        return False
    # torch's files are archives, whose table of contents stands at their end
    saved = [folder / name for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")]
    return all(map(zipfile.is_zipfile, saved)) and is_whole_model(folder)


def _step(checkpoint: Path) -> int | None:
    step = checkpoint.name.removeprefix("checkpoint-")
    return int(step) if step.isdecimal() and checkpoint.is_dir() else None
