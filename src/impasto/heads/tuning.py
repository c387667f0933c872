"""Training a model with a plan in the place of its layers: the standard fine-tuning of GLUE."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from impasto.aside import remove
from impasto.error import UserError
from impasto.heads.keeping import Keep, last_whole
from impasto.heads.reading import Text, pooler_of, tokenized
from impasto.plan import Plan
from impasto.run.apply.handle import apply
from impasto.run.batching.padding import padded
from impasto.run.encoder_model import Encoder
from impasto.tasks.problem import FineTuned, Problem

Progress = Callable[[float], None]


def tuned(
    model: Encoder,
    plan: Plan,
    problem: Problem,
    texts: Sequence[Text],
    keep: Keep,
    progress: Progress = lambda share: None,
) -> list[float]:
    """Return what a model that was trained under a plan says of texts under that plan.

    A checkpoint that was kept is used; a training that was stopped goes on from its last epoch
    that is saved whole, or from the start.
    """
    how = problem.protocol
    assert isinstance(how, FineTuned)
    kept = keep.checkpoint(plan, problem)
    if kept is not None:
        hf = AutoModelForSequenceClassification.from_pretrained(kept, use_safetensors=True)
    else:
        hf = _trained(model, plan, problem, how, keep, progress)
    return _said(hf.to(model.hf.device).eval(), plan, problem, tokenized_rows(model, texts, how))


def classifier(model: Encoder, classes: int, seed: int) -> Any:
    """Return a model of the same family and weights with a fresh classifier, in fp32.

    Raises:
        UserError: when the family has no classifier of texts.
    """
    base, config = model.hf.base_model, type(model.hf.config).from_dict(model.hf.config.to_dict())
    config.num_labels = classes or 1
    config.problem_type = "single_label_classification" if classes else "regression"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            hf: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        except ValueError as error:
            raise UserError(f"{model!r} has no classifier of texts: {error}") from None
    if getattr(hf.base_model, "pooler", None) is not None:
        with suppress(UserError):  # without one, the fresh pooler is trained too
            hf.base_model.pooler.load_state_dict(pooler_of(model).state_dict())
    weights = {name: weight for name, weight in base.state_dict().items() if "pooler." not in name}
    missing, _ = hf.base_model.load_state_dict(weights, strict=False)
    assert all("pooler." in name for name in missing), missing
    return hf


def tokenized_rows(model: Encoder, texts: Sequence[Text], how: FineTuned) -> list[dict[str, Any]]:
    """Return texts as the trainer takes them, without labels."""
    return tokenized(model, texts, how.max_length)


def _trained(
    model: Encoder, plan: Plan, problem: Problem, how: FineTuned, keep: Keep, progress: Progress
) -> Any:
    hf = classifier(model, problem.classes, how.seed)
    texts = [(each.first, each.second) for each in problem.examples]
    rows = tokenized_rows(model, texts, how)
    label = int if problem.classes else float
    data: Any = [
        row | {"labels": label(each.label)}
        for row, each in zip(rows, problem.examples, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="impasto-") as spare:
        folder = keep.training(plan, problem) or Path(spare)
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=how.epochs,
            per_device_train_batch_size=how.batch,
            learning_rate=how.learning_rate,
            seed=how.seed,
            save_strategy="no" if keep.folder is None else "epoch",
            save_total_limit=1,
            report_to=[],
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=model.hf.device.type == "cpu",
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # a plan does not run in replicas of a model
        with apply(hf, plan), torch.enable_grad():
            trainer = Trainer(
                hf,
                arguments,
                train_dataset=data,
                data_collator=DataCollatorWithPadding(model.tokenizer),
                callbacks=[_Told(progress)],
            )
            trainer.remove_callback(PrinterCallback)  # it prints, and commands print by themselves
            last = last_whole(folder)
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        hf = hf.eval()
        if keep.folder is not None:
            written = folder / "finished"
            remove(written)  # of a run that was killed while it wrote it
            hf.save_pretrained(written)
            keep.finish(plan, problem, written)
    return hf


@torch.no_grad()
def _said(hf: Any, plan: Plan, problem: Problem, rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the class, or the number, that a trained model says of each row, under its plan."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    said: list[float] = [0.0] * len(rows)
    padding = getattr(hf.config, "pad_token_id", None) or 0
    with apply(hf, plan):
        for begin in range(0, len(order), 64):
            some = order[begin : begin + 64]
            fills = {"input_ids": padding}
            batch = {
                name: padded([rows[i][name] for i in some], fills.get(name, 0), hf.device)[0]
                for name in rows[some[0]]
            }
            logits = hf(**batch).logits.float().cpu()
            found = logits.argmax(1).tolist() if problem.classes else logits[:, 0].tolist()
            for index, value in zip(some, found, strict=True):
                said[index] = value
    return said


class _Told(TrainerCallback):
    """Tells how far a training is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the share of the steps that are done."""
        self._progress(state.global_step / max(state.max_steps, 1))
