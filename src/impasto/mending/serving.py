"""Healed plans of a study: healed when they are first asked, kept beside its results, and asked.

What is kept are the weights that differ from the model's, adapters merged in. A training that was
stopped goes on there. Without a folder (on a cluster's workers), a process heals a plan once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from impasto.aside import remove, written_aside
from impasto.error import UserError
from impasto.mending.copying import shared_copy
from impasto.mending.methods import check, mended, sides_of
from impasto.mending.settings import read_settings
from impasto.model.structure.added_maps import CHILD, add_map
from impasto.plan import Plan
from impasto.plan.healed import HealedPlan
from impasto.run import Model, apply, load
from impasto.run.queries.fidelity import TextFidelity
from impasto.tasks import texts as texts_of

AT_ONCE = 2  # healed models in memory; each has some weights of its own
TEXTS, METHOD, DIGEST = "texts", "method", "digest"

Progress = Callable[[float], None]
_healed: "WeakKeyDictionary[nn.Module, dict[str, Served]]" = WeakKeyDictionary()


class Served:
    """A healed model, asked as any other; its fidelity is to the model that it was made of."""

    def __init__(self, full: Model, healed: Model) -> None:
        self._full, self._healed = full, healed

    def __getattr__(self, name: str) -> Any:
        """Return what the healed model has."""
        return getattr(self._healed, name)

    @torch.no_grad()
    def fidelity(
        self,
        plans: Sequence[Plan],
        texts: Sequence[Sequence[int]],
        *,
        length: int | None = None,
        progress: Progress = lambda share: None,
        **_: Any,
    ) -> list[list[TextFidelity]]:
        """Say how near to the full model's predictions plans stay; see `Model.fidelity`."""
        pieces = self._full._pieces(texts, length, None)
        sums = torch.zeros(len(plans), len(texts), 3, dtype=torch.float64)
        tokens, full = [0] * len(texts), Plan.identity(self._full.num_layers)
        plain = shared_copy(self._full.hf)
        for number, piece in enumerate(pieces):
            ids = torch.tensor([[*piece.request.ids]], device=plain.device)
            targets = torch.tensor(piece.targets, device=plain.device)
            told = _logs(plain, full, ids, len(targets))
            tokens[piece.text] += len(targets)
            for place, plan in enumerate(plans):
                own = _logs(self._healed.hf, plan, ids, len(targets))
                sums[place, piece.text] += _compared(told, own, targets)
            progress((number + 1) / len(pieces))
        return [
            [
                TextFidelity(count, log_p, kl, round(agreeing))
                for count, (log_p, kl, agreeing) in zip(tokens, row, strict=True)
            ]
            for row in sums.tolist()
        ]


def _logs(hf: Any, plan: Plan, ids: torch.Tensor, scored: int) -> torch.Tensor:
    with apply(hf, plan):
        return hf(input_ids=ids, use_cache=False).logits[0, -scored:].float().log_softmax(-1)


def _compared(told: torch.Tensor, own: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    log_p = own.gather(-1, targets[:, None]).sum()
    kl = (told.exp() * (told - own)).nan_to_num(0.0).sum()
    agreeing = (told.argmax(-1) == own.argmax(-1)).sum()
    return torch.stack([log_p, kl, agreeing]).double().cpu()


def served(
    model: Any, plan: HealedPlan, keep: Path | None, progress: Progress = lambda share: None
) -> Served:
    """Return a healed plan's model, as it was kept, or healed now.

    Args:
        model: The full model, of impasto.
        plan: The plan and how it is healed.
        keep: A folder of this model's own; None keeps nothing.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        UserError: when the plan cannot be healed so.
    """
    there = _healed.setdefault(model.hf, {})
    if plan.digest not in there:
        weights = _weights(model, plan, keep, progress)
        healed = load(_with(model.hf, weights), model.tokenizer)
        assert isinstance(healed, Model), "it is of the kind that was checked"
        there[plan.digest] = Served(model, healed)
        while len(there) > AT_ONCE:
            there.pop(next(iter(there)))
    found = there[plan.digest]
    found._healed.memory = model.memory
    return found


def _weights(
    model: Any, plan: HealedPlan, keep: Path | None, progress: Progress
) -> Mapping[str, torch.Tensor]:
    """Return the weights that differ from the model's, by name."""
    file = None if keep is None else keep / f"healed-{plan.digest[:24]}{plan.digest[-17:]}"
    if file is not None and file.exists():
        try:
            return load_file(file)
        except (OSError, SafetensorError):  # damaged: it is healed anew
            remove(file)
    how = plan.how
    settings = read_settings(how[METHOD], _settings(how))
    check(model, plan.plain, how[METHOD])
    options = {key: value for key, value in how[TEXTS].items() if key != DIGEST}
    sides = sides_of(model, _texts(options), settings)
    training = None if file is None else file.with_name(f"{file.name}.training")
    done = mended(model, plan.plain, sides, settings, training, {"digest": plan.digest}, progress)
    weights = changed(model.hf, done.hf)
    if file is not None and training is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(file) as place:
            save_file(dict(weights), place, {"plan": str(plan), "heal": plan.heal})
        remove(training)
    return weights


def _texts(options: Mapping[str, Any]) -> Iterator[str]:
    return texts_of(**options).source.texts()


def _settings(how: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in how.items() if key not in (METHOD, TEXTS)}


def changed(hf: Any, healed: Any) -> dict[str, torch.Tensor]:
    """Return the weights of a healed model that are not those of the model that it was made of."""
    if hasattr(healed, "merge_and_unload"):
        healed = healed.merge_and_unload(safe_merge=True)  # which copies what it changes
    places = {weight.data_ptr() for weight in hf.parameters()}
    found = {
        name: weight.detach().contiguous()
        for name, weight in healed.named_parameters()
        if weight.data_ptr() not in places
    }
    if not found:
        raise UserError("healing changed no weight, so there is nothing to ask")
    return found


def _with(hf: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Return a model that shares all weights with another one but some, which it may lack."""
    copied = shared_copy(hf, weights.keys())
    for name, weight in weights.items():
        place, _, leaf = name.removesuffix(".weight").rpartition(".")
        if leaf == CHILD and name not in dict(copied.named_parameters()):
            add_map(copied, place, weight)
    own = dict(copied.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
            own[name].requires_grad_(False)
    return copied
