"""What the facades of decoders and encoders have in common: what a model is, not what it answers.

A question to a model does not pass here; it finds its way from the facade's method alone.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from impasto.model.measured.shape import read_shape
from impasto.model.opened import Opened
from impasto.plan import Plan
from impasto.plan.cost import Shape
from impasto.run.batching.tokenisation import AS_GIVEN, Reader, TextOptions
from impasto.run.calls import one_call
from impasto.run.opening import opening

M = TypeVar("M", bound=Opened)


class Loaded(ABC, Generic[M]):
    """A Hugging Face model on which plans run.

    Attributes:
        hf: The Hugging Face model itself, unchanged.
        tokenizer: Its Hugging Face tokenizer, or None.
        name: What it was loaded as.
        plan: The plan that it was loaded for, or that an exported folder holds; only plans of its
            layers run. None: all layers are there.
        memory: The most bytes that a batch may take; None for half of what is free, and 0.8 of it
            on a GPU.
        text_options: How its texts are read.
        appending_is_known: Whether the user knows that the tokenizer appends special tokens:
            callers with many questions warn once and set this.
    """

    memory: int | None = None
    appending_is_known: bool = False
    _keeps_appended: ClassVar[bool] = False  # whether texts keep the special tokens behind them

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        name: str,
        plan: Plan | None = None,
        text_options: TextOptions = AS_GIVEN,
    ) -> None:
        self.hf, self.tokenizer, self.name, self.plan = hf, tokenizer, name, plan
        self._read_texts(text_options)

    @property
    @abstractmethod
    def _opened(self) -> M:
        """The model opened, anew where it has been changed since."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.family}, {self.num_layers} layers)"

    @property
    def checked(self) -> list[tuple[str, float | None]]:
        """The claims of the opening check, each with its relative difference, and the limit.

        They are followed by what was not checked (None) because the check's texts are too short.
        """
        return opening(self.hf).report()

    @property
    def limits(self) -> list[str]:
        """What plans cannot do on this model, a sentence for each kind of layer; mostly nothing."""
        return self._opened.limits

    @property
    def runs_sequences(self) -> str | None:
        """Why rows cannot be packed, where sequences run as they are; None where they can."""
        habits = self._opened.sequential
        return None if habits is None else habits.reason

    @property
    def num_layers(self) -> int:
        """The number of layers T; plans name layers 0…T−1."""
        return self._opened.num_layers

    @property
    def baseline(self) -> Plan:
        """The plan that runs all layers as they are; where some are not there, that of `plan`."""
        whole = Plan.identity(self.num_layers)
        return whole if self.plan is None or self.plan.layers == whole.layers else self.plan

    @property
    def family(self) -> str:
        """The family's name as its configuration gives it: ``llama``, ``bert``, …"""
        return self.hf.config.model_type

    @property
    def max_positions(self) -> int | None:
        """The most tokens of a request: the model's, where it says so, or a lower `max_length`."""
        return self._reader.max_positions

    @property
    @one_call
    def shape(self) -> Shape:
        """The sizes that costs follow from: weights by part, keys and values, parameters."""
        return read_shape(self._opened)

    @property
    def appended(self) -> tuple[int, ...]:
        """The special tokens that the tokenizer puts behind every text, and that are left out."""
        return self._reader.appended

    def tokens(self, text: str, as_lm_eval: bool = False) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds.

        A decoder continues its texts: what the tokenizer appends to whole texts is left out. With
        `as_lm_eval` it stays, as lm-eval reads prompts.
        """
        return self._reader.prompt(text, as_lm_eval)

    def _read_texts(self, options: TextOptions) -> None:
        """Set the options by which texts are read from now on."""
        self.text_options = options
        self._reader = Reader(
            self.tokenizer,
            self._opened.vocabulary,
            options.positions(self._opened.max_positions),
            options.add_bos_token,
            self._keeps_appended,
        )
