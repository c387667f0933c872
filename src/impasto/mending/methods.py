"""A plan's healing, whatever the method: the texts, the checks, and the model that comes out."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from impasto.error import UserError
from impasto.mending.fitting import FittedGap, fitted
from impasto.mending.settings import Linear, Settings, Training
from impasto.mending.sides import Sides, divided
from impasto.mending.training import Spent, trained
from impasto.plan import Plan
from impasto.run import Encoder, Model
from impasto.run.headless import HeadlessModel
from impasto.run.opening import admit
from impasto.run.queries.fidelity import check_comparable
from impasto.speed.memory import peak_memory

PIECE = 512  # tokens of a piece where nothing is said

Progress = Callable[[float], None]


class Mended(NamedTuple):
    """What a method made.

    Attributes:
        hf: A Hugging Face model under which the plan is healed; PEFT's around one with adapters.
        spent: What it took.
        fitted: What was fitted in place of each gap.
    """

    hf: Any
    spent: Spent
    fitted: Sequence[FittedGap]


def mended(
    model: Model,
    plan: Plan,
    sides: Sides,
    settings: Settings,
    folder: Path | None,
    identity: Mapping[str, Any],
    progress: Progress,
) -> Mended:
    """Return what a method makes of a model, which stays as it is.

    Args:
        model: The full model.
        plan: The plan.
        sides: The texts.
        settings: The method's.
        folder: Where a training keeps where it is; None keeps nothing.
        identity: What makes it another training.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        UserError: when the plan cannot be healed so.
    """
    found: list[Any] = []
    began = time.perf_counter()
    if isinstance(settings, Linear):
        peak = peak_memory(
            lambda: found.append(fitted(model._opened, plan, sides, settings, progress)),
            model.hf.device,
        )
        [(hf, gaps)] = found
        tokens = sum(item.tokens for item in (*sides.fitting, *sides.held_out))
        return Mended(hf, Spent(time.perf_counter() - began, tokens, peak), gaps)
    assert isinstance(settings, Training)
    peak = peak_memory(
        lambda: found.append(trained(model, plan, sides, settings, folder, identity, progress)),
        model.hf.device,
    )
    [(hf, spent)] = found
    return Mended(hf, replace(spent, peak_bytes=peak), ())


def sides_of(model: Model, texts: Iterable[str], settings: Settings) -> Sides:
    """Return the texts, divided into those that fit, are held out, and measure."""
    length = settings.length or min(PIECE, model.max_positions or PIECE)
    if model.max_positions is not None and length > model.max_positions:
        raise UserError(
            f"pieces of {length} tokens exceed the model's {model.max_positions} positions: length "
            f"is at most {model.max_positions}"
        )
    return divided(
        texts,
        model.tokens,
        model._reader.prepended,
        tokens=settings.tokens,
        length=length,
        seed=settings.seed,
    )


def check(model: Any, plan: Plan, method: str) -> None:
    """Raise UserError where a plan on a model cannot be healed by a method."""
    if isinstance(model, Encoder | HeadlessModel) or not isinstance(model, Model):
        raise UserError(
            f"{model!r} predicts no next tokens, and healing brings those of a plan near to the "
            "full model's; encoders are trained under a plan by the task glue (fine-tuned)"
        )
    if model.tokenizer is None:
        raise UserError(f"{model!r} came without a tokenizer, which reads the texts")
    admit(model._opened, plan)
    check_comparable(model._opened, [plan])
    if plan == Plan.identity(model.num_layers):
        raise UserError(f"the plan {plan} is the full model, so there is nothing to heal")
    hf: Any = model.hf
    if any(isinstance(getattr(m, "active_adapters", None), list) for m in hf.modules()):
        raise UserError(
            "the model holds adapters already, and a healed one holds its own or none: merge them "
            "first, by load(folder, merge_adapter=True)"
        )
    quantised = getattr(hf, "hf_quantizer", None) is not None or getattr(hf, "is_quantized", False)
    if quantised and method != "lora":
        raise UserError(
            f"the model is quantised, and method {method} changes weights that a quantised model "
            "does not have; use method lora, or load the model without quantisation"
        )
