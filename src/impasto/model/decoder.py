"""A Hugging Face model opened up: embeddings in, blocks in between, logits out.

Nothing of a family is written down here. The model's own forward is run with its blocks set aside
(:meth:`OpenedModel.enter`), so that it embeds the tokens and prepares what each block is to be
called with: rotary tables, positions, masks by layer type. The same forward, with finished states
put in place of the last block's, gives the final norm and the head (:meth:`OpenedModel.leave`).

Shapes: ``batch`` sequences of ``rows`` token states of ``hidden`` units; ``vocab`` tokens.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.model.arguments.counted import Counted, compare_calls
from impasto.model.arguments.in_place import Lines, join, laid_out, may_be_picked, pick
from impasto.model.arguments.lengths import Limit, length_limit
from impasto.model.arguments.mask_rules import WHOLE, Read, Rows, longer, whole_table
from impasto.model.arguments.observed import Call, observe
from impasto.model.arguments.visibility import Visibility
from impasto.model.structure.absent import is_absent
from impasto.model.structure.anatomy import (
    KEY_ARGUMENTS,
    Anatomy,
    ModelError,
    find_anatomy,
    find_queries,
)
from impasto.model.structure.block import Arguments, Block, Component
from impasto.model.structure.final_modules import Tail, find_tail
from impasto.model.structure.stand_ins import Forward, Forwards, arity, as_output, parameters

_MASKS = ("attention_mask", *KEY_ARGUMENTS)  # made anew for each call
_AHEAD = 64  # positions; the model's masks are asked for so many at a time


@dataclass(frozen=True)
class Entered:
    """What the model's own forward hands to its blocks."""

    states: Float[Tensor, "batch rows hidden"]
    arguments: list[Arguments]  # one per layer


@dataclass(frozen=True, slots=True)
class Habits:
    """What one ordinary forward showed of how a model calls its blocks."""

    block_outputs: int  # arity of a block's output
    cache_argument: str  # the name under which a block receives the cache; empty where it gets none
    asks_length: tuple[int, ...] = ()  # the layers that ask the cache how many tokens it holds


