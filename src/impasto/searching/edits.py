"""What a search may change: single edits of the identity plan, and sets of them.

A *candidate* is a set of edits that can be made together. Its plan is the identity with these
edits, so that two ways to the same set are one plan.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, get_args

from impasto.error import UserError, shown
from impasto.plan import Plan

Move: TypeAlias = Literal["attention", "mlp", "layer", "parallel", "swap", "repeat"]
MOVES: tuple[Move, ...] = get_args(Move)
DROPS: tuple[Move, ...] = ("attention", "mlp", "layer")
KEPT = {"attention": ".mlp", "mlp": ".attn"}  # what is left of a layer, as the notation has it


class Edit(NamedTuple):
    """One change at a layer.

    ``attention``, ``mlp`` and ``layer`` leave that out; ``parallel`` runs the layer side by side
    with the next; ``swap`` runs it after the next; ``repeat`` runs it twice.
    """

    move: Move
    layer: int

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that it changes."""
        both = self.move in ("parallel", "swap")
        return (self.layer, self.layer + 1) if both else (self.layer,)

    def __str__(self) -> str:
        return f"{self.move} {'–'.join(map(str, self.layers))}"


Candidate: TypeAlias = frozenset[Edit]


@dataclass(frozen=True)
class Space:
    """All candidates of a search.

    Attributes:
        layers: How many layers the model has.
        moves: What may be done to a layer.
        keep: Layers that are never touched.

    Raises UserError for a move that there is not, and for a layer that the model lacks.
    """

    layers: int
    moves: tuple[Move, ...]
    keep: frozenset[int] = field(default=frozenset())

    def __post_init__(self) -> None:
        for move in self.moves:
            if move not in MOVES:
                raise UserError(f"moves are {', '.join(MOVES)}; not {shown(move)}")
        if not self.moves:
            raise UserError(f"a search needs moves, some of {', '.join(MOVES)}")
        for layer in self.keep:
            if type(layer) is not int or not 0 <= layer < self.layers:
                raise UserError(
                    f"keep names layers, 0 to {self.layers - 1} of this model; not {shown(layer)}"
                )

    @cached_property
    def edits(self) -> tuple[Edit, ...]:
        """Every edit by itself, by layer and move."""
        every = (Edit(move, layer) for layer in range(self.layers) for move in self.moves)
        return tuple(edit for edit in every if self._is_free(edit))

    def allows(self, candidate: Candidate) -> bool:
        """Say whether some edits can be made together.

        Of parallel, swap and repeat a layer takes part in one at most, and in none where it is left
        out as a whole, by one edit or by two.
        """
        ordered: set[int] = set()
        for edit in candidate:
            if edit.move not in DROPS:
                if not ordered.isdisjoint(edit.layers):
                    return False
                ordered |= set(edit.layers)
        for edit in candidate:
            if edit.move == "layer" and (
                edit.layer in ordered
                or Edit("attention", edit.layer) in candidate
                or Edit("mlp", edit.layer) in candidate
            ):
                return False
        gone = (layer for layer in range(self.layers) if not _left(candidate, layer))
        return ordered.isdisjoint(gone) and len(_runs(candidate, self.layers)) > 0

    def larger(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield the candidates with one edit more."""
        for edit in self.edits:
            if edit not in candidate and self.allows(candidate | {edit}):
                yield candidate | {edit}

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield the candidates with one edit in the place of another."""
        for edit in sorted(candidate):
            for larger in self.larger(candidate - {edit}):
                if larger != candidate:
                    yield larger

    def plan(self, candidate: Candidate) -> Plan:
        """Return the candidate's plan."""
        return Plan.parse(" ".join(_runs(candidate, self.layers)), layers=self.layers)

    def _is_free(self, edit: Edit) -> bool:
        return edit.layers[-1] < self.layers and self.keep.isdisjoint(edit.layers)


def named(candidate: Iterable[Edit]) -> str:
    """Return what a reader calls a candidate: its edits in order; nothing where there are none."""
    return ", ".join(str(edit) for edit in sorted(candidate, key=lambda e: (e.layer, e.move)))


def _left(candidate: Candidate, layer: int) -> str:
    """Return a layer as the notation has what the candidate leaves of it; empty where nothing."""
    if Edit("layer", layer) in candidate:
        return ""
    dropped = [move for move in KEPT if Edit(move, layer) in candidate]  # type: ignore[arg-type]
    if len(dropped) == len(KEPT):
        return ""
    return f"{layer}{''.join(KEPT[move] for move in dropped)}"


def _runs(candidate: Candidate, layers: int) -> list[str]:
    """Return what a candidate runs, item by item."""
    items, layer = [], 0
    while layer < layers:
        own = _left(candidate, layer)
        after = _left(candidate, layer + 1)
        if Edit("parallel", layer) in candidate:
            items.append(f"[{own}|{after}]")
            layer += 2
        elif Edit("swap", layer) in candidate:
            items += [after, own]
            layer += 2
        else:
            items.append(f"{own}*2" if Edit("repeat", layer) in candidate else own)
            layer += 1
    return [item for item in items if item]
