"""Requests are merged where they begin alike, packed with little padding, and fit the memory."""

import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import impasto
from families import family
from impasto import Plan, UserError, strategies
from impasto.plan.steps import Part
from impasto.run.batching import batches, memory
from impasto.run.batching.batches import batch_groups, texts_at_once
from impasto.run.batching.prefix_tree import prefix_trees
from impasto.run.batching.request import TokenRequest
from impasto.run.opening import opened
from impasto.run.queries import pairs
from impasto.run.queries.cost import cost, shares
from impasto.run.queries.loglikelihood import score
from plans import PLANS

MODEL = opened(family("llama"))


def request(ids, scored=1):
    return TokenRequest(list(ids), range(len(ids) - scored, len(ids)), {})


def test_choices_share_the_rows_of_their_question():
    question = list(range(20))
    choices = [
        request([*question, *answer], len(answer) + 1) for answer in ([30, 31], [30, 32], [40])
    ]
    [prefix_tree] = prefix_trees(choices, hidden=32, most_rows=999)
    assert len(prefix_tree.ids) == 20 + 4
    assert len(prefix_tree.scored) == 5  # the question's last token, 30, 31, 32, 40
    for index, predictions in zip(prefix_tree.requests, prefix_tree.predictions, strict=True):
        rows = [prefix_tree.scored[place] for place in predictions]
        assert [prefix_tree.ids[row] for row in rows] == choices[index].ids[19:]
        visible = [row for row in range(rows[-1] + 1) if rows[-1] < prefix_tree.ends[row]]
        assert [prefix_tree.ids[row] for row in visible] == choices[index].ids


def test_requests_with_little_in_common_stay_apart():
    generator = random.Random(0)
    some = [request([1, 2, 3, *generator.choices(range(90), k=200)]) for _ in range(5)]
    assert len(list(prefix_trees(some, hidden=32, most_rows=999))) == 5


def test_a_question_and_its_repetition_are_one():
    assert len(next(prefix_trees([request([5, 6, 7])] * 3, hidden=32, most_rows=999)).ids) == 3


def test_merging_stops_where_a_tree_would_be_too_large():
    some = [request([*range(20), 30 + n, 31], 2) for n in range(9)]
    assert len(list(prefix_trees(some, hidden=32, most_rows=999))) == 1
    assert (
        max(len(prefix_tree.ids) for prefix_tree in prefix_trees(some, hidden=32, most_rows=26))
        <= 26
    )


def test_less_than_five_percent_of_rows_are_padding(monkeypatch):
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 16)  # a state of 256 units
    generator = random.Random(1)
    some = []
    for number in range(300):
        length = min(200, max(8, int(generator.lognormvariate(4, 0.5))))
        question = [number % 90, *generator.choices(range(90), k=length)]
        for _ in range(4):
            answer = generator.choices(range(90), k=generator.randint(1, 14))
            some.append(request([*question, *answer], len(answer)))
    groups = list(batch_groups(MODEL, some))
    rows = sum(group.rows for group in groups)
    real = sum(len(g.prefix) + sum(len(t.ids) for t in g.prefix_trees) for g in groups)
    assert sorted(index for group in groups for index in group.requests) == list(range(1200))
    assert real > 0.95 * rows


def test_unlike_questions_of_like_length_run_together(monkeypatch):
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 16)
    some = [request([n, *range(50), 60 + n]) for n in range(8)]
    [only] = batch_groups(MODEL, some)
    assert not only.prefix
    assert len(only.prefix_trees) == 8


def test_a_common_instruction_is_read_once(monkeypatch):
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 16)
    instruction = list(range(70))
    some = [request([*instruction, *[(n * 7 + i) % 90 for i in range(200)]]) for n in range(8)]
    [only] = batch_groups(MODEL, some)
    assert only.prefix == instruction
    assert only.rows == 70 + 8 * 200


