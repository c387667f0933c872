"""Opening a Hugging Face model for plans: once per model, with all that plans rely on checked.

What the check finds holds for the modules and settings that the model had then. Layers are pruned,
parts are replaced and configurations are edited in place, so a snapshot is compared before a model
is used again. Modules are compared by identity, weights by their shapes only: they may be trained,
moved and offloaded, since every call reads their values anew.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from impasto.model.arguments.observed import attention_remedy
from impasto.model.checks.decoder import allowed
from impasto.model.checks.encoder import check_encoder
from impasto.model.checks.precision import full_precision
from impasto.model.decoder import OpenedModel, open_model
from impasto.model.encoder import OpenedEncoder, may_be_encoder, open_encoder
from impasto.model.loading.wrapped import failure_on_text
from impasto.model.measured.idle import with_idle
from impasto.model.opened import Opened
from impasto.model.sequential import open_sequential
from impasto.model.structure.absent import spans
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.failing import RAISED, failing
from impasto.plan import Plan
from impasto.run.calls import calling, turns_of
from impasto.run.checks import Checked, check_decoder
from impasto.run.checks.sequential import BoundLayersError, check_sequential
from impasto.run.inputs import checked_plans


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model's modules, the shapes of its weights, and its settings.

    It has no reference to the model itself, only to the modules inside it.
    """

    inside: Sequence[tuple[nn.Module, tuple[Any, ...], tuple[Any, ...]]]
    children: tuple[nn.Module | None, ...]
    settings: dict[str, Any]
    number: tuple[torch.dtype, torch.device]

    @classmethod
    def of(cls, hf: PreTrainedModel) -> "Snapshot":
        """Return a snapshot of a model as it is now."""
        inside = [
            (module, tuple(module._modules.values()), _shapes(module))
            for module in hf.modules()
            if module is not hf
        ]
        children = tuple(hf._modules.values())
        return cls(inside, children, deepcopy(_settings(hf.config)), (hf.dtype, hf.device))

    def is_of(self, hf: PreTrainedModel) -> bool:
        """Whether a model is still as in this snapshot."""
        return (
            _are_same(hf._modules.values(), self.children)
            and all(
                _are_same(module._modules.values(), children) and _shapes(module) == shapes
                for module, children, shapes in self.inside
            )
            and (hf.dtype, hf.device) == self.number
            and _settings(hf.config) == self.settings
        )


@dataclass(frozen=True, slots=True)
class Opening:
    """A model that plans can run on, and what was checked when it was opened.

    Attributes:
        model: The model.
        claims: Each claim that was checked, with its relative difference.
        not_checked: What the check's texts were too short to show.
        snapshot: What the model consisted of then; the claims hold as long as it is the same.
    """

    model: Opened
    claims: list[tuple[str, float]]
    not_checked: Sequence[str]
    snapshot: Snapshot

    def report(self) -> list[tuple[str, float | None]]:
        """Return the claims, the difference that is allowed, and what was not checked (None)."""
        missing = [(claim, None) for claim in self.not_checked]
        return [*self.claims, ("allowed", allowed(self.model)), *missing]


_openings: WeakKeyDictionary[nn.Module, Opening] = WeakKeyDictionary()  # go with their models


def opening(hf: PreTrainedModel) -> Opening:
    """Open a model and check it; return the last opening if the model is still the same.

    Raises:
        ModelError: when plans cannot run on it; the message says why.
    """
    turns = turns_of(hf)
    if turns.is_own and turns.opening is not None:
        return turns.opening
    known = _openings.get(hf)
    if known is None or not known.snapshot.is_of(hf):
        with calling(hf), failing(type(hf).__name__, "is opened"), full_precision():
            _refuse_without_texts(hf)
            model, checked = _open_encoder(hf) if may_be_encoder(hf) else _open_decoder(hf)
            known = _openings[hf] = Opening(model, *checked, Snapshot.of(hf))
    if turns.is_own:
        turns.opening = known
    return known


