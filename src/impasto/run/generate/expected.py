"""What it costs to write texts, before any is written: the calls of a decode step, and their keys.

A decode step reads the weights of every layer that it calls, and the keys and values that its rows
attend to, however few texts there are. So it is charged by calls and bytes, not by rows alone. Who
decodes together is counted as the :mod:`impasto.run.generate.scheduler` has it where no text ends
early, which is the most that there can be.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from impasto.model.decoder import OpenedModel
from impasto.model.measured.shape import read_shape
from impasto.plan import Layer, Plan
from impasto.plan.cost import LayerShape, Shape
from impasto.plan.program import Program, RunLayer, layers
from impasto.run.batching.batches import BatchGroup, in_common, rows_per_call
from impasto.run.batching.demand import Asked
from impasto.run.batching.request import TokenRequest
from impasto.run.generate.call_order import BlockCall, call_order, neighbour_key
from impasto.run.generate.decoding_plan import Stopping
from impasto.run.generate.greedy import generate
from impasto.run.kv.ring import Ring

_STEPS, _TEXTS = 3, 16  # of the writing that is timed
_LONG = 2.0  # seconds after which it is not timed again


@dataclass(frozen=True, slots=True)
class Decoding:
    """What writing texts costs, in whole layers: the first one's weights count as one.

    Attributes:
        calls: Layers called; keys and values that are read count as the weights of so many numbers.
        rows: Rows in these calls.
    """

    calls: float = 0.0
    rows: float = 0.0

    def __add__(self, other: "Decoding") -> "Decoding":
        return Decoding(self.calls + other.calls, self.rows + other.rows)

    def __mul__(self, times: float) -> "Decoding":
        return Decoding(times * self.calls, times * self.rows)


@dataclass(frozen=True, slots=True)
class _Step:
    """A decode step of all plans, in turns: its cost without keys, and the numbers of keys read.

    ``kept`` has, by how many tokens an attention holds at the most (None for all), the numbers that
    a token leaves at all such attentions, text by text.
    """

    fixed: Decoding
    kept: Counter[int | None]


def decoding(asked: Asked, programs: Sequence[Program], groups: Sequence[BatchGroup]) -> Decoding:
    """Return what plans cost that write texts behind groups of prompts, the prompts' rows apart."""
    shape = read_shape(asked.model)
    batches = sum(len(group.batches) + bool(group.prefix) for group in groups)
    total = Decoding(float(batches * asked.tree.size))  # prompts are few rows, too
    steps, unit = asked.new_tokens - 1, _weights(shape.layers[asked.model.present[0]], 1)
    known: dict[tuple[int, int], _Step] = {}
    for group in groups:
        lengths = [len(group.prefix) + len(tree.ids) for tree in group.prefix_trees]
        if asked.model.packs_rows:
            common = in_common(asked.model, len(group.prefix))
            parts = [(len(lengths), asked.plans_at_once(group), max(lengths))]
        else:  # plan by plan, those of one length together
            common = 0
            parts = [(count, 1, length) for length, count in Counter(lengths).items()]
        for texts, together, length in parts:
            key = texts, together
            if key not in known:
                known[key] = _step(asked, shape, programs, *key)
            step, past = known[key], length + steps / 2
            read = past - common + common / texts  # what they have in common is read once
            numbers = sum(
                each * (read if most is None else min(past, most))
                for most, each in step.kept.items()
            )
            total += (step.fixed + Decoding(numbers / unit)) * float(max(steps, 0))
    return total


def _step(
    asked: Asked, shape: Shape, programs: Sequence[Program], texts: int, together: int
) -> _Step:
    """Return a decode step of all plans, so many of which decode together."""
    kept, total = Counter[int | None](), Decoding()
    unit = _weights(shape.layers[asked.model.present[0]], 1)
    unique = (each.behind_prompt for each in dict.fromkeys(programs))
    behind = sorted(unique, key=neighbour_key)
    for begin in range(0, len(behind), together):
        some = behind[begin : begin + together]
        spans = [slice(at * texts, (at + 1) * texts) for at in range(len(some))]
        follows = [at > 0 for at in range(len(some))]
        cost = float(rows_per_call(asked.model))
        for call in call_order(some, spans, follows, cost):
            if not isinstance(call, BlockCall):
                continue
            count = call.span.stop - call.span.start
            for run in layers(call.instruction):
                layer = shape.layers[run.layer]
                rows = count * (1 if run.rows == "joint" else 2)
                share = _part(layer, run, rows) / unit
                own = _part(layer, run, 1) / unit
                total += Decoding(share, own * rows)
                if run.occurrence is not None:
                    kept[None if run.reach is None else Ring.of(run.reach).size] += (
                        count * layer.kept
                    )
        head = shape.head / unit
        total += Decoding(head, head * texts * len(some))
    return _Step(total, kept)


def _part(layer: LayerShape, run: RunLayer, rows: int) -> float:
    """Return the weights that so many rows read of what runs of a layer."""
    if run.part == "attention":
        return float(layer.attention)
    return _weights(layer, rows) - (layer.attention if run.part == "mlp" else 0)


def _weights(layer: LayerShape, rows: int) -> float:
    """Return the weights that so many rows read of a layer, experts as they fall by chance."""
    experts = layer.experts
    of_experts = experts.touched(rows) * experts.weights if experts else 0.0
    return layer.attention + layer.mlp + of_experts


def seconds_of_writing(model: OpenedModel) -> tuple[float, float]:
    """Return the seconds of a layer's call in a decode step, and those that a text adds to it.

    All of a decode step is shared out to its calls: texts are really written, one and several.
    """
    shape = read_shape(model)
    plan = Plan(tuple(map(Layer, model.present)))
    unit = _weights(shape.layers[model.present[0]], 1)
    of_step = sum(_weights(shape.layers[layer], 1) for layer in model.present) + shape.head
    one, several = (_step_seconds(model, plan, texts) * unit / of_step for texts in (1, _TEXTS))
    text = max(0.0, several - one) / (_TEXTS - 1)
    return max(0.0, one - text), text


def _step_seconds(model: OpenedModel, plan: Plan, texts: int) -> float:
    """Return the seconds of a decode step of so many texts: the median of three, where short."""
    prompts = [TokenRequest([at % model.vocabulary, 1], range(1, 2), {}) for at in range(texts)]

    def write(new_tokens: int) -> float:
        begin = time.perf_counter()
        stopping = Stopping(new_tokens, lambda written: False)
        generate(model, [plan], prompts, stopping, lambda share: None)
        return time.perf_counter() - begin

    steps = []
    for _ in range(3):
        steps.append((write(1 + _STEPS) - write(1)) / _STEPS)
        if steps[0] * _STEPS > _LONG:
            break
    return max(0.0, median(steps))
