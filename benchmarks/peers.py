"""How many plans are run without a sweep: one after the other, each as well as it can be done.

* Hand-edited models: for each plan a Hugging Face model whose list of layers is rebuilt from the
  paper's own description, sharing all weights. Nothing of impasto runs in them; what is dropped or
  skipped costs nothing. lm-eval's `HFLM` scores them.
* Applied plans: the Hugging Face model under `impasto.apply`, for plans that no list of layers can
  say. `HFLM` scores it, or its own `generate` writes.

A peer is a context manager: entering it sets a plan up, and it gives a function from inputs to
answers.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from types import MappingProxyType
from typing import Any

import torch
from lm_eval.models import huggingface
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

import impasto
from impasto import Plan, strategies
from impasto.plan import Layer

HFLM: Any = huggingface.HFLM  # its decorator hides its type
BATCH = 16

Layers = Sequence[nn.Module]
Input = tuple[list[int], Any]  # context and continuation; or prompt and how many new tokens
Answers = list[Any]  # a log-likelihood, or new tokens, for each input


@dataclass(frozen=True)
class Case:
    """One plan of a family, and what it was made from."""

    family: str
    choices: Mapping[str, Any]
    plan: Plan


Peer = Callable[[impasto.Model, Case], AbstractContextManager[Callable[[Sequence[Input]], Answers]]]


def cases(family: str, T: int, **choices: Sequence[Any]) -> list[Case]:
    """Return a family's plans for every combination of the choices."""
    combinations = [dict(zip(choices, each, strict=True)) for each in product(*choices.values())]
    make = strategies.STRATEGIES[family].function
    return [Case(family, chosen, make(T, **chosen)) for chosen in combinations]


@contextmanager
def hand_edited(model: impasto.Model, case: Case) -> Iterator[Callable[[Sequence[Input]], Answers]]:
    """Score on a model whose layers are edited by hand."""
    edit = EDITS[case.family]
    yield partial(scores, harness_of(edited(model.hf, partial(edit, **case.choices))))


@contextmanager
def applied(model: impasto.Model, case: Case) -> Iterator[Callable[[Sequence[Input]], Answers]]:
    """Score on the model itself, under `impasto.apply`."""
    harness = harness_of(model.hf)
    with impasto.apply(model.hf, case.plan):
        yield partial(scores, harness)


@contextmanager
def applied_generation(
    model: impasto.Model, case: Case
) -> Iterator[Callable[[Sequence[Input]], Answers]]:
    """Write with the model's own `generate`, all prompts in one batch, under `impasto.apply`."""
    with impasto.apply(model.hf, case.plan):
        yield partial(_written, model.hf)


# ---------------------------------------------------------------------- edits by hand


def drop_last(layers: Layers, part: str, count: int, keep_last: bool) -> list[nn.Module]:
    """Drop a part of the last ``count`` layers, or of those before the last."""
    stop = len(layers) - keep_last
    dropped = {
        "attention": [WithoutAttention(layer) for layer in layers[stop - count : stop]],
        "mlp": [WithoutMLP(layer) for layer in layers[stop - count : stop]],
        "block": [],
    }[part]
    return [*layers[: stop - count], *dropped, *layers[stop:]]


def middle(layers: Layers, n: int, replace: Callable[[Layers], Layers]) -> list[nn.Module]:
    """Put something in place of the middle layers n+1…T−n−1."""
    stop = len(layers) - n
    return [*layers[: n + 1], *replace(layers[n + 1 : stop]), *layers[stop:]]