@dataclass(eq=False)
class Opened(ABC):
    """A model whose blocks can be called one by one.

    The Hugging Face model is never changed, only called. It is held weakly, for what is opened
    belongs to it and must not outlive it: whoever runs plans holds the model. Layers that are not
    loaded (:mod:`impasto.model.structure.absent`) have their place in ``blocks``, but no parts.
    """

    _hf: "ref[PreTrainedModel]"
    blocks: list[Block]
    habits: Habits
    anatomy: Anatomy

    @property
    def hf(self) -> PreTrainedModel:
        """The Hugging Face model."""
        model = self._hf()
        assert model is not None, "the model was let go, and what was opened of it is used"
        return model

    @property
    def num_layers(self) -> int:
        """The number of layers T."""
        return len(self.blocks)

    @cached_property
    def present(self) -> tuple[int, ...]:
        """The layers that are loaded, upwards."""
        return tuple(i for i, block in enumerate(self.blocks) if not is_absent(block.module))

    @property
    def has_its_blocks(self) -> bool:
        """Whether the model's layers still are the blocks that were opened."""
        try:
            modules = self.hf.get_submodule(self.anatomy.path)
        except AttributeError:
            return False
        return len(modules) == len(self.blocks) and all(  # type: ignore[arg-type]
            module is block.module
            for module, block in zip(modules, self.blocks, strict=True)  # type: ignore[call-overload]
        )

    def first_block(self) -> Block:
        """Return the lowest layer that is loaded."""
        return self.blocks[self.present[0]]

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        return input_device(self.hf)

    @cached_property
    def max_positions(self) -> int | None:
        """The most tokens that the model can read, where its configuration says so."""
        config = self.hf.config.get_text_config(decoder=True)
        most = getattr(config, "max_position_embeddings", None)
        limit = self.length_limit
        return most if limit is None else min(limit.tokens, most or limit.tokens)

    @cached_property
    def length_limit(self) -> Limit | None:
        """Where rotary tables begin to change with the length of the text, if they do."""
        return length_limit(self.hf.config.get_text_config(decoder=True))

    def position(self, wanted: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return positions, the last that the model has in the place of those beyond."""
        return wanted if self.max_positions is None else wanted.clamp(max=self.max_positions - 1)

    @property
    def hidden(self) -> int:
        """The units of a state."""
        return self.hf.config.get_text_config(decoder=True).hidden_size

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return self.hf.config.get_text_config(decoder=True).vocab_size

    @abstractmethod
    def leave(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Return the logits that are made of states of depth T."""

    def outside(self, noted: Arguments) -> list[tuple[nn.Module, Forward]]:
        """Return stand-ins for what is a part of a layer and stands outside of its block.

        Each passes on what the layer gave, and writes into ``noted`` what it was called with.
        """
        return []

    def noted(self, given: Arguments) -> list[Arguments]:
        """Return what a forward without head calls each block with, running none of them."""
        calls: list[Arguments] = []
        with Forwards([(block.module, self._noting(calls)) for block in self.blocks]):
            self.hf.base_model(**given)
        if len(calls) != self.num_layers:
            raise ModelError(
                f"{type(self.hf).__name__} called {len(calls)} of its {self.num_layers} blocks"
            )
        return calls

    def passing(self) -> Forwards:
        """Return a context in which absent layers pass on what they get."""

        def passed(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return as_output(hidden_states, self.habits.block_outputs)

        absent = (block.module for block in self.blocks if is_absent(block.module))
        return Forwards([(block, passed) for block in absent])

    def _noting(self, calls: list[Arguments]) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = dict(zip(self._block_parameters, args, strict=False)) | kwargs
            calls.append(call)
            return as_output(call["hidden_states"], self.habits.block_outputs)

        return forward

    @cached_property
    def _block_parameters(self) -> list[str]:
        return parameters(type(self.blocks[0].module))


@dataclass(eq=False)
class OpenedModel(Opened):
    """A decoder whose blocks can be called one by one; made by :func:`open_model`.

    ``attention_modules`` are those whose attention can be chosen for a call, and ``takes_unmade``
    says whether blocks hand masks on to it unread, once that was found out
    (:mod:`impasto.run.attention.choice`).
    """

    attention_modules: list[nn.Module] | None = field(default=None, init=False)
    takes_positions: bool = field(init=False)  # whether the model's forward can be told positions
    counts_places: bool = field(default=False, init=False)  # or goes by the place of a token
    takes_unmade: bool | None = field(default=None, init=False)
    _visibility: Visibility | None = field(default=None, init=False)
    _shows_rules: bool = field(default=True, init=False)  # as far as single rows were asked for

    def __post_init__(self) -> None:
        self.takes_positions = "position_ids" in parameters(type(self.hf.base_model))

    @cached_property
    def takes_cache(self) -> bool:
        """Whether the model's forward can be told what has been read, as by a cache."""
        return "past_key_values" in parameters(type(self.hf.base_model))

    def enter(
        self,
        ids: Int[Tensor, "batch rows"],
        positions: Int[Tensor, "batch rows"],
        present: Int[Tensor, "batch seen"] | None = None,
        read: Read | None = None,
    ) -> Entered:
        """Embed ``ids`` and collect what each block would be called with, running none of them.

        Args:
            ids: The tokens.
            positions: Their positions; ignored by families that have none.
            present: 0 where a token is padding, those before these included.
            read: What the model is told about the tokens before these; None: there are none.
        """
        if self.counts_places and present is None and read is None:
            return self._entered_in_place(ids, positions)
        given: Arguments = {"input_ids": ids, "attention_mask": present, "use_cache": False}
        if read is not None:
            given["past_key_values"] = read
        if self.takes_positions:
            given["position_ids"] = positions
        entered = self._entered(given, positions)
        if read is None:
            return entered
        name = self.habits.cache_argument
        return Entered(entered.states, [call | {name: None} for call in entered.arguments])

    def _entered(self, given: Arguments, positions: Int[Tensor, "batch rows"]) -> Entered:
        try:
            calls = self.noted(given)
        except IndexError as error:
            raise ModelError(
                f"{type(self.hf).__name__} cannot read {int(positions.max()) + 1} tokens: it "
                f"has {self.max_positions} positions; shorten the text"
            ) from error
        return Entered(calls[0]["hidden_states"], [replayable(call) for call in calls])

    def _entered_in_place(
        self, ids: Int[Tensor, "batch rows"], positions: Int[Tensor, "batch rows"]
    ) -> Entered:
        """Do so where the model counts positions by a token's place: put each token at its own."""
        layouts = laid_out(ids.flatten(), positions.flatten())
        found: list[Entered] = []
        for lines in layouts:
            given: Arguments = {"input_ids": lines.ids, "use_cache": False}
            if lines.first:
                given["past_key_values"] = Read(lines.first)
            entered = self._entered(given, positions)
            picked = [self._picked(layer, entered, lines) for layer in range(self.num_layers)]
            found.append(Entered(entered.states[lines.line, lines.column][None], picked))
        order = torch.cat([lines.rows for lines in layouts]).argsort()

        def back(rows: Tensor) -> Tensor:
            return rows[order.to(rows.device)].unflatten(0, positions.shape)

        states = back(torch.cat([each.states[0] for each in found]))
        layers = zip(*(each.arguments for each in found), strict=True)
        return Entered(states, [join(each, back) for each in layers])

    def _picked(self, layer: int, entered: Entered, lines: Lines) -> Arguments:
        """Return what a layer would be called with for rows that were laid out, but masks."""
        known = self.counted_in_place
        assert known is not None, "positions were settled"
        arguments = entered.arguments[layer]
        return {
            name: pick(value, known.layers[layer].get(name), lines)
            for name, value in arguments.items()
        } | {self.habits.cache_argument: None}

    @cached_property
    def counted_in_place(self) -> Counted | None:
        """Where blocks' arguments count rows that are laid out; None where they cannot be picked.

        What counts rows must count sequences first, or not at all.
        """

        def plain(batch: int, rows: int) -> list[Arguments]:
            ids = torch.zeros(batch, rows, dtype=torch.long, device=self.device)
            given: Arguments = {"input_ids": ids, "use_cache": False}
            return self._entered(given, torch.arange(rows, device=ids.device)[None]).arguments

        rows = compare_calls(plain(1, 2), plain(1, 3), _MASKS)
        sequences = compare_calls(plain(2, 3), plain(4, 3), _MASKS)
        if rows is None or sequences is None:
            return None
        pairs = zip(rows.layers, sequences.layers, strict=True)
        return rows if all(may_be_picked(*each) for each in pairs) else None

    def leave(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Apply the final norm and the head to states of depth T."""
        tail, hf = self._tail, self.hf
        return tail(hf, states) if tail is not None and tail.is_clear(hf) else self._leave(states)

    @cached_property
    def _tail(self) -> Tail | None:
        """The modules that do so, where calling them is all that the model's own forward does."""
        like = torch.zeros(1, self.hidden, dtype=self.hf.dtype, device=self.device)
        return find_tail(self.hf, [block.module for block in self.blocks], self._leave, like)

    def _leave(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Do so by way of the model's own forward."""
        rows = states[:, None]  # each row a sequence of its own, so that masks stay 1 × 1
        blank = torch.zeros(rows.shape[:2], dtype=torch.long, device=self.device)

        def finished(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return as_output(rows, self.habits.block_outputs)

        with Forwards([(block.module, finished) for block in self.blocks]):
            return self.hf(input_ids=blank, use_cache=False).logits[:, 0]

    def own_logits(self, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocab"]:
        """Return the logits of the model's own forward, which passes over absent layers."""
        with self.passing():
            return self.hf(input_ids=ids, use_cache=False).logits

    def visibility(self, length: int) -> Visibility:
        """Return which position may see which among the first ``length``, as the model masks."""
        known = self._visibility
        if known is None or known.length < length:
            known = self._visibility = self._rules(length)
        return known

    def _rules(self, length: int) -> Visibility:
        """Ask the model how it masks so many positions, and some more, lest it be asked again."""
        ahead = -(-length // _AHEAD) * _AHEAD
        if length > WHOLE and self._shows_rules and self.takes_cache:
            known = self._whole_table(min(WHOLE, self.max_positions or WHOLE))
            further = 1 << (length - 1).bit_length()
            longest = max(length, min(further, self.max_positions or further))
            found = longer(known, Rows(self, KEY_ARGUMENTS), longest)
            if found is not None:
                return found
            self._shows_rules = False
        return self._whole_table(max(length, min(ahead, self.max_positions or ahead)))

    def _whole_table(self, length: int) -> Visibility:
        ids = torch.zeros(1, length + 1, dtype=torch.long, device=self.device)
        present = torch.ones_like(ids)
        present[:, 0] = 0
        positions = (present.cumsum(-1) - 1).clamp(min=0)
        return whole_table(self.enter(ids, positions, present).arguments, KEY_ARGUMENTS)

    @cached_property
    def rowwise(self) -> Counted | None:
        """Where blocks' arguments count rows; None where the model does not show it."""
        return self._compared((1, 2), (1, 3))

    @cached_property
    def by_sequence(self) -> Counted | None:
        """Where they count sequences (or sequences times heads); None in the same case."""
        found = self._compared((2, 3), (4, 3))
        masks = dict.fromkeys(_MASKS, 0)
        return None if found is None else Counted([each | masks for each in found.layers])

    def _compared(self, few: tuple[int, int], many: tuple[int, int]) -> Counted | None:
        """Compare what blocks are called with for so many sequences of so many rows."""

        def arguments(batch: int, rows: int) -> list[Arguments]:
            ids = torch.zeros(batch, rows, dtype=torch.long, device=self.device)
            positions = torch.arange(rows, device=ids.device).expand(batch, -1)
            return self.enter(ids, positions).arguments

        return compare_calls(arguments(*few), arguments(*many), _MASKS)


def input_device(hf: PreTrainedModel) -> torch.device:
    """Return where a model's embeddings run; offloaded weights are elsewhere until then."""
    embeddings = hf.get_input_embeddings()
    device: Any = embeddings.weight.device
    if device.type == "meta":
        device = torch.device(embeddings._hf_hook.execution_device)  # type: ignore[union-attr]
    return device


def open_model(hf: PreTrainedModel) -> OpenedModel:
    """Open a Hugging Face decoder.

    Raises:
        ModelError: when its blocks or their parts are not found, when its attention takes no mask
            per row (flash attention, for instance), or when it runs an exported plan.
    """
    if hasattr(hf.config, "impasto"):
        raise ModelError(
            f"{type(hf).__name__} runs a plan of its own already; open its folder by "
            "impasto.load(folder)"
        )
    if hf.config.is_encoder_decoder or hf.get_output_embeddings() is None or not hf.can_generate():
        raise ModelError(
            f"{type(hf).__name__} does not predict next tokens, and freeze and noise are about the "
            "token whose successor is predicted; plans run on decoders with their head, loaded by "
            "AutoModelForCausalLM"
        )
    anatomy = find_anatomy(hf)
    observed = observe(hf, anatomy, input_device(hf))
    blocks = [
        Block(module, (), ()) if call is None else _block(anatomy, call)
        for module, call in zip(anatomy.blocks, observed.calls, strict=True)
    ]
    asks = tuple(i for i, call in enumerate(observed.calls) if call is not None and call.asks)
    habits = Habits(observed.outputs, observed.cache_argument, asks)
    return OpenedModel(ref(hf), blocks, habits, anatomy)


def _block(anatomy: Anatomy, call: Call) -> Block:
    """Return a block with those of its parts that ran when it was called."""

    def components(names: tuple[str, ...]) -> tuple[Component, ...]:
        return tuple(
            Component(call.module.get_submodule(name), arity(call.parts[name]))
            for name in names
            if name in call.parts
        )

    return Block(
        call.module,
        components(anatomy.attention),
        components(anatomy.mlp),
        leaves_keys=call.writes > 0,
        queries=find_queries(call.module, anatomy) if call.writes else (),
    )


def take_apart(anatomy: Anatomy, arities: dict[str, int]) -> list[Block]:
    """Return a model's blocks with their parts; ``arities`` are those of what the parts return."""

    def components(block: nn.Module, names: tuple[str, ...]) -> tuple[Component, ...]:
        return tuple(Component(block.get_submodule(name), arities[name]) for name in names)

    return [
        Block(block, (), ())
        if is_absent(block)
        else Block(block, components(block, anatomy.attention), components(block, anatomy.mlp))
        for block in anatomy.blocks
    ]


def replayable(call: Arguments) -> Arguments:
    """Return what a block was called with, less what is given anew at each call."""
    return {name: value for name, value in call.items() if name != "hidden_states"}
