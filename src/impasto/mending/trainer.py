"""The Trainer that distils, and what it is told beside: where it began, and how far it is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from impasto.mending.settings import Training
from impasto.mending.teaching import (
    Predicting,
    Stored,
    cross_entropy,
    distance,
    kl_of_all,
    kl_of_likeliest,
)

Progress = Callable[[float], None]


class Distilling(Trainer):
    """A trainer whose loss is KL(full model || healed plan), mixed with cross-entropy.

    While it trains, the distance of the final states counts, too: much at first, when it says more
    than the KL, and less with every step, for in the end the plan's states may be others. Held-out
    texts are asked without it.
    """

    def __init__(
        self, *given: Any, teacher: Stored | Predicting, settings: Training, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self._teacher, self._settings = teacher, settings
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss of the tokens of a batch."""
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        ids, wanted = given["input_ids"][:, 1:], given["attention_mask"][:, 1:].bool()
        how = self._settings
        is_distilled = how.distil > 0
        wants_states = is_distilled and how.states > 0 and model.training
        logits, states = Predicting(model, wants_states)(**given)
        loss = logits.new_zeros((), dtype=torch.float32)
        if is_distilled:
            kl, full = self._told(given, inputs["piece"].tolist(), logits / how.temperature)
            told = how.temperature**2 * kl[wanted].mean()
            if wants_states:
                left = 1 - self.state.global_step / max(self.state.max_steps, 1)
                told = told + how.states * left**4 * distance(full[wanted], states[wanted])
            loss = loss + how.distil * told
        if how.distil < 1:
            loss = loss + (1 - how.distil) * cross_entropy(logits, ids)[wanted].mean()
        return (loss, {}) if return_outputs else loss

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Warn of weights that a checkpoint lacks, but not of those stored under another name."""
        made: Any = self.model
        state, missing = made.state_dict(), set(load_result.missing_keys)
        there = {weight.data_ptr() for name, weight in state.items() if name not in missing}
        lost = [name for name in load_result.missing_keys if state[name].data_ptr() not in there]
        super()._issue_warnings_after_load(load_result._replace(missing_keys=lost))

    def _told(
        self, given: Any, pieces: Sequence[int], logits: Tensor
    ) -> tuple[Float[Tensor, "batch rows"], Float[Tensor, "batch rows hidden"]]:
        """Return the KL to what the full model predicts, and the full model's states."""
        if isinstance(self._teacher, Stored):
            rows = self._teacher.rows(pieces, logits.shape[1])
            moved = type(rows)(*(each.to(logits.device) for each in rows))
            states = self._teacher.states(pieces, logits.shape[1])
            return kl_of_likeliest(moved, logits), states.to(logits.device)
        with torch.no_grad():
            full = self._teacher(**given)
        return kl_of_all(full.logits / self._settings.temperature, logits), full.states


class BestFromStart(TrainerCallback):
    """Makes the weights that a training begins with a candidate for the best.

    Args:
        place: The training's folder.
        loss: Their loss on held-out texts.
    """

    def __init__(self, place: Path, loss: float) -> None:
        self._place, self._loss = place, loss

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say what is the best so far: a checkpoint that is there, or else the beginning."""
        best = self._place / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
        if best.is_dir():  # its name may be another one than before, for the folder may have moved
            state.best_model_checkpoint = str(best)
        else:
            state.best_metric, state.best_global_step = self._loss, 0
            state.best_model_checkpoint = None


class Told(TrainerCallback):
    """Tells how far a training is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the share of the steps that are done."""
        self._progress(state.global_step / max(state.max_steps, 1))
