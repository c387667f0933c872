"""impasto as a model inside lm-evaluation-harness; importing this module registers it there.

    import impasto.lm_eval
    lm_eval.simple_evaluate("impasto", {"pretrained": "demo", "plan": "0-7 freeze 8-11"}, tasks=…)

One such model runs one plan. To run many, a study is faster by far (see `impasto.tasks.harness`).
The numbers of the baseline are those of lm-eval's own model class `HFLM`.
"""

import json
import os
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from impasto.engine_version import ENGINE, ENGINE_VERSION, first_equal
from impasto.error import UserError
from impasto.plan import Plan
from impasto.run import Model, load_decoder
from impasto.run.batching.tokenisation import AS_LM_EVAL, TextOptions, appending_notice
from impasto.tasks.answering import RequestError, answer, context_length, fitted
from impasto.tasks.chat import Thinking, chat_of
from impasto.tasks.harness.prompting import generation
from impasto.tasks.request import Request, RollingLogLikelihood

NAME = "impasto"
READING = ("max_length", "add_bos_token", "enable_thinking", "think_end_token")
LOADING = (
    "dtype",
    "device_map",
    "revision",
    "attn_implementation",
    "trust_remote_code",
    "merge_adapter",
)
OPENING, CLOSING = "([{", ")]}"
OWNER = "impasto"  # where a cache of answers says whose they are; requests have digests for keys


@register_model(NAME)
class ImpastoLM(TemplateLM):
    """A model under one plan, as lm-eval sees a model."""

    def __init__(
        self,
        pretrained: str | os.PathLike[str] | PreTrainedModel | Model = "demo",
        plan: str | Plan | None = None,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        enable_thinking: bool | None = None,
        think_end_token: str | int | None = None,
        **options: Any,
    ) -> None:
        """Open a model.

        Args:
            pretrained: What `impasto.load` takes, or a model that it returned.
            plan: How it runs; the baseline where none is given. Plans that inject are refused:
                lm-eval's tasks name no donors.
            tokenizer: Its tokenizer, where it does not come with the model.
            device: Where it is put, where `device_map` does not say. lm-eval's command line says
                `cuda:0` unless told otherwise; without CUDA that is the processor.
            batch_size: Accepted, `auto` too, and not needed: batches are made by length.
            max_batch_size: Likewise.
            max_length: The most tokens of a request, at most the model's positions; what is longer
                loses its left end. None: the model's positions.
            add_bos_token: Whether texts get the tokenizer's special tokens. None: as it does it.
            enable_thinking: What the chat template is told. True needs `think_end_token`.
            think_end_token: What ends a model's thinking, a text or a token id; the reply is what
                stands behind it.
            options: `dtype`, `device_map`, `revision`, `attn_implementation`,
                `trust_remote_code`, `merge_adapter`, as `impasto.load` takes them.

        Raises:
            UserError: for another option, a model that cannot be opened, and a plan that cannot run
                on it; the message says why.
        """
        super().__init__()
        unknown = [option for option in options if option not in LOADING]
        if unknown:
            raise UserError(
                f"the model impasto takes no {unknown[0]!r}; it takes pretrained, plan, tokenizer, "
                f"device, batch_size, {', '.join((*READING, *LOADING))}"
            )
        self.thinking = Thinking(enable_thinking, _whole(think_end_token))
        reading = TextOptions.read(_whole(max_length), add_bos_token)
        if device is not None and not isinstance(pretrained, PreTrainedModel | Model):
            options = {"device_map": _present(device)} | options
        if not isinstance(pretrained, Model):
            self.opened = load_decoder(pretrained, tokenizer, **reading.given, **options)
        elif reading.given:
            both = pretrained.text_options.given | reading.given
            self.opened = pretrained.with_text_options(TextOptions(**both))
        else:
            self.opened = pretrained
        self.plan = _read_plan(plan, self.opened.num_layers)
        self.tokenizer = self.opened.tokenizer
        if self.tokenizer is None:
            raise UserError("lm-eval's tasks are text, and this model came without a tokenizer")
        self.batch_size = "auto" if batch_size is None else batch_size
        self.revision = str(options.get("revision", "main"))
        self.truncated = 0  # requests so far that did not fit the context whole
        self._device = self.opened.hf.device
        if self.opened.appended:
            told = appending_notice(self.tokenizer, self.opened.appended, AS_LM_EVAL)
            warnings.warn(told, stacklevel=2)

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> "ImpastoLM":
        """Return the model that `pretrained=…,plan=…` describes; see `read_arguments`."""
        return cls.create_from_arg_obj(read_arguments(arg_string), additional_config)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token that stands before a text without context."""
        return self.opened.prefix_token

    @property
    def max_length(self) -> int:
        """The most tokens that a request may have."""
        return context_length(self.opened)

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval's cache of requests calls the tokenizer."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Return a text's token ids; the special tokens are the tokenizer's own unless said."""
        if add_special_tokens is None:
            return self.opened.scored_tokens(string)
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return how likely continuations are after their contexts.

        Raises UserError, with task, document and choice, for one that has no token of its own.
        """
        limit, read = self.max_length, []
        for request in requests:
            self.thinking.check_scored(request.task_name or "a task")
            context, continuation = request.args
            try:
                pair = self.opened.token_pair(context, continuation, as_lm_eval=True)
                fitted(pair, limit)
            except UserError as error:
                raise UserError(f"{_named(request)}, choice {request.idx}: {error}") from None
            read.append((request.args, *pair))
        return self._loglikelihood_tokens(read, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the log-likelihood of whole texts."""
        texts = [RollingLogLikelihood(*request.args) for request in requests]
        return self._answered("loglikelihood_rolling", requests, texts)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the greedy continuations of prompts, each up to its own stops."""
        think_end = self.thinking.think_end_token
        prompts = [
            generation(request.task_name or "a task", prompt, options, self.tokenizer, think_end)
            for request in requests
            for prompt, options in [request.args]
        ]
        return self._answered("generate_until", requests, prompts)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as text, by the model's own template."""
        return self._chat(chat_history, add_generation_prompt)

    @cached_property
    def _chat(self) -> Callable[..., str]:
        """What puts a conversation into text."""
        return chat_of(self.tokenizer, self.thinking)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Take the file of answers that `--use_cache` names.

        Raises UserError where another model, plan or version of the engine gave them: lm-eval finds
        an answer by its request alone.
        """
        kept: Any = cache_hook.dbdict
        mine = f"{self.opened.hf.name_or_path} ({self.opened.hf.dtype}) under {self.plan}"
        reading = self.opened.text_options.given | self.thinking.given
        if reading:
            mine += f", read with {reading}"
        engine = first_equal(ENGINE_VERSION)
        if engine > 1:  # files that the first one wrote do not say so
            mine += f", by {ENGINE} {engine}"
        if kept is not None:
            whose = kept.get(OWNER, "another model" if len(kept) else mine)
            if whose != mine:
                raise UserError(
                    f"{kept.filename} holds the answers of {whose}, and this is {mine}; give "
                    "--use_cache a file for each"
                )
            kept[OWNER] = mine
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval's results say about the model: plan and engine are parts of it.

        So is how many requests did not fit the model's context and lost their left end.
        """
        return {
            "model_num_parameters": self.opened.hf.num_parameters(),
            "model_dtype": self.opened.hf.dtype,
            "model_revision": self.revision,
            "model_sha": getattr(self.opened.hf.config, "_commit_hash", None) or "",
            "plan": str(self.plan),
            "plan_digest": self.plan.digest,
            "engine": ENGINE_VERSION,
            "truncated": self.truncated,
        }

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        limit = self.max_length
        pairs = [fitted((context, continuation), limit) for _, context, continuation in requests]
        self.truncated += sum(
            len(left) < len(context)
            for (left, _), (_, context, _) in zip(pairs, requests, strict=True)
        )
        [scores] = self.opened.loglikelihood(self.plan, pairs)
        for (texts, _, _), score in zip(requests, scores, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, score)
        return scores

    def _answered(self, kind: str, requests: Sequence[Any], asked: Sequence[Request]) -> list[Any]:
        items = [(request,) for request in asked]
        try:
            answers = answer(self.opened, [self.plan], items)
        except RequestError as error:
            raise UserError(error.told(_named(requests[error.item]))) from None
        self.truncated += answers.truncated
        responses = [response for (response,) in answers.responses[0]]
        for request, response in zip(requests, responses, strict=True):
            self.cache_hook.add_partial(kind, request.args, response)
        return responses


