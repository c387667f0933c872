"""Layers one by one, on texts longer than the whole model is checked on.

A window that is longer than the check's text shows in any layer of its kind. So one layer of each
kind is run on states of a longer text: on joint rows, on split rows, and on KV-only rows.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from impasto.model.checks.decoder import refuse_above, rows_differ
from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import Entered
from impasto.model.structure.failing import failing
from impasto.model.structure.stacked_blocks import are_alike
from impasto.plan.program import RowMode, whole_layer
from impasto.run.batching.prefix_tree import chain
from impasto.run.batching.request import TokenRequest
from impasto.run.checks.texts import BEYOND, Lengths, draw
from impasto.run.execute.executor import Executor
from impasto.run.execute.layers import State
from impasto.run.execute.rows import first_batch
from impasto.run.tuning import CHECK_SCORES

_WAYS: tuple[tuple[RowMode, str], ...] = (
    ("split", "split rows"),
    ("kv-only", "rows behind KV-only ones"),
)
_LONGEST = 8200  # tokens


def check_layers(model: OpenedModel, lengths: Lengths) -> Iterator[tuple[str, int, int]]:
    """Check layers at the lengths that the whole model was not checked at.

    Yield the lengths that cannot be checked: name, length, and the tokens that the check reads.

    Raises:
        ModelError: when a layer gives something else, or what cannot be checked may well go wrong.
    """
    if not lengths.beyond:
        return
    kinds = _kinds(model)
    most = _most(model, kinds, lengths)
    reached = {name: n for name, n in lengths.beyond.items() if lengths.shown(n) <= most}
    if reached:
        tokens = lengths.shown(max(reached.values()))
        with failing(type(model.hf).__name__, f"runs single layers on {tokens} tokens"):
            _check(model, kinds, tokens)
    for name, value in lengths.beyond.items():
        if name in reached:
            continue
        if model.habits.asks_length:
            _refuse_unchecked(model, name, value, lengths)
        yield name, value, lengths.tokens


def _refuse_unchecked(model: OpenedModel, name: str, value: int, lengths: Lengths) -> None:
    """Raise ModelError for layers that count tokens themselves, beyond the length of any text."""
    layer = model.habits.asks_length[0]
    raise ModelError(
        f"{type(model.hf).__name__} cannot be opened: layer {layer} asks its cache how many tokens "
        f"there are, so it counts positions by itself, and its {name}={value} is longer than the "
        f"{lengths.tokens} tokens that the check reads: plans might be wrong there"
    )


def _kinds(model: OpenedModel) -> list[int]:
    """Return one layer of each kind: those of one kind differ in nothing but their weights."""
    kinds: list[int] = []
    for layer in model.present:
        block = model.blocks[layer].module
        if not any(
            block is model.blocks[other].module
            or are_alike({other: model.blocks[other].module, layer: block})
            for other in kinds
        ):
            kinds.append(layer)
    return kinds


def _most(model: OpenedModel, kinds: list[int], lengths: Lengths) -> int:
    """Return the most tokens that these layers are checked on."""
    config = model.hf.config.get_text_config(decoder=True)
    weights = sum(w.numel() for layer in kinds for w in model.blocks[layer].module.parameters())
    most = min(_LONGEST, int(lengths.products / max(weights, 1)))
    pairs = len(kinds) * model.hidden * 4
    most = min(most, int((lengths.products / pairs) ** 0.5))
    if config._attn_implementation == "eager":
        most = min(most, int((CHECK_SCORES / config.num_attention_heads) ** 0.5))
    return most


def _check(model: OpenedModel, kinds: list[int], tokens: int) -> None:
    """Raise ModelError if a layer gives other states on split or KV-only rows than joint ones."""
    ids = draw(model, tokens)
    scored = range(tokens - BEYOND, tokens)
    executor = Executor(model, first_batch([chain(0, TokenRequest(ids, scored, {}))], model.device))
    places = torch.arange(tokens, device=model.device)[None]
    entered: Entered = model.enter(torch.tensor([ids], device=model.device), places)
    states: Tensor = entered.states  # with the masks that the model itself makes
    current = executor.batch.pick(states)
    for layer in kinds:
        own = model.blocks[layer](states, entered.arguments[layer])[0, scored.start :]
        for rows, what in _WAYS:
            state = State(states, current)
            output = executor.finish(executor.step(whole_layer(layer, rows), state))
            refuse_above(
                model,
                f"{what} do not give what layer {layer} gives in a text of {tokens} tokens: it "
                "goes by the place of a row, or by how many there are",
                rows_differ(model, output, own),
            )
