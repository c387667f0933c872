"""Training under a plan, by Hugging Face's Trainer, towards the full model's predictions.

A training keeps where it is in a folder beside its target, every so many steps. Whatever ends it,
the same call goes on from the last checkpoint that is whole; what comes out is the checkpoint with
the smallest loss on held-out texts, or the weights that it began with where none has a smaller one.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments

from impasto.aside import remove, written_aside
from impasto.error import UserError
from impasto.heads.keeping import last_whole
from impasto.mending.copying import shared_copy
from impasto.mending.settings import Lora, Training
from impasto.mending.sides import Ids, Item, Sides
from impasto.mending.teaching import Predicting, Stored, store
from impasto.mending.trainable import student
from impasto.mending.trainer import BestFromStart, Distilling, Told
from impasto.mending.writing import usual_count, written
from impasto.plain_data import read_json_file
from impasto.plan import Plan
from impasto.run import Model, apply
from impasto.run.batching.padding import padded

ENDING, ABOUT, WRITTEN = ".training", "training.json", "written.json"
WRITING, TEACHING = 0.1, 0.2  # of the time: until texts, and then predictions, are written

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Spent:
    """What healing took.

    Attributes:
        seconds: Of fitting or training, without measuring.
        tokens: How many tokens were read for it.
        peak_bytes: How far memory rose above where it was; None where that cannot be read.
        steps: How many steps were trained; 0 where nothing was.
        kept_step: The step whose weights were kept, the best on held-out texts; 0 where none was
            better than the plan as it is.
    """

    seconds: float
    tokens: int
    peak_bytes: int | None
    steps: int = 0
    kept_step: int = 0


def trained(
    model: Model,
    plan: Plan,
    sides: Sides,
    settings: Training,
    folder: Path | None,
    identity: Mapping[str, Any],
    progress: Progress,
) -> tuple[Any, Spent]:
    """Return a model that was trained under a plan, and what that took.

    Args:
        model: The full model, which stays as it is.
        plan: The plan.
        sides: The texts.
        settings: How.
        folder: Where the training keeps where it is; None keeps nothing.
        identity: What makes it another training.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        UserError: when nothing can be trained so, or the folder holds another training.
    """
    made = student(model._opened, plan, settings)
    with _kept(folder, identity) as place:
        began = time.perf_counter()
        full = shared_copy(model.hf)
        wants_states = settings.distil > 0 and settings.states > 0
        teacher: Stored | Predicting = Predicting(full, wants_states)
        sides = _with_written(full, place, sides, settings, progress)
        pieces = [piece for side in (sides.fitting, sides.held_out) for piece in _pieces(side)]
        if not isinstance(settings, Lora):
            teacher = _stored(full, teacher, place, pieces, settings, progress)
        state = _train(model, made, plan, sides, settings, teacher, place, progress)
        seconds = time.perf_counter() - began
    tokens = state.global_step * settings.batch * sum(map(len, _pieces(sides.fitting)))
    tokens //= max(len(_pieces(sides.fitting)), 1)
    kept = state.best_global_step
    if not kept:  # what is in memory is the last step
        made = student(model._opened, plan, settings)
    return made.eval(), Spent(seconds, tokens, None, state.global_step, kept)


def training_folder(out: Path) -> Path:
    """Return where a training keeps where it is, for a target."""
    return out.with_name(out.name + ENDING)


def _with_written(
    full: Any, place: Path, sides: Sides, settings: Training, progress: Progress
) -> Sides:
    """Return texts with what the full model writes among those that fit."""
    pieces, count = _pieces(sides.fitting), settings.written
    if count is None:
        count = usual_count(full, pieces, settings.steps * settings.batch)
    if not count:
        return sides
    new = written(
        full, pieces, count, settings.seed, place / WRITTEN, lambda s: progress(WRITING * s)
    )
    return replace(sides, fitting=(*sides.fitting, *(Item((piece,)) for piece in new)))


def _stored(
    full: Any,
    teacher: Predicting,
    place: Path,
    pieces: Sequence[Ids],
    settings: Any,
    progress: Progress,
) -> Stored:
    """Return the full model's likeliest tokens, written down now or before."""
    return store(
        place / "full_model.safetensors",
        lambda ids: teacher(input_ids=ids),
        pieces,
        settings.top_k,
        settings.temperature,
        full.device,
        lambda share: progress(WRITING + (TEACHING - WRITING) * share),
    )


