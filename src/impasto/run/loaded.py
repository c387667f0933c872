"""What decoders and encoders on which plans run have in common: what they are, not what they do."""

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

from impasto.model.opened import Opened
from impasto.model.shape import read_shape
from impasto.plan import Plan
from impasto.plan.cost import Shape
from impasto.run.calls import one_call
from impasto.run.opening import opening
from impasto.run.text import Reader

M = TypeVar("M", bound=Opened)


class Loaded(ABC, Generic[M]):
    """A Hugging Face model on which plans run.

    Attributes:
        hf: The Hugging Face model itself, unchanged.
        tokenizer: Its Hugging Face tokenizer, or None.
        name: What it was loaded as.
        plan: The plan that it was loaded for, or that an exported folder holds; only plans of its
            layers run. None: all layers are there.
        memory: The most bytes that a batch may take; None for half of what is free.
    """

    memory: int | None = None

    def __init__(self, hf: Any, tokenizer: Any, name: str, plan: Plan | None = None) -> None:
        self.hf, self.tokenizer, self.name, self.plan = hf, tokenizer, name, plan
        self._shape: tuple[M, Shape] | None = None
        self._reader = Reader(tokenizer, self._opened.vocabulary, self._opened.max_positions)

    @property
    @abstractmethod
    def _opened(self) -> M:
        """The model opened, anew where it has been changed since."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.family}, {self.num_layers} layers)"

    @property
    def checked(self) -> list[tuple[str, float]]:
        """What the opening check found: claims, each with a relative difference, and the limit."""
        return opening(self.hf).told()

    @property
    def num_layers(self) -> int:
        """The number of layers T; plans name layers 0…T−1."""
        return self._opened.num_layers

    @property
    def family(self) -> str:
        """The family's name as its configuration gives it: ``llama``, ``bert``, …"""
        return self.hf.config.model_type

    @property
    def max_positions(self) -> int | None:
        """The most tokens that the model can read, where its configuration says so."""
        return self._opened.max_positions

    @property
    @one_call
    def shape(self) -> Shape:
        """What of the model costs something: weights by part, keys and values, parameters."""
        if self._shape is None or self._shape[0] is not self._opened:
            self._shape = self._opened, read_shape(self._opened)
        return self._shape[1]

    def tokens(self, text: str) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds."""
        return self._reader.prompt(text)
