"""Programs of other tools as plans, and plans as theirs. No torch here.

``FORMATS`` is the table: a module for each format, which says whether a source is of its kind,
reads it, and, where the tool's form has an answer for a plan, writes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from impasto.error import shown
from impasto.plan.error import PlanError
from impasto.plan.formats import (
    block_configs,
    evopress,
    llm_drop,
    mergekit,
    path,
    per_layer,
    rys,
)
from impasto.plan.formats.source import Source, open_source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import MAX_OCCURRENCES, Step

MAX_PLANS = 1_000_000


@dataclass(frozen=True, slots=True)
class Format:
    """How one tool writes a program down.

    Attributes:
        title: What it is called in messages.
        recognises: Whether a source is of this kind.
        read: Gives the steps of each plan of a source.
        write: Returns a plan in this form; None where a plan alone is not written so.
    """

    title: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source, int | None], Iterator[list[Step]]]
    write: Callable[[Plan, Target], str] | None = None


FORMATS = {
    "evopress": Format(evopress.TITLE, evopress.recognises, evopress.read, evopress.write),
    "llm-drop": Format(llm_drop.TITLE, llm_drop.recognises, llm_drop.read, llm_drop.write),
    "path": Format(path.TITLE, path.recognises, path.read, path.write),
    "rys": Format(rys.TITLE, rys.recognises, rys.read, rys.write),
    "mergekit": Format(mergekit.TITLE, mergekit.recognises, mergekit.read, mergekit.write),
    "per-layer-config": Format(
        per_layer.TITLE, per_layer.recognises, per_layer.read, per_layer.write
    ),
    "nemotron-nas": Format(block_configs.TITLE, block_configs.recognises, block_configs.read),
}
WRITTEN = tuple(name for name, form in FORMATS.items() if form.write is not None)


def read_plans(
    path_or_text: str | os.PathLike[str], layers: int | None = None, form: str | None = None
) -> Iterator[Plan]:
    """Give the plans that another tool wrote down, in their order.

    Args:
        path_or_text: A file, a folder with a ``config.json``, or the text itself.
        layers: How many layers the model has; what it lacks is refused.
        form: The format, one of ``FORMATS``; None recognises it.

    Raises:
        PlanError: with file, line and key, for what is no program of a plan.
    """
    if form is not None and form not in FORMATS:
        raise PlanError(f"a format is {' or '.join(FORMATS)}, not {shown(form)}")
    if layers is not None and (type(layers) is not int or not 1 <= layers <= MAX_OCCURRENCES):
        raise PlanError(f"a model has 1 to {MAX_OCCURRENCES} layers, not {shown(layers, 80)}")
    count = 0
    for source in open_source(path_or_text):
        for steps in FORMATS[form or _form_of(source)].read(source, layers):
            try:
                yield Plan(tuple(steps))
            except PlanError as error:
                raise source.error(error.message) from None
            count += 1
            if count > MAX_PLANS:
                raise source.error(f"there are more than {MAX_PLANS:,} plans")


def write_plan(plan: Plan, form: str, layers: int | None = None, model: str | None = None) -> str:
    """Return a plan as another tool writes it down.

    Args:
        plan: The plan.
        form: The format, one of ``WRITTEN``.
        layers: How many layers the model has, where the format has an entry for each.
        model: The model's name, where the format names it.

    Raises:
        PlanError: when that form cannot hold the plan, or needs to know more.
    """
    write = FORMATS[form].write if form in FORMATS else None
    if write is None:
        raise PlanError(f"a plan alone is written as {' or '.join(WRITTEN)}, not {shown(form)}")
    return write(plan, Target(layers, model))


def _form_of(source: Source) -> str:
    """Return the format that a source is in; raises PlanError where it is none that is known."""
    for name, form in FORMATS.items():
        if form.recognises(source):
            return name
    raise source.error(
        "this is no program that impasto knows: "
        + "; ".join(f"{form.title} ({name})" for name, form in FORMATS.items())
        + "; say which with format= (--format)"
    )
