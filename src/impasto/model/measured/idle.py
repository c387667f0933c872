"""Modules of a block that nobody reads while one of its parts is left out: the part's norm, mostly.

They are detected by trying, never by name: a module is idle where its output can be replaced by NaN
and the block's output does not change. Idle modules need not run, so a part that is left out costs
nothing around it either.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments, Block
from impasto.model.structure.failing import RAISED, is_out_of_memory
from impasto.plan.steps import Part

_TOKENS = 3
_PARTS: tuple[Part, ...] = ("attention", "mlp")


@torch.no_grad()
def with_idle(model: OpenedModel) -> list[Block]:
    """Return a model's blocks, each with the modules that are idle while a part is left out.

    One block of each kind is tried. The others of its kind are wired alike, which the opening check
    (:mod:`impasto.model.checks.decoder`) proves of each.
    """
    ids = torch.arange(_TOKENS, device=model.device)[None] % model.vocabulary
    entered = model.enter(ids, torch.arange(_TOKENS, device=model.device)[None])
    known: dict[Any, dict[Part, list[str]]] = {}
    blocks = list(model.blocks)
    for layer in model.present:
        block, arguments = blocks[layer], entered.arguments[layer]
        kind = _kind(block)
        if kind not in known:
            known[kind] = {
                part: _idle(block, part, entered.states, arguments)
                for part in _PARTS
                if (block.attention if part == "attention" else block.mlp)
            }
        idle = {part: _named(block.module, names) for part, names in known[kind].items()}
        blocks[layer] = replace(block, idle=idle)
    return blocks


def _kind(block: Block) -> Any:
    """Return a key that blocks of one kind share: the classes of their modules, and their parts."""
    modules = tuple((name, type(module)) for name, module in block.module.named_modules())
    return modules, block.leaves_keys, len(block.attention), len(block.mlp)


def _idle(
    block: Block, part: Part, states: Float[Tensor, "1 rows hidden"], arguments: Arguments
) -> list[str]:
    """Return the names of the modules whose output nobody reads while ``part`` is left out."""
    within = {m for each in (*block.attention, *block.mlp) for m in each.module.modules()}
    names: list[str] = []
    with block.without(part):
        try:
            expected = block(states, arguments)
        except RAISED as error:  # then plans cannot leave this part out, which the check finds
            if is_out_of_memory(error):
                raise
            return names
        for name, module in block.module.named_modules():
            if module in within or any(True for _ in module.children()):
                continue
            poisoned: list[bool] = []
            hook = module.register_forward_hook(_poisoning(poisoned))
            try:
                is_idle = torch.equal(block(states, arguments), expected)
                if is_idle and poisoned and all(poisoned):
                    names.append(name)
            except RuntimeError:  # a reader that refuses NaN, as quantised modules do
                continue
            finally:
                hook.remove()
    return names


def _poisoning(poisoned: list[bool]) -> Any:
    """Return a hook that makes a module's output NaN, and notes whether its form allows that."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        is_alike = bool(args) and isinstance(output, Tensor) and output.shape == args[0].shape
        poisoned.append(is_alike)
        return torch.full_like(output, torch.nan) if is_alike else output

    return hook


def _named(block: nn.Module, names: list[str]) -> tuple[nn.Module, ...]:
    modules = dict(block.named_modules())
    return tuple(modules[name] for name in names if name in modules)
