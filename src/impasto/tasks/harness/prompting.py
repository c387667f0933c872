"""From lm-eval's requests to impasto's: chats put into text, and what generation is asked for."""

from collections.abc import Callable, Mapping
from typing import Any

from impasto.error import UserError
from impasto.tasks.request import Generation, LogLikelihood, Request, RollingLogLikelihood

MAX_NEW_TOKENS = 256  # lm-eval's for Hugging Face models, where a task says nothing
HARMLESS = {"do_sample", "temperature", "top_p", "top_k", "num_beams"}  # where nothing is sampled


def read_request(task: str, instance: Any, tokenizer: Any = None) -> Request:
    """Return what one of lm-eval's instances asks; raises UserError for what cannot be asked."""
    kind, arguments = instance.request_type, instance.args
    if kind == "loglikelihood":
        return LogLikelihood(*arguments)
    if kind == "loglikelihood_rolling":
        return RollingLogLikelihood(*arguments)
    if kind == "generate_until":
        prompt, options = arguments
        return generation(task, prompt, options, tokenizer)
    raise UserError(f"{task} makes requests of the kind {kind!r}, which impasto does not know")


def generation(task: str, prompt: str, options: Mapping[str, Any], tokenizer: Any) -> Generation:
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
    return Generation(prompt, tuple(stops), longest)


def chat_of(tokenizer: Any) -> Callable[..., str]:
    """Return what puts a conversation into text by the model's own chat template.

    Raises UserError where the tokenizer has none.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        raise UserError(
            "apply_chat_template needs a model whose tokenizer has a chat template, and this one's "
            "has none"
        )
    from jinja2.exceptions import TemplateError

    def put(conversation: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        def render(turns: list[dict[str, str]]) -> str:
            return tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )

        try:
            return render(conversation)
        except TemplateError:  # some templates know no system role; lm-eval then leaves it out
            return render([turn for turn in conversation if turn["role"] != "system"])

    return put
