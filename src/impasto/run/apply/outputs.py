"""What a Hugging Face call under a plan is to tell beside its logits: hidden states, attentions.

Hugging Face collects both by watching a model's blocks one after the other, as many as there are.
Under a plan there are as many depths as it has layer steps, and the attentions that it runs.
"""

from typing import Any

from torch import Tensor, nn

from impasto.error import UserError
from impasto.model.opened import Opened
from impasto.model.structure.block import Arguments
from impasto.plan import Plan


class OutputCollector:
    """Collects, during one call, what the call is to return.

    Attributes:
        wants_attentions: Whether the call is to tell what each attention saw.
    """

    def __init__(self, model: Opened) -> None:
        self._model = model
        self._states: list[Tensor] = []
        self._attentions: list[Tensor] = []
        self._wants_states = self.wants_attentions = False
        self._hooks: list[Any] = []

    def begin(self, call: Arguments, plan: Plan) -> None:
        """Note what a call asks for.

        Raises:
            UserError: when it asks for what a plan does not have.
        """
        states = self._asked(call, "output_hidden_states")
        if not isinstance(states, bool):
            raise UserError(
                f"output_hidden_states={states!r}: under a plan it is True or False (the depths "
                "are the plan's own, so Hugging Face's numbers do not select among them)"
            )
        self._wants_states = states
        self.wants_attentions = bool(self._asked(call, "output_attentions"))
        if self.wants_attentions and plan.has_history:
            raise UserError(
                "output_attentions: under freeze or noise each prediction has attentions of its "
                "own, which tokens × tokens cannot hold; leave it out"
            )
        self._states, self._attentions = [], []

    @property
    def wants_every_row(self) -> bool:
        """Whether the call is to tell something of every row, whatever logits it asks for."""
        return self._wants_states or self.wants_attentions

    def passed(self, states: Tensor) -> None:
        """Note the states of a depth."""
        if self._wants_states:
            self._states.append(states)

    def told(self, module: nn.Module, output: Any) -> Any:
        """Return a model's output with the plan's depths and attentions in it."""
        if isinstance(output, tuple):
            told = tuple(self._replaced(item) for item in output)
        else:
            told = output
            for name in ("hidden_states", "attentions"):
                if getattr(output, name, None):
                    told[name] = self._replaced(output[name])
        if module is self._model.hf:
            self._states, self._attentions = [], []
        return told

    def __enter__(self) -> "OutputCollector":
        if self.wants_attentions:
            modules = [part.module for block in self._model.blocks for part in block.attention]
            self._hooks = [module.register_forward_hook(self._attended) for module in modules]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _asked(self, call: Arguments, name: str) -> Any:
        value = call.get(name)
        value = getattr(self._model.hf.config, name, None) if value is None else value
        return False if value is None else value

    def _replaced(self, item: Any) -> Any:
        """Return all depths for a tuple of states (batch × tokens × hidden), and so on."""
        if not isinstance(item, tuple):
            return item
        if isinstance(item[-1], Tensor) and item[-1].ndim == 3:
            return (*self._states[:-1], item[-1])  # the last is Hugging Face's, after the norm
        return tuple(self._attentions)

    def _attended(self, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and isinstance(output[1], Tensor):
            self._attentions.append(output[1])
