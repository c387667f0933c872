"""Plans that have read their prompts, the texts that they write, and when a text ends."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.error import UserError, shown
from impasto.plan.program import Occurrence, Program
from impasto.run.batching.padding import sent
from impasto.run.kv.buffers import KeysValues
from impasto.run.kv.ring import Ring

_TOKENS, _CHARACTERS = 16, 32  # at the end of a text, in which a stop is looked for at the least


@dataclass(frozen=True, slots=True)
class Stopping:
    """When a text ends: after so many new tokens, or when they say that it is finished."""

    max_new_tokens: int
    is_finished: Callable[[list[int]], bool]

    def is_done(self, written: list[int]) -> bool:
        """Whether no token follows these new ones."""
        return len(written) >= self.max_new_tokens or self.is_finished(written)


def end_tokens(configured: object, known: int | None) -> set[int]:
    """Return the tokens that end a text: those of a model's settings, and the tokenizer's.

    Raises UserError where the settings name what is no token.
    """
    listed = configured if isinstance(configured, list) else [configured]
    for end in listed:
        if end is not None and type(end) is not int:
            raise UserError(
                f"eos_token_id in generation_config.json is a token's number, or a list of them, "
                f"not {shown(configured)}"
            )
    return {*listed, known} - {None}


@dataclass(frozen=True, slots=True)
class TextEnds:
    """What ends a text: some tokens, and some texts.

    Attributes:
        tokens: The tokens that end it.
        stops: The texts that end it; they are no part of it.
        text_of: Returns the text of new tokens.
    """

    tokens: set[int]
    stops: Sequence[str]
    text_of: Callable[[list[int]], str]

    def are_reached(self, written: list[int]) -> bool:
        """Whether new tokens have come to an end."""
        if written[-1] in self.tokens or not self.stops:
            return written[-1] in self.tokens
        if not self._may_end(written):
            return False
        return self._first_stop(self.text_of(written)) is not None

    def _may_end(self, written: list[int]) -> bool:
        """Whether the last tokens have a stop, read by themselves: the ones before had none.

        They are so many that what the last one changes lies far from where they begin, since a
        character may be of several tokens, and a text that begins there may lack a space.
        """
        enough, count = _CHARACTERS + 2 * max(map(len, self.stops)), _TOKENS
        while count < len(written):
            text = self.text_of(written[-count:])
            if len(text) >= enough:
                return self._first_stop(text) is not None
            count *= 2
        return True

    def cut(self, written: list[int]) -> str:
        """Return the text of new tokens up to the first stop."""
        text = self.text_of(written)
        return text[: self._first_stop(text)]

    def _first_stop(self, text: str) -> int | None:
        """Return at which character the first of the stops begins; None without any."""
        return min((at for at in map(text.find, self.stops) if at >= 0), default=None)


@dataclass(slots=True)
class GeneratedText:
    """What one plan writes behind one prompt.

    Attributes:
        prompt_length: The number of tokens of the prompt.
        written: The new tokens so far. The last of them is not yet read.
        is_done: Whether no token follows.
    """

    prompt_length: int
    written: list[int] = field(default_factory=list)
    is_done: bool = False

    @property
    def num_read(self) -> int:
        """The number of tokens that were read, and whose keys and values are recorded."""
        return self.prompt_length + len(self.written) - 1

    def write(self, token: int, stopping: Stopping) -> None:
        """Append the next token, unless the text is done."""
        if not self.is_done:
            self.written.append(token)
            self.is_done = stopping.is_done(self.written)


@dataclass(slots=True)
class DecodingPlan:
    """A plan that has read its prompts and has texts to write.

    Attributes:
        program: The plan, lowered.
        texts: The texts, one for each sequence of the batch.
        total: The noise sums over the tokens read.
        keys_values: The keys and values of the tokens read by occurrence, until each is released
            to the KV pool; without those that the texts have in common.
        common: The keys and values that all texts have before these, by occurrence.
        index: The index of each text's sequence in ``keys_values``.
        token_bytes: The bytes that the keys and values of one token take, by how many tokens the
            occurrences hold at the most; None where they hold every token's.
    """

    program: Program
    texts: list[GeneratedText]
    total: Int[Tensor, "batch"]
    keys_values: dict[Occurrence, KeysValues]
    common: Mapping[Occurrence, KeysValues]
    index: Int[Tensor, "batch"]
    token_bytes: Mapping[int | None, int]

    @classmethod
    def of_unfinished(
        cls,
        program: Program,
        texts: Sequence[GeneratedText],
        total: Int[Tensor, "batch"],
        keys_values: dict[Occurrence, KeysValues],
        common: Mapping[Occurrence, KeysValues],
    ) -> "DecodingPlan | None":
        """Return a plan with those of its texts that are not done; None if all are."""
        rows = [row for row, text in enumerate(texts) if not text.is_done]
        if not rows:
            return None
        index = sent(torch.tensor(rows), total.device)
        token_bytes = Counter[int | None]()
        for occurrence, pair in keys_values.items():
            size = sum(each.shape[1] * each.shape[3] * each.itemsize for each in pair)
            reach = program.reaches.get(occurrence)
            token_bytes[None if reach is None else Ring.of(reach).size] += size
        unfinished = [texts[row] for row in rows]
        return cls(program, unfinished, total[index], keys_values, common, index, token_bytes)

    @property
    def in_common(self) -> int:
        """Of how many leading tokens the texts have keys and values in common."""
        return next((pair.length for pair in self.common.values()), 0)

    def bytes_of(self, tokens: int) -> int:
        """Return the most bytes that keys and values of a text's own take, of so many tokens."""
        own = tokens - self.in_common
        return sum(
            size * (own if most is None else min(tokens, most))
            for most, size in self.token_bytes.items()
        )

    @property
    def length(self) -> int:
        """The number of tokens read of the longest text that is not done."""
        return max(text.num_read for text in self.texts if not text.is_done)

    def length_after(self, steps: int, max_new_tokens: int) -> int:
        """Return what the length will be at the most after so many decode steps."""
        return max(
            min(text.num_read + steps, text.prompt_length + max_new_tokens - 1)
            for text in self.texts
            if not text.is_done
        )

    @property
    def num_unfinished(self) -> int:
        """The number of texts that are not done."""
        return sum(not text.is_done for text in self.texts)

    def release(self, occurrence: Occurrence) -> KeysValues:
        """Return the texts' keys and values at an occurrence, and hold them no longer."""
        before = self.in_common if occurrence in self.common else 0
        return self.keys_values.pop(occurrence).select(self.index, self.length - before)
