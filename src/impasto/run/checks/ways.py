"""The ways in which the engine reads texts, each tried under the identity plan.

On split rows, on KV-only rows, beside a longer text, behind a shared prefix, and behind keys and
values in buffers, as texts are decoded: the logits must be those of the bare model for each text.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.checks.decoder import BareReading, allowed, rows_differ
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Block
from impasto.model.structure.failing import RAISED, is_out_of_memory
from impasto.plan.program import Program, RowMode, Run, Split, whole_layer
from impasto.run.attention.choice import chosen_attention
from impasto.run.attention.few_rows import Scores, few_row_attention
from impasto.run.batching.batches import rows_per_call
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.batching.request import TokenRequest
from impasto.run.checks.texts import Texts
from impasto.run.execute.executor import Executor
from impasto.run.execute.layers import State
from impasto.run.execute.rows import first_batch, following_batch
from impasto.run.generate.call_order import BeginCurrent, BlockCall, Operation, call_order
from impasto.run.generate.decode_batch import decode_step, next_batch
from impasto.run.generate.decoding_plan import DecodingPlan, GeneratedText
from impasto.run.generate.kv_pool import KVPool

Pair = tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]
"""The engine's and the bare model's logits or states: rows × vocab, or rows × hidden, both."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way in which the engine reads texts.

    Attributes:
        holds: The rows or texts that get the model's own logits, if the check passes.
        refused: The claim that fails, if it does not.
        doing: What the model does in this way of reading, for errors that its own code raises.
        read: Reads texts in this way, and returns pairs to compare.
    """

    holds: str
    refused: str
    doing: str
    read: Callable[[OpenedModel, Texts], list[Pair]]


def _layers(model: OpenedModel, rows: RowMode) -> tuple[Run, ...]:
    return tuple(whole_layer(layer, rows) for layer in model.present)


def _run(
    model: OpenedModel, executor: Executor, rows: RowMode
) -> tuple[Float[Tensor, "predictions vocab"], State]:
    """Run all layers that are loaded; return the logits of the scored tokens, and the state."""
    state = executor.start()
    if rows != "joint":
        state = executor.step(Split(), state)
    for each in _layers(model, rows):
        state = executor.step(each, state)
    return model.leave(executor.finish(state)), state


def _split(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read all tokens as earlier ones, and every other one also as a current one.

    The neighbours of a current row are not those of its token in the text, so a block that mixes
    rows by their place gives itself away.
    """
    ids = texts.long.ids
    scored = range((len(ids) - 1) % 2, len(ids), 2)
    executor = Executor(model, first_batch([chain(0, TokenRequest(ids, scored, {}))], model.device))
    logits, _ = _run(model, executor, "split")
    return [(logits, texts.long.logits[scored.start :: scored.step])]


