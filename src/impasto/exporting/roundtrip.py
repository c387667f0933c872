"""The round trip: what a written folder computes once it is loaded, against the plan itself.

The folder is loaded as its users will, by ``from_pretrained`` of its Auto class (mostly
``AutoModelForCausalLM``), and must give the plan's logits at every position of a short text,
without a cache and token by token with one, and the plan's own greedy tokens. Of a model without
the head that predicts next tokens, the states behind the final norm stand for the logits, and
nothing is written; an encoder has no cache either.
"""

import inspect
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, dynamic_module_utils

from impasto.exporting.error import ExportError
from impasto.model.checks.decoder import difference
from impasto.model.loading.kinds import auto_class
from impasto.plan import Plan
from impasto.run import Encoder, Model, apply
from impasto.run.calls import evaluating
from impasto.run.opening import opened

PROMPT, NEW = 12, 4
_INSTEAD = "impasto.load and impasto.apply run the plan"
CACHES = ("past_key_values", "cache_params", "state")  # how forwards call what they keep


@dataclass(frozen=True)
class Expected:
    """What the plan gives on the source: a text, and the logits after each of its tokens.

    The last tokens of the text are those that the plan itself writes, greedily. Hugging Face's
    ``generate`` writes the same, but for families whose forward counts positions otherwise than it
    tells them (RoBERTa's, from behind the padding token's): there, what it writes under the plan.
    """

    ids: Int[Tensor, "one tokens"]
    logits: Float[Tensor, "tokens vocab"]
    written: list[int]
    auto: str
    attention: str
    limit: float
    is_encoder: bool


@dataclass(frozen=True)
class RoundTrip:
    """The largest differences that were found, relative to the largest logit.

    Attributes:
        plain: Without a cache, at every position.
        cached: With a cache, token by token; None for a model that takes none.
        limit: What counts as rounding.
    """

    plain: float
    cached: float | None
    limit: float

    @property
    def worst(self) -> float:
        """The larger difference."""
        return max(self.plain, self.cached or 0.0)


@torch.no_grad()
def expected(model: Model | Encoder, plan: Plan) -> Expected:
    """Run the plan on the source."""
    hf, is_encoder = model.hf, isinstance(model, Encoder)
    vocabulary = hf.config.get_text_config(decoder=True).vocab_size
    longest = (model.max_positions or PROMPT + NEW) - NEW
    ids = torch.tensor([[(7 * i + 3) % vocabulary for i in range(max(1, min(PROMPT, longest)))]])
    ids = ids.to(hf.get_input_embeddings().weight.device)
    with evaluating(hf), apply(hf, plan):
        for _ in range(NEW):
            token = _at_once(hf, ids, is_encoder)[:, -1:].argmax(-1)
            ids = torch.cat([ids, token % vocabulary], 1)
        logits = _at_once(hf, ids, is_encoder)[0]
        written = ids[0, -NEW:].tolist()
        if not is_encoder and hf.can_generate() and _counts_otherwise(hf):
            written = _written(hf, ids[:, :-NEW])
    limit = 5e-2
    if hf.dtype in (torch.float32, torch.float64):
        # a recurrence sums a whole text in another order than token by token
        limit = 1e-5 if model.runs_sequences is None else 1e-4
    attention = hf.config._attn_implementation
    return Expected(ids, logits, written, auto_class(hf), attention, limit, is_encoder)


def _counts_otherwise(hf: Any) -> bool:
    """Whether a model takes positions, and counts other ones than generate tells it."""
    source = opened(hf)
    return source.takes_positions and source.counts_places


def _at_once(hf: Any, ids: Tensor, is_encoder: bool) -> Tensor:
    """Return what a forward without a cache gives for all tokens."""
    return _outcome(hf, input_ids=ids, **({} if is_encoder else {"use_cache": False}))[0]


def _outcome(hf: Any, **given: Any) -> tuple[Tensor, Any]:
    """Return a forward's logits, or its final states where there is no head, and its cache."""
    output = hf(**given) if hf.can_generate() else hf.base_model(**given)
    values = output.logits if hf.can_generate() else output.last_hidden_state
    cache = next((output[name] for name in CACHES if name in output), None)
    return values, cache


