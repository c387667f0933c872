"""Many plans on many sentences: the plan tree is run once for every batch of sentences.

All questions to an encoder are answered by it; they differ in what they read off the final states.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.encoder import OpenedEncoder
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.tree import plant, walk
from impasto.run.batching.memory import Meter, Queue
from impasto.run.encoder.batches import Sentence, batch_executor, bytes_per_row, sentence_batches

T = TypeVar("T")


def sweep(
    model: OpenedEncoder,
    plans: Sequence[Plan],
    sentences: Sequence[Sentence],
    read: Callable[[Sequence[int], Float[Tensor, "predictions hidden"]], T],
    progress: Callable[[float], None] = lambda share: None,
    memory: int | None = None,
) -> Iterator[tuple[int, Sequence[int], T]]:
    """Yield (plan, sentences, what ``read`` returns for them), plan and sentences by index.

    What plans begin with in common is run once for every batch. A batch that failed for want of
    memory is run again in halves, so its plans may come twice. Gradients are recorded unless the
    caller switches them off.

    Args:
        model: The model.
        plans: The plans.
        sentences: The sentences.
        read: Takes sentences (by index) and the states of depth T of their wanted rows, sentence
            by sentence.
        progress: Called with the share that is done, 0 to 1.
        memory: The bytes that a batch may take; None for a share of the free ones.
    """
    if not sentences:
        return
    tree = plant([lower(plan).instructions for plan in plans])
    longest = max(len(sentence.ids) for sentence in sentences)
    batches = sentence_batches(model, tree, sentences, memory)
    each = bytes_per_row(model, tree, longest)
    queue = Queue(batches, lambda batch: batch.rows * each)
    meter = Meter(progress, queue.rows * tree.size)
    for batch in queue:
        on_node = lambda rows=batch.rows: meter.add(rows)  # noqa: E731
        try:
            executor, donors = batch_executor(model, sentences, batch, sorted(tree.injects))
            for plan, state in walk(tree, executor, donors, on_node):
                yield plan, batch.sentences, read(batch.sentences, executor.finish(state))
        except (RuntimeError, MemoryError) as error:
            queue.failed(batch, error)


@torch.no_grad()
def hidden_states(
    model: OpenedEncoder, plan: Plan, sentences: Sequence[Sentence]
) -> list[Float[Tensor, "depths tokens hidden"]]:
    """Return, per sentence (all tokens wanted), its states at depth 0 and after each layer step."""
    tree = plant(lower(plan).beginnings)
    by_sentence: list[Tensor] = [torch.empty(0)] * len(sentences)
    for batch in sentence_batches(model, tree, sentences, None) if sentences else ():
        executor, donors = batch_executor(model, sentences, batch, sorted(tree.injects))
        by_depth = [state.latest.to(model.device) for _, state in walk(tree, executor, donors)]
        for index, states in zip(batch.sentences, torch.stack(by_depth, 1), strict=True):
            by_sentence[index] = states[:, : len(sentences[index].ids)]
    return by_sentence
