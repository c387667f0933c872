"""Which steps of a plan attend, and which of them read earlier tokens for the last time."""

from collections.abc import Iterator

from impasto.plan.steps import Layer, Parallel, Step


def attentions(step: Step) -> Iterator[int]:
    """Yield the layer of every attention that a step runs, in order."""
    match step:
        case Layer():
            if step.part != "mlp":
                yield step.index
        case Parallel():
            for branch in step.branches:
                for inner in branch:
                    yield from attentions(inner)


def attends(step: Step) -> bool:
    """Whether a step runs any attention."""
    return any(True for _ in attentions(step))


def is_last_attention(step: Step) -> bool:
    """Whether a step after which none attends reads earlier tokens only as it finds them."""
    match step:
        case Parallel():
            return all(
                is_last_attention(first) and not any(map(attends, rest))
                for first, *rest in step.branches
            )
        case _:
            return isinstance(step, Layer)