def middle_repeat(layers: Layers, n: int) -> list[nn.Module]:
    """Run the middle layer once for each of the middle layers."""
    return middle(layers, n, lambda inner: [layers[len(layers) // 2]] * len(inner))


def random_order(layers: Layers, n: int, seed: int) -> list[nn.Module]:
    """Run the middle layers in the order that impasto draws from this seed."""
    steps = strategies.random_order(len(layers), n, seed).steps
    return [layers[step.index] for step in steps if isinstance(step, Layer)]


def looped_parallel(layers: Layers, n: int, loops: int) -> list[nn.Module]:
    """Run the average of the middle layers, fed back to itself."""
    return middle(layers, n, lambda inner: [Average(inner)] * loops)


EDITS: Mapping[str, Callable[..., list[nn.Module]]] = MappingProxyType({
    "drop_last": drop_last,
    "skip": lambda layers, n: middle(layers, n, lambda inner: []),
    "middle_repeat": middle_repeat,
    "reverse": lambda layers, n: middle(layers, n, lambda inner: inner[::-1]),
    "random_order": random_order,
    "parallel": partial(looped_parallel, loops=1),
    "looped_parallel": looped_parallel,
})  # fmt: skip


class WithoutAttention(nn.Module):
    """A Llama layer that runs its MLP only."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, states: Tensor, **_: Any) -> Tensor:
        """Return x + mlp(norm(x))."""
        return states + self.layer.mlp(self.layer.post_attention_layernorm(states))


class WithoutMLP(nn.Module):
    """A Llama layer that runs its attention only."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, states: Tensor, **arguments: Any) -> Tensor:
        """Return x + attention(norm(x))."""
        seen = self.layer.input_layernorm(states)
        return states + self.layer.self_attn(hidden_states=seen, **arguments)[0]


class Average(nn.Module):
    """Layers side by side, averaged."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, states: Tensor, **arguments: Any) -> Tensor:
        """Return the mean of what the layers make of the same states."""
        first, *rest = self.layers
        total = first(states, **arguments)
        for layer in rest:
            total += layer(states, **arguments)
        return total.div_(len(self.layers))


def edited(hf: Any, edit: Callable[[Layers], list[nn.Module]]) -> Any:
    """Return a model that shares every weight with another and has its layers edited."""
    twin = _shallow(hf)
    twin.model = _shallow(hf.model)
    twin.model.layers = nn.ModuleList(edit(list(hf.model.layers)))
    config = copy.copy(hf.config)
    config.num_hidden_layers = len(twin.model.layers)
    if getattr(config, "layer_types", None):  # by which the model masks
        kinds = dict(zip(map(id, hf.model.layers), config.layer_types, strict=True))
        config.layer_types = [kinds.get(id(each), "") for each in twin.model.layers]
    # Scoring needs no cache; and one would mix up the turns of a layer that runs twice.
    config.use_cache = False
    twin.config = twin.model.config = config
    return twin


def _shallow(module: nn.Module) -> Any:
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    return twin


# ---------------------------------------------------------------------- running them


def harness_of(hf: Any) -> Any:
    """Return lm-eval's runner for a loaded model.

    In low precision its log-softmax runs in fp32, or its sums would be too coarse to be compared.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(
        pretrained=hf,
        tokenizer=_tokenizer(hf.config.vocab_size),
        batch_size=BATCH,
        softmax_dtype=None if hf.dtype == torch.float32 else "float32",
    )


@cache
def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer that is there because HFLM wants one; requests are token ids."""
    words = {str(token): token for token in range(vocabulary)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")), unk_token="0", eos_token="1"
    )


def scores(harness: Any, inputs: Sequence[Input]) -> Answers:
    """Return the log-likelihood of each input under a runner."""
    requests = [(("", ""), context, continuation) for context, continuation in inputs]
    return [score for score, _ in harness._loglikelihood_tokens(requests, disable_tqdm=True)]


@torch.no_grad()
def _written(hf: Any, inputs: Sequence[Input]) -> Answers:
    ids = torch.tensor([prompt for prompt, _ in inputs], device=hf.device)
    every = hf.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=inputs[0][1],
        do_sample=False,
        pad_token_id=0,
    )
    return every[:, ids.shape[1] :].tolist()
