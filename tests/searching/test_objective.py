import numpy as np
import pytest

from impasto.error import UserError
from impasto.plan import Plan
from impasto.searching.objective import HOPELESS, Objective, Part, of_tasks, of_texts
from impasto.tasks import capitals
from impasto.tasks.texts import KL, PERPLEXITY, ReadText, Texts

FULL = Plan.identity(4)


class Letters:
    """Reads a letter as a token behind a special one, 8 of them at once."""

    max_positions = 8
    tokenizer = staticmethod(lambda text, **_: {"input_ids": [ord(c) for c in text]})

    def tokens(self, text):
        return [1, *(ord(c) for c in text)]


class Says:
    """Answers every item by a function of its place."""

    def __init__(self, say):
        self.say, self.asked = say, []

    def put(self, task, plans, count):
        self.asked.append((task.name, len(plans), count))
        return [
            [self.say(plan, at, item) for at, item in enumerate(task.items[:count])]
            for plan in plans
        ]


def given(texts):
    read = tuple(ReadText(str(n), tuple(Letters().tokens(t))) for n, t in enumerate(texts, 1))
    return Texts("texts", "Texts", None, read=read)  # type: ignore[arg-type]


def test_half_of_the_texts_choose_and_the_others_judge():
    task = given([f"text {n}" for n in range(41)])
    objective = of_texts(task, KL, 0, Letters())
    assert (objective.items, objective.held_out) == (21, 20)
    [part] = objective.parts
    assert sorted(part.task.items, key=lambda t: int(t.id)) == list(task.items)
    assert [t.id for t in part.task.items] != [t.id for t in task.items]
    says = Says(lambda plan, at, item: {KL: (float(at), 2)})
    values, weights = objective.values(says, [FULL], share=1 / 4)
    assert values.tolist() == [[0, 1, 2, 3, 4]]
    assert weights.tolist() == [2] * 5
    values, weights = objective.values(says, [FULL], held_out=True)
    assert values.tolist() == [[float(at) for at in range(21, 41)]]


def test_the_order_depends_on_the_seed_alone():
    task = given([f"text {n}" for n in range(40)])
    orders = [
        [t.id for t in of_texts(task, KL, s, Letters()).parts[0].task.items] for s in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_pieces_of_few_texts_are_items_and_begin_as_the_text_does():
    [part] = of_texts(given(["abcdefghijklmnopqrstuvwxyz" * 2]), KL, 0, Letters()).parts
    pieces = [t.ids for t in part.task.items]
    assert all(ids[0] == 1 and 1 < len(ids) <= 8 for ids in pieces)
    assert sorted("".join(chr(i) for ids in pieces for i in ids[1:])) == sorted(
        "abcdefghijklmnopqrstuvwxyz" * 2
    )


def test_texts_that_are_too_short_are_refused():
    with pytest.raises(UserError, match=r"comes to 1 pieces .* 4 at least"):
        of_texts(given(["abc"]), KL, 0, Letters())


def test_perplexity_counts_log_p_and_shares_what_is_lost():
    assert Part(given(["a"]), PERPLEXITY).value({PERPLEXITY: (-6.0, 3)}) == (6.0, 3.0)
    assert Part(given(["a"]), KL).value({KL: (0.5, 3)}) == (0.5, 3.0)
    assert Part(given(["a"]), "exact_match").value({"exact_match": 1.0}) == (0.0, 1.0)
    assert Part(given(["a"]), "brier_score").value({"brier_score": 0.4}) == (0.4, 1.0)


def test_a_value_that_is_no_number_is_worse_than_any():
    assert Part(given(["a"]), KL).value({KL: (float("nan"), 3)}) == (3 * HOPELESS, 3.0)


def test_tasks_weigh_the_same_however_many_questions_they_have():
    one, other = given(["a"] * 40), given(["b"] * 8)
    parts = (Part(one, "exact_match", 0.5), Part(other, "exact_match", 0.5))
    says = Says(lambda plan, at, item: {"exact_match": float(item.ids[1] == ord("a"))})
    values, weights = Objective(parts, "", "").values(says, [FULL])
    assert values.sum() / weights.sum() == pytest.approx(0.5)
    assert weights.sum() == pytest.approx(1.0)


def test_a_task_is_asked_in_an_order_of_the_seed_and_judged_as_ever():
    task = capitals(limit=10)
    says = Says(lambda plan, at, item: {"exact_match": 1.0})
    objective = of_tasks([task], says, FULL, 3)
    [part] = objective.parts
    assert {q.id for q in part.task.items} == {q.id for q in task.items}
    assert part.metric == "exact_match"
    by_id = dict(zip((q.id for q in task.items), task.requests(), strict=True))
    assert [by_id[q.id] for q in part.task.items] == list(part.task.requests())


@pytest.mark.parametrize("limit", [1, 3])
def test_a_task_of_few_questions_is_refused(limit):
    with pytest.raises(UserError, match=f"capitals has {limit} questions, and a search takes 4"):
        of_tasks([capitals(limit=limit)], Says(lambda *_: {}), FULL, 0)


def test_a_metric_that_is_no_mean_is_refused():
    says = Says(lambda *_: {"matthews": (1, 0)})
    with pytest.raises(UserError, match="no metric that is a mean"):
        of_tasks([capitals(limit=8)], says, FULL, 0)


def test_a_full_model_without_an_objective_is_refused():
    objective = of_texts(given([f"text {n}" for n in range(40)]), PERPLEXITY, 0, Letters())
    says = Says(lambda plan, at, item: {PERPLEXITY: (float("nan"), 4)})
    with pytest.raises(UserError, match="of the full model is not a number"):
        objective.check(says, FULL)
    objective.check(Says(lambda plan, at, item: {PERPLEXITY: (-3.0, 4)}), FULL)
    assert np.isfinite(objective.values(says, [FULL])[0]).all()
