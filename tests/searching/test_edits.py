"""Edits of the identity plan, and which go together."""

from itertools import combinations

import pytest

from impasto.error import UserError
from impasto.plan import Plan
from impasto.searching.edits import MOVES, Edit, Space, named


def candidate(*edits):
    return frozenset(Edit(move, layer) for move, layer in edits)


@pytest.mark.parametrize(
    ("edits", "plan"),
    [
        ([], "0-3"),
        ([("attention", 1)], "0 1.mlp 2-3"),
        ([("mlp", 1)], "0 1.attn 2-3"),
        ([("attention", 1), ("mlp", 1)], "0 2-3"),
        ([("layer", 1)], "0 2-3"),
        ([("parallel", 1)], "0 [1|2] 3"),
        ([("parallel", 1), ("attention", 2)], "0 [1|2.mlp] 3"),
        ([("swap", 2)], "0 1 3 2"),
        ([("repeat", 0), ("mlp", 0)], "0.attn*2 1-3"),
    ],
)
def test_a_candidate_is_the_identity_with_its_edits(edits, plan):
    space = Space(4, MOVES)
    assert space.allows(candidate(*edits))
    assert space.plan(candidate(*edits)) == Plan.parse(plan, layers=4)


@pytest.mark.parametrize(
    "edits",
    [
        [("layer", 1), ("mlp", 1)],
        [("parallel", 1), ("layer", 2)],
        [("parallel", 1), ("swap", 2)],
        [("repeat", 1), ("attention", 1), ("mlp", 1)],
        [("layer", layer) for layer in range(4)],
    ],
)
def test_edits_that_contradict_each_other_are_no_candidate(edits):
    assert not Space(4, MOVES).allows(candidate(*edits))


def test_layers_that_are_kept_are_in_no_edit():
    space = Space(4, MOVES, frozenset({0, 3}))
    assert {layer for edit in space.edits for layer in edit.layers} == {1, 2}
    assert Edit("parallel", 1) in space.edits
    assert Edit("swap", 2) not in space.edits


def test_neighbours_have_one_edit_in_the_place_of_another():
    space = Space(3, ("attention", "mlp"))
    here = candidate(("attention", 0), ("mlp", 1))
    found = set(space.neighbours(here))
    assert found == {
        frozenset(pair) for pair in combinations(space.edits, 2) if len(here & frozenset(pair)) == 1
    }


def test_a_candidate_is_named_by_layer():
    assert named(candidate(("mlp", 3), ("parallel", 0))) == "parallel 0–1, mlp 3"


def test_what_is_no_move_and_no_layer_is_refused():
    with pytest.raises(UserError, match="moves are attention, mlp"):
        Space(4, ("attn",))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="0 to 3 of this model; not 4"):
        Space(4, ("mlp",), frozenset({4}))
