"""Gradient checkpointing under a plan: its instructions are what runs again in the backward pass.

Hugging Face's own runs blocks again as they are called, and under a plan these calls only record
their arguments. So while a forward is under way the blocks' own checkpointing is off, and the plan
keeps what enters each of its instructions and nothing from within.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from impasto.error import UserError
from impasto.model.opened import Opened

Step = Callable[..., Any]
RunsAgain = Callable[[Step], Step]
Running = Callable[[], AbstractContextManager[None]]
FLAG = "gradient_checkpointing"


class Checkpointing:
    """The blocks' own gradient checkpointing, and the plan's in its place."""

    def __init__(self, model: Opened) -> None:
        self._model = model
        self._off: list[nn.Module] = []
        self._owner: nn.Module | None = None

    @property
    def is_on(self) -> bool:
        """Whether any block is to run again in the backward pass."""
        return any(getattr(block.module, FLAG, False) for block in self._model.blocks)

    def begin(self, module: nn.Module, running: Running) -> RunsAgain:
        """Switch the blocks' own off for a module's forward; return what takes its place.

        That makes of a step one that keeps nothing but what it is called with.

        Args:
            module: The outermost module that is called.
            running: Gives a context in which the model runs without the plan.

        Raises:
            UserError: where a plan's instructions cannot run again.
        """
        if not self._model.packs_rows:
            raise UserError(
                "gradient (activation) checkpointing runs blocks again after the forward, and "
                f"layers of {type(self._model.hf).__name__} carry a state that is another then; "
                "switch it off on this model"
            )
        self._owner, self._off = module, self._switched_off()

        def runs_again(step: Step) -> Step:
            def run(*given: Any) -> Any:
                off = self._switched_off()  # in the backward pass they are on again
                try:
                    with running():
                        return step(*given)
                finally:
                    _switch_on(off)

            return lambda *given: checkpoint(run, *given, use_reentrant=False)

        return runs_again

    def end(self, module: nn.Module) -> bool:
        """Switch on again what was switched off for a module's forward; return whether it was."""
        if module is not self._owner:
            return False
        _switch_on(self._off)
        self._owner, self._off = None, []
        return True

    def _switched_off(self) -> list[nn.Module]:
        """Switch the blocks' own off, and return the blocks that had it on."""
        blocks = [block.module for block in self._model.blocks]
        on = [block for block in blocks if getattr(block, FLAG, False)]
        for block in on:
            setattr(block, FLAG, False)
        return on


def _switch_on(blocks: list[nn.Module]) -> None:
    for block in blocks:
        setattr(block, FLAG, True)
