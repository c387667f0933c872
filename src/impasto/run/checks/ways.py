"""The ways in which the engine reads texts, each tried under the identity plan.

Packed, held, beside a longer text, behind a beginning that others share, and behind keys and values
in buffers as texts are written: what comes out must be what the bare model makes of the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.checks.decoder import Reading, allowed, rows_differ
from impasto.model.checks.failing import RAISED, is_out_of_memory
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Block
from impasto.plan.program import Program, RowMode, Run, Split, whole_layer
from impasto.run.attention.choice import Scores, chosen_attention, few_row_attention
from impasto.run.batching.batches import rows_per_call
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.batching.request import TokenRequest
from impasto.run.checks.texts import Texts
from impasto.run.execute.executor import Executor
from impasto.run.execute.layers import State
from impasto.run.execute.rows import first_batch, following_batch
from impasto.run.generate.call_order import BeginCurrent, BlockCall, Operation, call_order
from impasto.run.generate.decode_batch import KVPool, decode_step, next_batch
from impasto.run.generate.decoding_plan import DecodingPlan, GeneratedText

Pair = tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]
"""What the engine found, and what the bare model says: rows × width, both."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which the engine reads texts.

    Attributes:
        holds: What is claimed of it, if it holds.
        refused: What is said if it does not.
        doing: What the model does when it fails.
        read: Reads some texts, and returns what was found.
    """

    holds: str
    refused: str
    doing: str
    read: Callable[[OpenedModel, Texts], list[Pair]]


def _layers(model: OpenedModel, rows: RowMode) -> tuple[Run, ...]:
    return tuple(whole_layer(layer, rows) for layer in model.present)


def _walked(model: OpenedModel, executor: Executor, rows: RowMode) -> tuple[Tensor, State]:
    """Walk the layers that are there; return logits of what is predicted, and the state."""
    state = executor.start()
    if rows != "joint":
        state = executor.step(Split(), state)
    for each in _layers(model, rows):
        state = executor.step(each, state)
    return model.leave(executor.finish(state)), state


def _packed(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read all tokens as earlier ones, and every other one also as a current one.

    What stands beside a current row is not what stood before its token, so a block that mixes rows
    by their place is found out.
    """
    ids = texts.long.ids
    scored = range((len(ids) - 1) % 2, len(ids), 2)
    executor = Executor(model, first_batch([chain(0, TokenRequest(ids, scored, {}))], model.device))
    logits, _ = _walked(model, executor, "split")
    return [(logits, texts.long.logits[scored.start :: scored.step])]


