"""Having lm-eval build its tasks: by its own index, on its own data or on files in their place.

Whatever goes wrong is answered with what is missing and how to get it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any
from unittest.mock import patch

from impasto.error import UserError
from impasto.tasks.harness.benchmark import Benchmark, BenchmarkGroup
from impasto.tasks.harness.code import check_code
from impasto.tasks.harness.local import LocalData
from impasto.tasks.harness.options import Options
from impasto.tasks.harness.quiet import keep_templates, quiet, seeded
from impasto.tasks.task import Suite

GENERATES, SCORES = "generate_until", ("loglikelihood", "multiple_choice")
FILES = "give a file with its columns: data: {{{split}: FILE.jsonl}}"


def check_name(name: str, options: Options, ours: list[str]) -> None:
    """Raise UserError, with near names, where lm-eval knows no task, group or tag of this name.

    `ours` are the names of impasto's own tasks.
    """
    if name not in _index(options.include_path).all_tasks:
        raise UserError(
            f"{unknown(name, options.include_path, ours)}\nThe tasks are {', '.join(ours)}, and "
            "those of lm-eval, which `impasto lm-eval ls tasks` lists."
        )


def unknown(name: str, include_path: str | None = None, ours: Sequence[str] = ()) -> str:
    """Say that there is no such task, with the names that come near."""
    near = get_close_matches(name, ours, n=1, cutoff=0.6)
    known = _index(include_path).all_tasks
    near += get_close_matches(name, known, n=3 - len(near), cutoff=0.6)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown task {name!r}{meant}"


def load_benchmark(name: str, options: Options) -> Suite:
    """Return a task of lm-eval, or all those of a group or tag.

    Raises UserError where its data, or a package that it needs, is not there, and where it comes
    from a folder whose code nobody has allowed to run.
    """
    check_code(name, options.include_path)
    local = None if options.data is None else LocalData(options.data, options.subset_column)
    try:
        keep_templates()
        with quiet(), seeded(), naming_what_is_missing(local):
            loaded = _index(options.include_path).load([name])
    except UserError:
        raise
    except ImportError as error:
        raise UserError(missing_package(name, error)) from None
    except Exception as error:
        place = "" if local is None else local.latest()
        raise UserError(f"{place}lm-eval cannot load {name}: {_short(error)}") from error
    tasks: dict[str, Any] = loaded["tasks"]
    for task in tasks:
        _check_runnable(task, tasks[task], options)
        if tasks[task].OUTPUT_TYPE in SCORES:
            options.thinking.check_scored(task)
        if local is not None and task not in local.served:
            raise UserError(f"{task} reads its data by code of its own, so data cannot replace it")
    if options.think_end_token is not None and not _generating(tasks):
        raise UserError(f"{name} scores given answers, so think_end_token has nothing to end there")
    return _suite(tasks, loaded.get("groups") or {}, options, local)


@cache
def _index(include_path: str | None) -> Any:
    """Return lm-eval's index of its tasks, and of those in a user's folder; it takes a while."""
    with quiet():
        from lm_eval.tasks import TaskManager

        return TaskManager(include_path=include_path)


@contextmanager
def naming_what_is_missing(local: LocalData | None = None, instead: str = FILES) -> Iterator[None]:
    """Have the tasks that lm-eval builds within say which data set or metric they miss.

    They are given the user's files, where there are any; `instead` says what else can be done about
    a data set that cannot be had. Raises UserError.
    """
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download

    def served(task: Any, dataset_kwargs: Any = None, **given: Any) -> None:
        name, config = task.config.task, task.config
        if local is not None:
            task.dataset = local.splits(name, config)
            return
        try:
            download(task, dataset_kwargs, **given)
        except UserError:
            raise
        except Exception as error:
            subset = f" ({config.dataset_name})" if config.dataset_name else ""
            split = config.test_split or config.validation_split
            raise UserError(
                f"{name} needs the data set {config.dataset_path}{subset}, which is not on this "
                f"machine and could not be had from the hub ({_short(error)}); unset "
                f"HF_HUB_OFFLINE if it is set, or {instead.format(split=split)}"
            ) from error

    with patch.object(ConfigurableTask, "download", served):
        try:
            yield
        except FileNotFoundError as error:
            metric = re.search(r"module script at .*?(\w+)\.py", str(error))
            if metric is None:
                raise
            raise UserError(
                f"a task needs the metric {metric[1]}, which the package evaluate fetches from the "
                "hub and keeps. It is not on this machine and could not be had: where there is a "
                f"network, run python -c 'import evaluate; evaluate.load(\"{metric[1]}\")'"
            ) from None


def _generating(tasks: dict[str, Any]) -> list[str]:
    """Return the tasks that have the model write its answers."""
    return [name for name, task in tasks.items() if task.OUTPUT_TYPE == GENERATES]


def _check_runnable(name: str, task: Any, options: Options) -> None:
    """Raise UserError for what no plan can be run on."""
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"{name} asks about images or sound, and impasto runs models of text")
    if getattr(task, "UNSAFE_CODE", False) and not options.unsafe_code:
        raise UserError(
            f"{name} is judged by running code that the model writes; to allow that, write "
            "unsafe_code: true"
        )


def _suite(
    tasks: dict[str, Any], groups: dict[str, Any], options: Options, local: LocalData | None
) -> Suite:
    """Return what lm-eval loaded. A group without scores of its own is no part of results."""
    scored = {name: group for name, group in groups.items() if group.has_aggregation}
    above: dict[str, str] = {}

    def descend(group: Any, nearest: str) -> None:
        nearest = group.name if group.name in scored else nearest
        for child in group:
            name = getattr(child, "task_name", None) or child.name
            above[name] = nearest
            if name in groups:
                descend(child, nearest)

    children = {name for group in groups.values() for name in group.child_names}
    for name in groups.keys() - children:
        descend(groups[name], "")
    return Suite(
        tuple(Benchmark(task, above.get(name, ""), options, local) for name, task in tasks.items()),
        tuple(BenchmarkGroup(group, above.get(name, "")) for name, group in scored.items()),
    )


def missing_package(name: str, error: ImportError) -> str:
    """Say which package a task needs and how to get it."""
    if error.name is None:
        return f"{name} needs a package that is not installed: {_short(error)}"
    package = error.name.split(".")[0]
    return f"{name} needs the package {package}: pip install {package} ({_short(error)})"


def _short(error: Exception) -> str:
    """Return what an error says as one line, with its kind where that is little."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if len(text) < 12 else text
