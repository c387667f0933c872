"""In what order plans end, and how what plans run is put in order when they decode together."""

from impasto import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import RunLayer, layers
from impasto.plan.tree import plant, trunk_first, walk
from impasto.run.generate.call_order import BlockCall, call_order, neighbour_key
from impasto.run.generate.decode_batch import spans_of


class Counting:
    """Runs nothing: a state is the instructions so far."""

    def start(self):
        return ()

    def step(self, instruction, state):
        return (*state, instruction)

    def inject(self, instruction, state, splice, donor, given):
        raise AssertionError


def run(instructions):
    return [(each.layer, each.part) for one in instructions for each in layers(one)]


def ended(lines, kinds=()):
    programs = [lower(Plan.parse(line)).instructions for line in lines]
    found = list(walk(trunk_first(plant(programs)), Counting(), {}, kinds=kinds))
    assert sorted(index for index, _ in found) == list(range(len(programs)))
    assert all(run(state) == run(programs[index]) for index, state in found)
    return [lines[index] for index, _ in found]


LINES = [f"0-{k} freeze {k + 1}-5" for k in range(5)] + [f"0-{k} {k + 1}-5.mlp" for k in range(5)]


def test_plans_of_one_kind_end_one_after_the_other():
    kinds = [neighbour_key(lower(Plan.parse(line)))[0] for line in LINES]
    in_turn = [line for line in ended(LINES, kinds) if "freeze" in line]
    places = [ended(LINES, kinds).index(line) for line in in_turn]
    assert max(places) - min(places) == len(in_turn) - 1
    apart = [ended(LINES).index(line) for line in in_turn]
    assert max(apart) - min(apart) > len(in_turn) - 1


def test_a_branch_that_parts_again_waits_for_its_turn():
    """So no more states are kept than depth first."""
    lines = ["0 1 2 3", "0 1 2.mlp 3", "0 1.mlp 2 3", "0 1.mlp 2 3.mlp", "0 1.mlp 2.mlp"]
    kinds = ["a", "b", "b", "a", "b"]
    order = ended(lines, kinds)
    assert order[:2] == lines[:2]
    assert set(order[2:]) == set(lines[2:])


def calls(*lines):
    programs = [lower(Plan.parse(line)) for line in lines]
    spans = spans_of([3] * len(programs))
    made = call_order(programs, spans, [at > 0 for at in range(len(programs))], call_cost=100.0)
    runs = [(call.instruction, len(call.plans)) for call in made if isinstance(call, BlockCall)]
    return [(each.layer, each.part, count) for each, count in runs if isinstance(each, RunLayer)]


def test_a_step_waits_for_plans_that_are_still_to_come_to_it():
    mlp, whole = "mlp", "block"
    assert calls("0 1.mlp 2-3.mlp", "0.mlp 1.mlp 2-3.mlp") == [
        (0, whole, 1), (0, mlp, 1), (1, mlp, 2), (2, mlp, 2), (3, mlp, 2),
    ]  # fmt: skip
    assert calls("0 1 2 3", "0 2 3") == [
        (0, whole, 2), (1, whole, 1), (2, whole, 2), (3, whole, 2),
    ]  # fmt: skip


def test_plans_that_wait_for_each_other_go_on_all_the_same():
    found = calls("0.mlp 1.mlp", "1.mlp 0.mlp")
    assert sum(count for _, _, count in found) == 4
    assert lower(Plan.parse("0 0")).occurrences == ((0, 0), (0, 1))