def read_arguments(text: str) -> dict[str, Any]:
    """Return the model's arguments from one text: `pretrained=demo,plan=0-7 freeze 8-11`, or JSON.

    Commas within brackets belong to the plan: `plan=0-3 noise(gaussian, seed=1) 4-11`. Raises
    UserError for what is neither.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"model_args is not JSON that can be read: {error}") from None
    read = {}
    for part in _split_outside_brackets(text):
        key, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"\s*\w+\s*", key):
            raise UserError(f"model_args are key=value with commas between, and {part!r} is not")
        read[key.strip()] = _value(value.strip())
    return read


def _named(request: Any) -> str:
    """Return what task and document one of lm-eval's requests is of."""
    return f"{request.task_name or 'a task'}, document {request.doc_id}"


def _whole(value: Any) -> Any:
    """Return a whole number that was written as text as a number, and anything else as it is."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _read_plan(plan: Any, layers: int) -> Plan:
    """Return a plan that runs on a model of so many layers; raises PlanError or UserError."""
    if plan is None:
        return Plan.identity(layers)
    read = plan if isinstance(plan, Plan) else Plan.parse(str(plan), layers=layers)
    read.check(layers)
    if read.injections:
        raise UserError(f"{read} injects, and lm-eval's tasks name no donors; use a study")
    return read


def _present(device: str) -> str:
    """Return the device, or the processor in place of a GPU that is not there."""
    return device if not device.startswith("cuda") or torch.cuda.is_available() else "cpu"


def _split_outside_brackets(text: str) -> list[str]:
    """Return the parts between the commas that stand outside all brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in OPENING) - (sign in CLOSING)
        if sign == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part for part in parts if part.strip()]


def _value(text: str) -> Any:
    """Return true and false as such, and any other value as text, without quotes around it."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
