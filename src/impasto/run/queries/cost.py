"""What a sweep costs before it runs: layer-rows, with and without each kind of sharing.

A layer-row is one token's state unfinished through one whole layer. A part of a layer counts as its
share of the layer's weights; logits count as the head's weights over the layer's. Attention's own
products, which grow with the length of the text, are left out: they are small until the text is
several times as long as the state is wide.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from impasto.model.decoder import OpenedModel
from impasto.model.opened import Opened
from impasto.model.structure.shape import read_shape
from impasto.plan import Plan
from impasto.plan.program import RunLayer, layers, lower
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.memory import fitting, peak_bytes
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.plan_tree import Node, plant
from impasto.run.tuning import CALIBRATION_ROWS


@dataclass(frozen=True, slots=True)
class Cost:
    """Layer-rows of some requests under some plans, each sharing on top of the one before.

    Attributes:
        alone: Every plan and every request by itself.
        plans: What plans begin with in common is run once.
        tokens: What requests begin with in common is run once, too.
        rows: Rows that can no longer reach a wanted prediction are not run: what the engine runs.
        peak_bytes: The most memory that a batch takes, weights apart.
    """

    alone: float = 0.0
    plans: float = 0.0
    tokens: float = 0.0
    rows: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.alone + other.alone,
            self.plans + other.plans,
            self.tokens + other.tokens,
            self.rows + other.rows,
            max(self.peak_bytes, other.peak_bytes),
        )


@dataclass(frozen=True, slots=True)
class Shares:
    """What parts of the work cost, in units of a whole layer for one row."""

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
    passages: Sequence[TokenRequest],
    memory: int | None = None,
    new_tokens: int = 0,
) -> Cost:
    """Return what it costs to score passages under plans, or to go on with them.

    Args:
        model: The model.
        plans: The plans.
        passages: What is read.
        memory: The bytes that a batch may take; None for what is free.
        new_tokens: How many tokens each plan writes behind each passage, at the most.
    """
    each = shares(model)
    programs = [lower(plan).instructions for plan in plans]
    tree = plant(programs)
    queue = fitting(model, tree, passages, memory, merge=not new_tokens)
    found = list(queue)
    singly = [plant([program]) for program in programs]
    new = sum(len(passage.ids) for passage in passages)
    scored = sum(len(passage.scored) for passage in passages)
    fewer_new = sum(bundle.rows for bundle in found)
    fewer_scored = sum(_scored(bundle) for bundle in found)
    logits = len(plans) * each.logits

    def total(trees: list[Node], new: int, scored: int, drops_rows: bool) -> float:
        rates = [_rates(tree, each, drops_rows) for tree in trees]
        return sum(a * new + b * scored for a, b in rates) + logits * scored

    written = len(passages) * new_tokens
    decoding = total(singly, written, written, drops_rows=False)
    return Cost(
        alone=total(singly, new, scored, drops_rows=False) + decoding,
        plans=total([tree], new, scored, drops_rows=False) + decoding,
        tokens=total([tree], fewer_new, fewer_scored, drops_rows=False) + decoding,
        rows=total([tree], fewer_new, fewer_scored, drops_rows=True) + decoding,
        peak_bytes=peak_bytes(model, tree, found, queue.bytes_per_row),
    )


@torch.no_grad()
def seconds_per_layer_row(model: OpenedModel) -> float:
    """Measure, on this machine, how long a row takes through a layer (the fastest of three)."""
    count = min(CALIBRATION_ROWS, model.max_positions or CALIBRATION_ROWS, 256)
    batch = max(1, CALIBRATION_ROWS // count)
    ids = torch.zeros(batch, count, dtype=torch.long, device=model.device)
    entered = model.enter(ids, torch.arange(count, device=ids.device).expand_as(ids))
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        states = model.first_block()(entered.states, entered.arguments[model.present[0]])
        states.sum().item()  # waits for a device that works by itself
        times.append(time.perf_counter() - begin)
    return min(times[1:]) / (batch * count)


def _rates(root: Node, each: Shares, drops_rows: bool) -> tuple[float, float]:
    """Return what a tree costs for each new row, and for each scored row beside them."""
    new = scored = 0.0
    pending = [root]
    while pending:
        node = pending.pop()
        for stride, branch in node.branches.items():
            for one in branch.runs if drops_rows else stride:
                for run in layers(one):
                    a, b = _layer_rates(run, each, drops_rows)
                    new, scored = new + a, scored + b
            pending.append(branch)
    return new, scored


def _layer_rates(run: RunLayer, each: Shares, drops_rows: bool) -> tuple[float, float]:
    whole = each.of(run.part)
    if run.rows == "joint":
        return whole, 0.0
    if run.rows == "split" or not drops_rows:
        return whole, whole
    return (0.0 if run.occurrence is None else each.keys_and_values), whole


def _scored(bundle: BatchGroup) -> int:
    return sum(
        len(batch) * max(len(prefix_tree.scored) for prefix_tree in batch)
        for batch in bundle.batches
    )
