"""The picture of a plan and its telling in words: they fit the terminal and leave nothing out."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from plan_samples import HOSTILE, plans

from impasto.plan import Plan, PlanError, diagram, in_words
from impasto.strategies import STRATEGIES, expand


def test_a_picture_shows_layers_lanes_loops_markers_and_dropped_parts() -> None:
    picture = diagram(Plan.parse("0-7 [8|9|10]*3 freeze 24-30.mlp 31"))
    assert picture.split("\n") == [
        "        │",
        "     ┌──┴──┐",
        "     │ 0–7 │",
        "     └──┬──┘",
        "        │",
        " ╭──────┴──────╮",
        " │  ┌──┬┴──┐   │",
        " │  8  9  10   │",
        " │  └──┴┬──┘   │",
        " │  mean of 3  │",
        " ╰──────┬ × 3 ─╯",
        "        │",
        "   ═════╪═════  freeze at depth 11",
        "        │",
        "  ┌╌╌╌╌╌┴╌╌╌╌╌┐",
        "  ╎ 24–30 mlp ╎  MLP only, attention dropped",
        "  └╌╌╌╌╌┬╌╌╌╌╌┘",
        "        │",
        "     ┌──┴──┐",
        "     │ 31  │",
        "     └──┬──┘",
        "        │",
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_family_fits_eighty_columns(name: str) -> None:
    given = {"order": " ".join(map(str, range(31, -1, -1))), "first": 1, "last": 4}
    choices = {key: given[key] for key in STRATEGIES[name].parameters if key in given}
    for _, plan in expand(name, 32, **choices)[::7]:
        lines = diagram(plan).split("\n")
        assert max(map(len, lines)) <= 80
        pairs = 2 * len(plan.steps) if name == "pairs_parallel" else 0  # which are no runs
        assert len(lines) <= 20 + 3 * pairs


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
def test_any_plan_can_be_drawn_and_told(plan: Plan) -> None:
    lines = diagram(plan).split("\n")
    assert all(0 < len(line) <= 80 for line in lines)
    assert len(lines) < 1_000
    assert all(in_words(plan))


@pytest.mark.parametrize("name", HOSTILE)
def test_large_plans_are_drawn_with_their_middle_left_out(name: str) -> None:
    try:
        plan = Plan.parse(HOSTILE[name])
    except PlanError:
        return
    lines = diagram(plan).split("\n")
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) < 300


def test_a_deeply_nested_plan_is_drawn_as_far_as_it_fits() -> None:
    text = "0"
    for layer in range(1, 32):
        text = f"[{text} | {layer} {layer + 2}]"
    assert all(len(line) <= 80 for line in diagram(Plan.parse(text)).split("\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0-7", ["layers 0 to 7"]),
        ("5", ["layer 5"]),
        ("23-8", ["layers 23 to 8 downwards"]),
        ("16*16", ["layer 16, 16 times"]),
        ("24-30.mlp 31.attn", None),
        ("[8-23]*3", ["in parallel (layers 8 to 23), mean of 16 branches, 3 times"]),
        ("sum[8|2]", ["in parallel (layer 8; beside layer 2), sum of 2 branches"]),
        ("(0 2)*2", ["twice in a row: layer 0, then layer 2"]),
        ("[8]", ["layer 8, as a single branch"]),
        (
            "0-15 freeze 16",
            [
                "layers 0 to 15",
                "from here on earlier tokens keep the state they have at depth 16",
                "layer 16",
            ],
        ),
        (
            "noise(gaussian, seed=3, keep=1)",
            [
                "at depth 0 earlier tokens' states are replaced by gaussian noise, "
                "each keeping its norm (seed 3; the first token is spared)"
            ],
        ),
        ("inject(a)", ["at depth 0 the target tokens' states become those of donor a"]),
    ],
)
def test_each_item_is_told_in_plain_words(text: str, words: list[str] | None) -> None:
    expected = words or [
        "layers 24 to 30, MLP only (no attention)",
        "layer 31, attention only (no MLP)",
    ]
    assert in_words(Plan.parse(text)) == expected
