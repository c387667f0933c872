"""What a forward under a plan costs: operations, bytes moved, keys and values. No torch here.

Operations are those of matrix products, two for each weight that a row meets and two for each
number of each pair of a query with a key; all else that a model computes is small beside them.
Bytes moved are those that no cache can hold: weights, once for each call, and the keys and values
of earlier tokens. Rows that the engine does not run (:mod:`impasto.run`) are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from impasto.plan.lowering import lower
from impasto.plan.plan import Plan
from impasto.plan.program import RowMode, RunLayer, layers
from impasto.plan.steps import Reach

CostPart: TypeAlias = Literal["attention", "mlp", "head"]


@dataclass(frozen=True, slots=True)
class Experts:
    """Parts of an MLP of which each row runs a few.

    Attributes:
        count: How many there are.
        active: How many of them a row runs.
        weights: The weights of one.
    """

    count: int
    active: int
    weights: int

    def touched(self, rows: int) -> float:
        """Return how many of them some rows run together, if each draws its own by chance."""
        return self.count * (1 - (1 - self.active / self.count) ** rows)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What of a layer costs something.

    Attributes:
        attention: The weights that a row meets in attention.
        keys_values: Those of them that still run where only keys and values are wanted.
        mlp: The weights that every row meets in the MLP.
        experts: What rows run of the MLP beside that.
        pair: The numbers multiplied for one query and one key, all heads together, with that of the
            key and with that of the value.
        kept: The numbers that a token leaves: its keys and values.
        parameters: All that the layer holds in memory.
    """

    attention: int
    keys_values: int
    mlp: int
    experts: Experts | None
    pair: int
    kept: int
    parameters: int

    @property
    def mlp_per_row(self) -> int:
        """The weights that one row meets in the MLP."""
        return self.mlp + (self.experts.active * self.experts.weights if self.experts else 0)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model costs something.

    Attributes:
        layers: Its layers.
        head: The weights that make logits of a state.
        outside: The parameters that belong to no layer; a head tied to the embeddings is there
            once.
        itemsize: The bytes of a number.
    """

    layers: tuple[LayerShape, ...]
    head: int
    outside: int
    itemsize: int

    def parameters(self, plan: Plan) -> int:
        """Return how many parameters are in memory when only a plan's layers are loaded."""
        return self.outside + sum(self.layers[index].parameters for index in plan.layers)

    def kept_bytes(self, plan: Plan) -> int:
        """Return the bytes of keys and values that a token leaves under a plan.

        Attentions that see less hold so many tokens and no more: they have
        :meth:`bounded_bytes`.
        """
        program = lower(plan)
        growing = (each for each in program.occurrences if each not in program.reaches)
        return self.itemsize * sum(self.layers[each.layer].kept for each in growing)

    def bounded_bytes(self, plan: Plan) -> int:
        """Return the most bytes that a sequence leaves at attentions that see less, in all."""
        reaches = lower(plan).reaches.items()
        return self.itemsize * sum(self.layers[at.layer].kept * to.held for at, to in reaches)


@dataclass(frozen=True, slots=True)
class Call:
    """What one forward reads and is asked.

    Attributes:
        new: The tokens that each sequence reads.
        past: The tokens that each has read before.
        batch: How many sequences there are.
        scored: After how many of the new tokens, the last ones, logits are asked for.
        packs: Whether frozen tokens run beside the current one, as the engine has it where few do.
    """

    new: int
    past: int = 0
    batch: int = 1
    scored: int = 1
    packs: bool = False

    @classmethod
    def decode(cls, past: int, batch: int = 1) -> Call:
        """Return a call for one more token."""
        return cls(1, past, batch, packs=True)


@dataclass(frozen=True, slots=True)
class Work:
    """Operations and bytes moved."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)


def forward_work(
    plan: Plan, shape: Shape, call: Call, engine: bool = False
) -> dict[CostPart, Work]:
    """Return what a forward under a plan costs, part by part.

    Rows run that logits asked for can tell. Under ``impasto.apply`` the identity plan runs every
    row through every layer, as the model itself does; in the ``engine`` it is a plan like any.
    """
    counted, program = _Counted(shape, call), lower(plan)
    if call.scored < call.new and (engine or plan != Plan.identity(len(shape.layers))):
        program = program.released()
    for instruction in program.instructions:
        for each in layers(instruction):
            counted.layer(each)
    counted.head()
    return counted.work


def total(work: dict[CostPart, Work]) -> Work:
    """Return the parts' work together."""
    return sum(work.values(), Work())


