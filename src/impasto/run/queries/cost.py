"""What requests under plans cost before they run: layer-rows, with and without sharing.

A layer-row is one row that runs through one whole layer. A part of a layer counts as its share of
the layer's weights, logits as the head's weights over the layer's. Attention's own products, which
grow with the length of the text, are left out: they are small until a text has several times as
many tokens as a hidden state has units.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from impasto.model.decoder import OpenedModel
from impasto.model.measured.shape import read_shape
from impasto.model.opened import Opened
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import RunLayer, layers
from impasto.plan.tree import Node, plant
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import allowed_bytes, fitting_groups
from impasto.run.batching.request import TokenRequest
from impasto.run.tuning import CALIBRATION_ROWS


@dataclass(frozen=True, slots=True)
class Cost:
    """The layer-rows of requests under plans; each field shares more than the one before it.

    Attributes:
        alone: Every plan and every request by itself.
        plans: What plans begin with in common is run once.
        tokens: What requests begin with in common is run once, too.
        rows: Rows that no prediction depends on any more are not run: what the engine runs.
        peak_bytes: The most bytes that a batch takes, without the weights.
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
    new_tokens: int = 0,
    finished: int = 0,
) -> Cost:
    """Return what it costs to score requests under plans, or to continue them.

    Args:
        model: The model.
        plans: The plans.
        requests: What is read.
        memory: The bytes that a batch may take; None for half of the free ones.
        new_tokens: How many tokens each plan writes after each request, at the most.
        finished: How many final states of each row wait until they are read.
    """
    share = shares(model)
    lowered = [lower(plan) for plan in plans]
    programs = [program.instructions for program in lowered]
    tree = plant(programs, releases=model.packs_rows)
    asked = Asked(model, tree, "fidelity" if finished else "scores", finished)
    if new_tokens:
        asked = Asked.of_texts(model, tree, lowered, new_tokens, allowed_bytes(memory, model))
    groups = list(fitting_groups(asked, requests, memory))
    singly = [plant([program]) for program in programs]
    new = sum(len(request.ids) for request in requests)
    scored = sum(len(request.scored) for request in requests)
    fewer_new = sum(group.rows for group in groups)
    fewer_scored = sum(_scored_rows(group) for group in groups)
    logits = len(plans) * share.logits

    def total(trees: list[Node], new: int, scored: int, drops_rows: bool) -> float:
        rates = [_rates(tree, share, drops_rows) for tree in trees]
        return sum(a * new + b * scored for a, b in rates) + logits * scored

    written = len(requests) * new_tokens
    decoding = total(singly, written, written, drops_rows=False)
    return Cost(
        alone=total(singly, new, scored, drops_rows=False) + decoding,
        plans=total([tree], new, scored, drops_rows=False) + decoding,
        tokens=total([tree], fewer_new, fewer_scored, drops_rows=False) + decoding,
        rows=total([tree], fewer_new, fewer_scored, drops_rows=True) + decoding,
        peak_bytes=max((asked.bytes(group, requests) for group in groups), default=0),
    )


@torch.no_grad()
def seconds_per_layer_row(model: OpenedModel) -> float:
    """Return how many seconds a row takes through a layer on this machine (the best of three)."""
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


def _rates(root: Node, share: Shares, drops_rows: bool) -> tuple[float, float]:
    """Return what a plan tree costs for each new token, and more for each scored one.

    Rows that nothing depends on any more are not counted if ``drops_rows``.
    """
    new = scored = 0.0
    pending = [root]
    while pending:
        node = pending.pop()
        for stride, branch in node.branches.items():
            for instruction in branch.runs if drops_rows else stride:
                for run in layers(instruction):
                    a, b = _layer_rates(run, share, drops_rows)
                    new, scored = new + a, scored + b
            pending.append(branch)
    return new, scored


def _layer_rates(run: RunLayer, share: Shares, drops_rows: bool) -> tuple[float, float]:
    whole = share.of(run.part)
    if run.rows == "joint" and not (run.holds_prompt and drops_rows):
        return whole, 0.0
    if run.rows == "split" or not drops_rows:
        return whole, whole
    return (0.0 if run.occurrence is None else share.keys_and_values), whole


def _scored_rows(group: BatchGroup) -> int:
    """Return the scored rows of a group, padding included."""
    return sum(
        len(batch) * max(len(prefix_tree.scored) for prefix_tree in batch)
        for batch in group.batches
    )
