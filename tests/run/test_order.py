"""In what order plans end, and how the steps of plans that decode together are put in order."""

from impasto import Plan
from impasto.plan import Layer
from impasto.run.rooms import spans_of
from impasto.run.schedule import Call, labels, neighbourhood, schedule, way
from impasto.run.tree import plant, trunk_first, walk


class Counting:
    """Walks nowhere: a state is the steps so far. Knows how many states were made."""

    def start(self):
        return ()

    def step(self, step, state):
        return (*state, step)

    def inject(self, state, splice, donor, given):
        raise AssertionError

    def retire(self, state):
        return state


def ended(lines, kinds=()):
    plans = [Plan.parse(line) for line in lines]
    found = list(
        walk(trunk_first(plant([plan.steps for plan in plans])), Counting(), {}, kinds=kinds)
    )
    assert sorted(index for index, _ in found) == list(range(len(plans)))
    assert all(state == plans[index].steps for index, state in found)
    return [lines[index] for index, _ in found]


LINES = [f"0-{k} freeze {k + 1}-5" for k in range(5)] + [f"0-{k} {k + 1}-5.mlp" for k in range(5)]


def test_plans_of_one_kind_end_one_after_the_other():
    kinds = [neighbourhood(way(Plan.parse(line).steps))[0] for line in LINES]
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
    ways = [way(Plan.parse(line).steps) for line in lines]
    spans = spans_of([3] * len(ways))
    made = schedule(ways, spans, [at > 0 for at in range(len(ways))], call=100.0)
    steps = [(call.step, len(call.plans)) for call in made if isinstance(call, Call)]
    return [(step.index, step.part, count) for step, count in steps if isinstance(step, Layer)]


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
    assert labels(way(Plan.parse("0 0").steps)) == [(0, 0), (0, 1)]
