"""``predict``: what heads that are fitted to a problem under plans say of further texts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from impasto.error import UserError
from impasto.heads.keeping import Keep
from impasto.heads.linear import Linear, solve, train_published
from impasto.heads.reading import Reading, Text
from impasto.heads.tuning import tuned
from impasto.plan import Plan
from impasto.run.batching.memory import free_memory
from impasto.run.encoder_model import Encoder
from impasto.run.opening import admitted
from impasto.tasks.problem import FineTuned, Frozen, Problem

Progress = Callable[[float], None]


def predict(
    model: Encoder,
    plans: Sequence[Plan],
    problem: Problem,
    texts: Sequence[Text],
    keep: Path | None = None,
    progress: Progress = lambda share: None,
) -> list[list[float]]:
    """Return, per plan and text, the class or the number that a fitted head says.

    Args:
        model: The encoder.
        plans: The plans; frozen, what they begin with in common is run once.
        problem: What the heads are fitted to, and how.
        texts: What they are asked.
        keep: A folder of this model's own, where heads and checkpoints are kept and found again.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        PlanError: when a plan names a layer that the model lacks.
        UserError: when the model is no encoder, or a plan cannot run on one.
    """
    if not isinstance(model, Encoder):
        raise UserError(
            f"{model!r} is no encoder, and {problem.name} is fitted to what encoders give; for "
            "decoders lm-eval's tasks of GLUE (cola, sst2, mrpc, …) ask for the likelier answer"
        )
    checked = admitted(model._opened, plans)
    for plan in checked:
        if plan.injections:
            raise UserError(f"the plan {plan} injects, and {problem.name} names no donors")
    kept = Keep(keep)
    if isinstance(problem.protocol, FineTuned):
        return [
            tuned(model, plan, problem, texts, kept, _part(progress, number, len(checked)))
            for number, plan in enumerate(checked)
        ]
    return _frozen(model, checked, problem, problem.protocol, texts, kept, progress)


def _frozen(
    model: Encoder,
    plans: Sequence[Plan],
    problem: Problem,
    how: Frozen,
    texts: Sequence[Text],
    keep: Keep,
    progress: Progress,
) -> list[list[float]]:
    reading = Reading.of(model, how)
    examples: list[Text] = [(each.first, each.second) for each in problem.examples]
    paired = any(second is not None for _, second in examples)
    heads = [keep.head(plan, problem) for plan in plans]
    said: list[list[float]] = [[] for _ in plans]
    done = 0
    for fitted in (True, False):
        chosen = [number for number, head in enumerate(heads) if (head is not None) == fitted]
        read = texts if fitted else [*examples, *texts]
        each = 4 * len(read) * reading.width(paired)
        for group in _groups(chosen, each, model):
            part = _part(progress, done, len(plans), len(group))
            features = reading.features([plans[number] for number in group], read, part).numpy()
            for number, rows in zip(group, features, strict=True):
                head = heads[number]
                if head is None:
                    head = _fitted(rows[: len(examples)], problem, how)
                    keep.keep_head(plans[number], problem, head)
                    rows = rows[len(examples) :]
                said[number] = head(rows)
            done += len(group)
    return said


def _fitted(features: object, problem: Problem, how: Frozen) -> Linear:
    labels = [each.label for each in problem.examples]
    if how.head == "solved":
        return solve(features, labels, problem.classes)  # type: ignore[arg-type]
    return train_published(features, labels, problem.classes, how.seed)  # type: ignore[arg-type]


def _groups(numbers: Sequence[int], each: int, model: Encoder) -> Iterator[Sequence[int]]:
    """Yield as many plans at a time as the memory holds the features of."""
    memory = model.memory or free_memory(model.hf.device).for_batches
    count = max(1, memory // (2 * max(each, 1)))
    for begin in range(0, len(numbers), count):
        yield numbers[begin : begin + count]


def _part(progress: Progress, before: int, of: int, count: int = 1) -> Progress:
    return lambda share: progress((before + count * share) / max(of, 1))
