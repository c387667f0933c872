"""What a model does with its final states, module by module, where that is all that it does.

A model's own forward makes logits of them, but prepares masks and tables for its blocks on the way,
which costs more than the logits of a few rows. Most families apply a norm and a head, and nothing
else. Whether this one does is found out by watching its forward, and by trying.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_ROWS = 3  # that are tried, small ones and large ones: what is capped differs


@dataclass(frozen=True, slots=True)
class Tail:
    """Modules that make logits of final states, one after the other.

    Attributes:
        names: Their names in the model.
        around: The names of the modules whose own forward is passed over.
    """

    names: Sequence[str]
    around: Sequence[str]

    def is_clear(self, hf: nn.Module) -> bool:
        """Whether nobody has hung anything onto the forwards that are passed over."""
        return not any(_is_hooked(hf.get_submodule(name)) for name in self.around)

    def __call__(self, hf: nn.Module, states: Tensor) -> Tensor:
        """Return what the modules make of states."""
        for name in self.names:
            states = hf.get_submodule(name)(states)
        return states


@torch.no_grad()
def find_tail(
    hf: nn.Module,
    blocks: Sequence[nn.Module],
    leave: Callable[[Float[Tensor, "rows hidden"]], Float[Tensor, "rows vocab"]],
    like: Float[Tensor, "rows hidden"],
) -> Tail | None:
    """Return what a model does with final states; None where it does more than call modules.

    Args:
        hf: The model.
        blocks: Its blocks.
        leave: Makes logits by way of the model's own forward.
        like: Final states, whose width, type and device count.
    """
    seed = torch.Generator().manual_seed(0)
    small = torch.randn(_ROWS, like.shape[1], generator=seed)
    tried = torch.cat([small, 30 * small]).to(like)
    inside = {id(module) for block in blocks for module in block.modules()}
    around, outside = [], {}
    for name, module in hf.named_modules():
        if id(module) in inside:
            continue
        if any(each is blocks[0] for each in module.modules()):
            around.append(name)
        else:
            outside[name] = module
    with _watched(blocks, outside) as calls:
        expected = leave(tried)
    found = Tail(calls, around)
    try:
        is_all = bool(calls) and torch.equal(found(hf, tried), expected)
    except (TypeError, ValueError, IndexError, RuntimeError):  # it takes other than states
        return None
    return found if is_all else None


@contextmanager
def _watched(blocks: Sequence[nn.Module], outside: dict[str, nn.Module]) -> Iterator[list[str]]:
    """Return a context that notes which modules are called after the last block, from outside."""
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


def _is_hooked(module: nn.Module) -> bool:
    own = module.__dict__
    return bool(own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own)
