"""Opening a Hugging Face model for plans: once per model, with all that plans rely on checked."""

from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from impasto.model.check import check, demand
from impasto.model.opened import OpenedModel, open_model
from impasto.plan import Freeze, Layer
from impasto.run.rows import first_batch
from impasto.run.walk import Walker

_opened: WeakKeyDictionary[nn.Module, OpenedModel] = WeakKeyDictionary()


def opened(hf: PreTrainedModel) -> OpenedModel:
    """Open a model and check it, or return it if that was done before.

    Raises:
        ModelError: when plans cannot run on it; the message says why.
    """
    if hf not in _opened:
        model = open_model(hf)
        check(model)
        _check_rows(model)
        _opened[hf] = model
    return _opened[hf]


@torch.no_grad()
def _check_rows(model: OpenedModel) -> None:
    """Prove that rows may stand side by side: as earlier and as current tokens, packed or apart.

    Every token runs twice, once in each role, and nothing is edited; so the predictions of the
    current rows must be the model's own.
    """
    ids = [token % model.vocabulary for token in (3, 1, 4, 1, 5, 9)]
    own = model.hf(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0]
    walker = Walker(model, first_batch([ids], [range(len(ids))], model.device))
    start = walker.start()
    packed = walker.fork(start)
    for index in range(model.num_layers):
        packed = walker.step(Layer(index), packed)
    demand(model, "packed rows do not give its own logits", model.leave(walker.finish(packed)), own)
    held = walker.step(Layer(0), walker.step(Freeze(), start))
    claim = "held rows do not give its own keys and values"
    demand(model, claim, walker.finish(held), walker.finish(walker.step(Layer(0), start)))
