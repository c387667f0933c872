"""What decoders and encoders on which plans run have in common: what they are, not what they do."""

from functools import cached_property
from typing import Any, Generic, TypeVar

from impasto.model.opened import Opened
from impasto.model.shape import read_shape
from impasto.plan import Plan
from impasto.plan.cost import Shape
from impasto.run.opening import opening
from impasto.run.text import Reader

M = TypeVar("M", bound=Opened)


class Loaded(Generic[M]):
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

    def __init__(
        self, opened: M, hf: Any, tokenizer: Any, name: str, plan: Plan | None = None
    ) -> None:
        self.hf, self.tokenizer, self.name, self.plan = hf, tokenizer, name, plan
        self._opened = opened
        self._reader = Reader(tokenizer, opened.vocabulary, opened.max_positions)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.family}, {self.num_layers} layers)"

    @property
    def checked(self) -> list[tuple[str, float | None]]:
        """What the opening check found: claims, each with a relative difference, and the limit.

        Behind these comes what was not checked (None), for the check's texts are too short.
        """
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

    @cached_property
    def shape(self) -> Shape:
        """What of the model costs something: weights by part, keys and values, parameters."""
        return read_shape(self._opened)

    def tokens(self, text: str) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds."""
        return self._reader.prompt(text)
