"""The texts that a model is checked on: long enough to show its windows, where that is affordable.

A text is longer than every length that the configuration names, where reading it costs no more
than :data:`CHECK_PRODUCTS` allows; else as long as that allows, and single layers are run on longer
ones (:mod:`impasto.run.checks.layers`). The check reads it about ten times. On a processor a model
of seven billion parameters is checked on 16 tokens, which are the least, on an accelerator on 512.
"""

from dataclasses import dataclass, replace

import torch

from impasto.model.arguments.lengths import named_lengths
from impasto.model.checks.decoder import BareReading, read_bare
from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.run.tuning import CHECK_PRODUCTS, CHECK_PRODUCTS_ELSEWHERE

USUAL, LEAST = 40, 16  # tokens
BEYOND = 8  # tokens that are read beyond the longest length
LONGEST = 4096
_TOWARDS = 512
_SPECIAL = ("token_id", "token_index", "token_ids")


@dataclass(frozen=True)
class Lengths:
    """How long a text is that a model is checked on.

    Attributes:
        tokens: Its length.
        products: How many tokens × parameters a text may cost.
        named: The lengths that the configuration names, by name.
        most: The most tokens that the model can read; None where it does not say.
    """

    tokens: int
    products: float
    named: dict[str, int]
    most: int | None = None

    def shown(self, length: int) -> int:
        """Return the tokens of a text that shows what begins beyond a length."""
        return length + BEYOND if self.most is None else min(length + BEYOND, self.most)

    @property
    def beyond(self) -> dict[str, int]:
        """The named lengths that the text does not exceed by enough to show them."""
        return {name: n for name, n in self.named.items() if self.shown(n) > self.tokens}


@dataclass(frozen=True)
class Texts:
    """Two texts that begin alike, as the bare model read them.

    Attributes:
        long: The longer text.
        other: The text that is a little shorter.
        shared: How many tokens both begin with, before their last ones (:attr:`tail` or about so
            many) differ.
    """

    long: BareReading
    other: BareReading
    shared: int

    @property
    def tail(self) -> int:
        """How many tokens of the longer text come after the shared ones."""
        return len(self.long.ids) - self.shared


def lengths_of(model: OpenedModel) -> Lengths:
    """Return the length of the text that a model is checked on, and the lengths that it names."""
    config = model.hf.config.get_text_config(decoder=True)
    layers = [model.blocks[layer].module for layer in model.present]
    named = named_lengths(config, layers, model.max_positions)
    products = CHECK_PRODUCTS.get(model.device.type, CHECK_PRODUCTS_ELSEWHERE)
    parameters = sum(weight.numel() for weight in model.hf.parameters())
    most = min(LONGEST, max(LEAST, int(products / max(parameters, 1))))
    lengths = Lengths(0, products, named, model.max_positions)
    wanted = [lengths.shown(value) for value in named.values()]
    reached = [length for length in wanted if length <= most]
    usual = USUAL if len(reached) == len(wanted) else _TOWARDS  # what is longer, as far as it goes
    tokens = max([min(usual, most), *reached])
    return replace(lengths, tokens=min(tokens, model.max_positions or tokens))


def read_texts(model: OpenedModel, tokens: int) -> Texts:
    """Return two texts as the bare model reads them, the longer one of so many tokens.

    Raises:
        ModelError: when the model can read too few tokens to show anything.
    """
    if tokens < 6:
        raise ModelError(
            f"{type(model.hf).__name__} reads {tokens} tokens at the most, and the opening check "
            "needs 6"
        )
    tail = min(BEYOND, tokens // 3)
    shared = tokens - tail
    drawn = draw(model, 2 * tokens)
    long = drawn[:tokens]
    parted = shared + tail // 3
    other = [*long[:parted], *drawn[tokens + parted : 2 * tokens - 1]]
    if other[parted] == long[parted]:
        other[parted] = next(t for t in [*drawn, *range(model.vocabulary)] if t != long[parted])
    return Texts(read_bare(model, long), read_bare(model, other), shared)


def draw(model: OpenedModel, count: int) -> list[int]:
    """Return so many tokens, the same ones at every call: most of them different, some repeated."""
    config = model.hf.config.get_text_config(decoder=True)
    special: set[int] = set()
    for name, value in {**model.hf.config.to_dict(), **config.to_dict()}.items():
        if name.endswith(_SPECIAL):
            special.update(value if isinstance(value, list) else [value])
    seed = torch.Generator().manual_seed(7)
    tokens: list[int] = []
    drawn = torch.randint(model.vocabulary, (4 * count,), generator=seed).tolist()
    usual = [token for token in drawn if token not in special] or drawn
    for place in range(count):
        repeats = place % 5 == 4
        tokens.append(tokens[place - 3] if repeats else usual[place % len(usual)])
    return tokens
