"""Sentences for an encoder, and which of them run together.

Sentences of like length make a batch, padded on the right. A sentence's result does not depend on
its batch, so batches are a matter of time and memory only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from impasto.error import UserError
from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.plan.tree import DonorRun, Node
from impasto.run.batching.donors import splice
from impasto.run.batching.memory import allowed_bytes
from impasto.run.batching.padding import padded
from impasto.run.batching.request import Transplant
from impasto.run.encoder.executor import EncoderExecutor
from impasto.run.tuning import ROWS_AT_ONCE, ROWS_OF_SENTENCES


@dataclass(frozen=True, slots=True)
class Sentence:
    """Token ids to read, the tokens whose final states are wanted, and what is injected.

    Attributes:
        ids: The token ids.
        wanted: The tokens (by index) whose states of depth T are wanted.
        types: To which of two segments each token belongs, where the tokenizer says so.
        transplants: The donors' states that replace some tokens', by the name in the plan.
    """

    ids: Sequence[int]
    wanted: Sequence[int]
    types: Sequence[int] | None = None
    transplants: dict[str, Transplant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentenceBatch:
    """Sentences that run as one batch.

    Attributes:
        sentences: The sentences, by index.
        length: The tokens that each is padded to.
    """

    sentences: tuple[int, ...]
    length: int

    @property
    def rows(self) -> int:
        """The rows of the batch, padding included."""
        return len(self.sentences) * self.length

    def halves(self) -> "list[SentenceBatch]":
        """Return two batches in the place of this one; or this one, if it has a single sentence."""
        middle = len(self.sentences) // 2
        parts = [self.sentences[:middle], self.sentences[middle:]]
        return [SentenceBatch(part, self.length) for part in parts if part]


def sentence_batches(
    model: OpenedEncoder, tree: Node, sentences: Sequence[Sentence], memory: int | None
) -> list[SentenceBatch]:
    """Return batches of sentences of like length, the longest first.

    Args:
        model: The encoder.
        tree: The plans that will run.
        sentences: The sentences.
        memory: The bytes that a batch may take; None for a share of the free ones.

    Raises:
        UserError: when a sentence alone needs more memory.
    """
    memory = allowed_bytes(memory, model)
    most = min(ROWS_AT_ONCE.get(model.device.type, ROWS_OF_SENTENCES), ROWS_OF_SENTENCES)
    order = sorted(range(len(sentences)), key=lambda index: -len(sentences[index].ids))
    batches, begin = [], 0
    while begin < len(order):
        longest = len(sentences[order[begin]].ids)
        rows = memory // bytes_per_row(model, tree, longest)
        if rows < longest:
            raise UserError(
                f"a sentence of {longest} tokens does not fit the memory that may be used; allow "
                "more, or load the model in half precision"
            )
        count = max(1, min(most, rows) // longest)
        batches.append(SentenceBatch(tuple(order[begin : begin + count]), longest))
        begin += count
    return batches


def bytes_per_row(model: OpenedEncoder, tree: Node, keys: int) -> int:
    """Estimate the most bytes that a row of a batch takes while a plan tree runs on it.

    The states of a row wait where plans part; one block works on it (its MLP's inner units, and,
    where attention is not fused, its scores against so many ``keys`` in each head).
    """
    config = model.hf.config
    inner = getattr(config, "intermediate_size", None) or 4 * model.hidden
    numbers = (tree.forks + 1) * model.hidden + 2 * (8 * model.hidden + 3 * inner)
    fused = config._attn_implementation == "sdpa" and model.hf._supports_sdpa
    scores = 1 if fused else 4 * config.num_attention_heads
    return numbers * model.hf.dtype.itemsize + 4 * keys * scores


def batch_executor(
    model: OpenedEncoder, sentences: Sequence[Sentence], batch: SentenceBatch, donors: Sequence[str]
) -> tuple[EncoderExecutor, dict[str, DonorRun]]:
    """Return what runs instructions on a batch, and what runs the donors of these names."""
    chosen = [sentences[index] for index in batch.sentences]
    runs = {}
    for name in donors:
        transplants = [sentence.transplants[name] for sentence in chosen]
        given = [Sentence(t.ids, ()) for t in transplants]
        splices = splice(transplants, 0, 0, batch.length, model.device)  # without prefixes
        runs[name] = DonorRun(_executor(model, given), splices)
    return _executor(model, chosen), runs


def _executor(model: OpenedEncoder, sentences: Sequence[Sentence]) -> EncoderExecutor:
    wanted, is_wanted = padded([s.wanted for s in sentences], 0, model.device)
    return EncoderExecutor(model, batched(model, sentences), wanted, is_wanted)


def batched(model: OpenedEncoder, sentences: Sequence[Sentence]) -> Sentences:
    """Return sentences as the model reads them: padded on the right, with types if any has some."""
    ids, is_real = padded([s.ids for s in sentences], model.padding, model.device)
    types = [s.types if s.types is not None else [0] * len(s.ids) for s in sentences]
    has_types = any(s.types is not None for s in sentences)
    return Sentences(ids, is_real, padded(types, 0, model.device)[0] if has_types else None)
