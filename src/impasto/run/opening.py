"""Opening a Hugging Face model for plans: once per model, with all that plans rely on checked."""

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.model.absent import spans
from impasto.model.anatomy import ModelError
from impasto.model.check import allowed, check, demand
from impasto.model.encoder import OpenedEncoder, may_be_encoder, open_encoder
from impasto.model.encoder_check import check_encoder
from impasto.model.idle import with_idle
from impasto.model.opened import Opened, OpenedModel, open_model
from impasto.model.snapshot import Snapshot
from impasto.model.unreadable import refusing
from impasto.plan import Freeze, Layer, Plan
from impasto.run.calls import calling, turns_of
from impasto.run.passage import Passage
from impasto.run.rows import first_batch
from impasto.run.trie import chain
from impasto.run.walk import Walker


@dataclass(frozen=True, slots=True)
class Opening:
    """A model that plans can run on, and what was found when it was opened.

    Attributes:
        model: The model.
        found: Each claim, with the relative difference that was found.
        snapshot: What the model consisted of then; what was found holds as long as it does.
    """

    model: Opened
    found: list[tuple[str, float]]
    snapshot: Snapshot

    def told(self) -> list[tuple[str, float]]:
        """Return what was found, and how large a difference may be."""
        return [*self.found, ("allowed", allowed(self.model))]


_openings: WeakKeyDictionary[nn.Module, Opening] = WeakKeyDictionary()  # go with their models


def opening(hf: PreTrainedModel) -> Opening:
    """Open a model and check it, or return what was found before, if the model is still the same.

    Raises:
        ModelError: when plans cannot run on it; the message says why.
    """
    turns = turns_of(hf)
    if turns.is_own and turns.opening is not None:
        return turns.opening
    known = _openings.get(hf)
    if known is None or not known.snapshot.is_of(hf):
        with calling(hf), refusing(hf):
            model, found = _open_encoder(hf) if may_be_encoder(hf) else _open_decoder(hf)
            known = _openings[hf] = Opening(model, found, Snapshot.of(hf))
    if turns.is_own:
        turns.opening = known
    return known


def opened(hf: PreTrainedModel) -> OpenedModel:
    """Return a decoder that :func:`opening` opened; raises ModelError for an encoder."""
    model = opening(hf).model
    if not isinstance(model, OpenedModel):
        raise ModelError(
            f"{type(hf).__name__} is an encoder: it predicts no next tokens, which a decoder does"
        )
    return model


def opened_encoder(hf: PreTrainedModel) -> OpenedEncoder:
    """Return an encoder that :func:`opening` opened; raises ModelError for a decoder."""
    model = opening(hf).model
    if not isinstance(model, OpenedEncoder):
        raise ModelError(f"{type(hf).__name__} is a decoder: no token of it sees later ones")
    return model


def admit(model: Opened, plan: Plan) -> None:
    """Raise unless a plan can run on a model.

    Raises:
        PlanError: when it names a layer that the model lacks.
        ModelError: when it names a layer that was not loaded, or is about earlier tokens, which an
            encoder does not have.
    """
    plan.check(model.num_layers)
    if plan.has_history and isinstance(model, OpenedEncoder):
        raise ModelError(
            f"the plan {plan} is about earlier tokens (freeze, noise), and an encoder has none: "
            "every token sees all others, and none is the current one; run it on a decoder"
        )
    lacking = plan.layers.difference(model.present)
    if lacking:
        raise ModelError(
            f"the plan {plan} names layers that are not loaded ({spans(lacking)}); the model was "
            f"loaded for a plan that runs {spans(model.present)}: load it for this plan, or "
            "without plan= for all layers"
        )


def _open_decoder(hf: PreTrainedModel) -> tuple[Opened, list[tuple[str, float]]]:
    model = open_model(hf)
    model.blocks = with_idle(model)
    found, rows = check(model), _check_rows(model)
    return model, [
        ("the identity plan gives the model's own logits", found.logits),
        ("a block without attention and MLP returns its input", found.silence),
        (f"a block is its two parts ({found.wiring})", found.parts),
        ("packed rows give the model's own logits", rows),
    ]


def _open_encoder(hf: PreTrainedModel) -> tuple[Opened, list[tuple[str, float]]]:
    model = open_encoder(hf)
    found = check_encoder(model)
    return model, [
        ("the identity plan gives the model's own states", found.states),
        ("attention adds to a block's input", found.attention),
        (f"the MLP adds to what attention left (norms {found.norms} the parts)", found.mlp),
        ("a sentence beside a longer one gets the states that it gets alone", found.padding),
    ]


@torch.no_grad()
def _check_rows(model: OpenedModel) -> float:
    """Prove that rows may stand side by side: as earlier and as current tokens, packed or apart.

    All tokens run as earlier ones, every other one also as a current one, and nothing is edited; so
    the predictions of the current rows must be the model's own. What stands beside a current row
    is not what stood before its token, so a block that mixes rows by their place is found out.
    """
    ids = [token % model.vocabulary for token in (3, 1, 4, 1, 5, 9)]
    current = range(1, len(ids), 2)
    own = model.own_logits(torch.tensor([ids], device=model.device))[0]
    own = own[current.start :: current.step]
    walker = Walker(model, first_batch([chain(0, Passage(ids, current, {}))], model.device))
    start = walker.start()
    packed = walker.fork(start)
    for index in model.present:
        packed = walker.step(Layer(index), packed)
    claim = "packed rows do not give its own logits"
    worst = demand(model, claim, model.leave(walker.finish(packed)), own)
    claim = "held rows do not give its own keys and values"
    first = Layer(model.present[0])
    after = walker.finish(walker.step(first, start))
    return max(worst, demand(model, claim, _held(model, walker, first), after))


def _held(model: OpenedModel, walker: Walker, layer: Layer) -> Float[Tensor, "predictions hidden"]:
    """Run a layer on held rows, whose queries are made as narrow as the model takes them."""
    heads = model.hf.config.get_text_config(decoder=True).num_attention_heads
    wide = list(model.blocks)
    model.blocks = [
        replace(b, least_queries=b.queries[0].out_features // heads) if b.queries else b
        for b in wide
    ]
    start = walker.step(Freeze(), walker.start())
    try:
        return walker.finish(walker.step(layer, start))
    except RuntimeError:  # some families count heads, or norm them all at once
        model.blocks = wide
        return walker.finish(walker.step(layer, start))
