"""The round trip: what a written folder computes once it is loaded, against the plan itself.

The folder is loaded as its users will, by plain ``AutoModelForCausalLM.from_pretrained``, and must
give the plan's logits at every position of a short text, without a cache and token by token with
one, and the plan's own greedy tokens.
"""

import inspect
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, dynamic_module_utils

from impasto.exporting.error import ExportError
from impasto.model.checks.decoder import difference
from impasto.plan import Plan
from impasto.run import Model, apply
from impasto.run.calls import evaluating

PROMPT, NEW = 12, 4


@dataclass(frozen=True)
class Expected:
    """What the plan gives on the source: a text, and the logits after each of its tokens.

    The last tokens of the text are those that the plan itself writes, greedily.
    """

    ids: Int[Tensor, "one tokens"]
    logits: Float[Tensor, "tokens vocab"]
    attention: str
    limit: float


@dataclass(frozen=True)
class RoundTrip:
    """The largest differences that were found, relative to the largest logit.

    Attributes:
        plain: Without a cache, at every position.
        cached: With a cache, token by token.
        limit: What counts as rounding.
    """

    plain: float
    cached: float
    limit: float


@torch.no_grad()
def expected(model: Model, plan: Plan) -> Expected:
    """Run the plan on the source."""
    hf = model.hf
    vocabulary = hf.config.get_text_config(decoder=True).vocab_size
    longest = (model.max_positions or PROMPT + NEW) - NEW
    ids = torch.tensor([[(7 * i + 3) % vocabulary for i in range(max(1, min(PROMPT, longest)))]])
    ids = ids.to(hf.get_input_embeddings().weight.device)
    with evaluating(hf), apply(hf, plan):
        for _ in range(NEW):
            ids = torch.cat([ids, hf(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        logits = hf(input_ids=ids, use_cache=False).logits[0]
    limit = 1e-5 if hf.dtype in (torch.float32, torch.float64) else 5e-2
    return Expected(ids, logits, hf.config._attn_implementation, limit)


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
            f"what was written does not run once it is loaded: {type(error).__name__}: {error}"
        ) from error


def _loaded(folder: Path, wanted: Expected, runs_code: bool) -> Any:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
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
        raise ExportError(f"what was written is not all that it should be when loaded: {stray}")
    return hf.eval().to(wanted.ids.device)


def _check(hf: Any, wanted: Expected) -> RoundTrip:
    plain = difference(hf(input_ids=wanted.ids, use_cache=False).logits[0], wanted.logits)
    cached = difference(_token_by_token(hf, wanted.ids), wanted.logits[-NEW - 1 :])
    found = RoundTrip(plain, cached, wanted.limit)
    for how, value in (("without a cache", plain), ("with a cache", cached)):
        if not value <= wanted.limit:
            raise ExportError(
                f"what was written does not give the plan's logits {how} when it is loaded "
                f"(relative difference {value:.1e}, allowed {wanted.limit:.0e}); nothing was kept"
            )
    _check_written(hf, wanted)
    return found


def _token_by_token(hf: Any, ids: Tensor) -> Tensor:
    """Return the logits after the prompt and after each new token, read one by one."""
    takes = inspect.signature(type(hf).forward).parameters
    name = next(each for each in ("past_key_values", "cache_params", "state") if each in takes)
    cache, logits, begin = None, [], 0
    for end in range(ids.shape[1] - NEW, ids.shape[1] + 1):
        out = hf(input_ids=ids[:, begin:end], **{name: cache}, use_cache=True)
        logits.append(out.logits[0, -1])
        cache, begin = out[name], end
    return torch.stack(logits)


def _check_written(hf: Any, wanted: Expected) -> None:
    """Compare what Hugging Face's ``generate`` writes; where two logits tie, either will do."""
    hf.generation_config = GenerationConfig()
    prompt = wanted.ids[:, :-NEW]
    own = wanted.ids[0, -NEW:].tolist()
    written = hf.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=0,
    )[0, -NEW:].tolist()
    for place, (token, other) in enumerate(zip(own, written, strict=True)):
        if token != other:
            logits = wanted.logits[place - NEW - 1].float()
            if logits[token] - logits[other] <= 2 * wanted.limit * logits.abs().max():
                return
            raise ExportError(f"what was written generates {written}, and the plan {own}")


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
