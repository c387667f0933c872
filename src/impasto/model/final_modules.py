"""The final norm and head of a decoder, where calling them is all that its own forward does.

Most families apply a norm and a head to final states and do nothing else; there those modules are
called directly, which spares the preparation for blocks that do not run. Whether it is so is tried
on the model at hand.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_TRIED_ROWS = 3  # small ones and large ones: they differ where a model caps its logits


@torch.no_grad()
def find_final_modules(
    hf: nn.Module,
    blocks: Sequence[nn.Module],
    leave: Callable[[Float[Tensor, "rows hidden"]], Float[Tensor, "rows vocab"]],
    like: Float[Tensor, "rows hidden"],
) -> tuple[list[str], list[str]] | None:
    """Return the names of the modules that a model calls on final states, and of those around them.

    None where it does more than to call them.

    Args:
        hf: The model.
        blocks: Its blocks.
        leave: Makes logits by the model's own forward.
        like: Final states, whose size, type and device count.
    """
    seed = torch.Generator().manual_seed(0)
    small = torch.randn(_TRIED_ROWS, like.shape[1], generator=seed)
    states = torch.cat([small, 30 * small]).to(like)
    inside = {id(module) for block in blocks for module in block.modules()}
    around, outside = [], {}
    for name, module in hf.named_modules():
        if id(module) in inside:
            continue
        if any(each is blocks[0] for each in module.modules()):
            around.append(name)
        else:
            outside[name] = module
    with _noting_calls(blocks, outside) as names:
        expected = leave(states)
    try:
        for name in names:
            states = hf.get_submodule(name)(states)
        is_all = bool(names) and torch.equal(states, expected)
    except (TypeError, ValueError, IndexError, RuntimeError):  # it takes other than states
        return None
    return (names, around) if is_all else None


@contextmanager
def _noting_calls(
    blocks: Sequence[nn.Module], outside: dict[str, nn.Module]
) -> Iterator[list[str]]:
    """Return a context that notes which outer modules are called after the last block."""
    calls: list[str] = []
    depth = [0]

    def entered(name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            if not depth[0]:
                calls.append(name)
            depth[0] += 1

        return enter

    def left(*_: Any) -> None:
        depth[0] -= 1

    hooks = [block.register_forward_pre_hook(lambda *_: calls.clear()) for block in blocks]
    for name, module in outside.items():
        hooks.append(module.register_forward_pre_hook(entered(name)))
        hooks.append(module.register_forward_hook(left))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