def test_a_group_of_batches_is_halved_batch_by_batch(monkeypatch):
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 4)
    monkeypatch.setattr(batches, "ROWS_AT_ONCE", {"cpu": 12})
    [whole] = batch_groups(MODEL, [request([*range(10), n, n + 1, n + 2]) for n in range(20, 40)])
    waiting, single = [whole], []
    while waiting:
        [*waiting], each = waiting[:-1], waiting[-1]
        parts = each.halves()
        waiting += parts if len(parts) > 1 else []
        single += parts if len(parts) == 1 else []
    assert sorted(index for group in single for index in group.requests) == list(range(20))
    assert all(len(each.prefix_trees) == 1 for each in single)


def test_out_of_memory_halves_the_batch_and_loses_nothing(monkeypatch):
    model = impasto.load(family("llama"))
    requests = [([3, 1, 4, n], [n, 5]) for n in range(9)]
    expected = model.loglikelihood(PLANS[:6], requests)
    run, tried = type(MODEL.blocks[0]).__call__, []

    def scarce(block, states, arguments, part: Part = "block"):
        if states.shape[0] > 3:
            tried.append(states.shape[0])
            raise torch.OutOfMemoryError("no more")
        return run(block, states, arguments, part)

    monkeypatch.setattr(type(MODEL.blocks[0]), "__call__", scarce)
    monkeypatch.setattr("impasto.run.batching.prefix_tree.shared_length", lambda sequences, most: 0)
    with pytest.warns(UserWarning, match="half of them"):
        found = model.loglikelihood(PLANS[:6], requests)
    assert len(tried) > 1
    for one, other in zip(found, expected, strict=True):
        assert [p for p, _ in one] == pytest.approx([p for p, _ in other], abs=1e-4)


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(type(MODEL.blocks[0]), "__call__", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        score(MODEL, PLANS[:1], [(request([1, 2, 3]), [4])], lambda share: None)


def test_a_batch_that_cannot_fit_alone_says_what_it_needs():
    model = impasto.load(family("llama"))
    model.memory = 1000
    with pytest.raises(UserError, match=r"3 tokens needs about .* and 1000 bytes may be used"):
        model.loglikelihood(PLANS[0], [([1, 2, 3], [4])])
    with pytest.raises(UserError, match="half precision"):
        model.generate(PLANS[0], [[1, 2, 3]], max_new_tokens=2)


def test_less_memory_makes_smaller_batches_and_the_same_answers():
    model = impasto.load(family("llama"))
    prompts = [[n, 2, 3, 5] for n in range(12)]
    expected = model.generate(PLANS[::7], prompts, max_new_tokens=3)
    model.memory = model.generating_cost(PLANS[::7], prompts, 3).peak_bytes // 2
    assert model.generating_cost(PLANS[::7], prompts, 3).peak_bytes <= model.memory
    assert model.generate(PLANS[::7], prompts, max_new_tokens=3) == expected


@pytest.mark.parametrize(
    ("text", "amount"), [("8GiB", 8 * 2**30), ("1.5G", 3 * 2**29), ("512 MiB", 2**29), ("77", 77)]
)
def test_amounts_of_memory_are_read(text, amount):
    assert memory.parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "much", "-1G", "0", "8 apples", "nan", "inf"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(UserError, match="8GiB"):
        memory.parse_bytes(text)


def test_the_cost_model_predicts_the_products_that_are_computed():
    plans = [
        plan for k in range(7) for plan in (strategies.freeze(6, k), strategies.gaussian(6, k))
    ]
    plans += [strategies.drop_last(6, part, 3) for part in ("attention", "mlp", "block")]
    generator = torch.Generator().manual_seed(0)
    requests = []
    for _ in range(6):
        ids = torch.randint(97, (60,), generator=generator).tolist()
        requests += [(request([*ids, n, n + 1], 3), [n, n + 1, n + 2]) for n in range(4)]
    predicted = cost(MODEL, plans, [each for each, _ in requests])
    with FlopCounterMode(display=False) as counter:
        score(MODEL, plans, requests, lambda share: None)
    products = counter.get_flop_counts()["Global"]
    measured = sum(n for op, n in products.items() if "mm" in str(op) and "bmm" not in str(op))
    block = sum(weight.numel() for weight in MODEL.blocks[0].module.parameters() if weight.ndim > 1)
    assert predicted.rows == pytest.approx(measured / (2 * block), rel=0.05)
    assert predicted.alone > predicted.plans > predicted.tokens > predicted.rows


def test_the_shares_of_a_layer_are_those_of_its_weights():
    each = shares(MODEL)
    assert each.attention + each.mlp == pytest.approx(1)
    assert each.attention == pytest.approx(3072 / (3072 + 6144))  # q, o: 32 × 32; k, v: 32 × 16
    assert each.keys_and_values == pytest.approx(1024 / 9216)


def test_doubling_the_plans_of_a_sweep_never_more_than_doubles_its_cost():
    some = [request(range(40), 3)]
    few = [strategies.freeze(6, k) for k in (0, 2, 4, 6)]
    many = [strategies.freeze(6, k) for k in range(7)]
    assert cost(MODEL, many, some).rows < 2 * cost(MODEL, few, some).rows
    loops = [Plan.parse(f"0 [1-4]*{n} 5") for n in range(1, 9)]
    assert cost(MODEL, loops, some).rows < 0.4 * cost(MODEL, loops, some).alone


def test_few_pairs_are_attended_that_no_row_sees_behind_long_prompts(monkeypatch):
    """Questions of some subjects, four choices each, behind the worked examples of the subject."""
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 16)  # a state of 256 units
    generator = random.Random(2)
    draw = lambda count: generator.choices(range(90), k=count)  # noqa: E731
    some = []
    for subject in range(6):
        examples = [subject, *draw(700)]
        for _ in range(30):
            question = [*examples, *draw(generator.randint(40, 120))]
            some += [request([*question, *draw(3)], 3) for _ in range(4)]
    groups, elsewhere = list(batch_groups(MODEL, some)), torch.device("meta")
    multiplied = sum(pairs.attended(group, elsewhere).new for group in groups)
    assert multiplied <= 1.5 * sum(pairs.seen(group) for group in groups)


