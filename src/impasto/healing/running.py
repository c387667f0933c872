"""Running a healing: open the model, divide the texts, heal, measure, write."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.aside import remove
from impasto.error import UserError
from impasto.healing.healed import Healed
from impasto.healing.measuring import Run, on_tasks, on_texts
from impasto.mending.copying import shared_copy
from impasto.mending.methods import Mended, check, mended, sides_of
from impasto.mending.settings import Settings
from impasto.mending.sides import Sides
from impasto.mending.training import ABOUT, forget, training_folder
from impasto.plan import Plan
from impasto.plan.healed import NAME
from impasto.run import Model, load
from impasto.study.file.entries import TaskEntry
from impasto.study.folder.files import make_folder
from impasto.study.folder.lock import HOLDER, LOCK, STOP, only_writer
from impasto.study.work.identity import digest_of, weights_digest
from impasto.tasks import Task, check_entry, code_allowed, load_suite
from impasto.tasks.texts import NAME as TEXTS

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


def run_heal(asked: Asked) -> Healed:
    """Heal a plan; see `impasto.heal`, which this is the body of."""
    with code_allowed(asked.allow_code):
        if asked.out is not None and (asked.out.exists() or asked.out.is_symlink()):
            _forget_healed(asked.out)
            raise UserError(f"{asked.out} exists and is not overwritten; give another folder")
        suites = _tasks(asked)
        with nullcontext() if asked.out is None else _alone(asked.out):
            asked.progress(0.0, "loading the model")
            model = _loaded(asked)
            tasks = [task for suite in suites for task in suite.read_by(model).tasks]
            sides = sides_of(model, asked.texts(), asked.settings)
            digests = {
                "plan": asked.plan.digest,
                "weights": weights_digest(model.hf),
                "texts": digest_of([sides.fitting, sides.held_out, sides.measuring]),
            }
            return _healed(asked, model, sides, tasks, digests)


def _healed(
    asked: Asked, model: Model, sides: Sides, tasks: Sequence[Task], digests: Mapping[str, str]
) -> Healed:
    made = _mended(asked, model, sides, digests)
    healed = load(made.hf, model.tokenizer)
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
        spent=made.spent,
        fitted=made.fitted,
        folder=asked.out,
        model=healed,
    )
    if asked.out is not None:

        def save(folder: Path) -> None:
            made.hf.save_pretrained(folder)
            if model.tokenizer is not None:
                model.tokenizer.save_pretrained(folder)

        result.write(asked.out, save)
        forget(asked.out)
    return result


def _mended(asked: Asked, model: Model, sides: Sides, digests: Mapping[str, str]) -> Mended:
    """Return what the method makes of the model."""
    settings, out = asked.settings, asked.out
    folder = None
    if out is not None and settings.trains:
        if asked.method == "lora" and not model.hf.config.name_or_path:
            raise UserError(
                "an adapter's folder names its base model, and this one was loaded from no folder "
                "and no hub; save it first (save_pretrained) and load it from there"
            )
        folder = training_folder(out)
        for path in folder.iterdir() if asked.fresh else ():
            if path.name not in (LOCK, HOLDER):
                remove(path)
    identity = {"method": asked.method, "settings": settings.model_dump(), **digests}
    told = asked.part(0.0, HEALING, f"healing by {asked.method}")
    return mended(model, asked.plan, sides, settings, folder, identity, told)


def _forget_healed(out: Path) -> None:
    """Remove the training of a folder that is written, where a kill left it."""
    training = training_folder(out)
    if (out / NAME).is_file() and (training / ABOUT).is_file():
        with only_writer(training):
            forget(out)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold a target's training folder in the block; raises UserError where another process does.

    Nothing stays of it, or of folders above it, but a training that can go on.
    """
    folder = training_folder(out)
    made = [above for above in folder.parents if not above.exists()]
    make_folder(folder)
    with only_writer(folder, f"Wait for it, {STOP}, or give another folder"):
        try:
            yield
        finally:
            if not (folder / ABOUT).is_file():
                remove(folder)
                with suppress(OSError):  # of one that something else was put into
                    for above in made:
                        above.rmdir()


def _loaded(asked: Asked) -> Model:
    """Return the model to heal, opened; raises UserError for one that cannot be."""
    model: Any = asked.model
    if isinstance(model, str | Path):
        model = load(model, **asked.load)
    elif asked.load:
        raise UserError(f"{', '.join(asked.load)}: options are for models that are yet to load")
    if not hasattr(model, "num_layers"):
        model = load(model)
    check(model, asked.plan, asked.method)
    return model


def _tasks(asked: Asked) -> list[Any]:
    """Return the suites of the tasks that are measured; raises UserError for what are none."""
    suites = []
    for entry in asked.tasks:
        options = {"name": entry} if isinstance(entry, str) else dict(entry)
        if not isinstance(options.get("name"), str):
            raise UserError("a task is a name, or a mapping such as {name: arithmetic, terms: 2}")
        check_entry(dict(options))
        if options["name"] == TEXTS:
            raise UserError(
                "texts are measured anyway, a quarter of those that are given; a task is another"
            )
        suites.append(load_suite(dict(TaskEntry(options).limited(asked.limit).options)))
    return suites
