"""What an encoder reads, as values, and what is read together.

Sentences of like length make a batch, padded on the right. A sentence's result does not depend on
its batch, so how they are put together is a matter of time and memory only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from impasto.error import UserError
from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.run.batching.donors import splice
from impasto.run.batching.memory import allowed_bytes
from impasto.run.batching.padding import padded
from impasto.run.batching.request import Transplant
from impasto.run.encoder.executor import EncoderExecutor
from impasto.run.execute.plan_tree import DonorRun, Node
from impasto.run.tuning import ROWS_AT_ONCE, ROWS_OF_SENTENCES


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens to read, the rows whose states are wanted, and what is injected.

    ``types`` says which of two segments each token is of, where the tokenizer tells them apart.
    """

    ids: Sequence[int]
    wanted: Sequence[int]
    types: Sequence[int] | None = None
    transplants: dict[str, Transplant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentenceBatch:
    """Sentences, by index, that run as one batch."""

    sentences: tuple[int, ...]
    width: int

    @property
    def rows(self) -> int:
        """The rows of the batch, padding included."""
        return len(self.sentences) * self.width

    def halves(self) -> "list[SentenceBatch]":
        """Return two batches of sentences in the place of this one; one that cannot be cut stays as it is."""
        middle = len(self.sentences) // 2
        parts = [self.sentences[:middle], self.sentences[middle:]]
        return [SentenceBatch(part, self.width) for part in parts if part]


def sentence_batches(
    model: OpenedEncoder, tree: Node, sentences: Sequence[Sentence], memory: int | None
) -> list[SentenceBatch]:
    """Return what runs together: sentences of like length, the longest first.

    Raises:
        UserError: when a sentence alone needs more than ``memory`` bytes (None: what is free).
    """
    memory = allowed_bytes(memory, model.device)
    most = min(ROWS_AT_ONCE.get(model.device.type, ROWS_OF_SENTENCES), ROWS_OF_SENTENCES)
    order = sorted(range(len(sentences)), key=lambda index: -len(sentences[index].ids))
    found, begin = [], 0
    while begin < len(order):
        width = len(sentences[order[begin]].ids)
        rows = memory // bytes_per_row(model, tree, width)
        if rows < width:
            raise UserError(
                f"a sentence of {width} tokens does not fit the memory that may be used; allow "
                "more, or load the model in half precision"
            )
        count = max(1, min(most, rows) // width)
        found.append(SentenceBatch(tuple(order[begin : begin + count]), width))
        begin += count
    return found


def bytes_per_row(model: OpenedEncoder, tree: Node, width: int) -> int:
    """Estimate the most memory that a row of a batch takes while a tree runs on it.

    States of a row are kept where plans part; one block works on it (its MLP's inner units, and,
    where attention is not fused, its scores against ``width`` keys in each head).
    """
    config = model.hf.config
    inner = getattr(config, "intermediate_size", None) or 4 * model.hidden
    numbers = (tree.forks + 1) * model.hidden + 2 * (8 * model.hidden + 3 * inner)
    fused = config._attn_implementation == "sdpa" and model.hf._supports_sdpa
    scores = 1 if fused else 4 * config.num_attention_heads
    return numbers * model.hf.dtype.itemsize + 4 * width * scores


def open_batch(
    model: OpenedEncoder, sentences: Sequence[Sentence], batch: SentenceBatch, donors: Sequence[str]
) -> tuple[EncoderExecutor, dict[str, DonorRun]]:
    """Return the executor of a batch, and the donors (of these names) beside it."""
    chosen = [sentences[index] for index in batch.sentences]
    runs = {}
    for name in donors:
        transplants = [sentence.transplants[name] for sentence in chosen]
        given = [Sentence(t.ids, ()) for t in transplants]
        splices = splice(transplants, 0, 0, model.device)
        runs[name] = DonorRun(_walker(model, given), splices)
    return _walker(model, chosen), runs


def _walker(model: OpenedEncoder, sentences: Sequence[Sentence]) -> EncoderExecutor:
    wanted, is_wanted = padded([s.wanted for s in sentences], 0, model.device)
    return EncoderExecutor(model, batched(model, sentences), wanted, is_wanted)


def batched(model: OpenedEncoder, sentences: Sequence[Sentence]) -> Sentences:
    """Return a batch of sentences as the model reads it."""
    ids, is_real = padded([s.ids for s in sentences], model.padding, model.device)
    types = [s.types if s.types is not None else [0] * len(s.ids) for s in sentences]
    has_types = any(s.types is not None for s in sentences)
    return Sentences(ids, is_real, padded(types, 0, model.device)[0] if has_types else None)
