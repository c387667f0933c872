"""One forward of a Hugging Face model under a plan, where rows cannot be packed.

The call's tokens are a tree of as many chains, and what its cache holds of each occurrence is the
state that they go on from (:mod:`impasto.run.kv.states`). Padding would leave its trace in such a
state, so padded sequences are read as they are without it; only the keys and values that the cache
holds of them are padded, on the left, as the caller's mask says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from impasto.error import UserError
from impasto.model.arguments.mask_rules import LengthOnlyCache
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments, Entered
from impasto.plan.program import Occurrence, Program, runs_layers
from impasto.run.apply.outputs import OutputCollector
from impasto.run.batching.prefix_tree import chain
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.stretches import TokenTree
from impasto.run.execute.rows import Batch
from impasto.run.execute.sequential import SequentialExecutor, TreeState
from impasto.run.execute.stretch_calls import Read, habits_of
from impasto.run.kv.states import CarriedState, LayerState, RowsRead, joined_states


class RowsLayer(DynamicLayer):
    """A cache's layer that holds all rows that an occurrence has read, in the place of keys.

    Attributes:
        indexer_position_ids: Where a model's own forward keeps the positions that it has read.
    """

    indexer_position_ids: Tensor | None = None


@dataclass(frozen=True)
class SequentialForward:
    """What runs a plan on the tokens of a call.

    Attributes:
        model: The model.
        program: The plan, lowered.
        is_identity: Whether it runs the model as it is: then padding is the model's own affair.
        cache: The call's cache, with the tokens that it has read; None without one.
    """

    model: OpenedModel
    program: Program
    is_identity: bool
    cache: Any

    def run(
        self, batch: Batch, read: Tensor, prepared: Entered, outputs: OutputCollector
    ) -> Float[Tensor, "batch new hidden"]:
        """Return the final states of all rows of a call.

        Args:
            batch: The call's tokens; its last ones are scored.
            read: The tokens that the cache has read before.
            prepared: What the model's own forward has prepared.
            outputs: Collects the states of every depth.

        Raises:
            UserError: when padding stands between tokens.
        """
        starts = _starts(torch.cat([batch.has_past, batch.is_real], 1))
        past = batch.past.shape[1]
        is_whole = bool((starts <= past).all()) and bool(batch.is_real.all())
        is_plain = bool((starts == 0).all()) and is_whole
        single = batch.ids.shape[1] == 1 and habits_of(self.model).goes_on is not None
        is_own = self.is_identity and not past
        if is_own or is_plain or (is_whole and single and past):
            given = None
            if not past and habits_of(self.model).goes_on is not None:
                given = prepared
            elif not is_plain:
                given = self._entered(batch)
            every = [_Part(list(range(len(starts))), 0, given)]
        else:
            every = [
                _Part((starts == start).nonzero()[:, 0].tolist(), int(start), None)
                for start in starts.unique()
            ]
        return self._run(batch, read, prepared.states, every, outputs)

    def _run(
        self,
        batch: Batch,
        read: Tensor,
        states: Tensor,
        every: "Sequence[_Part]",
        outputs: OutputCollector,
    ) -> Float[Tensor, "batch new hidden"]:
        """Run the plan on parts of a call, one after the other, and let the cache hold the rest."""
        depths: list[Tensor] = []
        kept: list[tuple[list[int], Mapping[Occurrence, LayerState]]] = []
        for part in every:
            executor, rows = self._executor(part, batch, read)
            starts_anew = bool(batch.past.shape[1]) and habits_of(self.model).goes_on is None
            state = executor.start() if starts_anew else TreeState(states[rows])
            latest = [_latest(executor, state)]
            for instruction in self.program.instructions:
                state = executor.step(instruction, state)
                if runs_layers(instruction):
                    latest.append(_latest(executor, state))
            depths = depths or [states.new_zeros(states.shape) for _ in latest]
            pairs = zip(depths, latest, strict=True)
            depths = [whole.index_put(rows, each.to(whole.device)) for whole, each in pairs]
            for requests, ended in executor.read_at_ends(state):
                kept.append(([part.sequences[request] for request in requests], ended.states))
        for each in depths:
            outputs.add_depth(each)
        if self.cache is not None:
            self._record(kept, batch.past.shape[1] + batch.ids.shape[1])
        return depths[-1]

    def _executor(
        self, part: "_Part", batch: Batch, read: Tensor
    ) -> tuple[SequentialExecutor, tuple[Tensor, Tensor]]:
        """Return what runs a part of the call, and which rows of the call its tokens are."""
        past, new = batch.past.shape[1], batch.ids.shape[1]
        skipped = max(0, part.start - past)
        lengths = [new - skipped] * len(part.sequences)
        if part.given is None:  # what follows the last token is padding
            lengths = (batch.is_real[part.sequences].sum(1)).tolist()
        ids = batch.ids[part.sequences, skipped:].tolist()
        first = new - batch.scored.shape[1] - skipped
        chains = [
            chain(at, TokenRequest(each[:length], range(max(0, min(first, length)), length), {}))
            for at, (each, length) in enumerate(zip(ids, lengths, strict=True))
        ]
        before = None
        if past > part.start:
            sequences = torch.tensor(part.sequences, device=read.device)
            states = {
                occurrence: state
                for occurrence, layer in self._layers()
                if (state := _state_of(layer, sequences, part.start)) is not None
            }
            before = Read(
                read[sequences, part.start :],
                states,
                batch.total[sequences],
                batch.has_past[sequences].sum(1),
            )
        tree = TokenTree.of([], chains)
        if batch.prompt is not None:
            held = (batch.prompt[part.sequences] - skipped).tolist()
            pairs = zip(lengths, held, strict=True)
            tree.is_prompt = [row < count for length, count in pairs for row in range(length)]
        executor = SequentialExecutor(
            self.model,
            tree,
            records=self.cache is not None,
            past=before,
            given=part.given,
        )
        rows = [
            (s, skipped + j) for s, n in zip(part.sequences, lengths, strict=True) for j in range(n)
        ]
        index = torch.tensor(rows, device=batch.ids.device).T
        return executor, (index[0], index[1])

    def _entered(self, batch: Batch) -> Entered:
        """Return what blocks are called with on padded tokens, behind those read before."""
        present = torch.cat([batch.has_past, batch.is_real], 1).long()
        before = batch.past.shape[1]
        past = LengthOnlyCache(before, positions=batch.past) if before else None
        entered = self.model.enter(batch.ids, batch.positions, present, past)
        if past is None:
            return entered
        # The new tokens are no padding: only attention needs to be told what was.
        return Entered(entered.states, [_without_flat_masks(call) for call in entered.arguments])

    def _layers(self) -> Iterator[tuple[Occurrence, Any]]:
        """Yield every occurrence of the plan that the cache holds a state of, with its layer."""
        layers = self.cache.layers[1:] if self.cache is not None else []
        return zip(self.program.occurrences, layers, strict=False)

    def _record(
        self, kept: Sequence[tuple[list[int], Mapping[Occurrence, LayerState]]], length: int
    ) -> None:
        """Let the cache hold the states of all sequences, which have read so many tokens."""
        order = torch.tensor([sequence for sequences, _ in kept for sequence in sequences])
        back = torch.argsort(order)
        layers = []
        for occurrence in self.program.occurrences:
            each = [states.get(occurrence) for _, states in kept]
            present = [state for state in each if state is not None]
            layer = _layer_of(joined_states(present, length))
            layers.append(layer)
            if len(kept) > 1:
                layer.reorder_cache(back)
        # A forward may ask for any layer of the model's own, however few a plan runs.
        others = range(len(layers) + 1, self.model.num_layers)
        self.cache.layers[1:] = [*layers, *(RowsLayer() for _ in others)]


@dataclass(frozen=True, slots=True)
class _Part:
    """Some sequences of a call that begin behind equally much padding.

    Attributes:
        sequences: The sequences, by index.
        start: The first token that is no padding, counted from the first that was ever read.
        given: What blocks are called with; None where that is made anew.
    """

    sequences: list[int]
    start: int
    given: Entered | None


def _starts(is_real: Bool[Tensor, "batch tokens"]) -> Int[Tensor, "batch"]:
    """Return where each sequence begins; raise UserError for padding between its tokens."""
    changes = (is_real[:, 1:] != is_real[:, :-1]).sum(1) + ~is_real[:, 0]
    starts = is_real.long().argmax(1)
    ends = is_real.shape[1] - is_real.flip(1).long().argmax(1)
    if bool((is_real.sum(1) != ends - starts).any()) or bool((changes > 2).any()):
        raise UserError(
            "padding between tokens: a model whose layers carry a state reads sequences as they "
            "are; pad on one side, and prompts of unlike lengths on the left when they go on"
        )
    return starts


def _without_flat_masks(call: Arguments) -> Arguments:
    """Return a block's arguments without masks of batch × tokens, which say what is padding."""
    return {
        name: None
        if name.endswith("mask") and isinstance(each, Tensor) and each.ndim == 2
        else each
        for name, each in call.items()
    }


def _latest(executor: SequentialExecutor, state: TreeState) -> Float[Tensor, "tokens hidden"]:
    """Return the states of all tokens, those of scored ones as current tokens."""
    if state.current is None:
        return state.earlier
    scored = torch.tensor(executor.tree.scored, device=state.earlier.device)
    return state.earlier.index_copy(0, scored, state.current)


def _state_of(layer: Any, sequences: Tensor, start: int) -> LayerState | None:
    """Return the state that a cache's layer holds of some sequences, without padding."""
    if isinstance(layer, RowsLayer):
        return RowsRead(layer.keys[sequences, 0, start:]) if layer.keys is not None else None
    picked = layer.mapped(lambda each: each[sequences.to(each.device)])
    return CarriedState(picked.without_first(start))


def _layer_of(state: LayerState) -> Any:
    """Return a cache's layer that holds a state."""
    if isinstance(state, CarriedState):
        return state.layer
    assert isinstance(state, RowsRead), "there are two kinds of states"
    layer, keys = RowsLayer(), state.rows[:, None]
    layer.lazy_initialization(keys, keys)
    layer.keys, layer.values = keys, keys[..., :0]
    return layer
