"""The ways to run a plan that are timed: a prompt, and token after token behind it.

``apply`` is the Hugging Face model itself under a plan (:func:`impasto.apply`), ``stacked`` the
same with the weights of parallel layers stacked, ``bare`` the model without any plan, ``engine``
what :meth:`impasto.Model.generate` runs. Each reads a prompt, keeps its keys and values, and goes
on greedily: every token is read behind all that came before it.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.error import UserError
from impasto.plan import Plan
from impasto.run import Model, apply
from impasto.run.apply.cache import ReachLayer
from impasto.run.batching.request import TokenRequest
from impasto.run.calls import calling, evaluating
from impasto.run.generate.decoding_plan import Stopping
from impasto.run.generate.greedy import generate
from impasto.run.opening import opened
from impasto.speed.clock import Stopwatch

Way = Literal["apply", "stacked", "engine", "bare"]


@dataclass(frozen=True, slots=True)
class Timed:
    """What one run took, in seconds.

    Attributes:
        prefill: From the prompt to its first new token.
        token: One more token: the median over those that followed, or in the engine, their mean;
            None where none did.
    """

    prefill: float
    token: float | None


def run(
    model: Model,
    way: Way,
    plan: Plan,
    ids: Int[Tensor, "batch tokens"],
    new_tokens: int,
    watch: Stopwatch | None = None,
) -> Timed:
    """Read a prompt and so many of the tokens that follow it, and return what it took.

    A stopwatch that is given is marked as the first token is there, and at each further one.
    """
    watch = Stopwatch(ids.device) if watch is None else watch
    if way == "engine":
        _engine(model, plan, ids, new_tokens, watch)
        prefill, *rest = watch.seconds()
        return Timed(prefill, sum(rest) / new_tokens if new_tokens else None)
    with evaluating(model.hf), _applied(model, way, plan):
        _hugging_face(model.hf, ids, new_tokens, watch.start, watch.mark)
    prefill, *tokens = watch.seconds()
    return Timed(prefill, median(tokens) if tokens else None)


def _applied(model: Model, way: Way, plan: Plan) -> AbstractContextManager[object]:
    return nullcontext() if way == "bare" else apply(model.hf, plan, stack=way == "stacked")


def can_stack(model: Model, plan: Plan) -> bool:
    """Whether a plan has parallel layers whose weights can be stacked on a model."""
    try:
        with evaluating(model.hf), _applied(model, "stacked", plan):
            return True
    except UserError:
        return False


@torch.no_grad()
def _hugging_face(
    hf: Any,
    ids: Int[Tensor, "batch tokens"],
    new_tokens: int,
    start: Callable[[], None],
    mark: Callable[[], None],
) -> Any:
    """Run a Hugging Face model's cached loop; return the cache."""
    is_told = "logits_to_keep" in inspect.signature(hf.forward).parameters
    last = {"logits_to_keep": 1} if is_told else {}
    start()
    out = hf(input_ids=ids, use_cache=True, **last)
    token = out.logits[:, -1:].argmax(-1)
    mark()
    for _ in range(new_tokens):
        out = hf(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        token = out.logits[:, -1:].argmax(-1)
        mark()
    return out.past_key_values


def _engine(
    model: Model, plan: Plan, ids: Int[Tensor, "batch tokens"], new_tokens: int, watch: Stopwatch
) -> None:
    """Generate as :meth:`impasto.Model.generate` does.

    Marks are set at the first token and at the end. The first token counts as there when every
    prompt has one.
    """
    prompts = [TokenRequest(row, range(len(row) - 1, len(row)), {}) for row in ids.tolist()]
    waiting = len(prompts)

    def is_finished(written: list[int]) -> bool:
        nonlocal waiting
        if len(written) == 1 and waiting:
            waiting -= 1
            if not waiting:
                watch.mark()
        return False

    watch.start()
    limits = Stopping(new_tokens + 1, is_finished)
    with calling(model.hf):
        generate(opened(model.hf), [plan], prompts, limits, lambda share: None)
    if waiting or new_tokens:  # a text of one token ends before it is asked about
        watch.mark()


def kept_bytes(model: Model, plan: Plan) -> int:
    """Return how many bytes of keys and values a token leaves under a plan, read off the cache.

    Attentions that see less hold so many tokens and no more, and are left out.
    """
    fewer, more = (_cache_bytes(model, plan, tokens) for tokens in (2, 4))
    return (more - fewer) // 2


def _cache_bytes(model: Model, plan: Plan, tokens: int) -> int:
    ids = torch.zeros(1, tokens, dtype=torch.long, device=opened(model.hf).device)
    with evaluating(model.hf), apply(model.hf, plan):
        cache = _hugging_face(model.hf, ids, 0, lambda: None, lambda: None)
    behind = cache.layers[1:]  # the tokens that were read
    held = [layer for layer in behind if not isinstance(layer, ReachLayer)]
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in held)
