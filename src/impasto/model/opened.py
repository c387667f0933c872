"""A Hugging Face model opened up: embeddings in, blocks in between, logits out.

Nothing of a family is written down here. The model's own forward is run with its blocks set aside
(:meth:`OpenedModel.enter`), so that it embeds the tokens and prepares what each block is to be
called with: rotary tables, positions, masks by layer type. The same forward, with finished states
put in place of the last block's, gives the final norm and the head (:meth:`OpenedModel.leave`).

Shapes: ``batch`` sequences of ``rows`` token states of ``hidden`` units; ``vocab`` tokens.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from impasto.model.absent import first_present, is_absent
from impasto.model.anatomy import (
    KEY_ARGUMENTS,
    Anatomy,
    ModelError,
    find_anatomy,
    find_queries,
)
from impasto.model.asked import WHOLE, Read, Rows, longer, whole_table
from impasto.model.block import Arguments, Block, Component
from impasto.model.counted import Counted, compare_calls
from impasto.model.forwards import Forward, Forwards, arity, as_output, parameters
from impasto.model.tail import Tail, find_tail
from impasto.model.visibility import Visibility

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


@dataclass(eq=False)
class Opened(ABC):
    """A model whose blocks can be called one by one.

    The Hugging Face model is never changed, only called. It is held weakly, for what is opened
    belongs to it and must not outlive it: whoever runs plans holds the model. Layers that are not
    loaded (:mod:`impasto.model.absent`) have their place in ``blocks``, but no parts.
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
        return getattr(config, "max_position_embeddings", None)

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
    (:mod:`impasto.run.attention`).
    """

    attention_modules: list[nn.Module] | None = field(default=None, init=False)
    takes_unmade: bool | None = field(default=None, init=False)
    _visibility: Visibility | None = field(default=None, init=False)
    _shows_rules: bool = field(default=True, init=False)  # as far as single rows were asked for

    @cached_property
    def takes_positions(self) -> bool:
        """Whether the model's forward can be told positions."""
        return "position_ids" in parameters(type(self.hf.base_model))

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
        given: Arguments = {"input_ids": ids, "attention_mask": present, "use_cache": False}
        if read is not None:
            given["past_key_values"] = read
        if self.takes_positions:
            given["position_ids"] = positions
        try:
            calls = self.noted(given)
        except IndexError as error:
            raise ModelError(
                f"{type(self.hf).__name__} cannot read {int(positions.max()) + 1} tokens: it "
                f"has {self.max_positions} positions; shorten the text"
            ) from error
        arguments = [replayable(call) for call in calls]
        if read is not None:
            name = self.habits.cache_argument
            arguments = [call | {name: None} for call in arguments]
        return Entered(calls[0]["hidden_states"], arguments)

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
    habits, arities = _observe(hf, anatomy)
    blocks = [
        replace(block, queries=find_queries(block.module, anatomy)) if block.attention else block
        for block in take_apart(anatomy, arities)
    ]
    return OpenedModel(ref(hf), blocks, habits, anatomy)


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


@torch.no_grad()
def _observe(hf: PreTrainedModel, anatomy: Anatomy) -> tuple[Habits, dict[str, int]]:
    """Watch the first block that is there during one ordinary forward over two tokens."""
    block = first_present(anatomy.blocks)
    assert block is not None, "find_anatomy found one"
    outputs: dict[str, Any] = {}
    call: Arguments = {}

    def see_call(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> None:
        call.update(dict(zip(parameters(type(module)), args, strict=False)) | kwargs)

    def see_output(name: str) -> Any:
        return lambda module, args, output: outputs.__setitem__(name, output)

    names = (*anatomy.attention, *anatomy.mlp)
    hooks = [block.register_forward_pre_hook(see_call, with_kwargs=True)]
    hooks.append(block.register_forward_hook(see_output("")))
    hooks += [block.get_submodule(n).register_forward_hook(see_output(n)) for n in names]
    cache = DynamicCache(config=hf.config)
    ids = torch.zeros(1, 3, dtype=torch.long, device=input_device(hf))
    present = torch.tensor([[0, 1, 1]], device=ids.device)

    def uncached(*args: Any, **kwargs: Any) -> Any:
        """Run the watched block in the place of an absent one: what comes out is of its form."""
        kwargs = {name: None if value is cache else value for name, value in kwargs.items()}
        return block.forward(*(None if value is cache else value for value in args), **kwargs)

    absent = [other for other in anatomy.blocks if is_absent(other)]
    try:
        with Forwards([(other, uncached) for other in absent]):
            hf(input_ids=ids, attention_mask=present, past_key_values=cache, use_cache=True)
    finally:
        for hook in hooks:
            hook.remove()
    mask = call.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        raise ModelError(
            f"{type(hf).__name__} runs with attn_implementation="
            f"{hf.config._attn_implementation!r}, which takes no mask for each row; load it with "
            "attn_implementation='sdpa' or 'eager'"
        )
    cache_argument = next((name for name, value in call.items() if value is cache), None)
    if cache_argument is None:
        raise ModelError(f"{type(hf).__name__} does not hand its cache to its blocks")
    habits = Habits(arity(outputs[""]), cache_argument)
    return habits, {name: arity(outputs[name]) for name in names}


def replayable(call: Arguments) -> Arguments:
    """Return what a block was called with, less what is given anew at each call."""
    return {name: value for name, value in call.items() if name != "hidden_states"}
