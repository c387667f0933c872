"""A Hugging Face encoder opened up: embeddings in, blocks in between, states out.

As with decoders (:mod:`impasto.model.decoder`), nothing of a family is written down: the model's
own forward prepares each block's arguments, and applies its norm, pooler or head to finished
states.
There is neither a cache nor a current token, so the rows of a call are the sequences as they are.

Shapes: ``batch`` sequences of ``rows`` token states of ``hidden`` units; ``vocab`` tokens.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import ref

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from impasto.error import UserError
from impasto.model.opened import Habits, Opened, input_device, positive, replayable
from impasto.model.structure.absent import first_present, is_absent
from impasto.model.structure.anatomy import (
    Anatomy,
    ModelError,
    find_blocks,
    find_convolution,
    find_encoder_anatomy,
)
from impasto.model.structure.block import (
    Arguments,
    Block,
    Component,
    Forward,
    Forwards,
    arity,
    parameters,
)
from impasto.model.structure.failing import RAISED, is_out_of_memory
from impasto.plan.steps import Part

_IDS = (3, 1, 4, 1, 5, 9)
_NO_CHANGE = 1e-6  # relative; a smaller difference is not that of a token
_CONVOLVED = ("hidden_states", "residual_states", "input_mask")


@dataclass(frozen=True)
class Sentences:
    """Token sequences, padded on the right.

    Attributes:
        ids: The tokens, padding included.
        is_real: True where a token is not padding.
        types: The segment of each token, 0 or 1, where the tokenizer tells segments apart.
    """

    ids: Int[Tensor, "batch rows"]
    is_real: Bool[Tensor, "batch rows"]
    types: Int[Tensor, "batch rows"] | None = None


@dataclass(frozen=True)
class Prepared:
    """What an encoder's own forward hands to its blocks, and to the convolution beside them.

    Attributes:
        states: The embedded tokens: what the first block reads.
        arguments: For each layer, the further arguments of its block.
        convolved: The convolution's mask, where the model has one.
    """

    states: Float[Tensor, "batch rows hidden"]
    arguments: list[Arguments]
    convolved: Shaped[Tensor, "batch rows"] | None = None


@dataclass(eq=False)
class OpenedEncoder(Opened):
    """An encoder whose blocks can be called one by one; made by :func:`open_encoder`.

    ``convolution`` is DeBERTa's, where the model has one: it reads what its first layer reads, and
    what it returns is added to that layer's output before a norm. It is a part of that layer.
    """

    convolution: nn.Module | None = None

    @cached_property
    def max_positions(self) -> int | None:
        """The most tokens that the model can read; None where its configuration sets no limit."""
        most = positive(getattr(self.hf.config, "max_position_embeddings", None))
        for name, module in self.hf.base_model.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                padding = module.padding_idx  # RoBERTa's positions begin after that of padding
                return most if most is None or padding is None else most - padding - 1
        return most

    @property
    def padding(self) -> int:
        """The id of the padding token."""
        return getattr(self.hf.config, "pad_token_id", None) or 0

    @property
    def predicts_tokens(self) -> bool:
        """Whether the model has a head that predicts masked tokens."""
        return self.hf.get_output_embeddings() is not None

    @cached_property
    def takes_types(self) -> bool:
        """Whether the model's forward takes the segments of tokens."""
        return "token_type_ids" in parameters(type(self.hf.base_model))

    def prepare(self, sentences: Sentences) -> Prepared:
        """Embed sentences and collect the arguments of each block; no block is run.

        Raises:
            ModelError: when they are longer than the model's positions.
        """
        count, most = sentences.ids.shape[1], self.max_positions
        if most is not None and count > most:
            raise ModelError(
                f"{type(self.hf).__name__} cannot read {count} tokens: it has {most} positions; "
                "shorten the text"
            )
        noted: Arguments = {}
        with Forwards(self.outside(noted)):
            calls = self.block_calls(self._given(sentences))
        rows = calls[0]["hidden_states"].shape[1]
        if rows != count:
            raise ModelError(
                f"{type(self.hf).__name__} cannot be opened: its own forward hands {rows} rows "
                f"to its layers for a text of {count} tokens (it pads texts itself, to whole "
                "windows), and plans run a row for each token"
            )
        arguments = [replayable(call) for call in calls]
        return Prepared(calls[0]["hidden_states"], arguments, noted.get("input_mask"))

    def run(
        self,
        layer: int,
        part: Part,
        states: Float[Tensor, "batch rows hidden"],
        prepared: Prepared,
    ) -> Float[Tensor, "batch rows hidden"]:
        """Run a layer, or a part of it, on hidden states of a prepared batch."""
        after = self.blocks[layer](states, prepared.arguments[layer], part)
        if self.convolution is None or layer:
            return after
        mask: Any = prepared.convolved  # padding is zero where the model itself runs this layer
        mask = mask.to(after.device)
        real = states.to(after.device) * mask[..., None].to(states.dtype)
        return self.convolution(real, after, mask)

    def end(self, states: Float[Tensor, "batch rows hidden"]) -> Float[Tensor, "batch rows hidden"]:
        """Return the output of the model without its head if its last layer returned ``states``."""
        if self.ends_plainly:
            return states
        with self.finishing_with(states):
            return self.hf.base_model(**self._blank(states)).last_hidden_state

    @cached_property
    def ends_plainly(self) -> bool:
        """Whether nothing follows the last layer: most families have no final norm."""
        states = torch.arange(2 * self.hidden, device=self.device, dtype=self.hf.dtype)
        states = states.reshape(1, 2, -1).sin()
        with torch.no_grad(), self.finishing_with(states):
            end = self.hf.base_model(**self._blank(states)).last_hidden_state
        return torch.equal(end.to(states.device), states)

    def leave(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Apply what follows the last layer, and the head that predicts tokens."""
        rows = states[:, None]  # each row a sequence of its own
        with self.finishing_with(rows):
            return self.hf(**self._blank(rows)).logits[:, 0]

    def own_states(self, sentences: Sentences) -> Float[Tensor, "batch rows hidden"]:
        """Return the output of the model's own forward without its head and absent layers."""
        outside = [] if 0 in self.present else self.outside({})
        with self.skipping_absent(), Forwards(outside):
            return self.hf.base_model(**self._given(sentences)).last_hidden_state

    def _given(self, sentences: Sentences) -> Arguments:
        given: Arguments = {
            "input_ids": sentences.ids,
            "attention_mask": sentences.is_real.long(),
        }
        if sentences.types is not None and self.takes_types:
            given["token_type_ids"] = sentences.types
        return given

    def _blank(self, states: Float[Tensor, "batch rows hidden"]) -> Arguments:
        """Return the arguments of a forward whose blocks are replaced: tokens that nobody reads."""
        blank = torch.zeros(states.shape[:2], dtype=torch.long, device=self.device)
        return {"input_ids": blank, "attention_mask": torch.ones_like(blank)}

    def outside(self, noted: Arguments) -> list[tuple[nn.Module, Forward]]:
        """Return a stand-in for the convolution; see :meth:`Opened.outside`."""
        if self.convolution is None:
            return []

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            noted.update(dict(zip(_CONVOLVED, args, strict=False)) | kwargs)
            return noted["residual_states"]

        return [(self.convolution, forward)]


def may_be_encoder(hf: PreTrainedModel) -> bool:
    """Whether a model is to be opened as an encoder: it predicts no next tokens, and reads on.

    A model without the head that predicts tokens is a decoder where no token of it sees a later
    one. It is asked by reading two short texts, unless its kind is known to be that of an encoder.
    """
    if hf.can_generate() or hf.config.is_encoder_decoder or hasattr(hf.config, "impasto"):
        return False
    if "decoder_input_ids" in parameters(type(hf)):
        return False
    is_known = hf.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    is_decoder = getattr(hf.config, "is_decoder", False)
    return (is_known and not is_decoder) or not _reads_one_way(hf)


@torch.no_grad()
def _reads_one_way(hf: PreTrainedModel) -> bool:
    """Whether no token of a text sees a later one; False for a model that reads no texts."""
    try:
        ids = torch.tensor([_IDS, _IDS], device=input_device(hf))
        ids[1, -1] += 1
        blocks = find_blocks(hf)[1]
        present = first_present(blocks)
        absent = [(b, present.forward) for b in blocks if is_absent(b) and present is not None]
        with Forwards(absent):
            states = hf.base_model(input_ids=ids).last_hidden_state
        one, other = states[:, :-1].float()
        return float((one - other).abs().max()) <= _NO_CHANGE * float(one.abs().max())
    except (UserError, *RAISED) as error:
        if is_out_of_memory(error):
            raise
        return False


def open_encoder(hf: PreTrainedModel) -> OpenedEncoder:
    """Open a Hugging Face encoder, whatever its head.

    Raises:
        ModelError: when it reads no token ids, or its blocks or their parts are not there.
    """
    if "input_ids" not in parameters(type(hf.base_model)):
        raise ModelError(
            f"{type(hf).__name__} takes no input_ids, which is how plans are given texts, but "
            f"{', '.join(parameters(type(hf.base_model))[:3])}"
        )
    anatomy = find_encoder_anatomy(hf)
    outputs, arities = _observe(hf, anatomy.attention + anatomy.mlp, anatomy.blocks)
    blocks = _take_apart(anatomy, arities)
    return OpenedEncoder(
        ref(hf), blocks, Habits(outputs, ""), anatomy, find_convolution(hf, anatomy)
    )


def _take_apart(anatomy: Anatomy, arities: dict[str, int]) -> list[Block]:
    """Return a model's blocks with their parts; ``arities`` are those of the parts' outputs."""

    def components(block: nn.Module, names: tuple[str, ...]) -> tuple[Component, ...]:
        return tuple(Component(block.get_submodule(name), arities[name]) for name in names)

    return [
        Block(block, (), ())
        if is_absent(block)
        else Block(block, components(block, anatomy.attention), components(block, anatomy.mlp))
        for block in anatomy.blocks
    ]


@torch.no_grad()
def _observe(
    hf: PreTrainedModel, names: tuple[str, ...], blocks: nn.ModuleList
) -> tuple[int, dict[str, int]]:
    """Return the arity of a block's output, and of its parts', as one ordinary forward shows.

    The first block that is loaded stands in for absent ones.
    """
    block = first_present(blocks)
    assert block is not None, "find_encoder_anatomy refuses a model without blocks"
    outputs: dict[str, Any] = {}

    def note(name: str) -> Any:
        return lambda module, args, output: outputs.__setitem__(name, output)

    hooks = [block.register_forward_hook(note(""))]
    hooks += [block.get_submodule(name).register_forward_hook(note(name)) for name in names]
    ids = torch.zeros(1, 2, dtype=torch.long, device=input_device(hf))
    try:
        with Forwards([(other, block.forward) for other in blocks if is_absent(other)]):
            hf.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    whole = outputs.get("")
    if not (isinstance(whole, Tensor) or type(whole) is tuple):
        kind = "is not called as a module"
        if whole is not None:
            kind = f"returns {type(whole).__name__}"
        raise ModelError(
            f"{type(hf).__name__} cannot be opened: in its own forward, its first layer {kind}; "
            "plans run layers that are called and return states, alone or first in a tuple"
        )
    exchanged = [name for name in names if name not in outputs]
    if exchanged:
        raise ModelError(
            f"{type(hf).__name__} puts other modules in the place of its blocks' "
            f"{', '.join(exchanged)} as it reads a short text, so they are not what was opened; "
            'load it with those (BigBird: attention_type="original_full")'
        )
    return arity(whole), {name: arity(outputs[name]) for name in names}