@torch.no_grad()
def check(folder: Path, wanted: Expected, runs_code: bool) -> RoundTrip:
    """Load a written folder and compare.

    Raises:
        ExportError: when it does not load, or does not give what the plan gives.
    """
    try:
        with _no_trace(folder):
            return _check(_loaded(folder, wanted, runs_code), wanted)
    except ExportError:
        raise
    except Exception as error:  # whatever it is, the folder is not what it should be
        raise ExportError(
            f"what was written does not run once it is loaded: {type(error).__name__}: "
            f"{(str(error).strip() or 'no message').splitlines()[0]}; {_INSTEAD}"
        ) from error


def _loaded(folder: Path, wanted: Expected, runs_code: bool) -> Any:
    loaded: Any = getattr(transformers, wanted.auto).from_pretrained(
        folder,
        dtype="auto",
        trust_remote_code=runs_code,
        attn_implementation=wanted.attention,
        use_safetensors=True,
        output_loading_info=True,
    )
    hf, report = loaded
    stray = {kind: sorted(names) for kind, names in report.items() if names}
    if stray:
        raise ExportError(
            f"what was written is not all that it should be when loaded ({stray}); {_INSTEAD}"
        )
    return hf.eval().to(wanted.ids.device)


def _check(hf: Any, wanted: Expected) -> RoundTrip:
    plain = difference(_at_once(hf, wanted.ids, wanted.is_encoder)[0], wanted.logits)
    cached = None
    if not wanted.is_encoder and _cache_name(hf) is not None:
        cached = difference(_token_by_token(hf, wanted.ids), wanted.logits[-NEW - 1 :])
    found = RoundTrip(plain, cached, wanted.limit)
    for how, value in (("without a cache", plain), ("with a cache", cached)):
        if value is not None and not value <= wanted.limit:
            raise ExportError(
                f"what was written does not give the plan's logits {how} when it is loaded "
                f"(relative difference {value:.1e}, allowed {wanted.limit:.0e}); nothing was kept; "
                f"{_INSTEAD}"
            )
    if hf.can_generate():
        _check_written(hf, wanted)
    return found


def _cache_name(hf: Any) -> str | None:
    """Return the argument in which a model takes what it has read; None where it keeps nothing."""
    takes = inspect.signature(type(hf).forward).parameters
    return next((each for each in CACHES if each in takes), None)


def _token_by_token(hf: Any, ids: Tensor) -> Tensor:
    """Return the logits after the prompt and after each new token, read one by one."""
    name = _cache_name(hf)
    assert name is not None, "it takes a cache"
    cache, logits, begin = None, [], 0
    for end in range(ids.shape[1] - NEW, ids.shape[1] + 1):
        given = {"input_ids": ids[:, begin:end], name: cache, "use_cache": True}
        values, cache = _outcome(hf, **given)
        logits.append(values[0, -1])
        begin = end
    return torch.stack(logits)


def _written(hf: Any, prompt: Int[Tensor, "one tokens"]) -> list[int]:
    """Return the tokens that Hugging Face's ``generate`` writes, under its usual settings."""
    before, hf.generation_config = hf.generation_config, GenerationConfig()
    try:
        return hf.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
        )[0, -NEW:].tolist()
    finally:
        hf.generation_config = before


def _check_written(hf: Any, wanted: Expected) -> None:
    """Compare what Hugging Face's ``generate`` writes; where two logits tie, either will do."""
    own, written = wanted.written, _written(hf, wanted.ids[:, :-NEW])
    for place, (token, other) in enumerate(zip(own, written, strict=True)):
        if token != other:
            logits = wanted.logits[place - NEW - 1].float()
            if logits[token] - logits[other] <= 2 * wanted.limit * logits.abs().max():
                return
            raise ExportError(
                f"what was written generates {written}, and the plan {own}; {_INSTEAD}"
            )


@contextmanager
def _no_trace(folder: Path) -> Iterator[None]:
    """Remove what transformers keeps of a folder's code, for that folder is yet to be renamed."""
    own: Any = dynamic_module_utils
    name = own._sanitize_module_name(folder.name)
    known = Path(own.HF_MODULES_CACHE, own.TRANSFORMERS_DYNAMIC_MODULE_NAME, name)
    try:
        yield
    finally:
        shutil.rmtree(known, ignore_errors=True)
