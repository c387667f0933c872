"""Arguments of the public functions, checked before anything runs.

Each function takes an argument as the caller gives it and returns it in the form that the rest of
the package uses, or raises ``UserError`` with what is wrong and what would be right. Nothing here
needs a model, and nothing is guessed: a number is no text, ``2.5`` is no number of tokens, a text
is no list of texts.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.error import UserError, shown
from impasto.model.loading.wrapped import is_wrapped
from impasto.plan import Plan

Ids = list[int]


def checked_plan(plan: object) -> Plan:
    """Return the plan; a text is not parsed, since the number of layers would be guessed."""
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, str):
        raise UserError(f"{shown(plan)} is not a plan; write Plan.parse({shown(plan)})")
    raise UserError(f"a plan is what Plan.parse returns, not {shown(plan)}")


def checked_plans(plans: object) -> list[Plan]:
    """Return one plan, or several, as a list."""
    if isinstance(plans, Plan | str) or not isinstance(plans, Iterable):
        return [checked_plan(plans)]
    return [checked_plan(plan) for plan in plans]


def checked_tokens(count: object, what: str = "max_new_tokens", least: int = 1) -> int:
    """Return a number of tokens, which is at least one, or another least number."""
    number = _whole(count)
    if number is None or number < least:
        raise UserError(f"{what} is a whole number of at least {least}, not {shown(count)}")
    return number


def checked_prompts(prompts: object, what: str = "prompts") -> list[str | Ids]:
    """Return prompts, each as text or as a list of token ids."""
    if isinstance(prompts, str | bytes):
        raise UserError(f"{what} is a list; for one alone write [{shown(prompts)}]")
    single = what.removesuffix("s")
    return [
        checked_prompt(prompt, f"{single} {row}")
        for row, prompt in enumerate(_listed(prompts, what, "texts, or of lists of token ids"))
    ]


def checked_prompt(prompt: object, what: str = "a prompt") -> str | Ids:
    """Return a text, or a list of token ids."""
    if isinstance(prompt, str):
        return prompt
    form = "text or a list of token ids"
    if isinstance(prompt, Mapping):
        raise UserError(f"{what} is {form}, not {_kind(prompt)}; give its input_ids")
    if isinstance(prompt, Tensor) and prompt.dim() != 1:
        raise UserError(f"{what} is {form}, not a tensor of shape {tuple(prompt.shape)}")
    if isinstance(prompt, Tensor) and (prompt.is_floating_point() or prompt.dtype == torch.bool):
        raise UserError(f"{what} is {form}, not a tensor of {prompt.dtype}")
    if isinstance(prompt, bytes) or not isinstance(prompt, Iterable):
        raise UserError(f"{what} is {form}, not {shown(prompt)}")
    return [_token(token, what) for token in _values(prompt)]


def checked_pairs(requests: object) -> list[tuple[str | Ids, str | Ids]]:
    """Return requests to score as pairs of a context and a continuation."""
    form = '("The capital of France is", " Paris")'
    pairs = []
    for row, request in enumerate(_listed(requests, "requests", f"pairs such as {form}")):
        if not isinstance(request, list | tuple) or len(request) != 2:
            raise UserError(
                f"request {row} is a pair of a context and a continuation, such as {form}, "
                f"not {shown(request)}"
            )
        context, continuation = request
        pairs.append(
            (
                checked_prompt(context, f"the context of request {row}"),
                checked_prompt(continuation, f"the continuation of request {row}"),
            )
        )
    return pairs


def checked_stops(stop: object) -> list[str]:
    """Return the texts that end a continuation."""
    if isinstance(stop, str):
        raise UserError(f"stop is a list of texts; for one alone write [{shown(stop)}]")
    stops = _listed(stop, "stop", 'texts such as "\\n"')
    for text in stops:
        if not isinstance(text, str) or not text:
            raise UserError(f"a stop is a text of at least one character, not {shown(text)}")
    return stops


def checked_batch(
    input_ids: object, attention_mask: object, vocabulary: int
) -> tuple[Int[Tensor, "batch tokens"], Int[Tensor, "batch tokens"] | None]:
    """Return a batch of token ids and its attention mask; every row has a real token.

    Args:
        input_ids: The token ids, batch × tokens.
        attention_mask: Of the same shape, 1 at real tokens and 0 at padding; None if all are real.
        vocabulary: How many token ids the model has.
    """
    if not isinstance(input_ids, Tensor) or input_ids.dim() != 2 or not input_ids.numel():
        raise UserError(
            f"input_ids is a tensor of token ids, batch × tokens, not {_tensor_or(input_ids)}"
        )
    if input_ids.is_floating_point() or input_ids.is_complex() or input_ids.dtype == torch.bool:
        raise UserError(f"input_ids is a tensor of whole numbers, not of {input_ids.dtype}")
    ids = input_ids.long()
    wrong = ids[(ids < 0) | (ids >= vocabulary)]
    if wrong.numel():
        raise UserError(
            f"input_ids has the token {int(wrong[0])}, which is not in the vocabulary "
            f"0..{vocabulary - 1}"
        )
    return ids, None if attention_mask is None else _mask(attention_mask, ids)


def _mask(attention_mask: object, ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
    form = "attention_mask has the shape of input_ids and a 1 in every row"
    if not isinstance(attention_mask, Tensor) or attention_mask.shape != ids.shape:
        raise UserError(
            f"{form}; the shape is {tuple(ids.shape)}, and this is {_tensor_or(attention_mask)}"
        )
    if attention_mask.is_floating_point() or attention_mask.is_complex():
        raise UserError(f"attention_mask is 1 or 0, of whole numbers, not {attention_mask.dtype}")
    mask = attention_mask.long()
    neither = mask[(mask != 0) & (mask != 1)]
    if neither.numel():
        raise UserError(f"attention_mask is 1 at real tokens and 0 at others, not {neither[0]}")
    empty = (~mask.any(1)).nonzero()
    if empty.numel():
        raise UserError(f"{form}; row {int(empty[0])} has none")
    return mask


def checked_mask_token(token: object, vocabulary: int) -> int:
    """Return the id of the token that masks another."""
    number = _whole(token)
    if number is None or not 0 <= number < vocabulary:
        raise UserError(f"mask_token is a token from 0 to {vocabulary - 1}, not {shown(token)}")
    return number


def checked_memory(memory: object) -> int | None:
    """Return how many bytes a batch may take; None for a share of the free ones."""
    number = _whole(memory)
    if memory is not None and (number is None or number < 1):
        raise UserError(
            f"memory is a number of bytes from 1, such as 8 * 2**30, or None; not {shown(memory)}"
        )
    return number


def checked_model(hf: object) -> nn.Module:
    """Return a Hugging Face model, which PEFT or torch.compile may have wrapped."""
    if isinstance(hf, nn.Module) and (isinstance(hf, PreTrainedModel) or is_wrapped(hf)):
        return hf
    if isinstance(getattr(hf, "hf", None), PreTrainedModel):
        raise UserError(f"{shown(hf)} is impasto's; give the Hugging Face model: model.hf")
    raise UserError(f"a plan is applied to a loaded Hugging Face model, not to {_kind(hf)}")


def checked_span(span: object, what: str) -> str | tuple[int, int]:
    """Return a span of a prompt: a text, or a half-open range of its tokens."""
    if isinstance(span, str):
        return span
    if isinstance(span, Sequence) and len(span) == 2:
        start, stop = map(_whole, span)
        if start is not None and stop is not None:
            return start, stop
    raise UserError(
        f"{what} is a text that occurs once in its prompt, or a half-open token range such as "
        f"(2, 4), not {shown(span)}"
    )


# ------------------------------------------------------------------ kinds of values


def _listed(values: object, what: str, of: str) -> list[Any]:
    """Return values as a list; ``what`` they are and what they are a list ``of`` is for errors."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise UserError(f"{what} is a list of {of}, not {shown(values)}")
    return _values(values)


def _values(values: Iterable[Any]) -> list[Any]:
    """Return values as a list, those of a tensor as Python's numbers."""
    if isinstance(values, Tensor) and not values.dim():
        raise UserError(f"a list is needed, not the number {values.item()}")
    return values.tolist() if isinstance(values, Tensor) else list(values)


def _token(token: object, what: str) -> int:
    number = _whole(token)
    if number is None:
        raise UserError(f"{what} is text or a list of token ids, and {shown(token)} is no token id")
    return number


def _whole(value: Any) -> int | None:
    """Return a whole number, NumPy's and torch's too, as Python's; None for anything else."""
    if isinstance(value, bool) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        return None
    try:
        return index(value)
    except TypeError:
        return None


def _tensor_or(value: object) -> str:
    """Return the name of a value that is no tensor, or the shape of one, for errors."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{_kind(value)} (write torch.tensor(…))" if value is not None else "None"


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
