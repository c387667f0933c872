"""What requests under plans cost before they run: layer-rows, with and without sharing.

A layer-row is one row that runs through one whole layer. A part of a layer counts as its share of
the layer's weights, logits as the head's weights over the layer's. Attention's own products, which
grow with the length of the text, are counted apart, and so are the calls of layers that write
texts, each of which reads all weights for few rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from impasto.model.decoder import OpenedModel
from impasto.model.measured.shape import read_shape
from impasto.model.opened import Opened
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import Instruction, RunLayer, layers
from impasto.plan.tree import Node, plant
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import fitting_groups
from impasto.run.batching.request import TokenRequest
from impasto.run.queries.pace import Pace
from impasto.run.queries.pairs import Pairs, attended


@dataclass(frozen=True, slots=True)
class Cost:
    """The layer-rows of requests under plans; each field shares more than the one before it.

    Attributes:
        alone: Every plan and every request by itself.
        plans: What plans begin with in common is run once.
        tokens: What requests begin with in common is run once, too.
        rows: Rows that no prediction depends on any more are not run: what the engine runs.
        peak_bytes: The most bytes that a batch takes, without the weights.
        written: Those of the rows that are of tokens written.
        calls: The layers that are called to write these, with what they read of keys and values.
        pairs: The pairs of a row and a key at a layer's attention, before anything is written.
    """

    alone: float = 0.0
    plans: float = 0.0
    tokens: float = 0.0
    rows: float = 0.0
    peak_bytes: int = 0
    written: float = 0.0
    calls: float = 0.0
    pairs: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.alone + other.alone,
            self.plans + other.plans,
            self.tokens + other.tokens,
            self.rows + other.rows,
            max(self.peak_bytes, other.peak_bytes),
            self.written + other.written,
            self.calls + other.calls,
            self.pairs + other.pairs,
        )

    def seconds(self, pace: Pace) -> float:
        """Return how long the rows that the engine runs take at a pace."""
        writing = self.written * pace.text + self.calls * pace.call
        return (self.rows - self.written) * pace.row + self.pairs * pace.pair + writing


@dataclass(frozen=True, slots=True)
class Shares:
    """What parts of the work cost for one row, in units of a whole layer."""

    attention: float
    mlp: float
    keys_and_values: float
    logits: float

    def of(self, part: str) -> float:
        """Return the share of a layer's part."""
        return {"block": 1.0, "attention": self.attention, "mlp": self.mlp}[part]


def shares(model: Opened) -> Shares:
    """Return the shares of a model's first layer."""
    shape = read_shape(model)
    layer = shape.layers[model.present[0]]
    whole = layer.attention + layer.mlp_per_row
    return Shares(
        layer.attention / whole,
        layer.mlp_per_row / whole,
        layer.keys_values / whole,
        shape.head / whole,
    )


def cost(
    model: OpenedModel,
    plans: Sequence[Plan],
    requests: Sequence[TokenRequest],
    memory: int | None = None,
    finished: int = 0,
) -> Cost:
    """Return what it costs to score requests under plans.

    Args:
        model: The model.
        plans: The plans.
        requests: What is read.
        memory: The bytes that a batch may take; None for a share of the free ones.
        finished: How many final states of each row wait until they are read.
    """
    programs = [lower(plan).instructions for plan in plans]
    tree = plant(programs, releases=model.packs_rows)
    asked = Asked(model, tree, "fidelity" if finished else "scores", finished)
    return reading_cost(asked, programs, requests, list(fitting_groups(asked, requests, memory)))


def reading_cost(
    asked: Asked,
    programs: Sequence[Sequence[Instruction]],
    requests: Sequence[TokenRequest],
    groups: Sequence[BatchGroup],
) -> Cost:
    """Return what it costs to read requests, in groups, under programs, and to predict from them.

    Args:
        asked: What is asked of which model.
        programs: The plans, each lowered.
        requests: What is read.
        groups: What of them runs together.
    """
    share = shares(asked.model)
    singly = [plant([program]) for program in programs]
    new = sum(len(request.ids) for request in requests)
    scored = sum(len(request.scored) for request in requests)
    fewer_new = sum(group.rows for group in groups)
    fewer_scored = sum(_scored_rows(group) for group in groups)
    logits = len(programs) * share.logits

    def total(trees: list[Node], new: int, scored: int, drops_rows: bool) -> float:
        rates = [_rates(tree, share, drops_rows) for tree in trees]
        return sum(each.new * new + each.scored * scored for each in rates) + logits * scored

    pairs = sum((attended(group, asked.model.counted_device) for group in groups), Pairs(0.0, 0.0))
    rates = _rates(asked.tree, share, drops_rows=True)
    return Cost(
        alone=total(singly, new, scored, drops_rows=False),
        plans=total([asked.tree], new, scored, drops_rows=False),
        tokens=total([asked.tree], fewer_new, fewer_scored, drops_rows=False),
        rows=total([asked.tree], fewer_new, fewer_scored, drops_rows=True),
        peak_bytes=max((asked.bytes(group, requests) for group in groups), default=0),
        pairs=rates.new_pairs * pairs.new + rates.scored_pairs * pairs.scored,
    )


@dataclass(frozen=True, slots=True)
class _Rates:
    """What a plan tree costs for each row in layer-rows, and at how many attentions rows attend."""

    new: float = 0.0
    scored: float = 0.0
    new_pairs: int = 0
    scored_pairs: int = 0

    def __add__(self, other: "_Rates") -> "_Rates":
        return _Rates(
            self.new + other.new,
            self.scored + other.scored,
            self.new_pairs + other.new_pairs,
            self.scored_pairs + other.scored_pairs,
        )


def _rates(root: Node, share: Shares, drops_rows: bool) -> _Rates:
    """Return what a plan tree costs for each new token, and more for each scored one.

    Rows that nothing depends on any more are not counted if ``drops_rows``.
    """
    total, pending = _Rates(), [root]
    while pending:
        node = pending.pop()
        for stride, branch in node.branches.items():
            for instruction in branch.runs if drops_rows else stride:
                for run in layers(instruction):
                    total += _layer_rates(run, share, drops_rows)
            pending.append(branch)
    return total


def _layer_rates(run: RunLayer, share: Shares, drops_rows: bool) -> _Rates:
    whole, attends = share.of(run.part), int(run.part != "mlp")
    if run.rows == "joint" and not (run.holds_prompt and drops_rows):
        return _Rates(whole, 0.0, attends)
    if run.rows == "split" or not drops_rows:
        return _Rates(whole, whole, attends, attends)
    keys = 0.0 if run.occurrence is None else share.keys_and_values
    return _Rates(keys, whole, 0, attends)


def _scored_rows(group: BatchGroup) -> int:
    """Return the scored rows of a group, padding included."""
    return sum(
        len(batch) * max(len(prefix_tree.scored) for prefix_tree in batch)
        for batch in group.batches
    )