def _train(
    model: Model,
    made: Any,
    plan: Plan,
    sides: Sides,
    settings: Training,
    teacher: Stored | Predicting,
    place: Path,
    progress: Progress,
) -> Any:
    """Train, and return the trainer's last state; the best step's weights are the model's then."""
    fitting, held_out = _pieces(sides.fitting), _pieces(sides.held_out)
    if settings.gradient_checkpointing:
        _checkpointing(made, "enable")
    with apply(made, plan), torch.enable_grad():
        trainer = Distilling(
            made,
            _arguments(settings, place, model.hf),
            train_dataset=_dataset(fitting, 0),
            eval_dataset=_dataset(held_out, len(fitting)),
            data_collator=_collated,
            callbacks=[
                EarlyStoppingCallback(early_stopping_patience=settings.patience),
                Told(lambda share: progress(TEACHING + (1 - TEACHING) * share)),
            ],
            teacher=teacher,
            settings=settings,
        )
        trainer.remove_callback(PrinterCallback)  # it prints, and commands print by themselves
        trainer.add_callback(BestFromStart(place, trainer.evaluate()["eval_loss"]))
        last = last_whole(place)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if settings.gradient_checkpointing:
        _checkpointing(made, "disable")
    return trainer.state


def _checkpointing(made: Any, switch: str) -> None:
    """Enable or disable gradient checkpointing, by the name that this transformers has for it."""
    names = [f"{kind}_checkpointing_{switch}" for kind in ("activation", "gradient")]
    getattr(made, next(name for name in names if hasattr(made, name)))()


def _arguments(settings: Training, place: Path, hf: Any) -> TrainingArguments:
    width = hf.config.get_text_config(decoder=True).hidden_size
    arguments = TrainingArguments(
        output_dir=str(place),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        learning_rate=settings.rate(width),
        weight_decay=settings.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * settings.steps),
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=min(settings.evaluate_every, settings.steps),
        save_steps=min(settings.evaluate_every, settings.steps),
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=settings.bf16,
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=hf.device.type == "cpu",
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # a plan runs on the model itself, not on copies
    return arguments


def _pieces(items: Sequence[Item]) -> list[Ids]:
    return [piece for item in items for piece in item.pieces]


def _dataset(pieces: Sequence[Ids], first: int) -> Any:
    return [{"ids": piece, "piece": first + number} for number, piece in enumerate(pieces)]


def _collated(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return a batch, padded on the right; the pieces' numbers say which rows were stored."""
    ids, is_real = padded([list(row["ids"]) for row in rows], 0, torch.device("cpu"))
    numbers = torch.tensor([row["piece"] for row in rows])
    mask = is_real.long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids, "piece": numbers}


@contextmanager
def _kept(folder: Path | None, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Give the folder of a training; one that is not to be kept goes at the end.

    Raises:
        UserError: when it holds another training.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="impasto-") as spare:
            yield Path(spare)
        return
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / ABOUT
    if about.exists():
        _check_same(folder, read_json_file(about), identity)
    else:
        with written_aside(about) as place:
            place.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
    yield folder


def _check_same(folder: Path, before: Any, identity: Mapping[str, Any]) -> None:
    if not isinstance(before, dict):
        raise UserError(f"{folder / ABOUT} is damaged; throw the training away with --fresh")
    now = json.loads(json.dumps(identity))
    names = dict.fromkeys([*before, *now])
    changed = [name for name in names if before.get(name) != now.get(name)]
    if changed:
        raise UserError(
            f"{folder} holds a training that was stopped, with other {', '.join(changed)}; call it "
            "as before to go on, throw it away with --fresh (fresh=True), or give another folder"
        )


def forget(out: Path) -> None:
    """Remove the training of a target that is written, or that is to begin anew."""
    remove(training_folder(out))
