"""A plan and its chips say the same, whatever the plan."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings

from impasto.plan import Plan, PlanError
from impasto.playing.chips import MOST_CHIPS, chips_of, plan_of, shown
from plan.plan_samples import plans

LAYERS = 30


def fitting(plan):
    """Return a plan with its layers within a model's."""
    smaller = re.sub(r'"layer":(\d+)', lambda m: f'"layer":{int(m[1]) % LAYERS}', plan.to_json())
    return Plan.from_json(smaller)


def running(chips):
    return json.dumps({"plan": 1, "steps": [chip for chip in chips if "off" not in chip]})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
def test_chips_that_are_on_are_the_plan_and_the_others_what_it_leaves_out(plan):
    plan = fitting(plan)
    chips = chips_of(plan, LAYERS)
    assert plan_of(running(chips), LAYERS) == plan == Plan.parse(str(plan), LAYERS)
    off = [chip["layer"] for chip in chips if "off" in chip]
    assert sorted(off) == sorted(set(range(LAYERS)) - plan.layers)


@pytest.mark.parametrize(
    ("line", "order"),
    [
        ("0-4 6-7", "0 1 2 3 4 -5 6 7"),
        ("1-7", "-0 1 2 3 4 5 6 7"),
        ("0-2", "0 1 2 -3 -4 -5 -6 -7"),
        ("7-4 2-0", "7 6 5 4 -3 2 1 0"),
        ("4-7 0-1", "4 5 6 7 0 1 -2 -3"),
        ("0-3*2 6-7", "0 1 2 3 0 1 2 3 -4 -5 6 7"),
        ("0-3 [4|6] 7", "0 1 2 3 [] -5 7"),
        ("freeze 1-7", "freeze -0 1 2 3 4 5 6 7"),
        ("freeze", "freeze -0 -1 -2 -3 -4 -5 -6 -7"),
    ],
)
def test_a_layer_left_out_stands_where_it_would_run(line, order):
    def name(chip):
        if "layer" not in chip:
            return "[]" if "parallel" in chip else "freeze"
        return f"{'-' * ('off' in chip)}{chip['layer']}"

    assert " ".join(map(name, chips_of(Plan.parse(line), 8))) == order


def test_a_plan_of_too_many_chips_is_a_picture():
    said = shown(Plan.parse(f"0-3 4*{MOST_CHIPS}"), 8)
    assert said["chips"] is None
    assert said["picture"].startswith("<svg")
    assert said["words"][-1] == "layer 4, 600 times"


@pytest.mark.parametrize("steps", ["[]", '[{"layer": 8, "part": "block"}]', "nonsense", "[1]"])
def test_chips_that_are_no_plan_are_refused(steps):
    with pytest.raises(PlanError):
        plan_of(f'{{"plan": 1, "steps": {steps}}}', 8)