def opened(hf: PreTrainedModel) -> OpenedModel:
    """Return a decoder that :func:`opening` opened; raises ModelError for an encoder."""
    model = opening(hf).model
    if not isinstance(model, OpenedModel):
        raise ModelError(
            f"{type(hf).__name__} is an encoder: it predicts no next tokens, which a decoder does; "
            "impasto.load opens it as what it is"
        )
    return model


def opened_encoder(hf: PreTrainedModel) -> OpenedEncoder:
    """Return an encoder that :func:`opening` opened; raises ModelError for a decoder."""
    model = opening(hf).model
    if not isinstance(model, OpenedEncoder):
        raise ModelError(
            f"{type(hf).__name__} is a decoder: no token of it sees later ones; impasto.load opens "
            "it as what it is"
        )
    return model


def admit(model: Opened, plan: Plan) -> None:
    """Raise unless a plan can run on a model.

    Raises:
        PlanError: when it names a layer that the model lacks.
        ModelError: when it names a layer that was not loaded, or the part of a layer that can only
            run whole, or is about earlier tokens, which an encoder does not have, or has a reach
            where there is no attention that could see less.
    """
    plan.check(model.num_layers)
    if plan.has_history and isinstance(model, OpenedEncoder):
        raise ModelError(
            f"the plan {plan} is about earlier tokens (freeze, noise), and an encoder has none: "
            "every token sees all others, and none is the current one; run it on a decoder"
        )
    if plan.narrowed:
        _admit_reach(model, plan)
    lacking = plan.layers.difference(model.present, model.passed_over)
    if lacking:
        raise ModelError(
            f"the plan {plan} names layers that are not loaded ({spans(lacking)}); the model was "
            f"loaded for a plan that runs {spans(model.present)}: load it for this plan, or "
            "without plan= for all layers"
        )
    _admit_readers(model, plan)
    if not model.undivided.keys().isdisjoint(plan.divided):
        layer = min(plan.divided & model.undivided.keys())
        raise ModelError(
            f"the plan {plan} names a part of layer {layer} of {type(model.hf).__name__}, which "
            f"can only run whole: {model.undivided[layer]}; name whole layers"
        )


def _admit_reach(model: Opened, plan: Plan) -> None:
    """Raise ModelError unless a model's layers have an attention that can be made to see less."""
    if isinstance(model, OpenedEncoder):
        raise ModelError(
            f"the plan {plan} has a reach, which says how far back a token sees, and in an encoder "
            "every token sees all others, later ones too; run it on a decoder"
        )
    if model.sequential is not None:
        raise ModelError(
            f"the plan {plan} has a reach, and {type(model.hf).__name__} reads sequences as they "
            f"are, under its own masks, for its rows cannot be packed: {model.sequential.reason}; "
            "leave the reach out"
        )
    for layer in sorted(plan.narrowed & {*model.present, *model.passed_over}):
        if not model.blocks[layer].leaves_keys:
            raise ModelError(
                f"the plan {plan} has a reach at layer {layer}, and that layer of "
                f"{type(model.hf).__name__} has no attention that could see less; leave the reach "
                "out there"
            )


def _admit_readers(model: Opened, plan: Plan) -> None:
    """Raise ModelError where a layer would read keys and values that none before it writes."""
    sharing = None if model.sequential is None else model.sequential.sharing
    lacking = None if sharing is None else sharing.lacking(plan)
    if lacking is not None:
        layer, writers = lacking
        raise ModelError(
            f"the plan {plan} runs layer {layer} of {type(model.hf).__name__}, which has no keys "
            f"and values of its own, where layer {spans(writers)} has not run before it, whose it "
            f"reads; keep layer {spans(writers)} before it, or leave layer {layer} out"
        )


def admitted(model: Opened, plans: object) -> list[Plan]:
    """Return one plan, or several, as a list, once all can run on a model; raises as `admit`."""
    checked = checked_plans(plans)
    for plan in checked:
        admit(model, plan)
    return checked


