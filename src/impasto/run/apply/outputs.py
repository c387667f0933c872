"""What a Hugging Face call under a plan returns beside its logits: hidden states, attentions.

Hugging Face collects both from a model's blocks, one of each per block. Under a plan there is a
hidden state per depth of the plan, and an attention per attention that it runs.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from impasto.error import UserError
from impasto.model.opened import Opened
from impasto.model.structure.block import Arguments
from impasto.plan import Plan


class OutputCollector:
    """Collects hidden states and attentions during one call, where the call wants them.

    Attributes:
        wants_attentions: Whether the call wants attentions.
    """

    def __init__(self, model: Opened) -> None:
        self._model = model
        self._states: list[Tensor] = []
        self._attentions: list[Tensor] = []
        self._wants_states = self.wants_attentions = False
        self._hooks: list[Any] = []

    def begin(self, call: Arguments, plan: Plan) -> None:
        """Read from its arguments what a call wants.

        Raises:
            UserError: when it wants what a plan does not have.
        """
        states = self._wanted(call, "output_hidden_states")
        if not isinstance(states, bool):
            raise UserError(
                f"output_hidden_states={states!r}: under a plan it is True or False (the depths "
                "are the plan's own, so Hugging Face's numbers do not select among them)"
            )
        self._wants_states = states
        self.wants_attentions = bool(self._wanted(call, "output_attentions"))
        if self.wants_attentions and plan.has_history:
            raise UserError(
                "output_attentions: under freeze or noise each prediction has attentions of its "
                "own, which tokens × tokens cannot hold; leave it out"
            )
        self._states, self._attentions = [], []

    @property
    def wants_every_row(self) -> bool:
        """Whether the call wants something of every row, whatever logits it wants."""
        return self._wants_states or self.wants_attentions

    def add_depth(self, states: Float[Tensor, "batch new hidden"]) -> None:
        """Collect the states of the next depth."""
        if self._wants_states:
            self._states.append(states)

    def complete(self, module: nn.Module, output: Any) -> Any:
        """Return a model's output with the plan's hidden states and attentions in it."""
        if isinstance(output, tuple):
            output = tuple(self._replace(item) for item in output)
        else:
            for name in ("hidden_states", "attentions"):
                if getattr(output, name, None):
                    output[name] = self._replace(output[name])
        if module is self._model.hf:
            self._states, self._attentions = [], []
        return output

    def __enter__(self) -> "OutputCollector":
        if self.wants_attentions:
            modules = [part.module for block in self._model.blocks for part in block.attention]
            self._hooks = [module.register_forward_hook(self._add_attention) for module in modules]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _wanted(self, call: Arguments, name: str) -> Any:
        """Return the value of an argument, or the model's default for it."""
        value = call.get(name)
        value = getattr(self._model.hf.config, name, None) if value is None else value
        return False if value is None else value

    def _replace(self, item: Any) -> Any:
        """Return the plan's depths for a tuple of hidden states (batch × new × hidden).

        For another tuple, return the plan's attentions; for anything else, the item itself.
        """
        if not isinstance(item, tuple):
            return item
        if isinstance(item[-1], Tensor) and item[-1].ndim == 3:
            return (*self._states[:-1], item[-1])  # the last is Hugging Face's, after the norm
        return tuple(self._attentions)

    def _add_attention(self, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, tuple | list) and isinstance(output[1], Tensor):
            self._attentions.append(output[1])