def _kv_only(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Run each layer on a few current rows behind KV-only rows, which have no queries of their own.

    The queries of KV-only rows are never read. Stand-ins for them have as few units as the model
    takes, or they are computed after all, where it takes no others; which of both is settled here.
    """
    candidates = [_with_least_queries(model), list(model.blocks)]
    candidates.append([replace(block, queries=()) for block in model.blocks])
    for blocks in candidates[:-1]:
        model.blocks = blocks
        try:
            one_token = _first_token(texts.long)  # which no number of heads divides
            pairs = _each_kv_only(model, one_token, 1)
            pairs += _each_kv_only(model, texts.long, texts.tail)
        except RAISED as error:  # some families count heads, or norm them all at once
            if is_out_of_memory(error):
                raise
            continue
        if all(rows_differ(model, mine, own) <= allowed(model) for mine, own in pairs):
            return pairs
    model.blocks = candidates[-1]
    return _each_kv_only(model, texts.long, texts.tail)


def _with_least_queries(model: OpenedModel) -> list[Block]:
    """Return blocks in which queries that are never read are those of one head."""
    heads = model.hf.config.get_text_config(decoder=True).num_attention_heads
    return [
        replace(block, least_queries=block.queries[0].out_features // heads)  # type: ignore[operator]
        if block.queries
        else block
        for block in model.blocks
    ]


def _first_token(own: BareReading) -> BareReading:
    """Return the bare model's reading of a text's first token."""
    before = {layer: states[:, :1] for layer, states in own.before.items()}
    after = {layer: states[:, :1] for layer, states in own.after.items()}
    return BareReading(own.ids[:1], own.logits[:1], before, after)


def _each_kv_only(model: OpenedModel, own: BareReading, tail: int) -> list[Pair]:
    """Return each layer's states of the last tokens, the others being KV-only rows."""
    count = len(own.ids)
    scored = range(count - tail, count)
    executor = Executor(
        model, first_batch([chain(0, TokenRequest(own.ids, scored, {}))], model.device)
    )
    pairs = []
    for layer in reversed(model.present):  # so that none can use what the one before it computed
        states = own.before[layer]
        state = State(states, executor.batch.pick(states))
        output = executor.finish(executor.step(whole_layer(layer, "kv-only"), state))
        pairs.append((output, own.after[layer][0, scored.start :]))
    return pairs


def _behind_prefix(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read a shared prefix, and behind it a prefix tree of two texts, beside a shorter text."""
    long, other, shared = texts.long, texts.other, texts.shared
    end = len(other.ids) - 1
    prefix_trees = [PrefixTree(), chain(0, TokenRequest(other.ids[:end], range(shared, end), {}))]
    prefix_trees[0].add(0, TokenRequest(long.ids, range(shared, len(long.ids)), {}))
    prefix_trees[0].add(1, TokenRequest(other.ids, range(shared, len(other.ids)), {}))
    beginning = first_batch([chain(0, TokenRequest(long.ids[:shared], range(0), {}))], model.device)
    prefix = Executor(model, beginning, records=True)
    batch = following_batch(
        beginning, [prefix_tree.without_prefix(shared) for prefix_tree in prefix_trees]
    )
    executor = Executor(model, batch, prefix=prefix)
    logits, _ = _run(model, executor, "split")
    branching, alone = logits.split([len(prefix_tree.scored) for prefix_tree in prefix_trees])
    return [
        (branching[prefix_trees[0].predictions[0]], long.logits[shared:]),
        (branching[prefix_trees[0].predictions[1]], other.logits[shared:]),
        (alone, other.logits[shared:end]),
    ]


def _decoded(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read two texts of unlike lengths, then decode their next tokens, one a step.

    The first token runs on a joint row, the next ones on split rows, as under noise.
    """
    readings, tail = [texts.long, texts.other], texts.tail
    ends = [max(1, len(own.ids) - tail - place) for place, own in enumerate(readings)]
    requests = [
        TokenRequest(own.ids[:end], range(max(0, end - 2), end), {})
        for own, end in zip(readings, ends, strict=True)
    ]
    prefix_trees = [chain(place, request) for place, request in enumerate(requests)]
    executor = Executor(model, first_batch(prefix_trees, model.device), records=True)
    logits, state = _run(model, executor, "joint")
    own = [r.logits[list(p.scored)] for r, p in zip(readings, requests, strict=True)]
    pairs = [(logits, torch.cat(own))]

    program = Program(_layers(model, "joint"))
    written = [GeneratedText(end, [own.ids[end]]) for own, end in zip(readings, ends, strict=True)]
    total = executor.batch.total
    keys_values = dict(state.keys_values)
    decoding = DecodingPlan.of_unfinished(program, written, total, keys_values, {})
    assert decoding is not None, "no text is done"
    length = max(ends) + tail + 1
    pool, span = KVPool.of([decoding], length), slice(0, 2)
    joint = call_order([program], [span], [False], float(rows_per_call(model)))
    split = _on_split_rows(model, span)
    for place, operations in enumerate([joint, split, split][:tail]):
        before = [end + place for end in ends]
        tokens = [own.ids[at] for own, at in zip(readings, before, strict=True)]
        batch = next_batch(model, tokens, before, total, length)
        with chosen_attention(model, few_row_attention(Scores())):
            states = decode_step(Executor(model, batch), operations, pool, [span])
        wanted = [own.logits[at] for own, at in zip(readings, before, strict=True)]
        pairs.append((model.leave(states[:, 0]), torch.stack(wanted)))
    return pairs


def _on_split_rows(model: OpenedModel, span: slice) -> list[Operation]:
    """Return the operations that run new tokens as earlier and as current ones."""
    calls = [BlockCall(range(1), span, each) for each in _layers(model, "split")]
    return [BeginCurrent(span), *calls]


WAYS = (
    Way(
        "split rows",
        "split rows do not give its own logits",
        "reads earlier and current tokens side by side",
        _split,
    ),
    Way(
        "rows behind KV-only ones",
        "rows behind KV-only ones do not give its own states",
        "gives the keys and values of earlier tokens alone",
        _kv_only,
    ),
    Way(
        "texts behind a shared beginning",
        "texts behind a shared beginning do not get its own logits",
        "reads several texts behind one beginning",
        _behind_prefix,
    ),
    Way(
        "tokens behind a cache, beside a longer text,",
        "tokens behind a cache do not get its own logits",
        "reads a few tokens behind those that it has read",
        _decoded,
    ),
)
