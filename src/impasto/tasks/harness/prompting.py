"""From lm-eval's requests to impasto's: what is asked, and what generation is asked for."""

from collections.abc import Mapping
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
