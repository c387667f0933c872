"""A few plans worked by hand: blocks called one after the other on a whole text.

Nothing here is cached, packed or masked by the engine, whose answers are compared with these. Each
logit comes from its own prefix, read anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Entered
from impasto.plan import Plan
from impasto.plan.steps import Part

States = Float[Tensor, "1 rows hidden"]


class Prefix:
    """A text, as a model's own forward hands it to its blocks."""

    def __init__(self, model: OpenedModel, ids: Sequence[int]) -> None:
        read = torch.tensor([list(ids)], device=model.device)
        self.entered: Entered = model.enter(read, torch.arange(len(ids), device=model.device)[None])
        self.depth, self._model = model.num_layers, model

    def run(self, states: States, layers: Sequence[int], part: Part = "block") -> States:
        """Return states after some layers, or after one part of each."""
        for layer in layers:
            states = self._model.blocks[layer](states, self.entered.arguments[layer], part)
        return states


@dataclass(frozen=True)
class Trial:
    """A plan, and the same by hand.

    Attributes:
        name: What the plan does, in a word or two.
        plan: The plan.
        states: Returns the states of a text behind the plan's last layer.
    """

    name: str
    plan: Plan
    states: Callable[[Prefix], States]


def trials(model: OpenedModel) -> list[Trial]:
    """Return the plans that are tried on a model: those that it has layers, and parts, enough for.

    The plan that changes nothing is not among them; its answers are the model's own.
    """
    T, every = model.num_layers, range(model.num_layers)
    m = T // 2

    def tried(name: str, line: str, states: Callable[[Prefix], States]) -> Trial:
        return Trial(name, Plan.parse(line, layers=T), states)

    found = [
        tried(
            "freeze",
            f"{_span(0, m)} freeze {_span(m, T)}".strip(),
            lambda prefix: _frozen(prefix, every[:m], every[m:]),
        )
    ]
    if T > 1:
        skipped = [layer for layer in every if layer != m]
        swapped = [*every[: m - 1], m, m - 1, *every[m + 1 :]]
        found += [
            tried("skip", _line(skipped), lambda prefix: prefix.run(_begun(prefix), skipped)),
            tried("swap", _line(swapped), lambda prefix: prefix.run(_begun(prefix), swapped)),
            tried(
                "parallel",
                f"{_span(0, m - 1)} [{m - 1}|{m}] {_span(m + 1, T)}".strip(),
                lambda prefix: _parallel(prefix, m),
            ),
        ]
    if not model.undivided:
        found.append(
            tried(
                "parts",
                f"{_span(0, m)} {m}.attn {_line([f'{layer}.mlp' for layer in every[m + 1 :]])}",
                lambda prefix: _parts(prefix, m, every),
            )
        )
    return found


def last_logits(
    model: OpenedModel, trial: Trial | None, ids: Sequence[int]
) -> Float[Tensor, "vocab"]:
    """Return the logits after a text's last token; the model's own where no plan is tried."""
    if trial is None:
        read = torch.tensor([list(ids)], device=model.device)
        return model.own_logits(read)[0, -1]
    return model.leave(trial.states(Prefix(model, ids))[0, -1:])[0]


def _begun(prefix: Prefix) -> States:
    return prefix.entered.states


def _frozen(prefix: Prefix, before: Sequence[int], behind: Sequence[int]) -> States:
    """Return states of which only the last one goes on from a depth."""
    frozen = states = prefix.run(_begun(prefix), before)
    for layer in behind:
        current = prefix.run(states, [layer])[:, -1:]
        states = torch.cat([frozen[:, :-1].to(current.device), current], 1)
    return states


def _parallel(prefix: Prefix, m: int) -> States:
    """Return states of which layers m − 1 and m read the same, and their mean goes on."""
    states = prefix.run(_begun(prefix), range(m - 1))
    left, right = (prefix.run(states, [layer]) for layer in (m - 1, m))
    return prefix.run((left.to(right.device) + right) / 2, range(m + 1, prefix.depth))


def _parts(prefix: Prefix, m: int, every: Sequence[int]) -> States:
    """Return states for which layer m lacks its MLP, and those behind it their attention."""
    states = prefix.run(prefix.run(_begun(prefix), every[:m]), [m], "attention")
    return prefix.run(states, every[m + 1 :], "mlp")


def _line(items: Sequence[object]) -> str:
    return " ".join(map(str, items))


def _span(begin: int, end: int) -> str:
    return _line(range(begin, end))
