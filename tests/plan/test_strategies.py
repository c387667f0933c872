"""The papers' families: each plan spelled out, the ranges of their arguments, and the registry."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from math import prod

import pytest
import yaml

from impasto import strategies
from impasto.error import UserError
from impasto.plan import Layer, Plan, PlanError
from impasto.strategies import STRATEGIES, expand


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (strategies.baseline(32), "0-31"),
        (strategies.freeze(32, 0), "freeze 0-31"),
        (strategies.freeze(32, 16), "0-15 freeze 16-31"),
        (strategies.freeze(32, 32), "0-31 freeze"),
        (strategies.shuffle(32, 16), "0-15 noise(shuffle) 16-31"),
        (strategies.gaussian(32, 16, seed=3), "0-15 noise(gaussian, seed=3) 16-31"),
        (strategies.inject(32, 16), "0-15 inject(donor) 16-31"),
        (strategies.inject(32, 1, name="other"), "0 inject(other) 1-31"),
        (strategies.drop_attention_from(32, 0), "0-31.mlp"),
        (strategies.drop_attention_from(32, 20), "0-19 20-31.mlp"),
        (strategies.drop_attention_from(32, 32), "0-31"),
        (strategies.skip_one(32, 0), "1-31"),
        (strategies.skip_one(32, 5), "0-4 6-31"),
        (strategies.skip_one(32, 31), "0-30"),
        (strategies.switch(32, 0), "1 0 2-31"),
        (strategies.switch(32, 30), "0-29 31 30"),
        (strategies.skip(32, 7), "0-7 25-31"),
        (strategies.skip(32, 15), "0-15 17-31"),
        (strategies.middle_repeat(32, 7), "0-7 16*17 25-31"),
        (strategies.middle_repeat(40, 8), "0-8 20*23 32-39"),
        (strategies.reverse(32, 7), "0-7 24-8 25-31"),
        (strategies.parallel(32, 7), "0-7 [8-24] 25-31"),
        (strategies.parallel(32, 15), "0-15 [16] 17-31"),
        (strategies.looped_parallel(32, 7, 3), "0-7 [8-24]*3 25-31"),
        (strategies.drop_last(32, "attention", 8), "0-23 24-31.mlp"),
        (strategies.drop_last(32, "attention", 8, keep_last=True), "0-22 23-30.mlp 31"),
        (strategies.drop_last(32, "mlp", 3), "0-28 29-31.attn"),
        (strategies.drop_last(32, "mlp", 3, keep_last=True), "0-27 28-30.attn 31"),
        (strategies.drop_last(32, "block", 11), "0-20"),
        (strategies.drop_last(32, "block", 11, keep_last=True), "0-19 31"),
        (strategies.drop_last(32, "block", 31), "0"),
        (strategies.drop_last(32, "mlp", 0), "0-31"),
        (strategies.drop_last(32, "mlp", 32), "0-31.attn"),
        (strategies.repeat_block(32, 8, 12), "0-11 8-31"),
        (strategies.repeat_block(32, 0, 32), "0-31 0-31"),
        (strategies.repeat_block(32, 31, 32), "0-31 31"),
        (strategies.half_step(32, 8, 12), "0-7 (8-11)@0.5*2 12-31"),
        (strategies.half_step(32, 8, 12, times=3, scale=0.25), "0-7 (8-11)@0.25*3 12-31"),
        (strategies.half_step(32, 8, 12, scale=1), "0-7 8-11*2 12-31"),
        (strategies.half_step(32, 0, 1, times=1, scale=-1.5), "0@-1.5 1-31"),
        (
            strategies.pairs_parallel(32, 8, 11),
            "0-7 sum[8.attn|9.attn] sum[8.mlp|9.mlp] sum[10.attn|11.attn] sum[10.mlp|11.mlp] 12-31",
        ),
        (strategies.pairs_parallel(32, 0, 1, form="sum"), "sum[0|1] 2-31"),
        (strategies.pairs_parallel(32, 28, 31, form="mean"), "0-27 [28|29] [30|31]"),
        (strategies.reach(32, 20, first=1, last=64), "0-19 20-31{first=1, last=64}"),
        (strategies.reach(32, 0, last=64), "0-31{last=64}"),
        (strategies.reach(32, 32, first=4), "0-31"),
        (strategies.freeze_prompt(32, 16), "0-15 freeze(prompt) 16-31"),
        (strategies.freeze_prompt(32, 0), "freeze(prompt) 0-31"),
    ],
)
def test_each_family_writes_this_plan(plan: Plan, text: str) -> None:
    assert plan == Plan.parse(text, layers=40)


def test_fifteen_of_thirty_two_edits_one_layer() -> None:
    plain = strategies.baseline(32)
    assert strategies.middle_repeat(32, 15) == strategies.reverse(32, 15) == plain
    assert strategies.random_order(32, 15, seed=4) == plain
    assert strategies.skip(32, 15) == strategies.skip_one(32, 16)


def test_a_random_order_shuffles_the_middle_only_and_ten_seeds_differ() -> None:
    plans = [strategies.random_order(32, 3, seed) for seed in range(10)]
    assert len(set(plans)) == 10
    for plan in plans:
        assert plan.steps[:4] == tuple(map(Layer, range(4)))
        assert plan.steps[-3:] == tuple(map(Layer, range(29, 32)))
        assert Counter(plan.steps) == Counter(strategies.baseline(32).steps)


def test_random_orders_never_change() -> None:
    assert str(strategies.random_order(16, 4)) == "0-4 7 5 11 9-8 6 10 12-15"
    assert str(strategies.random_order(16, 4, seed=1)) == "0-4 8-7 10 6 11 5 9 12-15"


def test_a_random_order_is_never_the_models_own_but_for_a_single_layer() -> None:
    for layers in range(4, 25):
        for n in range(1, layers // 2):
            own = strategies.baseline(layers)
            drawn = [strategies.random_order(layers, n, seed) for seed in range(10)]
            single = layers - 2 * n - 1 == 1
            assert [plan == own for plan in drawn] == [single] * 10
            assert all(Counter(plan.steps) == Counter(own.steps) for plan in drawn)


def test_an_order_that_was_the_models_own_is_drawn_anew_and_the_others_stay() -> None:
    for seed in range(40):
        words = "random_order {} 8 2 {}"
        drawn = sorted(range(3, 6), key=lambda i: sha256(words.format(seed, i).encode()).digest())
        found = strategies.random_order(8, 2, seed).steps[3:6]
        assert list(found) == [Layer(i) for i in drawn] or drawn == [3, 4, 5]
    redrawn = {str(strategies.random_order(8, 2, seed)) for seed in range(40)}
    assert len(redrawn) == 5  # every order of three but the model's own


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("freeze", {"k": 33}, "k is a whole number from 0 to 32 for T=32, not 33"),
        ("freeze", {"k": -1}, "k is a whole number from 0 to 32 for T=32, not -1"),
        ("freeze", {"k": 1.0}, "k is a whole number from 0 to 32"),
        ("freeze", {"k": True}, "k is a whole number from 0 to 32"),
        ("drop_attention_from", {"k": 33}, "from 0 to 32"),
        ("skip_one", {"n": 32}, "n is a whole number from 0 to 31 for T=32"),
        ("switch", {"n": 31}, "n is a whole number from 0 to 30 for T=32"),
        ("skip", {"n": 16}, "n is a whole number from 0 to 15 for T=32"),
        ("random_order", {"n": 16}, "from 0 to 15"),
        ("random_order", {"n": 1, "seed": -1}, "seed is a whole number from 0"),
        ("shuffle", {"k": 1, "seed": "x"}, "seed is a whole number from 0"),
        ("looped_parallel", {"n": 1, "loops": 0}, "loops is a whole number from 1"),
        ("drop_last", {"part": "attn", "count": 1}, "attention, mlp, block"),
        ("drop_last", {"part": "block", "count": 32}, "count is a whole number from 0 to 31"),
        ("drop_last", {"part": "mlp", "count": 32, "keep_last": True}, "from 0 to 31"),
        ("drop_last", {"part": "mlp", "count": 1, "keep_last": 1}, "true or false"),
        ("repeat_block", {"i": 4, "j": 4}, "j is a whole number from 5 to 32"),
        ("repeat_block", {"i": 32, "j": 33}, "i is a whole number from 0 to 31"),
    ],
)
def test_an_argument_out_of_range_names_the_range(name: str, arguments: dict, allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        STRATEGIES[name].function(32, **arguments)


@pytest.mark.parametrize(
    ("family", "arguments", "plan"),
    [
        ("block_influence", {"count": 2, "order": "4 2 0"}, "0 1 3 5"),
        ("block_influence", {"count": 0, "order": "4"}, "0-5"),
        ("block_influence", {"count": 1, "order": 4}, "0-3 5"),  # as YAML reads one layer
        ("one_shot", {"part": "attention", "count": 2, "order": "4 2"}, "0-1 2.mlp 3 4.mlp 5"),
        ("one_shot", {"part": "mlp", "count": 1, "order": "5"}, "0-4 5.attn"),
        ("one_shot", {"part": "block", "count": 3, "order": "0 1 2"}, "3-5"),
    ],
)
def test_selectors_leave_out_the_first_of_an_order(family: str, arguments: dict, plan: str) -> None:
    assert STRATEGIES[family].function(6, **arguments) == Plan.parse(plan, layers=6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 2, "order": "4"}, "order names 1 layer, and 2 are to be left out"),
        ({"count": 1, "order": "4 4"}, "layers 0 to 5, each once"),
        ({"count": 1, "order": "6"}, "layers 0 to 5"),
        ({"count": 1, "order": "-1"}, "layers 0 to 5"),
        ({"count": 1, "order": "4, 2"}, "layers 0 to 5"),
        ({"count": 1, "order": "9" * 5000}, "layers 0 to 5"),
        ({"count": 1, "order": [4, 2]}, "layers 0 to 5"),
        ({"count": 1, "order": None}, "layers 0 to 5"),
        ({"count": 1, "order": True}, "layers 0 to 5"),
        ({"count": 6, "order": "0 1 2 3 4 5"}, "count is a whole number from 0 to 5"),
    ],
)
def test_what_is_no_order_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        strategies.block_influence(6, **arguments)


@pytest.mark.parametrize("T", [0, -1, True, 2.0, None])
def test_a_model_has_at_least_one_layer(T: object) -> None:
    for name in STRATEGIES:
        with pytest.raises(ValueError, match="T is a whole number"):
            expand(name, T)  # type: ignore[arg-type]


def test_a_donor_name_follows_the_notation() -> None:
    with pytest.raises(PlanError):
        strategies.inject(32, 0, name="a b")


def in_order(T: int) -> str:
    return " ".join(map(str, reversed(range(T))))


COUNTS = {  # of families of which not every combination is a plan
    "repeat_block": lambda T: T * (T + 1) // 2,
    "half_step": lambda T: 4 * 4 * T * (T + 1) // 2,
    "pairs_parallel": lambda T: 3 * (T // 2) * ((T + 1) // 2),
}


@pytest.mark.parametrize("T", [4, 5, 32, 33, 80])
def test_every_combination_of_every_family_is_a_plan_of_the_model(T: int) -> None:
    for name, strategy in STRATEGIES.items():
        order = {strategies.ORDER: in_order(T)} if strategy.is_selector else {}
        if name == "half_step" and T > 40:
            continue  # together they are more than can be made
        rest = {"first": 1, "last": 4} if name == "reach" else {}
        everything = expand(name, T, **dict.fromkeys(strategy.domain(T), "all"), **order, **rest)
        expected = prod(map(len, strategy.domain(T).values()))
        assert len(everything) == (COUNTS[name](T) if name in COUNTS else expected)
        for parameters, plan in everything:
            plan.check(T)
            own = {"from_" if key == "from" else key: value for key, value in parameters.items()}
            assert strategy.function(T, **own) == plan


@pytest.mark.parametrize(("T", "counts"), [(32, [3, 8, 11]), (40, [4, 10, 13])])
def test_paper_c_s_fractions_are_shares_of_the_layers(T: int, counts: list[int]) -> None:
    expanded = expand("drop_last", T, part="mlp", count=["10%", "25 %", "33%"])
    assert [chosen["count"] for chosen, _ in expanded] == counts


@pytest.mark.parametrize(
    ("name", "key", "share", "value"),
    [("freeze", "k", "50%", 16), ("freeze", "k", "100%", 32), ("skip", "n", "12.5%", 4)],
)
def test_depths_can_be_shares_too(name: str, key: str, share: str, value: int) -> None:
    assert expand(name, 32, **{key: share}) == expand(name, 32, **{key: value})


def test_by_layers_are_the_parameters_whose_values_depend_on_the_layers() -> None:
    depend = {
        key
        for strategy in STRATEGIES.values()
        for key in strategy.domains
        if strategy.domain(8)[key] != strategy.domain(80)[key]
    }
    assert depend == strategies.BY_LAYERS


def test_all_means_what_the_papers_ran() -> None:
    def domain(name: str) -> dict:
        return STRATEGIES[name].domain(32)

    assert domain("freeze") == {"k": tuple(range(33))}
    assert domain("gaussian") == {"k": tuple(range(33)), "seed": (0, 1, 2)}
    assert domain("skip_one") == {"n": tuple(range(32))}
    assert domain("switch") == {"n": tuple(range(31))}
    assert domain("reverse") == {"n": tuple(range(1, 16))}
    assert domain("random_order") == {"n": tuple(range(1, 16)), "seed": tuple(range(10))}
    assert domain("looped_parallel")["loops"] == tuple(range(1, 29))
    assert domain("drop_last")["count"] == tuple(range(1, 32))  # a sweep around the paper's shares
    assert domain("drop_last")["part"] == ("attention", "mlp", "block")
    assert domain("drop_last")["keep_last"] == (False, True)


def test_a_choice_is_one_value_several_or_all_and_defaults_fill_in() -> None:
    assert [chosen for chosen, _ in expand("freeze", 3)] == [{"k": k} for k in range(4)]
    assert [chosen for chosen, _ in expand("gaussian", 32, k=[16, 8, 16], seed=(1, 2))] == [
        {"k": 16, "seed": 1},
        {"k": 16, "seed": 2},
        {"k": 8, "seed": 1},
        {"k": 8, "seed": 2},
    ]
    assert expand("inject", 2, k=1, name=["a", "all"]) == [
        ({"k": 1, "name": "a"}, Plan.parse("0 inject(a) 1")),
        ({"k": 1, "name": "all"}, Plan.parse("0 inject(all) 1")),
    ]
    assert expand("baseline", 2) == [({}, Plan.parse("0-1"))]
    assert len(expand("drop_last", 32)) == 3 * 31
    assert [chosen for chosen, _ in expand("repeat_block", 9, i=[2, 5], j=[3, 6])] == [
        {"i": 2, "j": 3},
        {"i": 2, "j": 6},
        {"i": 5, "j": 6},
    ]
    assert len(expand("drop_last", 32, part="mlp", keep_last="all")) == 31 * 2


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("frezze", {}, "did you mean freeze"),
        ("", {}, "known: baseline"),
        (None, {}, "there is no strategy"),
        ("freeze", {"n": 3}, "freeze takes no n; its parameters: k"),
        ("baseline", {"k": 3}, "its parameters: none"),
        ("freeze", {"k": 40}, "k is a whole number from 0 to 32"),
        ("freeze", {"k": []}, "no k to choose from"),
        ("freeze", {"k": "some"}, "k is a whole number"),
        ("freeze", {"k": "101%"}, "k is a whole number"),
        ("gaussian", {"k": 3, "seed": "10%"}, "seed is a whole number"),
        ("freeze", {"k": {"a": 1}}, "k is a number or a word"),
        ("freeze", {"k": None}, "k is a number or a word"),
        ("drop_last", {"part": "attn"}, "attention, mlp, block"),
        ("repeat_block", {"i": [5, 6], "j": 5}, "j is a whole number from 6 to 32"),
        ("repeat_block", {"i": "x", "j": 5}, "i is a whole number from 0 to 31"),
        ("repeat_block", {"i": 2.0, "j": 5}, "i is a whole number from 0 to 31"),
        ("half_step", {"i": 5, "j": 5}, "j is a whole number from 6 to 32"),
        ("half_step", {"i": 4, "j": 8, "times": 0}, "times is a whole number from 1"),
        ("half_step", {"i": 4, "j": 8, "scale": 9}, "a scale is a decimal between -8 and 8"),
        ("half_step", {"i": 4, "j": 8, "scale": "half"}, "a scale is a decimal"),
        ("half_step", {"i": 4, "j": 8, "scale": float("nan")}, "a scale is a decimal"),
        ("half_step", {"i": 4, "j": 8, "scale": True}, "a scale is a decimal"),
        ("pairs_parallel", {"from": 4, "to": 8}, "are 5 layers, of which one is left without"),
        ("pairs_parallel", {"from": 31, "to": 32}, "from is a whole number from 0 to 30"),
        ("pairs_parallel", {"from": 4, "to": 3}, "to is a whole number from 5 to 31"),
        ("pairs_parallel", {"from": 4, "to": 7, "form": "lp"}, "form is one of parts, sum, mean"),
        ("pairs_parallel", {"from_": 4, "to": 7}, "its parameters: from, to, form"),
        ("reach", {"k": 4}, "a reach sees at least one position"),
        ("reach", {"k": 4, "last": -1}, "last is a whole number from 0"),
        ("reach", {"k": 33, "last": 1}, "k is a whole number from 0 to 32"),
        ("freeze_prompt", {"k": 33}, "k is a whole number from 0 to 32"),
    ],
)
def test_a_wrong_choice_says_what_is_allowed(name: str, choices: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(name, 32, **choices)


def test_choices_that_are_no_plan_together_are_left_out_of_several() -> None:
    pairs = expand("pairs_parallel", 9, **{"from": [2, 3], "to": [5, 6]})
    assert [(chosen["from"], chosen["to"]) for chosen, _ in pairs] == [(2, 5), (3, 6)]
    assert len(expand("pairs_parallel", 9, form="all")) == 3 * len(expand("pairs_parallel", 9))
    narrowed = expand("reach", 9, k=3, first=[0, 1], last=[0, 8])
    assert [(chosen["first"], chosen["last"]) for chosen, _ in narrowed] == [(0, 8), (1, 0), (1, 8)]
    blocks = expand("half_step", 9, i=[2, 5], j=[3, 6], scale=[1, 1.0, 0.5])
    assert [tuple(chosen.values()) for chosen, _ in blocks] == [
        (i, j, 2, scale) for i, j in ((2, 3), (2, 6), (5, 6)) for scale in (1, 0.5)
    ]


def test_ends_of_pairs_and_blocks_can_be_shares_of_the_layers() -> None:
    assert expand("pairs_parallel", 32, **{"from": "25%", "to": 27})[0][0]["from"] == 8
    assert expand("half_step", 32, i="25%", j="75%")[0][0] == {
        "i": 8,
        "j": 24,
        "times": 2,
        "scale": 0.5,
    }


def test_a_model_too_small_for_a_family_says_so() -> None:
    with pytest.raises(ValueError, match="no n to choose from for T=3"):
        expand("skip", 3)


PAPERS = {
    *("freeze", "shuffle", "gaussian", "inject", "drop_attention_from"),
    *("skip_one", "switch", "skip", "middle_repeat", "reverse", "random_order"),
    *("parallel", "looped_parallel", "drop_last"),
}


def test_every_strategy_is_titled_and_explains_itself() -> None:
    for strategy in STRATEGIES.values():
        assert strategy.title
        assert strategy.function.__doc__
        assert strategy.paper == (strategy.figure[:1] if strategy.name in PAPERS else "")
        assert strategy.domains.keys() <= strategy.parameters.keys()


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES.values() if s.figure])
def test_what_the_paper_ran_is_an_entry_of_a_study_file(strategy: strategies.Strategy) -> None:
    [(name, choices)] = yaml.safe_load(strategy.entry).items()
    if strategy.is_selector:
        assert set(choices.pop("texts")) == {"file"}
        choices[strategies.ORDER] = in_order(32)
    assert expand(name, 32, **choices)
    if strategy.domains.keys() & {"k", "n"} and strategy.figure != "B2":
        assert strategy.doing


@pytest.mark.parametrize("figures", ["A2", "B2", "B4 B5 B6 B7 B8 B9"])
def test_families_of_one_figure_share_no_colour_dash_or_marker(figures: str) -> None:
    looks = [s.looks[""] for s in STRATEGIES.values() if s.figure in figures.split(" ")]
    for trait in ("colour", "dash", "marker", "label"):
        assert len({getattr(look, trait) for look in looks}) == len(looks)


@pytest.mark.parametrize(
    ("layers", "choices"), [(10**9, {}), (9_000, {}), (12, {"k": list(range(13)), "seed": 10**5})]
)
def test_more_plans_than_can_be_made_are_refused_at_once(layers, choices):
    name = "gaussian" if choices else "freeze"
    if choices:
        choices = choices | {"seed": list(range(choices["seed"]))}
    with pytest.raises(UserError, match="at most"):
        strategies.expand(name, layers, **choices)
