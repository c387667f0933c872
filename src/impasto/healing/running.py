"""Running a healing: open the model, divide the texts, heal, measure, write."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from impasto.error import UserError
from impasto.healing.healed import Healed
from impasto.healing.measuring import Run, on_tasks, on_texts
from impasto.mending.copying import shared_copy
from impasto.mending.fitting import FittedGap, fitted
from impasto.mending.settings import Linear, Lora, Settings, Training
from impasto.mending.sides import Sides, divided
from impasto.mending.training import Spent, forget, trained, training_folder
from impasto.plan import Plan
from impasto.run import Encoder, Model, load
from impasto.run.headless import HeadlessModel
from impasto.run.opening import admit
from impasto.run.queries.fidelity import check_comparable
from impasto.speed.memory import peak_memory
from impasto.study.file.entries import TaskEntry
from impasto.study.folder.lock import only_writer
from impasto.study.work.identity import digest_of, weights_digest
from impasto.tasks import Task, check_entry, code_allowed, load_suite

PIECE = 512  # tokens of a piece where nothing is said
HEALING = 0.8  # of the time, roughly; measuring has the rest


@dataclass(frozen=True)
class Asked:
    """What `impasto.heal` was asked; see there."""

    model: Any
    load: Mapping[str, Any]
    plan: Plan
    texts: Callable[[], Iterator[str]]
    method: str
    settings: Settings
    out: Path | None
    tasks: Sequence[str | Mapping[str, Any]]
    limit: int | None
    fresh: bool
    allow_code: bool
    progress: Callable[[float, str], None]

    def part(self, begin: float, end: float, doing: str) -> Callable[[float], None]:
        """Return what tells how far a part of the whole is."""
        return lambda share: self.progress(begin + (end - begin) * share, doing)


class Mended(NamedTuple):
    """What a method made.

    Attributes:
        hf: A Hugging Face model under which the plan is healed.
        spent: What it took.
        fitted: What was fitted in place of each gap.
        save: Writes its weights to a folder.
    """

    hf: Any
    spent: Spent
    fitted: Sequence[FittedGap]
    save: Callable[[Path], None]


def run_heal(asked: Asked) -> Healed:
    """Heal a plan; see `impasto.heal`, which this is the body of."""
    with code_allowed(asked.allow_code):
        if asked.out is not None and (asked.out.exists() or asked.out.is_symlink()):
            raise UserError(f"{asked.out} exists and is not overwritten; give another folder")
        tasks = _tasks(asked)
        asked.progress(0.0, "loading the model")
        model = _loaded(asked)
        tasks = [task for suite in tasks for task in suite.read_by(model).tasks]
        sides = _sides(asked, model)
        digests = {
            "plan": asked.plan.digest,
            "weights": weights_digest(model.hf),
            "texts": digest_of([sides.fitting, sides.held_out, sides.measuring]),
        }
        return _healed(asked, model, sides, tasks, digests)


def _healed(
    asked: Asked, model: Model, sides: Sides, tasks: Sequence[Task], digests: Mapping[str, str]
) -> Healed:
    mended = _mended(asked, model, sides, digests)
    healed = load(mended.hf, model.tokenizer)
    healed.memory = model.memory
    plain = shared_copy(model.hf)
    full = Plan.identity(model.num_layers)
    runs = Run(plain, full), Run(plain, asked.plan), Run(healed.hf, asked.plan)
    measured = on_texts(*runs, sides.measuring, asked.part(HEALING, 0.9, "measuring on texts"))
    asking = asked.part(0.9, 1.0, "measuring on tasks")
    measured += on_tasks(tasks, model, healed, asked.plan, asking)
    result = Healed(
        plan=asked.plan,
        method=asked.method,
        settings=asked.settings.model_dump(),
        base=model.name,
        digests=digests,
        measured=measured,
        spent=mended.spent,
        fitted=mended.fitted,
        folder=asked.out,
        model=healed,
    )
    if asked.out is not None:

        def save(folder: Path) -> None:
            mended.save(folder)
            if model.tokenizer is not None:
                model.tokenizer.save_pretrained(folder)

        result.write(asked.out, save)
        forget(asked.out)
    return result


def _mended(asked: Asked, model: Model, sides: Sides, digests: Mapping[str, str]) -> Mended:
    """Return what the method makes of the model."""
    settings = asked.settings
    told = asked.part(0.0, HEALING, f"healing by {asked.method}")
    if isinstance(settings, Linear):
        found: list[Any] = []
        began = time.perf_counter()
        peak = peak_memory(
            lambda: found.append(fitted(model._opened, asked.plan, sides, settings, told)),
            model.hf.device,
        )
        [(hf, gaps)] = found
        tokens = sum(item.tokens for item in (*sides.fitting, *sides.held_out))
        spent = Spent(time.perf_counter() - began, tokens, peak)
        return Mended(hf, spent, gaps, hf.save_pretrained)
    assert isinstance(settings, Training)
    return _trained(asked, model, sides, settings, digests, told)


def _trained(
    asked: Asked,
    model: Model,
    sides: Sides,
    settings: Training,
    digests: Mapping[str, str],
    told: Callable[[float], None],
) -> Mended:
    """Return what training makes of the model."""
    folder = None if asked.out is None else training_folder(asked.out)
    if asked.out is not None:
        if isinstance(settings, Lora) and not model.hf.config.name_or_path:
            raise UserError(
                "an adapter's folder names its base model, and this one was loaded from no folder "
                "and no hub; save it first (save_pretrained) and load it from there"
            )
        if asked.fresh:
            forget(asked.out)
    identity = {"method": asked.method, "settings": settings.model_dump(), **digests}
    found: list[Any] = []
    peak = peak_memory(
        lambda: found.append(trained(model, asked.plan, sides, settings, folder, identity, told)),
        model.hf.device,
    )
    [(hf, spent)] = found
    return Mended(hf, replace(spent, peak_bytes=peak), (), hf.save_pretrained)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a training's folder in the block; raises UserError where another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        yield


def _loaded(asked: Asked) -> Model:
    """Return the model to heal, opened; raises UserError for one that cannot be."""
    model = asked.model
    if isinstance(model, str | Path):
        model = load(model, **asked.load)
    elif asked.load:
        raise UserError(f"{', '.join(asked.load)}: options are for models that are yet to load")
    if not hasattr(model, "num_layers"):
        model = load(model)
    if isinstance(model, Encoder) or not isinstance(model, Model) or _is_headless(model):
        raise UserError(
            f"{model!r} predicts no next tokens, and healing brings those of a plan near to the "
            "full model's; encoders are trained under a plan by the task glue (fine-tuned)"
        )
    if model.tokenizer is None:
        raise UserError(f"{model!r} came without a tokenizer, which reads the texts")
    admit(model._opened, asked.plan)
    check_comparable(model._opened, [asked.plan])
    if asked.plan == Plan.identity(model.num_layers):
        raise UserError(f"the plan {asked.plan} is the full model, so there is nothing to heal")
    _check_weights(model, asked.method)
    return model


def _is_headless(model: Any) -> bool:
    return isinstance(model, HeadlessModel)


def _check_weights(model: Model, method: str) -> None:
    """Raise UserError where a model's weights are not to be changed, or written, by a method."""
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


def _sides(asked: Asked, model: Model) -> Sides:
    """Return the texts, divided into those that fit, are held out, and measure."""
    settings = asked.settings
    length = settings.length or min(PIECE, model.max_positions or PIECE)
    if model.max_positions is not None and length > model.max_positions:
        raise UserError(
            f"pieces of {length} tokens exceed the model's {model.max_positions} positions: length "
            f"is at most {model.max_positions}"
        )
    return divided(
        asked.texts(),
        model.tokens,
        model._reader.prepended,
        tokens=settings.tokens,
        length=length,
        seed=settings.seed,
    )


def _tasks(asked: Asked) -> list[Any]:
    """Return the suites of the tasks that are measured; raises UserError for what are none."""
    suites = []
    for entry in asked.tasks:
        options = {"name": entry} if isinstance(entry, str) else dict(entry)
        if not isinstance(options.get("name"), str):
            raise UserError("a task is a name, or a mapping such as {name: arithmetic, terms: 2}")
        check_entry(dict(options))
        suites.append(load_suite(dict(TaskEntry(options).limited(asked.limit).options)))
    return suites
