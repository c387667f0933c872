"""The tasks that a study can name, and `load_suite`, which turns a study's entry into tasks.

Nothing here needs torch: a task is text and rules, for any model and any tokenizer. `task` says
what a task is; `questions` is the usual one of our own.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from impasto.error import UserError, near, shown
from impasto.paths import path_of
from impasto.tasks.arithmetic import arithmetic
from impasto.tasks.capitals import capitals
from impasto.tasks.chat import Chat
from impasto.tasks.cnn_dailymail import check_cnn_dailymail, cnn_dailymail
from impasto.tasks.donors import read_donors
from impasto.tasks.file_questions import FileQuestions, check_questions, questions
from impasto.tasks.glue import check_glue, glue
from impasto.tasks.harness.code import code_allowed
from impasto.tasks.masked_text import check_masked_text, masked_text
from impasto.tasks.precision import FORM, Precision
from impasto.tasks.questions import Question, Questions, SubjectQuestions
from impasto.tasks.request import (
    Fidelity,
    Generation,
    HeadQuestion,
    LogLikelihood,
    MaskedText,
    Request,
    Response,
    RollingLogLikelihood,
)
from impasto.tasks.squad import check_squad, squad
from impasto.tasks.task import (
    Estimate,
    Fitted,
    Group,
    Injectable,
    ReadByTokenizer,
    Suite,
    Task,
    Valued,
    injectable,
)
from impasto.tasks.texts import Texts, check_texts, texts

__all__ = [
    "TASKS",
    "Chat",
    "Estimate",
    "Fidelity",
    "FileQuestions",
    "Fitted",
    "Generation",
    "Group",
    "HeadQuestion",
    "Injectable",
    "LogLikelihood",
    "MaskedText",
    "Precision",
    "Question",
    "Questions",
    "ReadByTokenizer",
    "Request",
    "Response",
    "RollingLogLikelihood",
    "SubjectQuestions",
    "Suite",
    "Task",
    "Texts",
    "Valued",
    "arithmetic",
    "capitals",
    "check_entry",
    "check_to_precision",
    "cnn_dailymail",
    "code_allowed",
    "glue",
    "injectable",
    "load_suite",
    "load_to_precision",
    "masked_text",
    "questions",
    "squad",
    "texts",
]

TASKS: dict[str, Callable[..., Task]] = {
    "arithmetic": arithmetic,
    "capitals": capitals,
    "cnn_dailymail": cnn_dailymail,
    "questions": questions,
    "squad": squad,
    "texts": texts,
}
# What tells, without reading any data, whether a task's options are right; and the task's name.
CHECKS: dict[str, Callable[..., str]] = {
    "cnn_dailymail": check_cnn_dailymail,
    "glue": check_glue,
    "masked_text": check_masked_text,
    "questions": check_questions,
    "squad": check_squad,
    "texts": check_texts,
}


# Entries that are several tasks, and groups of them.
SUITES: dict[str, Callable[..., Suite]] = {"glue": glue, "masked_text": masked_text}
# Those whose items are asked all at once; see `Fitted`.
AT_ONCE = frozenset({"glue"})
# Options of all tasks that are questions: how a chat puts them; and of those with other subjects.
CHAT = tuple(inspect.signature(Chat.read).parameters)
DONORS = "donors"
ASKED_AS_CHAT = frozenset({"arithmetic", "capitals", "cnn_dailymail", "questions", "squad"})
INJECTED = frozenset({"arithmetic", "capitals", "questions"})


def load_suite(entry: str | Mapping[str, object], *, allow_code: bool = False) -> Suite:
    """Return what a study's entry names: a task of ours or of lm-eval, or a group of lm-eval's.

    `capitals`, `{name: arithmetic, terms: 3}`, `{name: arc_easy, num_fewshot: 0}`. `allow_code`
    lets a folder of task files (`include_path`) run its code. Raises UserError, saying what would
    be right, for an unknown task, an option that the task does not have, a value that the option
    cannot take, data that are not there, and code that is not allowed.
    """
    name, options = _read(entry)
    if name in SUITES:
        return SUITES[name](**options)
    if name in TASKS:
        return Suite((_own_task(name, options),))
    from impasto.tasks.harness import Options, check_name, load_benchmark

    read = Options.read(name, options)
    check_name(name, read, sorted(TASKS | SUITES))
    with code_allowed(allow_code):
        return load_benchmark(name, read)


def load_to_precision(entry: str | Mapping[str, object], precision: Precision) -> Suite:
    """Return the entry's tasks whole, their items in the order in which `limit` would draw them.

    The first n are those of `limit: n`. Where the entry is a group with a score, the precision is
    the group's; else it is each task's. Raises UserError as `load_suite` does, and for tasks whose
    items are asked all at once.
    """
    check_to_precision(entry)
    name, options = _read(entry)
    suite = load_suite({**options, "name": name, "limit": None})
    seed: Any = options.get("seed", 0)
    tasks = tuple(task.drawn(seed) if isinstance(task, Questions) else task for task in suite.tasks)
    tops = [whole.name for whole in (*tasks, *suite.groups) if not whole.part_of]
    return Suite(tasks, suite.groups, dict.fromkeys(tops, precision))


def check_to_precision(entry: str | Mapping[str, object]) -> str:
    """Return what results will call the entry's tasks as a whole, as `check_entry` does.

    Raises UserError for tasks that cannot be asked until a precision is reached, too.
    """
    name, options = _read(entry)
    if name in AT_ONCE:
        raise UserError(
            f"{name} asks a head that is fitted first, all its questions at once: its limit is a "
            "whole number"
        )
    return check_entry({**options, "name": name, "limit": None})


def check_entry(entry: str | Mapping[str, object]) -> str:
    """Return what results will call the entry's tasks as a whole.

    Raises UserError, as `load_suite` would, for what is wrong whatever the data are.
    """
    name, options = _read(entry)
    if name in TASKS | SUITES:
        own, _ = _shared(options)
        return CHECKS[name](**own) if name in CHECKS else TASKS[name](**own).name
    from impasto.tasks.harness import Options, check_name

    check_name(name, Options.read(name, options), sorted(TASKS | SUITES))
    return name


def _own_task(name: str, options: Mapping[str, Any]) -> Task:
    """Return a task of impasto's own, put as a chat and with donors of the user's own if asked."""
    own, chat = _shared(options)
    task = TASKS[name](**own)
    if options.get(DONORS) is not None:
        assert isinstance(task, SubjectQuestions)
        task = task.with_donors(read_donors(options[DONORS]), str(options[DONORS]))
    if chat is not None:
        assert isinstance(task, Questions)
        task = replace(task, chat=chat)
    return task


def _shared(options: Mapping[str, Any]) -> tuple[dict[str, Any], Chat | None]:
    """Return the options that are a task's alone, and how it is put as a chat.

    Raises UserError for what the options that tasks share cannot be.
    """
    chat = Chat.read(**{key: value for key, value in options.items() if key in CHAT})
    if options.get(DONORS) is not None:
        path_of(options[DONORS], "donors")
    own = {key: value for key, value in options.items() if key not in (*CHAT, DONORS)}
    return own, chat


def _read(entry: str | Mapping[str, object]) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of an entry."""
    options = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
        raise UserError(f"a task is a name or a mapping with a name, not {shown(entry)}")
    name = str(options["name"])
    given: dict[str, Any] = {str(key): value for key, value in options.items() if key != "name"}
    if isinstance(given.get("limit"), Mapping):
        raise UserError(
            f"{FORM} is for studies, which compare plans (impasto run, impasto.Study); for a task "
            "alone limit is a whole number"
        )
    if name in TASKS | SUITES:
        parameters = inspect.signature((TASKS | SUITES)[name]).parameters
        allowed = (
            *parameters,
            *((DONORS,) if name in INJECTED else ()),
            *(CHAT if name in ASKED_AS_CHAT else ()),
        )
        for option in given:
            if option not in allowed:
                raise UserError(
                    f"{name} has no option {option!r}{near(option, allowed)}; it has "
                    f"{', '.join(allowed)}"
                )
        for option, parameter in parameters.items():
            if parameter.default is parameter.empty and option not in given:
                raise UserError(f"{name} needs the option {option!r}; it has {', '.join(allowed)}")
    return name, given
