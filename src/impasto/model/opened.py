"""What every opened model has: its blocks, one by one, and the arguments that they are called with.

A Hugging Face model is opened, never changed. Its own forward runs with a stand-in in the place of
each block, which notes what the block is called with; so nothing of a family is written down.
:mod:`impasto.model.decoder` and :mod:`impasto.model.encoder` say how each of the two kinds begins
and ends.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.model.arguments.lengths import RotaryLimit, length_limit
from impasto.model.sharing import Sharing
from impasto.model.structure.absent import is_absent, spans
from impasto.model.structure.anatomy import Anatomy, ModelError
from impasto.model.structure.block import (
    ONE_VECTOR,
    Arguments,
    Block,
    Forward,
    Forwards,
    StateForm,
    as_output,
    named_call,
)

_counted_for: ContextVar[torch.device | None] = ContextVar("the device costs are of", default=None)


@contextmanager
def counting_for(device: torch.device) -> Iterator[None]:
    """Return a context in which what models would do is counted as on a device.

    The device need not be there.
    """
    token = _counted_for.set(device)
    try:
        yield
    finally:
        _counted_for.reset(token)


@dataclass(frozen=True, slots=True)
class Habits:
    """How a model calls its blocks, as one ordinary forward showed it.

    Attributes:
        block_outputs: The arity of a block's output.
        cache_argument: The name of the argument that is the cache; empty where there is none.
        asks_length: The layers that ask the cache how many tokens it holds.
        form: The form in which blocks take states.
        width: The numbers of a token's state.
    """

    block_outputs: int
    cache_argument: str
    asks_length: tuple[int, ...] = ()
    form: StateForm = ONE_VECTOR
    width: int | None = None


GoesOn = Literal["stretches", "tokens"]


@dataclass(slots=True)
class SequentialHabits:
    """How a model is called whose rows cannot be packed (:mod:`impasto.model.sequential`).

    Attributes:
        reason: Why they cannot be.
        takes_cache: The argument in which the model's own forward takes a cache; empty for none.
        goes_on: How a block goes on from the state that it wrote to a cache: by several tokens at
            once (``stretches``), or by single ones (``tokens``). ``None``: it does not, and all
            rows of a sequence run again with every new one.
        sharing: Which layers read keys and values of others; None where none do.
    """

    reason: str
    takes_cache: str
    goes_on: GoesOn | None = None
    sharing: Sharing | None = None


@dataclass(eq=False)
class Opened(ABC):
    """A model whose blocks can be called one by one.

    The Hugging Face model is never changed, only called. It is held weakly: an opened model belongs
    to its Hugging Face model and must not outlive it, so whoever runs plans holds the latter.
    Layers that are not loaded (:mod:`impasto.model.structure.absent`) have an entry in ``blocks``,
    but no parts. Once a model is checked, ``undivided`` has the layers whose parts plans cannot
    name, each with the reason.
    """

    _hf: "ref[PreTrainedModel]"
    blocks: list[Block]
    habits: Habits
    anatomy: Anatomy
    sequential: SequentialHabits | None = field(default=None, init=False)
    undivided: dict[int, str] = field(default_factory=dict, init=False)

    @property
    def hf(self) -> PreTrainedModel:
        """The Hugging Face model."""
        model = self._hf()
        assert model is not None, "an opened model is used whose Hugging Face model is gone"
        return model

    @property
    def packs_rows(self) -> bool:
        """Whether rows of several kinds may run in one call; else sequences run as they are."""
        return self.sequential is None

    @property
    def num_layers(self) -> int:
        """The number of layers T."""
        return len(self.blocks)

    @cached_property
    def present(self) -> tuple[int, ...]:
        """The layers that are loaded and that its own forward calls, in ascending order."""
        blocks = enumerate(self.blocks)
        return tuple(i for i, b in blocks if not (is_absent(b.module) or b.is_passed_over))

    @cached_property
    def passed_over(self) -> frozenset[int]:
        """The layers that its own forward does not call on texts: in plans, they do nothing."""
        return frozenset(i for i, block in enumerate(self.blocks) if block.is_passed_over)

    def by_layer(self, calls: Sequence[Arguments]) -> list[Arguments]:
        """Return the arguments of each layer, in calls of those that are not passed over.

        Those of a layer that is passed over are those of the layer before it, or of the first one.
        """
        called = iter(calls)
        every: list[Arguments] = []
        for layer in range(self.num_layers):
            if layer not in self.passed_over:
                every.append(next(called))
            else:
                every.append(every[-1] if every else calls[0])
        return every

    @property
    def has_its_blocks(self) -> bool:
        """Whether the Hugging Face model still has the blocks that were opened."""
        try:
            modules = self.hf.get_submodule(self.anatomy.path)
        except AttributeError:
            return False
        return len(modules) == len(self.blocks) and all(  # type: ignore[arg-type]
            module is block.module
            for module, block in zip(modules, self.blocks, strict=True)  # type: ignore[call-overload]
        )

    @property
    def limits(self) -> list[str]:
        """What plans cannot do on this model, in sentences; mostly nothing."""
        layers: dict[str, list[int]] = {}
        for layer in self.undivided.keys() - self.passed_over:
            reason = self.undivided[layer]
            layers.setdefault(reason.partition(" (relative")[0], []).append(layer)
        return [
            f"plans cannot name parts of the layers {spans(alike)}: {reason}"
            for reason, alike in layers.items()
        ]

    def first_block(self) -> Block:
        """Return the lowest layer that is loaded."""
        return self.blocks[self.present[0]]

    @property
    def device(self) -> torch.device:
        """The device that token ids are put on."""
        return input_device(self.hf)

    @property
    def counted_device(self) -> torch.device:
        """The device that costs are counted for: the model's own, unless another is meant."""
        return _counted_for.get() or self.device

    @property
    def devices(self) -> set[torch.device]:
        """The devices that its weights lie on, and the one that token ids are put on."""
        return {weight.device for weight in self.hf.parameters()} | {self.device}

    @cached_property
    def max_positions(self) -> int | None:
        """The most tokens that the model can read; None where its configuration sets no limit."""
        config = self.hf.config.get_text_config(decoder=True)
        most = positive(getattr(config, "max_position_embeddings", None))
        limit = self.length_limit
        return most if limit is None else min(limit.tokens, most or limit.tokens)

    @cached_property
    def length_limit(self) -> RotaryLimit | None:
        """The length from which rotary tables change with the length of the text; None for none."""
        return length_limit(self.hf.config.get_text_config(decoder=True))

    def position(self, positions: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return positions, those beyond the model's last one replaced by the last one."""
        if self.max_positions is None:
            return positions
        return positions.clamp(max=self.max_positions - 1)

    @property
    def hidden(self) -> int:
        """The size of a hidden state."""
        return self.habits.width or self.hf.config.get_text_config(decoder=True).hidden_size

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return self.hf.config.get_text_config(decoder=True).vocab_size

    @cached_property
    def always_given(self) -> Arguments:
        """What the model's own forward hands to the model without its head, whatever the text."""
        return {}

    @abstractmethod
    def leave(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Return the logits for states of depth T."""

    def outside(self, noted: Arguments) -> list[tuple[nn.Module, Forward]]:
        """Return stand-ins for modules that belong to a layer but stand outside of its block.

        Each returns the layer's output unchanged, and writes its own arguments into ``noted``.
        """
        return []

    def block_calls(self, given: Arguments) -> list[Arguments]:
        """Return the arguments of each block in a forward without head; no block is run.

        Args:
            given: What the model's own forward is called with.

        Raises:
            ModelError: when its forward does not call every block.
        """
        calls: list[Arguments] = []
        blocks = {id(block.module): block for block in self.blocks}.values()
        stand_ins = [
            (b.module, self._identity if b.is_passed_over else self._noting(b.module, calls))
            for b in blocks
        ]
        with Forwards(stand_ins):
            self.hf.base_model(**self.always_given, **given)
        if len(calls) != self.num_layers - len(self.passed_over):
            raise ModelError(
                f"{type(self.hf).__name__} called {len(calls)} of its {self.num_layers} blocks"
            )
        return self.by_layer(calls)

    def finishing_with(self, states: Float[Tensor, "batch rows hidden"]) -> Forwards:
        """Return a context in which every block returns ``states``, as if they were finished."""

        def finished(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            return as_output(self.habits.form.full(states), self.habits.block_outputs)

        blocks = [(block.module, finished) for block in self.blocks]
        return Forwards([*blocks, *self.outside({})])

    def skipping_absent(self) -> Forwards:
        """Return a context in which absent layers return their input."""
        absent = (block.module for block in self.blocks if is_absent(block.module))
        return Forwards([(block, self._identity) for block in absent])

    def _identity(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        return as_output(hidden_states, self.habits.block_outputs)

    def _noting(self, block: nn.Module, calls: list[Arguments]) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            call = named_call(block, args, kwargs)
            calls.append(call)
            return as_output(call["hidden_states"], self.habits.block_outputs)

        return forward


def positive(most: int | None) -> int | None:
    """Return a limit of positions; None for one that is none, such as XLNet's −1."""
    return most if most is not None and most > 0 else None


def input_device(hf: PreTrainedModel) -> torch.device:
    """Return the device that a model's embeddings run on; offloaded weights move there for it."""
    embeddings = hf.get_input_embeddings()
    device: Any = next(embeddings.parameters()).device
    if device.type == "meta":
        device = torch.device(embeddings._hf_hook.execution_device)  # type: ignore[union-attr]
    return device


def replayable(call: Arguments) -> Arguments:
    """Return a block's arguments without its hidden states, which are new in each call."""
    return {name: value for name, value in call.items() if name != "hidden_states"}
