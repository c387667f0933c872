"""A plan's identity: equality, spelling, digest, JSON; and the numbers that it tells of itself."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from plan_samples import plans

from impasto.plan import (
    Freeze,
    Inject,
    Layer,
    Noise,
    Occurrences,
    Parallel,
    Plan,
    PlanError,
    count_of_plans,
    picture,
)

more = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@more
@given(plans)
def test_a_plan_reads_back_from_its_spelling_its_json_and_a_pickle(plan: Plan) -> None:
    for twin in (
        Plan.parse(str(plan)),
        Plan.from_json(plan.to_json()),
        Plan(plan.steps),
        pickle.loads(pickle.dumps(plan)),
        copy.deepcopy(plan),
    ):
        assert twin == plan
        assert hash(twin) == hash(plan)
        assert twin.digest == plan.digest
        assert str(twin) == str(plan)


@pytest.mark.parametrize(
    ("canonical", "others"),
    [
        ("0-2", ("0 1 2", "(0 1) 2", "0-1 2", "((0) 1-2)*1")),
        ("0-31", ("0-15 16-31", "(0-3 4-31)")),
        ("[8-10]", ("[8|9|10]", "[ 8 | (9) | 10*1 ]", "[8-10*1]")),
        ("16*4", ("16 16 16 16", "16*2*2", "(16*2)*2")),
        ("0-7 [8-23]*3 24-31", ("0-7 [8-23] [8-23]*2 24-31",)),
        ("0-7 8-23*3 24-31", ("0-23 8-23 8-31",)),
        ("[(8-9)]", ("[(8 9)]",)),
        ("[8-9*2]", ("[(8 9 8 9)]",)),
        ("(4-5*3 6)*2", ("4 5 4 5 4 5 6 4 5 4 5 4 5 6",)),
        ("(0 2)*3", ("0 2 0 2 0 2",)),
        ("23 8-23*2", ("23 (8-23)*2",)),
        ("0-3 noise(shuffle) 4", ("0-3 noise(shuffle, seed=0, keep=0) 4",)),
        ("noise(gaussian, seed=3, keep=1)", ("noise(gaussian,keep=1,seed=3)",)),
        ("0-7 23-8 24-31", ("0-7 23-16 15-8 24-31",)),
        ("0-1.mlp 2", ("0.mlp 1.mlp 2",)),
        ("[8-9 4|10]", ()),
    ],
)
def test_every_spelling_of_an_execution_is_the_same_plan(
    canonical: str, others: tuple[str, ...]
) -> None:
    plan = Plan.parse(canonical)
    for text in others:
        twin = Plan.parse(text)
        assert twin == plan
        assert twin.digest == plan.digest
        assert str(twin) == str(plan) == canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[8|9]", "sum[8|9]"),
        ("[8|9]", "[9|8]"),
        ("[8]", "8"),
        ("[8-9]", "[(8-9)]"),
        ("[[8]]", "[8]"),
        ("0.mlp", "0.attn"),
        ("freeze 0", "0 freeze"),
        ("noise(shuffle)", "noise(shuffle, keep=1)"),
        ("inject(a)", "inject(b)"),
    ],
)
def test_different_executions_are_different_plans(one: str, other: str) -> None:
    assert Plan.parse(one) != Plan.parse(other)
    assert Plan.parse(one).digest != Plan.parse(other).digest
    assert str(Plan.parse(one)) != str(Plan.parse(other))


PINNED = {
    "0-31": ("cde7beb2e3da5991797e2eb75d07acce496503a97df445c915e37bfe21d57ab6"),
    "0-7 [8-23]*3 freeze 24-30.mlp 31": (
        "5b651ef3210ce9edf352c2ef6ead7aed986199d440bec22f86a8898b412f3c93"
    ),
    "0 noise(gaussian, seed=3, keep=1) sum[1 2.attn|[3-4]] inject(donor) 5": (
        "f3a72d95232866b0b6b51752a41157fe8f4f4c0946300a30ca80899eab0b9dc0"
    ),
}


@pytest.mark.parametrize("text", PINNED)
def test_digests_never_change(text: str) -> None:
    assert Plan.parse(text).digest == PINNED[text]


def test_a_digest_is_the_same_in_another_process() -> None:
    code = "from impasto.plan import Plan; print(Plan.parse('0-7 [8-23]*3').digest)"
    run = [sys.executable, "-c", code]
    found = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    assert found == Plan.parse("0-7 [8-23] [8-23]*2").digest


def test_plans_need_no_torch() -> None:
    code = (
        "import sys, impasto.plan, impasto.strategies;"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_a_plan_cannot_be_changed() -> None:
    plan = Plan.parse("0-31")
    with pytest.raises(AttributeError):
        plan.steps = ()  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        plan.other = 1  # type: ignore[attr-defined]


def test_a_plan_prints_as_what_makes_it() -> None:
    assert repr(Plan.parse("0-7 [8-23]*3")) == "Plan('0-7 [8-23]*3')"
    assert Plan.identity(32) == Plan.parse("0-31")
    assert str(Plan.identity(1)) == "0"


def test_a_notebook_shows_a_plan_as_its_picture() -> None:
    assert Plan.parse("0-3 freeze 4")._repr_svg_() == picture(Plan.parse("0-3 freeze 4"))


def test_a_plan_knows_its_markers_layers_and_occurrences() -> None:
    plan = Plan.parse("0-7 [8-23]*3 freeze 24-30.mlp inject(a) 31.attn inject(b)")
    assert plan.has_history
    assert plan.injections == ("a", "b")
    assert plan.max_layer == 31
    assert plan.markers == ((11, Freeze()), (18, Inject("a")), (19, Inject("b")))
    assert plan.occurrences == Occurrences(layers=64, attention=57, mlp=63)
    assert not Plan.parse("0 inject(a)").has_history
    assert Plan.parse("0 noise(shuffle)").has_history
    assert Plan.parse("freeze").max_layer == -1


def test_a_plan_built_from_steps_is_checked_with_a_caret_into_its_spelling() -> None:
    plan = Plan((Layer(0), Parallel(((Layer(40),), (Layer(2),)))))
    plan.check(41)
    with pytest.raises(PlanError, match=r"layers 0\.\.31") as caught:
        plan.check(32)
    assert caught.value.text == "0 [40|2]"
    assert caught.value.span == (3, 5)


def _nested(depth: int) -> tuple:
    steps: tuple = (Layer(0), Layer(2))
    for _ in range(depth):
        steps = (Parallel((steps,)),)
    return steps


@pytest.mark.parametrize(
    "steps",
    [
        (),
        [Layer(0)],
        ("0",),
        (Layer(-1),),
        (Layer(100_000),),
        (Layer(True),),
        (Layer("0"),),  # type: ignore[arg-type]
        (Layer(0, "attn"),),  # type: ignore[arg-type]
        (Parallel(()),),
        (Parallel(((),)),),
        (Parallel([[Layer(0)]]),),  # type: ignore[arg-type]
        (Parallel(((Layer(0),),), "max"),),  # type: ignore[arg-type]
        (Parallel(((Freeze(),),)),),
        (Noise("white"),),  # type: ignore[arg-type]
        (Noise("shuffle", seed=2**63),),
        (Noise("shuffle", keep=-1),),
        (Inject("a b"),),
        (Inject("n" * 65),),
        (Layer(0),) * 10_001,
        tuple(Layer(index * 7 % 10_000) for index in range(9_000)),
        _nested(32),
        _nested(2_000),
    ],
)
def test_steps_that_cannot_be_written_down_are_refused(steps: object) -> None:
    with pytest.raises(PlanError):
        Plan(steps)  # type: ignore[arg-type]


def test_the_deepest_and_the_longest_plans_still_read_back() -> None:
    for plan in (
        Plan(_nested(31)),
        Plan.parse("[" * 32 + "0 1 0 1|0 2 0 2" + "]" * 32),
        Plan.parse("[" * 32 + "8-9*2" + "]" * 32),
        Plan.parse("(0 2)*5000"),
        Plan.parse("0-31*312"),
        Plan.parse("[0 1|" + "0|2|" * 2_400 + "0]"),
    ):
        assert Plan.parse(str(plan)) == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"plan":1}',
        '{"plan":1,"steps":[]}',
        '{"plan":2,"steps":[{"layer":0,"part":"block"}]}',
        '{"plan":true,"steps":[{"layer":0,"part":"block"}]}',
        '{"plan":1,"steps":{"layer":0}}',
        '{"plan":1,"steps":[0]}',
        '{"plan":1,"steps":[{"layer":0}]}',
        '{"plan":1,"steps":[{"layer":0,"part":[]}]}',
        '{"plan":1,"steps":[{"layer":1e99,"part":"block"}]}',
        '{"plan":1,"steps":[{"layer":0,"part":"block","x":1}]}',
        '{"plan":1,"steps":[{"freeze":false}]}',
        '{"plan":1,"steps":[{"parallel":0,"combine":"mean"}]}',
        '{"plan":1,"steps":[{"parallel":[0],"combine":"mean"}]}',
        '{"plan":1,"steps":[{"parallel":[[{"freeze":true}]],"combine":"mean"}]}',
        '{"plan":1,"steps":' + "[" * 100_000,
        "9" * 5_000,
        b"\xff",
        None,
        3,
    ],
)
def test_json_that_is_no_plan_is_refused(text: object) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(text)  # type: ignore[arg-type]


def test_json_is_one_canonical_document() -> None:
    text = Plan.parse("0 [1|2.mlp] freeze").to_json()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text


@pytest.mark.parametrize(
    ("entries", "distinct", "words"),
    [
        (96, 91, "96 plans (91 distinct)"),
        (91, 91, "91 plans"),
        (1, 1, "1 plan"),
        (2, 1, "2 plans (1 distinct)"),
        (1092, 1000, "1,092 plans (1,000 distinct)"),
    ],
)
def test_a_number_of_plans_says_how_many_are_listed_and_how_many_differ(entries, distinct, words):
    assert count_of_plans(entries, distinct) == words
