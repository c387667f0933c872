"""The tasks that a study can name, and `load_task`, which turns a study's entry into a task.

Nothing here needs torch: a task is text and rules, for any model and any tokenizer.
"""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from impasto.tasks.arithmetic import arithmetic
from impasto.tasks.capitals import capitals
from impasto.tasks.task import Question, Task

__all__ = ["TASKS", "Question", "Task", "arithmetic", "capitals", "load_task"]

TASKS: dict[str, Callable[..., Task]] = {"arithmetic": arithmetic, "capitals": capitals}


def load_task(spec: str | Mapping[str, object]) -> Task:
    """Return the task that a study names: `capitals`, or `{name: arithmetic, terms: 3}`.

    Raises ValueError, saying what would be right, for an unknown task, an option that the task does
    not have, or a value that the option cannot take.
    """
    options = {"name": spec} if isinstance(spec, str) else spec
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise ValueError(f"a task is a name or a mapping with a name, not {spec!r}")
    name = str(options["name"])
    if name not in TASKS:
        near = get_close_matches(name, TASKS, n=1, cutoff=0.4)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown task {name!r}{meant} The tasks are {', '.join(sorted(TASKS))}")
    allowed = tuple(inspect.signature(TASKS[name]).parameters)
    for option in options:
        if option != "name" and option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(allowed)}")
    return TASKS[name](**{str(key): value for key, value in options.items() if key != "name"})