def test_prompts_come_before_plans_where_texts_decode_together(monkeypatch):
    """As many prompts of GSM8K's length as decode together, where memory allows."""
    monkeypatch.setattr(batches, "rows_per_call", lambda model: 16)
    prompts = [request([at, *range(3, 63), *range(20)] * 15) for at in range(3, 90)]
    groups = list(batch_groups(MODEL, prompts, rows=10**6, merge=False))
    assert len(groups[0].prefix_trees) == texts_at_once(MODEL) == 64
    less = list(batch_groups(MODEL, prompts, rows=12_000, merge=False))
    assert {len(group.prefix_trees) for group in less[:-1]} <= {8, 9}
    assert sum(len(group.prefix_trees) for group in groups) == len(prompts)


def test_keys_and_values_of_a_beginning_are_counted_for_each_text_that_has_its_own(monkeypatch):
    monkeypatch.setattr(MODEL, "reads_common", False)
    shared = [7] * 1000
    prompts = [request([*shared, at, *range(30)]) for at in range(90)]
    groups = list(batch_groups(MODEL, prompts, rows=20_000, merge=False))
    assert all(len(group.prefix) >= 1000 for group in groups)
    kept = [
        sum(len(group.prefix) + len(tree.ids) for tree in group.prefix_trees) for group in groups
    ]
    assert max(kept) <= 20_000 < 2 * max(kept)
    monkeypatch.setattr(MODEL, "reads_common", True)
    more = list(batch_groups(MODEL, prompts, rows=20_000, merge=False))
    assert len(more[0].prefix_trees) >= 64 > 3 * len(groups[0].prefix_trees)
