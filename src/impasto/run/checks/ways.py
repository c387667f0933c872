"""The ways in which the engine reads texts, each tried under the identity plan.

Packed, held, beside a longer text, behind a beginning that others share, and behind keys and values
in rooms as texts are written: what comes out must be what the bare model makes of the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.block import Block
from impasto.model.check import Reading, allowed, rows_differ
from impasto.model.failing import RAISED, is_out_of_memory
from impasto.model.opened import OpenedModel
from impasto.plan.program import Program, RowMode, Run, Split, whole_layer
from impasto.run.attention import Scores, chosen_attention, few_row_attention
from impasto.run.begun import Text, going
from impasto.run.bundle import rows_per_call
from impasto.run.checks.texts import Texts
from impasto.run.lockstep import next_batch
from impasto.run.passage import Passage
from impasto.run.reading import read
from impasto.run.rooms import Rooms
from impasto.run.rows import first_batch, following_batch
from impasto.run.schedule import Call, Operation, Parted, schedule
from impasto.run.trie import Trie, chain
from impasto.run.walk import State, Walker

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


def _walked(model: OpenedModel, walker: Walker, rows: RowMode) -> tuple[Tensor, State]:
    """Walk the layers that are there; return logits of what is predicted, and the state."""
    state = walker.start()
    if rows != "joint":
        state = walker.step(Split(), state)
    for each in _layers(model, rows):
        state = walker.step(each, state)
    return model.leave(walker.finish(state)), state


def _packed(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read all tokens as earlier ones, and every other one also as a current one.

    What stands beside a current row is not what stood before its token, so a block that mixes rows
    by their place is found out.
    """
    ids = texts.long.ids
    scored = range((len(ids) - 1) % 2, len(ids), 2)
    walker = Walker(model, first_batch([chain(0, Passage(ids, scored, {}))], model.device))
    logits, _ = _walked(model, walker, "split")
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
    walker = Walker(model, first_batch([chain(0, Passage(own.ids, scored, {}))], model.device))
    pairs = []
    for layer in reversed(model.present):  # so that none finds what one before it left behind
        states = own.before[layer]
        state = State(states, walker.batch.pick(states))
        found = walker.finish(walker.step(whole_layer(layer, "kv-only"), state))
        pairs.append((found, own.after[layer][0, scored.start :]))
    return pairs


def _following(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read a beginning once, and behind it a trie of two texts, beside one that is shorter."""
    long, other, shared = texts.long, texts.other, texts.shared
    end = len(other.ids) - 1
    tries = [Trie(), chain(0, Passage(other.ids[:end], range(shared, end), {}))]
    tries[0].add(0, Passage(long.ids, range(shared, len(long.ids)), {}))
    tries[0].add(1, Passage(other.ids, range(shared, len(other.ids)), {}))
    beginning = first_batch([chain(0, Passage(long.ids[:shared], range(0), {}))], model.device)
    prefix = Walker(model, beginning, records=True)
    batch = following_batch(beginning, [trie.cut(shared) for trie in tries])
    walker = Walker(model, batch, prefix=prefix)
    logits, _ = _walked(model, walker, "split")
    branching, alone = logits.split([len(trie.scored) for trie in tries])
    return [
        (branching[tries[0].predictions[0]], long.logits[shared:]),
        (branching[tries[0].predictions[1]], other.logits[shared:]),
        (alone, other.logits[shared:end]),
    ]


def _written(model: OpenedModel, texts: Texts) -> list[Pair]:
    """Read two texts of unlike lengths, then go on with them, a token at a time.

    The first runs as one row, the next ones as earlier and as current rows, as under noise.
    """
    readings, tail = [texts.long, texts.other], texts.tail
    ends = [max(1, len(own.ids) - tail - place) for place, own in enumerate(readings)]
    passages = [
        Passage(own.ids[:end], range(max(0, end - 2), end), {})
        for own, end in zip(readings, ends, strict=True)
    ]
    tries = [chain(place, passage) for place, passage in enumerate(passages)]
    walker = Walker(model, first_batch(tries, model.device), records=True)
    logits, state = _walked(model, walker, "joint")
    own = [r.logits[list(p.scored)] for r, p in zip(readings, passages, strict=True)]
    pairs = [(logits, torch.cat(own))]

    program = Program(_layers(model, "joint"))
    written = [Text(end, [own.ids[end]]) for own, end in zip(readings, ends, strict=True)]
    total = walker.batch.total
    begun = going(program, written, total, dict(state.kept))
    assert begun is not None, "no text is done"
    length = max(ends) + tail + 1
    rooms, span = Rooms.furnished([begun], length), slice(0, 2)
    one = schedule([program], [span], [False], float(rows_per_call(model)))
    both = _as_both(model, span)
    for place, operations in enumerate([one, both, both][:tail]):
        before = [end + place for end in ends]
        tokens = [own.ids[at] for own, at in zip(readings, before, strict=True)]
        batch = next_batch(model, tokens, before, total, length)
        with chosen_attention(model, few_row_attention(Scores())):
            states = read(Walker(model, batch), operations, rooms, [span])
        wanted = [own.logits[at] for own, at in zip(readings, before, strict=True)]
        pairs.append((model.leave(states[:, 0]), torch.stack(wanted)))
    return pairs


def _as_both(model: OpenedModel, span: slice) -> list[Operation]:
    """Return the operations that run new tokens as earlier and as current ones."""
    calls = [Call(range(1), span, each) for each in _layers(model, "split")]
    return [Parted(span), *calls]


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
