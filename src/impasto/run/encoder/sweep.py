"""One walk of the tree of plans over all sentences: what everything else on encoders is made of."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.encoder import OpenedEncoder
from impasto.plan import Plan
from impasto.plan.program import lower
from impasto.run.batching.memory import Queue
from impasto.run.batching.progress import Meter
from impasto.run.encoder.batches import Sentence, bytes_per_row, open_batch, sentence_batches
from impasto.run.execute.plan_tree import plant, walk

T = TypeVar("T")


def sweep(
    model: OpenedEncoder,
    plans: Sequence[Plan],
    sentences: Sequence[Sentence],
    read: Callable[[Sequence[int], Float[Tensor, "wanted hidden"]], T],
    progress: Callable[[float], None] = lambda share: None,
    memory: int | None = None,
) -> Iterator[tuple[int, Sequence[int], T]]:
    """Yield (plan, sentences, what ``read`` makes of their wanted states), the first two by index.

    What plans begin with in common is run once for every batch. A batch takes no more than
    ``memory`` bytes (None: what is free); where it failed for want of memory, its plans may come
    twice. Gradients are kept unless the caller switches them off.

    Args:
        model: The model.
        plans: The plans.
        sentences: The sentences.
        read: Takes sentences and the states of depth T of their wanted rows, one after the other.
        progress: Called with the share that is done, 0 to 1.
        memory: What a batch may take.
    """
    if not sentences:
        return
    tree = plant([lower(plan).instructions for plan in plans])
    width = max(len(sentence.ids) for sentence in sentences)
    queue = Queue(
        sentence_batches(model, tree, sentences, memory), bytes_per_row(model, tree, width)
    )
    meter = Meter(progress, queue.rows * tree.size)
    for batch in queue:
        step = lambda rows=batch.rows: meter.add(rows)  # noqa: E731
        try:
            executor, donors = open_batch(model, sentences, batch, sorted(tree.injects))
            for plan, state in walk(tree, executor, donors, step):
                yield plan, batch.sentences, read(batch.sentences, executor.finish(state))
        except (RuntimeError, MemoryError) as error:
            queue.failed(batch, error)


@torch.no_grad()
def depths(
    model: OpenedEncoder, plan: Plan, sentences: Sequence[Sentence]
) -> list[Float[Tensor, "depths tokens hidden"]]:
    """Return, per sentence (every row wanted), its states at depth 0 and after each layer step."""
    tree = plant(lower(plan).beginnings)
    found: list[Tensor] = [torch.empty(0)] * len(sentences)
    for batch in sentence_batches(model, tree, sentences, None) if sentences else ():
        executor, donors = open_batch(model, sentences, batch, sorted(tree.injects))
        each = [state.latest.to(model.device) for _, state in walk(tree, executor, donors)]
        for index, states in zip(batch.sentences, torch.stack(each, 1), strict=True):
            found[index] = states[:, : len(sentences[index].ids)]
    return found
