"""The picture of a plan in SVG: well formed, complete, within its frame, and of bounded size."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from plan_samples import plans
from typer.testing import CliRunner

from impasto.cli import app
from impasto.plan import Plan, picture
from impasto.strategies import STRATEGIES, expand

NAME = "{http://www.w3.org/2000/svg}"


def texts(plan: Plan) -> list[str]:
    found = ElementTree.fromstring(picture(plan)).iter(f"{NAME}text")
    return [text.text or "" for text in found]


def test_a_picture_shows_layers_lanes_loops_markers_and_dropped_parts() -> None:
    plan = Plan.parse("0-7 [8|9|10]*3 freeze 24-30.mlp 31")
    assert texts(plan) == [
        "0–7",
        *["8", "9", "10"],
        *["mean of 3", "× 3"],
        "freeze at depth 11",
        *["24–30 mlp", "MLP only, attention dropped"],
        "31",
    ]
    root = ElementTree.fromstring(picture(plan))
    title = root.find(f"{NAME}title")
    assert title is not None
    assert title.text == "0-7 [8-10]*3 freeze 24-30.mlp 31"
    dashed = [rect for rect in root.iter(f"{NAME}rect") if rect.get("stroke-dasharray")]
    assert len(dashed) == 1


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_family_is_drawn_within_its_frame(name: str) -> None:
    given = {"order": " ".join(map(str, range(11, -1, -1))), "first": 1, "last": 4}
    choices = {key: given[key] for key in STRATEGIES[name].parameters if key in given}
    for _, plan in expand(name, 12, **choices)[::7]:
        assert_within(ElementTree.fromstring(picture(plan)))


@given(plans)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_plan_is_drawn_well_formed_within_its_frame_and_small(plan: Plan) -> None:
    drawn = picture(plan)
    assert len(drawn) < 400_000
    assert_within(ElementTree.fromstring(drawn))


def assert_within(root: ElementTree.Element) -> None:
    """Check that boxes and letters lie within the picture."""
    width, height = float(root.get("width", 0)), float(root.get("height", 0))

    def walk(element: ElementTree.Element, x: float, y: float) -> None:
        moved = re.findall(r"-?[\d.]+", element.get("transform", ""))
        if moved:
            x, y = x + float(moved[0]), y + float(moved[1])
        if element.tag == f"{NAME}rect":
            assert -0.5 <= x <= x + float(element.get("width", 0)) <= width + 0.5
            assert -0.5 <= y <= y + float(element.get("height", 0)) <= height + 0.5
        if element.tag == f"{NAME}text":
            size = 7 * len(element.text or "")
            left = {"start": 0, "middle": size / 2, "end": size}[element.get("text-anchor", "")]
            left = x + float(element.get("x", 0)) - left
            assert -1 <= left <= left + size <= width + 1, element.text
            assert 0 <= y + float(element.get("y", 0)) <= height
        for child in element:
            walk(child, x, y)

    walk(root, 0, 0)


def test_the_command_draws_into_a_file(tmp_path) -> None:
    file = tmp_path / "plan.svg"
    done = CliRunner().invoke(app, ["explain", "--plan", "0-3 [4-7]*2 8-11", "--svg", str(file)])
    assert done.exit_code == 0
    assert "mean of 4" in file.read_text(encoding="utf-8")
    none = CliRunner().invoke(app, ["explain", "study.yaml", "--svg", str(file)])
    assert none.exit_code == 2
    assert "--svg draws a plan" in none.stderr
    there = CliRunner().invoke(app, ["explain", "--plan", "0-3", "--svg", str(tmp_path)])
    assert there.exit_code == 2
    assert "cannot be written" in there.stderr
