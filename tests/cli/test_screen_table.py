"""The table on a terminal: parameters as columns, changes with intervals, numbers never cut off."""

import re
from typing import Any

import numpy as np
import pytest

from characters import Characters
from impasto.analysis import Changes, item_scores
from impasto.cli.screen_table import table_lines
from impasto.study import Study
from impasto.tasks import capitals

ANSWERS = {item.prompt: item.answer for item in capitals().items}
TEXT = """
model: m
tasks: [{name: capitals, limit: 40}]
plans:
  - freeze: {k: [1, 2]}
  - gaussian: {k: 1, seed: [0, 1]}
  - reach: {k: 1, first: 1, last: 8}
  - "LONG"
"""
LONG = "0 2-1 3.mlp 0 2.attn 3 1 1.mlp 0 3-2 2.attn 1 3.mlp 0-1 3 0 2 3.attn 1 3 0.mlp 2 0 3"


class Model(Characters):
    """Knows every second answer, and all of them under short plans."""

    name, num_layers, tokenizer, identity = "m", 4, None, {"weights": "w"}

    def generate(self, plans, prompts, *given, **more):
        texts = list(self.texts(prompts))
        return [
            [
                f" {ANSWERS[text]}" if at % 2 or str(plan) != LONG else " ?"
                for at, text in enumerate(texts)
            ]
            for plan in plans
        ]


@pytest.fixture(scope="module")
def results():
    model: Any = Model()
    return Study.from_text(TEXT.replace("LONG", LONG), name="wide").run(model=model)


def test_a_familys_parameters_are_columns(results):
    _, columns, *rows = table_lines(results, None)
    names = ["strategy", "k", "seed", "first", "last", "value", "change", "plan"]
    assert columns.split() == names
    places = {name: columns.index(name) for name in names}
    [reach] = [row for row in rows if row.startswith("reach")]
    assert reach[places["first"] :].split()[:2] == ["1", "8"]
    assert not any("{" in row.split("plan")[0] and "}" in row for row in rows if "reach" not in row)


def test_changes_are_those_of_the_findings_in_points_with_their_intervals(results):
    title, _, *rows = table_lines(results, None)
    assert title == "capitals: exact_match in %, change in points (95 % interval), n = 40"
    frame = results.table
    changes = Changes(frame, item_scores(results.answers))
    written = frame[frame["strategy"] == "plan"].iloc[0]
    found = changes.on("capitals", "exact_match", [(written["digest"],)])
    lost, low, high = (100 * float(np.squeeze(end)) for end in (found.lost, found.low, found.high))
    assert lost == 50
    line = rows[-1].replace("−", "-")
    assert f"-{lost:.1f} ({-high:+.1f} to {-low:+.1f})" in line
    assert "(" not in rows[0]  # the baseline has no change
    assert any("+0.0 (−" in row and "to +0.0)" in row for row in rows)  # of 100 % none gains


def test_no_digest_is_shown(results):
    assert not re.search(r"[0-9a-f]{12}", "\n".join(table_lines(results, None)))


@pytest.mark.parametrize("width", [80, 90, 100, 200])
def test_a_long_plan_is_shortened_to_the_terminals_width(results, width):
    _, _, *rows = lines = list(table_lines(results, width))
    assert max(map(len, lines)) <= width
    assert rows[-1].endswith("…") == (width < 150)
    assert "−50.0 (" in rows[-1]
    whole = list(table_lines(results, None))
    assert whole[-1].endswith(LONG)
    assert not any("…" in line for line in whole)


def test_a_narrow_terminal_takes_no_number_away(results):
    rows = list(table_lines(results, 20))
    assert "−50.0 (" in rows[-1]
