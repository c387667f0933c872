"""What an item asked, as a reader sees it: the question, the choices and the right answer.

The database keeps what was said to each item, not what was asked. So a study's tasks are loaded
again; where that cannot be, or their data are others by now, a line says so in the questions'
place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from impasto.error import UserError
from impasto.study import Results
from impasto.tasks import Task

CHARACTERS = 170  # of a question
GAP = " … "

Shown = Mapping[str, Any]  # question, right: texts; choices: a tuple of texts


@dataclass(frozen=True)
class Asked:
    """What a study's tasks asked.

    Attributes:
        items: By task and item, as `item_of` has them.
        lacking: Why the questions of some tasks are not shown, in sentences.
    """

    items: Mapping[str, Mapping[str, Shown]] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()


def asked_of(results: Results) -> Asked:
    """Return what a study's tasks asked, of those that can be loaded as they were."""
    digests: Mapping[str, str] = getattr(results.answers, "definitions", {})
    items: dict[str, Mapping[str, Shown]] = {}
    lacking: list[str] = []
    for entry in results.study.tasks:
        name = entry.options["name"]
        try:
            tasks = entry.load().tasks
        except UserError as error:
            lacking.append(
                f"{name}: the questions are not shown, since the task is not here: {error}"
            )
            continue
        for task in tasks:
            if digests.get(task.name, task.digest) != task.digest:
                lacking.append(
                    f"{task.name}: the questions are not shown, since the task's data have changed "
                    "since they were asked."
                )
            else:
                items[task.name] = {item.id: shown for item, shown in _shown(task)}
    return Asked(items, tuple(lacking))


def _shown(task: Task) -> Iterator[tuple[Any, Shown]]:
    for item in task.items:
        yield item, item_of(task, item)


def item_of(task: Task, item: Any) -> Shown:
    """Return an item's question, its choices where it has some, and the right answer's text."""
    told = getattr(task, "told", None)
    if told is not None:
        return told(item)
    if hasattr(item, "prompt"):
        rights = (getattr(item, name, None) for name in ("answer", "answers", "highlights"))
        right = next((right for right in rights if right is not None), "")
        return _told(item.prompt, right if isinstance(right, str) else right[0])
    if hasattr(item, "example"):
        example = item.example
        return _told(
            " / ".join(filter(None, (example.first, example.second))), f"{example.label:g}"
        )
    return _told(getattr(item, "text", ""), "")


def _told(question: str, right: str) -> Shown:
    return {"question": question, "right": right, "choices": ()}


def shortened(text: str, most: int = CHARACTERS) -> str:
    """Return a text as one line, its middle left out where it is long."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    first = (most - len(GAP)) * 3 // 5
    return line[:first].rstrip() + GAP + line[first + len(GAP) - most :].lstrip()