class _Counted:
    """The work of some steps, added up."""

    def __init__(self, shape: Shape, call: Call) -> None:
        self._shape, self._call = shape, call
        self.work: dict[CostPart, Work] = dict.fromkeys(("attention", "mlp", "head"), Work())

    def layer(self, run: RunLayer) -> None:
        """Add a layer's run."""
        layer, mode = self._shape.layers[run.layer], run.rows
        if run.holds_prompt and not self._call.past:  # the call reads the prompt
            mode = "kv-only"
        if run.part != "mlp":
            self._attention(layer, mode, run.reach)
        if run.part != "attention":
            packs = self._call.packs and run.part == "block"
            self._mlp(layer, self._count(mode, packs))

    def head(self) -> None:
        """Add the logits."""
        rows = self._call.batch * self._call.scored
        self._add("head", 2.0 * rows * self._shape.head, self._shape.head)

    def _attention(self, layer: LayerShape, mode: RowMode, reach: Reach | None) -> None:
        call, rows = self._call, self._count(mode, self._call.packs)
        past = call.past if reach is None else min(call.past, reach.held)
        keys = past + call.new + (0 if mode == "joint" else call.scored)
        flops = 2.0 * rows * layer.attention + 2.0 * rows * keys * layer.pair
        numbers = layer.attention + (past + 2 * call.new) * call.batch * layer.kept
        if mode == "kv-only" and not call.packs:
            flops += 2.0 * call.batch * call.new * layer.keys_values
            numbers += layer.keys_values
        self._add("attention", flops, numbers)

    def _mlp(self, layer: LayerShape, rows: int) -> None:
        experts = layer.experts.touched(rows) * layer.experts.weights if layer.experts else 0
        self._add("mlp", 2.0 * rows * layer.mlp_per_row, layer.mlp + experts)

    def _count(self, mode: RowMode, packs: bool) -> int:
        """Return how many rows run, those apart that give keys and values only."""
        call = self._call
        new = 0 if mode == "kv-only" and not packs else call.new
        return call.batch * (new + (0 if mode == "joint" else call.scored))

    def _add(self, part: CostPart, flops: float, numbers: float) -> None:
        self.work[part] += Work(flops, numbers * self._shape.itemsize)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a plan is expected to cost, beside the baseline.

    Attributes:
        prefill: Reading a prompt.
        decode: Reading one more token behind it.
        kept_bytes: The bytes of keys and values that a token leaves.
        parameters: The parameters in memory, once only the plan's layers are loaded.
        bounded_bytes: The most bytes that a sequence leaves beside, at attentions that see less.
    """

    prefill: Work
    decode: Work
    kept_bytes: int
    parameters: int
    bounded_bytes: int = 0


def predict(
    plan: Plan, shape: Shape, tokens: int, batch: int = 1, reads_on: bool = True
) -> Prediction:
    """Return what a plan is expected to cost behind a prompt of so many tokens.

    An encoder does not read on: all of its rows are wanted, and no token follows.
    """
    scored = 1 if reads_on else tokens
    return Prediction(
        total(forward_work(plan, shape, Call(tokens, batch=batch, scored=scored))),
        total(forward_work(plan, shape, Call.decode(tokens, batch))) if reads_on else Work(),
        shape.kept_bytes(plan),
        shape.parameters(plan),
        shape.bounded_bytes(plan),
    )


def compared(
    plan: Plan, base: Plan, shape: Shape, tokens: int, reads_on: bool = True
) -> tuple[Prediction, Prediction, list[tuple[str, float, float | None]]]:
    """Return what a plan costs, what a base does, and rows of what is counted: both amounts.

    There is no amount of the base where it has nothing of the kind. As for `tokens` and
    `reads_on`, see :func:`predict`.
    """
    own, of = (predict(each, shape, tokens, reads_on=reads_on) for each in (plan, base))
    text = "prefill" if reads_on else "a text"
    rows: list[tuple[str, float, float | None]] = [
        (f"{text}, operations", own.prefill.flops, of.prefill.flops),
        (f"{text}, bytes moved", own.prefill.bytes, of.prefill.bytes),
    ]
    if reads_on:
        rows += [
            ("a token more, operations", own.decode.flops, of.decode.flops),
            ("a token more, bytes moved", own.decode.bytes, of.decode.bytes),
            ("bytes that a token keeps", own.kept_bytes, of.kept_bytes),
        ]
    if own.bounded_bytes:
        rows.append(("bytes of a text beside, at most", own.bounded_bytes, None))
    rows.append(("parameters in memory", own.parameters, of.parameters))
    return own, of, rows


def seconds(work: Sequence[Work], flops_per_second: float, bytes_per_second: float) -> float:
    """Return how long some work takes at the least, part by part bound by what bounds it more."""
    return sum(max(w.flops / flops_per_second, w.bytes / bytes_per_second) for w in work)
