"""What of the machine a search goes by: memory, how work is divided, and what plans cost and take.

What was measured is kept with the search, so that it goes the same way when it goes on.
"""

import sqlite3
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from impasto.error import UserError
from impasto.plan import Plan
from impasto.run import Pace
from impasto.searching.budget import SECONDS, Measure, counted
from impasto.searching.timing import PartTimes, time_parts, time_plan
from impasto.study.database.searches import keep_of, kept_of
from impasto.study.following.standing import Standing
from impasto.study.running.answering import Answering
from impasto.study.running.budget import budget as budget_of_memory
from impasto.study.running.options import Running

CPU, ACCELERATOR = 5e10, 1e13  # operations a second, about, by which work is divided
CALL = 1e-3  # seconds of a layer's call where texts are written, about


@dataclass
class Machine:
    """The machine that a search runs on; `row` is the search's in the database."""

    answering: Answering
    connection: sqlite3.Connection
    row: int
    running: Running

    def measure(self, measure: str) -> Measure:
        """Return how a measure of the budget is counted, or was measured."""
        if measure == "parts":
            return counted(measure, None)
        if measure == SECONDS:
            return self._seconds.of
        shape = self.answering.shape
        if shape is None:
            raise UserError(
                f"nobody can count the {measure} of {self.answering.model.name}: bound parts"
            )
        return counted(measure, shape)

    @cached_property
    def _seconds(self) -> PartTimes:
        """What the model's parts take: as they did when this search first ran here."""
        from impasto.run import Model

        model = self.answering.model
        if not isinstance(model, Model):
            raise UserError(
                f"seconds are measured on a decoder in this process, and {model.name} is none: "
                "bound parts, parameters, operations or kept_bytes"
            )
        kept = kept_of(self.connection, self.row)
        if "parts" not in kept:
            self.running.progress(Standing(0.0, "timing the model's parts"))
            kept["parts"] = dict(time_parts(model).seconds)
            keep_of(self.connection, self.row, parts=kept["parts"])
        return PartTimes(kept["parts"])

    def share_of(self, plan: Plan) -> float:
        """Return a plan's seconds as a share of the full model's: as when it was first timed."""
        model: Any = self.answering.model
        timed = kept_of(self.connection, self.row).get("timed", {})
        if plan.digest not in timed:
            timed[plan.digest] = time_plan(model, plan)
            keep_of(self.connection, self.row, timed=timed)
        return timed[plan.digest]

    def memory(self) -> int | None:
        """Return the bytes that a batch may take: as many as when this search first ran here."""
        before = kept_of(self.connection, self.row).get("memory")
        own = self.running.memory or getattr(self.answering.model, "memory", None)
        memory, notice = budget_of_memory(self.answering.free, own, before)
        if notice:
            self.running.say(notice)
        if memory != before:
            keep_of(self.connection, self.row, memory=memory)
        return memory

    def pace(self) -> Pace | None:
        """Return the pace that counts where work is divided.

        They are those of its operations, by no clock: how work is divided tells in the last digits
        of what is said, and a search that begins at another time is to say the same.
        """
        model: Any = self.answering.model
        if not hasattr(model, "hf"):
            return None
        layers = model.shape.layers
        operations = sum(2 * (one.attention + one.mlp_per_row) for one in layers) / len(layers)
        row = operations / (CPU if model.hf.device.type == "cpu" else ACCELERATOR)
        return Pace(row, call=CALL, text=row)