def _held(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Run each layer on a few current rows behind held ones, which give keys and values alone.

    Queries that nobody reads are made as narrow as the model takes them, or not stood in for at
    all where it takes no others than its own.
    """
    ways = [_narrow(model), list(model.blocks)]
    ways.append([replace(block, queries=()) for block in model.blocks])
    for blocks in ways[:-1]:
        model.blocks = blocks
        try:
            pairs = _each_held(model, _beginning(texts.long), 1)  # which no number of heads divides
            pairs += _each_held(model, texts.long, texts.tail)
        except RAISED as error:  # some families count heads, or norm them all at once
            if is_out_of_memory(error):
                raise
            continue
        if all(rows_differ(model, mine, own) <= allowed(model) for mine, own in pairs):
            return pairs
    model.blocks = ways[-1]
    return _each_held(model, texts.long, texts.tail)


def _narrow(model: OpenedModel) -> list[Block]:
    heads = model.hf.config.get_text_config(decoder=True).num_attention_heads
    return [
        replace(block, least_queries=block.queries[0].out_features // heads)  # type: ignore[operator]
        if block.queries
        else block
        for block in model.blocks
    ]


def _beginning(own: Reading) -> Reading:
    """Return what the model made of a text's first token."""
    before = {layer: states[:, :1] for layer, states in own.before.items()}
    after = {layer: states[:, :1] for layer, states in own.after.items()}
    return Reading(own.ids[:1], own.logits[:1], before, after)


def _each_held(model: OpenedModel, own: Reading, tail: int) -> list[Pair]:
    count = len(own.ids)
    scored = range(count - tail, count)
    executor = Executor(
        model, first_batch([chain(0, TokenRequest(own.ids, scored, {}))], model.device)
    )
    pairs = []
    for layer in reversed(model.present):  # so that none finds what one before it left behind
        states = own.before[layer]
        state = State(states, executor.batch.pick(states))
        found = executor.finish(executor.step(whole_layer(layer, "kv-only"), state))
        pairs.append((found, own.after[layer][0, scored.start :]))
    return pairs


def _following(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read a beginning once, and behind it a prefix tree of two texts, beside one that is shorter."""
    long, other, shared = texts.long, texts.other, texts.shared
    end = len(other.ids) - 1
    prefix_trees = [PrefixTree(), chain(0, TokenRequest(other.ids[:end], range(shared, end), {}))]
    prefix_trees[0].add(0, TokenRequest(long.ids, range(shared, len(long.ids)), {}))
    prefix_trees[0].add(1, TokenRequest(other.ids, range(shared, len(other.ids)), {}))
    beginning = first_batch([chain(0, TokenRequest(long.ids[:shared], range(0), {}))], model.device)
    prefix = Executor(model, beginning, records=True)
    batch = following_batch(beginning, [prefix_tree.cut(shared) for prefix_tree in prefix_trees])
    executor = Executor(model, batch, prefix=prefix)
    logits, _ = _walked(model, executor, "split")
    branching, alone = logits.split([len(prefix_tree.scored) for prefix_tree in prefix_trees])
    return [
        (branching[prefix_trees[0].predictions[0]], long.logits[shared:]),
        (branching[prefix_trees[0].predictions[1]], other.logits[shared:]),
        (alone, other.logits[shared:end]),
    ]


def _written(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read two texts of unlike lengths, then go on with them, a token at a time.

    The first runs as one row, the next ones as earlier and as current rows, as under noise.
    """
    readings, tail = [texts.long, texts.other], texts.tail
    ends = [max(1, len(own.ids) - tail - place) for place, own in enumerate(readings)]
    passages = [
        TokenRequest(own.ids[:end], range(max(0, end - 2), end), {})
        for own, end in zip(readings, ends, strict=True)
    ]
    prefix_trees = [chain(place, passage) for place, passage in enumerate(passages)]
    executor = Executor(model, first_batch(prefix_trees, model.device), records=True)
    logits, state = _walked(model, executor, "joint")
    own = [r.logits[list(p.scored)] for r, p in zip(readings, passages, strict=True)]
    pairs = [(logits, torch.cat(own))]

    program = Program(_layers(model, "joint"))
    written = [GeneratedText(end, [own.ids[end]]) for own, end in zip(readings, ends, strict=True)]
    total = executor.batch.total
    decoding = DecodingPlan.of_unfinished(program, written, total, dict(state.keys_values))
    assert decoding is not None, "no text is done"
    length = max(ends) + tail + 1
    pool, span = KVPool.of([decoding], length), slice(0, 2)
    one = call_order([program], [span], [False], float(rows_per_call(model)))
    both = _as_both(model, span)
    for place, operations in enumerate([one, both, both][:tail]):
        before = [end + place for end in ends]
        tokens = [own.ids[at] for own, at in zip(readings, before, strict=True)]
        batch = next_batch(model, tokens, before, total, length)
        with chosen_attention(model, few_row_attention(Scores())):
            states = decode_step(Executor(model, batch), operations, pool, [span])
        wanted = [own.logits[at] for own, at in zip(readings, before, strict=True)]
        pairs.append((model.leave(states[:, 0]), torch.stack(wanted)))
    return pairs


def _as_both(model: OpenedModel, span: slice) -> list[Operation]:
    """Return the operations that run new tokens as earlier and as current ones."""
    calls = [BlockCall(range(1), span, each) for each in _layers(model, "split")]
    return [BeginCurrent(span), *calls]


WAYS = (
    Way(
        "packed rows",
        "packed rows do not give its own logits",
        "reads earlier and current tokens side by side",
        _packed,
    ),
    Way(
        "held rows",
        "held rows do not give its own keys and values",
        "gives the keys and values of held tokens",
        _held,
    ),
    Way(
        "texts behind a shared beginning",
        "texts behind a shared beginning do not get its own logits",
        "reads several texts behind one beginning",
        _following,
    ),
    Way(
        "tokens behind a cache, beside a longer text,",
        "tokens behind a cache do not get its own logits",
        "reads a few tokens behind those that it has read",
        _written,
    ),
)
