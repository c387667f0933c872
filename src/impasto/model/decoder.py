"""A decoder opened up: embeddings in, blocks in between, logits out.

Nothing of a family is written down here. The model's own forward, its blocks replaced by stand-ins
(:meth:`OpenedModel.enter`), embeds the tokens and prepares what each block is to be called with:
rotary tables, positions, masks by layer type. The same forward, with finished states in the place
of the last block's output, applies the final norm and the head (:meth:`OpenedModel.leave`).
Most families apply a norm and a head to final states and do nothing else; there those modules are
called directly, which spares the preparation for blocks that do not run.

Shapes: ``batch`` sequences of ``rows`` token states of ``hidden`` units; ``vocab`` tokens.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from weakref import ref

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.model.arguments.counted import CountedAxes, compare_calls
from impasto.model.arguments.in_place import Lines, enter_lines, may_be_picked
from impasto.model.arguments.mask_rules import LengthOnlyCache, MaskReader
from impasto.model.arguments.observed import observe
from impasto.model.arguments.visibility import Visibility
from impasto.model.final_modules import find_final_modules
from impasto.model.opened import Habits, Opened, input_device, replayable
from impasto.model.structure.absent import spans
from impasto.model.structure.anatomy import (
    KEY_ARGUMENTS,
    ModelError,
    find_anatomy,
    of_encoder_decoder,
)
from impasto.model.structure.block import Arguments, Block, Entered, parameters

_MASKS = ("attention_mask", *KEY_ARGUMENTS)  # made anew for each call


@dataclass(eq=False)
class OpenedModel(Opened):
    """A decoder whose blocks can be called one by one; made by :func:`open_model`.

    Attributes:
        attention_modules: Those whose attention can be chosen for a call
            (:mod:`impasto.run.attention.choice`); None until they are looked for.
        takes_positions: Whether the model's forward takes positions.
        counts_places: Whether it numbers tokens by their place in a sequence instead.
        takes_unmade: Whether blocks pass masks to the attention unread; None until it is tried.
        reads_common: Whether attention reads keys that sequences have in common apart from those
            of each (:mod:`impasto.run.common_keys`); None until it is tried.
    """

    attention_modules: list[nn.Module] | None = field(default=None, init=False)
    takes_positions: bool = field(init=False)
    counts_places: bool = field(default=False, init=False)
    takes_unmade: bool | None = field(default=None, init=False)
    reads_common: bool | None = field(default=None, init=False)
    _mask_reader: MaskReader = field(default_factory=MaskReader, init=False)
    _visibility: tuple[torch.device, Visibility] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.takes_positions = "position_ids" in parameters(type(self.hf.base_model))

    @cached_property
    def takes_cache(self) -> bool:
        """Whether the model's forward takes a cache, which says how many tokens it has read."""
        return "past_key_values" in parameters(type(self.hf.base_model))

    @property
    def limits(self) -> list[str]:
        """What plans cannot do, and why, in sentences: name parts, run readers of keys anywhere."""
        sharing = None if self.sequential is None else self.sequential.sharing
        sentences = super().limits
        if self.passed_over:
            sentences.append(
                f"the layers {spans(self.passed_over)} do nothing in plans: the model's own "
                "forward passes over them on texts"
            )
        return sentences + ([] if sharing is None else sharing.limits)

    @property
    def cache_name(self) -> str:
        """The argument in which the model's forward takes a cache."""
        return "past_key_values" if self.sequential is None else self.sequential.takes_cache

    @cached_property
    def always_given(self) -> Arguments:
        """What the model's own forward hands to the model without its head, whatever the text.

        Those of its arguments that are switched otherwise than by default, as BLIP's decoder has it
        that it is one.
        """
        base, noted = self.hf.base_model, dict[str, bool]()
        if base is self.hf or not self.predicts_tokens:
            return noted
        defaults = inspect.signature(type(base).forward).parameters

        def note(_: nn.Module, __: object, given: Arguments) -> None:
            for name, value in given.items():
                is_switch = isinstance(value, bool) and name in defaults
                if is_switch and name != "use_cache" and defaults[name].default is not value:
                    noted[name] = value

        blank = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        rows = torch.zeros(1, 1, self.hidden, dtype=self.hf.dtype, device=self.device)
        hook = base.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with self.finishing_with(rows):
                self.hf(input_ids=blank, use_cache=False)
        finally:
            hook.remove()
        return noted

    def enter(
        self,
        ids: Int[Tensor, "batch rows"],
        positions: Int[Tensor, "batch rows"],
        present: Int[Tensor, "batch keys"] | None = None,
        past: LengthOnlyCache | None = None,
    ) -> Entered:
        """Embed ``ids`` and collect the arguments of each block; no block is run.

        Args:
            ids: The tokens.
            positions: Their positions; ignored by families that have none.
            present: 0 where a token is padding, earlier tokens included.
            past: Stands for the tokens before ``ids``; None: there are none.

        Raises:
            ModelError: when the model has too few positions.
        """
        if self.counts_places and present is None and past is None:
            return self._enter_in_place(ids, positions)
        given: Arguments = {"input_ids": ids, "attention_mask": present, "use_cache": False}
        if past is not None:
            given[self.cache_name] = past
        if self.takes_positions:
            given["position_ids"] = positions
        entered = self.entered(given, positions)
        return entered if past is None else self.without_cache(entered)

    def entered(self, given: Arguments, positions: Int[Tensor, "batch rows"]) -> Entered:
        """Return what the model's own forward, so called, hands to its blocks."""
        try:
            calls = self.block_calls(given)
        except IndexError as error:
            if self.max_positions is None or int(positions.max()) < self.max_positions:
                raise
            raise ModelError(
                f"{type(self.hf).__name__} cannot read {int(positions.max()) + 1} tokens: it "
                f"has {self.max_positions} positions; shorten the text"
            ) from error
        states = self.habits.form.flat(calls[0]["hidden_states"])
        return Entered(states, [replayable(call) for call in calls])

    def without_cache(self, entered: Entered) -> Entered:
        """Return the same arguments with no cache among them."""
        name = self.habits.cache_argument
        return Entered(entered.states, [call | {name: None} for call in entered.arguments])

    def _enter_in_place(
        self, ids: Int[Tensor, "batch rows"], positions: Int[Tensor, "batch rows"]
    ) -> Entered:
        """Return the same for a model that takes no positions: each token is read at its own."""

        def enter(lines: Lines) -> Entered:
            given: Arguments = {"input_ids": lines.ids, "use_cache": False}
            if lines.first:
                given["past_key_values"] = LengthOnlyCache(lines.first)
            return self.without_cache(self.entered(given, positions))

        axes = self.counted_in_place
        assert axes is not None, "positions were settled"
        return enter_lines(ids, positions, axes, enter)

    @cached_property
    def counted_in_place(self) -> CountedAxes | None:
        """The axes of rows in the blocks' arguments for rows that are laid out in place.

        None where rows cannot be picked from the arguments: one with an axis of rows must have its
        axis of sequences first, or none.
        """

        def plain(batch: int, rows: int) -> list[Arguments]:
            ids = torch.zeros(batch, rows, dtype=torch.long, device=self.device)
            given: Arguments = {"input_ids": ids, "use_cache": False}
            return self.entered(given, torch.arange(rows, device=ids.device)[None]).arguments

        rows = compare_calls(plain(1, 2), plain(1, 3), _MASKS)
        sequences = compare_calls(plain(2, 3), plain(4, 3), _MASKS)
        if rows is None or sequences is None:
            return None
        pairs = zip(rows.layers, sequences.layers, strict=True)
        return rows if all(may_be_picked(*each) for each in pairs) else None

    def leave(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Apply the final norm, and the head where it predicts tokens, to states of depth T."""
        final, hf = self._final_modules, self.hf
        if final is not None and final.are_alone(hf):
            return final(hf, states)
        return self._leave_by_forward(states)

    @cached_property
    def _final_modules(self) -> "FinalModules | None":
        """The final norm and head, where calling them is all that the model's own forward does."""
        like = torch.zeros(1, self.hidden, dtype=self.hf.dtype, device=self.device)
        blocks = [block.module for block in self.blocks]
        found = find_final_modules(self.hf, blocks, self._leave_by_forward, like)
        return None if found is None else FinalModules(*found)

    def _leave_by_forward(
        self, states: Float[Tensor, "rows hidden"]
    ) -> Float[Tensor, "rows vocab"]:
        """Return the logits that the model's own forward gives for final states."""
        rows = states[:, None]  # each row a sequence of its own, so that masks stay 1 × 1
        blank = torch.zeros(rows.shape[:2], dtype=torch.long, device=self.device)
        with self.finishing_with(rows):
            return self._read(blank)[:, 0]

    def own_logits(self, ids: Int[Tensor, "batch rows"]) -> Float[Tensor, "batch rows vocab"]:
        """Return the logits of the model's own forward, which passes over absent layers.

        Of a model without the head that predicts tokens, return its states behind the final norm.
        """
        with self.skipping_absent():
            return self._read(ids)

    @property
    def predicts_tokens(self) -> bool:
        """Whether the model has the head that predicts next tokens."""
        return self.hf.can_generate()

    def _read(self, ids: Int[Tensor, "batch rows"]) -> Float[Tensor, "batch rows vocab"]:
        if self.predicts_tokens:
            return self.hf(input_ids=ids, use_cache=False).logits
        return self.hf.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def visibility(self, length: int) -> Visibility:
        """Return the rules by which the model masks at least ``length`` positions.

        Their tables lie where token ids go, and are read anew once the model has moved.
        """
        device, known = self.device, self._visibility
        if known is None or known[0] != device or known[1].length < length:
            known = self._visibility = device, self._mask_reader.read(self, length)
        return known[1]

    @cached_property
    def rowwise(self) -> CountedAxes | None:
        """The axes of rows in the blocks' arguments; None where the model does not show them."""
        return self._compared((1, 2), (1, 3))

    @cached_property
    def by_sequence(self) -> CountedAxes | None:
        """The axes of sequences, or of sequences × heads; None where the model shows none."""
        axes = self._compared((2, 3), (4, 3))
        masks = dict.fromkeys(_MASKS, 0)
        return None if axes is None else CountedAxes([each | masks for each in axes.layers])

    def _compared(self, few: tuple[int, int], many: tuple[int, int]) -> CountedAxes | None:
        """Compare the arguments of blocks for two batches, each of (sequences, rows)."""

        def arguments(batch: int, rows: int) -> list[Arguments]:
            ids = torch.zeros(batch, rows, dtype=torch.long, device=self.device)
            positions = torch.arange(rows, device=ids.device).expand(batch, -1)
            return self.enter(ids, positions).arguments

        return compare_calls(arguments(*few), arguments(*many), _MASKS)


def open_model(hf: PreTrainedModel) -> OpenedModel:
    """Open a Hugging Face decoder.

    Raises:
        ModelError: when its blocks or their parts are not there, when its attention takes no mask
            per row (flash attention, for instance), or when it runs an exported plan.
    """
    refuse_other_kinds(hf)
    anatomy = find_anatomy(hf)
    observed = observe(hf, anatomy, input_device(hf))
    blocks = [
        call.as_block(anatomy)
        if call is not None
        else Block(module, (), (), leaves_keys=False, is_passed_over=True)
        if layer in observed.passed_over
        else Block(module, (), ())  # one that was not loaded
        for layer, (module, call) in enumerate(zip(anatomy.blocks, observed.calls, strict=True))
    ]
    asks = tuple(i for i, call in enumerate(observed.calls) if call is not None and call.asks)
    habits = Habits(observed.outputs, observed.cache_argument, asks)
    return OpenedModel(ref(hf), blocks, habits, anatomy)


def refuse_other_kinds(hf: PreTrainedModel) -> None:
    """Raise ModelError for a model that is no decoder with its head, or runs an exported plan."""
    if hasattr(hf.config, "impasto"):
        raise ModelError(
            f"{type(hf).__name__} runs a plan of its own already; open its folder by "
            "impasto.load(folder)"
        )
    if hf.config.is_encoder_decoder or "decoder_input_ids" in parameters(type(hf)):
        raise of_encoder_decoder(type(hf).__name__, hf.config)
    if hf.can_generate() and hf.get_output_embeddings() is None:
        raise ModelError(
            f"{type(hf).__name__} has no head that predicts tokens (get_output_embeddings() is "
            "None), though it says that it generates; plans run on decoders of texts"
        )


@dataclass(frozen=True, slots=True)
class FinalModules:
    """Modules that turn final states into logits, one after the other.

    Attributes:
        names: Their names in the model.
        around: The names of the modules that contain them, whose own forward is not run.
    """

    names: Sequence[str]
    around: Sequence[str]

    def are_alone(self, hf: nn.Module) -> bool:
        """Whether none of the forwards that are not run has a hook or was replaced."""
        containers = [hf.get_submodule(name).__dict__ for name in self.around]
        hooks = ("_forward_hooks", "_forward_pre_hooks")
        return not any("forward" in own or any(own[name] for name in hooks) for own in containers)

    def __call__(
        self, hf: nn.Module, states: Float[Tensor, "rows hidden"]
    ) -> Float[Tensor, "rows vocab"]:
        """Return the logits for final states."""
        for name in self.names:
            states = hf.get_submodule(name)(states)
        return states
