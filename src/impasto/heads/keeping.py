"""Where fitted heads and trained checkpoints are kept, beside a study's results.

A name is made of the plan and of the problem with its protocol; the folder belongs to one model.
What is there is whole: it is written aside and then renamed.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from impasto.heads.linear import Linear
from impasto.plan import Plan
from impasto.tasks.problem import Problem


@dataclass(frozen=True)
class Keep:
    """The folder of one model's heads and checkpoints; None keeps nothing."""

    folder: Path | None

    def head(self, plan: Plan, problem: Problem) -> Linear | None:
        """Return a head that was kept, if it is there."""
        file = self._place(plan, problem, ".safetensors")
        return Linear.stored(load_file(file)) if file is not None and file.exists() else None

    def keep_head(self, plan: Plan, problem: Problem, head: Linear) -> None:
        """Keep a head."""
        file = self._place(plan, problem, ".safetensors")
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f"{file.name}.{os.getpid()}")
            save_file(head.tensors(), aside, {"plan": str(plan), "problem": problem.name})
            aside.replace(file)

    def checkpoint(self, plan: Plan, problem: Problem) -> Path | None:
        """Return the folder of a trained model, which is there when its training was finished."""
        return self._place(plan, problem, "")

    def training(self, plan: Plan, problem: Problem) -> Path | None:
        """Return the folder in which a training that is under way keeps where it is."""
        return self._place(plan, problem, ".training")

    def finish(self, plan: Plan, problem: Problem, written: Path) -> None:
        """Put a trained model in its place, and drop what its training kept."""
        place, training = self.checkpoint(plan, problem), self.training(plan, problem)
        assert place is not None
        assert training is not None
        written.replace(place)
        shutil.rmtree(training, ignore_errors=True)

    def _place(self, plan: Plan, problem: Problem, ending: str) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(f"{plan.digest} {problem.digest}".encode()).hexdigest()[:32]
        return self.folder / f"{problem.name}-{name}{ending}"
