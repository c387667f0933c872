"""From lm-eval's requests to impasto's: chats put into text, and what generation is asked for."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from impasto.error import UserError
from impasto.tasks.request import Generation, LogLikelihood, Request, RollingLogLikelihood

MAX_NEW_TOKENS = 256  # lm-eval's for Hugging Face models, where a task says nothing
HARMLESS = {"do_sample", "temperature", "top_p", "top_k", "num_beams"}  # where nothing is sampled


def read_request(
    task: str, instance: Any, tokenizer: Any = None, think_end: str | int | None = None
) -> Request:
    """Return what one of lm-eval's instances asks; raises UserError for what cannot be asked.

    `think_end` is what ends a model's thinking before its reply.
    """
    kind, arguments = instance.request_type, instance.args
    if kind == "loglikelihood":
        return LogLikelihood(*arguments, as_lm_eval=True)
    if kind == "loglikelihood_rolling":
        return RollingLogLikelihood(*arguments)
    if kind == "generate_until":
        prompt, options = arguments
        return generation(task, prompt, options, tokenizer, think_end)
    raise UserError(f"{task} makes requests of the kind {kind!r}, which impasto does not know")


def generation(
    task: str,
    prompt: str,
    options: Mapping[str, Any],
    tokenizer: Any,
    think_end: str | int | None = None,
) -> Generation:
    """Return a request for greedy generation, with the stops and the length that lm-eval takes.

    Raises UserError where the options ask for anything else than greedy generation.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    read: dict[str, Any] = dict(normalize_gen_kwargs(dict(options), MAX_NEW_TOKENS))
    stop, longest = read.pop("until"), read.pop("max_gen_toks")
    if read.get("do_sample") or read.get("num_beams", 1) != 1:
        raise UserError(
            f"{task} samples its replies, and impasto generates greedily; to run it so, write "
            "generation_kwargs: {do_sample: false, temperature: 0.0, num_beams: 1}"
        )
    unknown = sorted(read.keys() - HARMLESS)
    if unknown:
        raise UserError(
            f"{task}: impasto generates greedily and knows no {', '.join(unknown)}; generation_"
            "kwargs takes until, max_gen_toks and do_sample: false"
        )
    end = getattr(tokenizer, "eos_token_id", None)
    ends = [] if end is None else [tokenizer.decode(end, skip_special_tokens=False)]
    stops = dict.fromkeys(text for text in (*stop, *ends) if text)
    return Generation(prompt, tuple(stops), longest, think_end, as_lm_eval=True)


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


def chat_of(tokenizer: Any, thinking: Thinking = Thinking()) -> Callable[..., str]:
    """Return what puts a conversation into text by the model's own chat template.

    Raises UserError where the tokenizer has none, and warns where it does not ask for thinking.
    """
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        raise UserError(
            "apply_chat_template needs a model whose tokenizer has a chat template, and this one's "
            "has none"
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
