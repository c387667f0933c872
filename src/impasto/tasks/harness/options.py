"""What a study may say about a task of lm-eval, each option checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from impasto.error import UserError, shown
from impasto.tasks.chat import Thinking
from impasto.tasks.harness.quiet import OTHER_SEEDS

OF_MODEL = ("max_length", "add_bos_token")  # what a study says once, under `load`

Check = tuple[Callable[[Any], bool], str]


@dataclass(frozen=True, slots=True)
class Options:
    """How a task of lm-eval is put to the model; what is not given is as the task itself says.

    Attributes:
        num_fewshot: How many solved examples stand before each question.
        limit: How many of its first documents are asked; all where None.
        data: Files in place of its data set, by split: ``{test: arc.jsonl}``.
        subset_column: Which column of those files says what subset a row belongs to, where a group
            such as mmlu reads all its tasks from one file.
        apply_chat_template: Whether prompts are put by the model's chat template.
        fewshot_as_multiturn: Whether examples are then turns of their own.
        system_instruction: What stands before everything else.
        seed: What the few-shot examples are drawn by.
        generation_kwargs: Changes to how long replies may be and what ends them.
        bootstrap_iters: How many samples estimate the standard error of a metric that is no mean.
        unsafe_code: Whether code that the model writes may be run to judge it.
        include_path: A folder with task files of your own.
        enable_thinking: What the chat template is told of thinking; nothing where None.
        think_end_token: What ends the thinking, a text or a token id; the reply begins behind it.
    """

    num_fewshot: int | None = None
    limit: int | None = None
    data: Mapping[str, str] | None = None
    subset_column: str | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    seed: int = OTHER_SEEDS
    generation_kwargs: Mapping[str, Any] | None = None
    bootstrap_iters: int = 100
    unsafe_code: bool = False
    include_path: str | None = None
    enable_thinking: bool | None = field(default=None, repr=False)  # see `told`
    think_end_token: str | int | None = field(default=None, repr=False)

    @property
    def thinking(self) -> Thinking:
        """Whether the model thinks before it replies."""
        return Thinking(self.enable_thinking, self.think_end_token)

    def told(self) -> list[str]:
        """Return what of the options can change a result, as text.

        An option that came to be later counts only where it is given, so that results without it
        stay what they were.
        """
        told = repr(replace(self, data=None, include_path=None))
        return [told] if self.thinking == Thinking() else [told, repr(self.thinking)]

    @classmethod
    def read(cls, name: str, options: Mapping[str, Any]) -> "Options":
        """Return the options that a study gives; raises UserError for what cannot be."""
        allowed = [field.name for field in fields(cls)]
        for option, value in options.items():
            if option in OF_MODEL:
                raise UserError(f"{option} is about the model: load: {{{option}: {value!r}}}")
            if option not in allowed:
                raise UserError(f"{name} has no option {option!r}; it has {', '.join(allowed)}")
            is_right, wanted = _CHECKS[option]
            if not is_right(value):
                raise UserError(f"{option} must be {wanted}, not {shown(value)}")
        read = cls(**options)
        if read.thinking.enable_thinking is not None and not read.apply_chat_template:
            raise UserError(
                "enable_thinking is told to the chat template: it needs apply_chat_template: true"
            )
        if read.subset_column is not None and read.data is None:
            raise UserError("subset_column is about the files that data gives, and there are none")
        return read


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_folder(value: Any) -> bool:
    return _is_text(value) and Path(value).is_dir()


def _is_files(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_text, value.values()))


_FLAG: Check = (lambda value: isinstance(value, bool), "true or false")
_CHECKS: dict[str, Check] = {
    "num_fewshot": (_is_count, "a whole number from 0 on"),
    "limit": (
        lambda value: value is None or (_is_count(value) and value > 0),
        "a whole number from 1 on",
    ),
    "data": (_is_files, "a file for each split, such as {test: arc.jsonl}"),
    "subset_column": (_is_text, "the name of a column"),
    "apply_chat_template": _FLAG,
    "fewshot_as_multiturn": _FLAG,
    "system_instruction": (_is_text, "text"),
    "seed": (lambda value: type(value) is int, "a whole number"),
    "generation_kwargs": (lambda value: isinstance(value, Mapping), "a mapping of options"),
    "bootstrap_iters": (_is_count, "a whole number from 0 on"),
    "unsafe_code": _FLAG,
    "include_path": (_is_folder, "a folder that is there"),
    "enable_thinking": _FLAG,
    "think_end_token": (
        lambda value: _is_text(value) or _is_count(value),
        "a text, such as </think>, or a token's number",
    ),
}