def _refuse_without_texts(hf: PreTrainedModel) -> None:
    """Raise ModelError for a model that embeds no tokens of its own."""
    if hf.config.is_encoder_decoder:
        return  # which is the reason that it is refused for
    try:
        hf.get_input_embeddings()
    except NotImplementedError as error:
        raise ModelError(
            f"{type(hf).__name__} has no decoder of texts, and is no encoder of them: it embeds no "
            "tokens itself (get_input_embeddings); plans run on models that do"
        ) from error


def _open_decoder(hf: PreTrainedModel) -> tuple[Opened, Checked]:
    try:
        with failing(type(hf).__name__, "reads three tokens"):
            model = open_model(hf)
        with failing(type(hf).__name__, "is asked for a block without one of its parts"):
            model.blocks = with_idle(model)
        return model, check_decoder(model)
    except ModelError as refusal:
        if _has_remedy(hf):
            if not attention_remedy(hf) or "attn_implementation" in str(refusal):
                raise
            raise ModelError(
                f"{type(hf).__name__} cannot be opened: its attention takes no mask for each row, "
                f"which plans need{attention_remedy(hf)}"
            ) from refusal
        return _open_sequential(hf, refusal)


def _has_remedy(hf: PreTrainedModel) -> bool:
    """Say whether a model that is refused opens once it is loaded otherwise, as the refusal says.

    Its blocks are compiled one by one, or attend by a function that takes no mask for each row.
    """
    is_compiled = any(hasattr(module, "_orig_mod") for module in hf.modules())
    attends = getattr(hf.config, "_attn_implementation", None)
    return is_compiled or attends not in ("sdpa", "eager", None)


def _open_sequential(hf: PreTrainedModel, refusal: ModelError) -> tuple[Opened, Checked]:
    """Open a decoder whose rows cannot be packed; raise the refusal where that fails, too."""
    try:
        with failing(type(hf).__name__, "reads three tokens"):
            reason = str(refusal).removeprefix(f"{type(hf).__name__} cannot be opened: ")
            model = open_sequential(hf, reason)
        return model, check_sequential(model)
    except BoundLayersError as error:
        raise error from refusal
    except ModelError as also:
        if not isinstance(refusal.__cause__, RAISED):
            raise refusal from also
        failure = failure_on_text(hf)  # its own code failed on one way of reading, or on every one
        if failure is None:
            raise also from refusal
        first = (str(failure).strip() or "no message").splitlines()[0]
        raise ModelError(
            f"{type(hf).__name__} reads no text by itself: on three tokens and nothing else its "
            f"own forward fails ({type(failure).__name__}: {first}); plans run on what reads texts"
        ) from failure


def _open_encoder(hf: PreTrainedModel) -> tuple[Opened, Checked]:
    model = open_encoder(hf)
    apart, parts = check_encoder(model), list[tuple[str, float]]()
    model.undivided = apart.undivided
    if apart.divided is not None:
        norms = f"the MLP adds to what attention left (norms {apart.divided.norms} the parts)"
        parts.append(("attention adds to a block's input", apart.divided.attention))
        parts.append((norms, apart.divided.mlp))
    return model, Checked(
        [
            ("the identity plan gives the model's own states", apart.states),
            *parts,
            ("a sentence beside a longer one gets the states that it gets alone", apart.padding),
        ],
        [],
    )


def _shapes(module: nn.Module) -> tuple[Any, ...]:
    return tuple(None if w is None else w.shape for w in module._parameters.values())


def _are_same(modules: Any, others: tuple[Any, ...]) -> bool:
    return len(modules) == len(others) and all(map(is_, modules, others))


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a configuration's settings, those of the configurations within it included."""
    return {
        name: _settings(value) if isinstance(value, PreTrainedConfig) else value
        for name, value in vars(config).items()
    }
