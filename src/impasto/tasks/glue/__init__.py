"""GLUE on encoders, under both protocols of paper B (arXiv 2407.09298).

`frozen` fits heads on what the model gives under each plan; `fine-tuned` trains the model with the
plan in place. `sources` has GLUE's tasks, `metrics` its metrics, `task` what a study runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from impasto.error import UserError, shown
from impasto.tasks.glue.sources import SOURCES, STANDARD, Source, check_files, read_split
from impasto.tasks.glue.task import Asked, GlueAverage, GlueTask, SeedMean
from impasto.tasks.problem import HEADS, PAIRS, POOLINGS, FineTuned, Frozen, Problem
from impasto.tasks.task import Group, Suite, Task

__all__ = ["check_glue", "glue"]

PROTOCOLS = ("frozen", "fine-tuned")
MOST = 2**31 - 1

Seeds = int | Sequence[int]
Tasks = str | Sequence[str]


def glue(
    tasks: Tasks = STANDARD,
    protocol: str = "frozen",
    head: str = "solved",
    pooling: str | None = None,
    pairs: str = "together",
    seed: Seeds = 0,
    epochs: float = 3,
    batch: int = 32,
    learning_rate: float = 2e-5,
    max_length: int = 128,
    train_limit: int | None = None,
    limit: int | None = None,
    data: Mapping[str, Any] | None = None,
) -> Suite:
    """Return tasks of GLUE, and their average.

    Args:
        tasks: Some of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli; the first eight, without
            wnli, where nothing is said.
        protocol: ``frozen`` or ``fine-tuned``.
        head: Frozen: ``solved`` or ``published``.
        pooling: Frozen: ``mean``, ``first`` or ``pooler``, what the head reads; the pooler where
            the head is the published one.
        pairs: Frozen: whether two texts are read ``together`` or ``apart``.
        seed: What training draws from; of several, each is trained, and they are averaged.
        epochs: Fine-tuned: how often the examples are read.
        batch: Fine-tuned: how many make a step.
        learning_rate: Fine-tuned: the first step's.
        max_length: The most tokens that are read of a text or a pair.
        train_limit: Fit to the first so many examples.
        limit: Ask the first so many of each validation split.
        data: Files in place of the hub, by task and split; of a single task, by split.

    Raises UserError for values that these cannot have, and UserError for data that are not right.
    """
    check_glue(
        tasks, protocol, head, pooling, pairs, seed, epochs, batch, learning_rate, max_length,
        train_limit, limit, data,
    )  # fmt: skip
    variant = _variant(protocol, head)
    average = f"glue_{variant}"
    made: list[Task] = []
    groups: list[Group] = []
    by_task: dict[str, list[str]] = {}
    several = len(_listed(seed)) > 1
    for name in _names(tasks):
        source, files = SOURCES[name], _files(data, tasks, name)
        examples = read_split(name, "train", files)[:train_limit]
        items = _items(name, source, files, limit)
        whole, title = f"{name}_{variant}", f"{source.title} ({_spelled(variant)})"
        for each in _listed(seed):
            if protocol == "frozen":
                reads = pooling or ("pooler" if head == "published" else "mean")
                how: Frozen | FineTuned = Frozen(head, reads, pairs, each, max_length)
            else:
                how = FineTuned(each, epochs, batch, learning_rate, max_length)
            one = f"{whole}_seed{each}" if several else whole
            made.append(
                GlueTask(
                    one,
                    f"{title}, seed {each}" if several else title,
                    whole if several else average,
                    source,
                    Problem(name, examples, source.classes, how),
                    items,
                )
            )
            by_task.setdefault(name, []).append(one)
        if several:
            groups.append(SeedMean(whole, title, average, by_task[name]))
    groups.append(GlueAverage(average, f"GLUE ({_spelled(variant)})", by_task))
    return Suite(tuple(made), tuple(groups))


def check_glue(
    tasks: object = STANDARD,
    protocol: object = "frozen",
    head: object = "solved",
    pooling: object = None,
    pairs: object = "together",
    seed: object = 0,
    epochs: object = 3,
    batch: object = 32,
    learning_rate: object = 2e-5,
    max_length: object = 128,
    train_limit: object = None,
    limit: object = None,
    data: object = None,
) -> str:
    """Return what results call the entry; raises UserError for what no data can make right."""
    for what, value, allowed in (
        ("protocol", protocol, PROTOCOLS),
        ("head", head, HEADS),
        ("pooling", pooling, (None, *POOLINGS)),
        ("pairs", pairs, PAIRS),
    ):
        if value not in allowed:
            raise UserError(
                f"{what} is one of {', '.join(filter(None, allowed))}, not {shown(value)}"
            )
    if head == "published" and (pooling not in (None, "pooler") or pairs != "together"):
        raise UserError("the published head reads the pooler, and pairs together")
    names = _names(tasks)
    if not names or any(name not in SOURCES for name in names) or len(set(names)) < len(names):
        raise UserError(f"tasks are some of {', '.join(SOURCES)}, each once, not {shown(tasks)}")
    seeds = _listed(seed)
    if not seeds or any(type(one) is not int or not 0 <= one <= MOST for one in seeds):
        raise UserError(f"seed is a whole number from 0, or a list of them, not {shown(seed)}")
    for what, value in (
        ("batch", batch),
        ("max_length", max_length),
        ("train_limit", train_limit),
        ("limit", limit),
    ):
        if not (value is None and "limit" in what) and (type(value) is not int or value < 1):
            raise UserError(f"{what} is a whole number from 1, not {shown(value)}")
    for what, value in (("epochs", epochs), ("learning_rate", learning_rate)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise UserError(f"{what} is a number above 0, not {shown(value)}")
    for name in names:
        check_files(name, _files(data, tasks, name))
    return f"glue_{_variant(str(protocol), str(head))}"


def _variant(protocol: str, head: str) -> str:
    return "frozen_published" if (protocol, head) == ("frozen", "published") else protocol


def _spelled(variant: str) -> str:
    return variant.replace("_", ", ")


def _names(tasks: Any) -> list[Any]:
    return (
        [tasks]
        if isinstance(tasks, str)
        else list(tasks)
        if isinstance(tasks, list | tuple)
        else []
    )


def _listed(seed: Any) -> list[Any]:
    return list(seed) if isinstance(seed, list | tuple) else [seed]


def _files(data: Any, tasks: Any, name: str) -> Any:
    """Return a task's files out of those of all; raises UserError where it has none."""
    if data is None:
        return None
    if isinstance(tasks, str) and isinstance(data, Mapping) and "train" in data:
        return data
    if not isinstance(data, Mapping) or name not in data:
        raise UserError(f"data gives the files of each task, {{{name}: {{train: FILE, …}}, …}}")
    return data[name]


def _items(name: str, source: Source, files: Any, limit: int | None) -> list[Asked]:
    """Return what is asked: the validation split, or MNLI's two."""
    several = len(source.splits) > 1
    return [
        Asked(f"{split}-{number}", example, metric if several else None)
        for split, metric in zip(source.splits, source.metrics, strict=False)
        for number, example in enumerate(read_split(name, split, files)[:limit], 1)
    ]
