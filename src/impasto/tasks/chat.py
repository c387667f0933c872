"""Chats: prompts put into text by a model's own chat template, as lm-evaluation-harness does it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from impasto.error import UserError, shown

OPTION = "apply_chat_template"


@dataclass(frozen=True, slots=True)
class Thinking:
    """Whether a model thinks before it replies, as lm-eval's model arguments of these names say it.

    Attributes:
        enable_thinking: What the chat template is told; None: nothing.
        think_end_token: What ends the thinking, a text or a token id; the reply begins behind it.
    """

    enable_thinking: bool | None = None
    think_end_token: str | int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be, as lm-eval does; raises UserError."""
        if self.enable_thinking is not None and type(self.enable_thinking) is not bool:
            raise UserError(f"enable_thinking is true or false, not {self.enable_thinking!r}")
        end = self.think_end_token
        if end is not None and (type(end) not in (str, int) or end == ""):
            raise UserError(
                f"think_end_token is a text, such as </think>, or a token's number; not {end!r}"
            )
        if self.enable_thinking and end is None:
            raise UserError(
                "enable_thinking needs think_end_token, the text or the token's number that ends "
                "the thinking, such as </think>: else the thoughts would be judged as the reply"
            )

    @property
    def given(self) -> dict[str, Any]:
        """Return the options that are given, by name."""
        named = {
            "enable_thinking": self.enable_thinking,
            "think_end_token": self.think_end_token,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def for_template(self) -> dict[str, bool]:
        """Return what a chat template is given."""
        return {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}

    def check_scored(self, what: str) -> None:
        """Raise UserError, as lm-eval does, where a thinking model is to score what is given."""
        if self.enable_thinking:
            raise UserError(
                f"{what} scores given answers, before which a model cannot think: leave "
                "enable_thinking to tasks that generate"
            )


def chat_of(
    tokenizer: Any, thinking: Thinking = Thinking(), option: str = OPTION
) -> Callable[..., str]:
    """Return what puts a conversation into text by the model's own chat template.

    `option` is what the user asked for it by. Raises UserError where the tokenizer has none, and
    warns where it does not ask for thinking.
    """
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        raise UserError(
            f"{option} needs a model whose tokenizer has a chat template, and this one's has none"
        )
    from jinja2.exceptions import TemplateError

    if thinking.for_template and "enable_thinking" not in str(template):
        warnings.warn(
            "enable_thinking changes nothing here: the model's chat template does not ask for it",
            stacklevel=2,
        )

    def put(conversation: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        def render(turns: list[dict[str, str]]) -> str:
            return tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                **thinking.for_template,
            )

        try:
            return render(conversation)
        except TemplateError:  # some templates know no system role; lm-eval then leaves it out
            return render([turn for turn in conversation if turn["role"] != "system"])

    return put


@dataclass(frozen=True, slots=True)
class Chat:
    """How a task of impasto's own is put as a chat: each solved example is two turns.

    Attributes:
        system_instruction: What stands before everything else, as the system's turn; None: nothing.
        enable_thinking: What the chat template is told of thinking: False, or None for nothing.
    """

    system_instruction: str | None = None
    enable_thinking: bool | None = None

    @classmethod
    def read(
        cls,
        apply_chat_template: object = False,
        system_instruction: Any = None,
        enable_thinking: Any = None,
    ) -> "Chat | None":
        """Return what a study's options say: None for no chat; raises UserError for others."""
        if type(apply_chat_template) is not bool:
            raise UserError(f"{OPTION} must be true or false, not {shown(apply_chat_template)}")
        given = {"system_instruction": system_instruction, "enable_thinking": enable_thinking}
        for option, value in given.items():
            if value is not None and not apply_chat_template:
                raise UserError(f"{option} is told to the chat template: it needs {OPTION}: true")
        if system_instruction is not None and not (
            isinstance(system_instruction, str) and system_instruction.strip()
        ):
            raise UserError(f"system_instruction must be text, not {shown(system_instruction)}")
        if enable_thinking not in (None, False) or type(enable_thinking) is int:
            raise UserError(
                "enable_thinking is false or left out for a task of impasto's own, whose replies "
                f"end at a line's end, before any thinking does; not {shown(enable_thinking)}"
            )
        return cls(system_instruction, enable_thinking) if apply_chat_template else None

    def writer(self, tokenizer: Any, option: str = OPTION) -> Callable[[Sequence[str]], str]:
        """Return what puts turns, the user's and the model's in turn, into a model's prompt.

        Raises UserError where the tokenizer has no chat template.
        """
        put = chat_of(tokenizer, Thinking(self.enable_thinking), option)
        first = self.system_instruction
        system = [] if first is None else [{"role": "system", "content": first}]

        def write(turns: Sequence[str]) -> str:
            roles = ("user", "assistant")
            said = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
            return put([*system, *said])

        return write
