"""What a study that is not finished comes to so far is shown, with what is missing."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from impasto.cli import app
from impasto.error import UserError
from impasto.study import Results, Study
from impasto.study.results.unfinished import Gap
from impasto.study.running import answering
from impasto.tasks.questions import Questions

TEXT = """\
model: m
tasks: [{name: capitals, limit: 40}, {name: arithmetic, terms: 2, limit: 16}]
plans: [freeze: {k: [0, 4]}, inject: {k: [0, 4]}]
"""
PLANS = 5
COMMAND = "impasto run mine.yaml"


@dataclass
class Until:
    """A model that answers so many calls."""

    model: Any
    calls: int

    def __getattr__(self, name):
        return getattr(self.model, name)

    def generate(self, *given, **more):
        self.calls -= 1
        if self.calls < 0:
            raise RuntimeError("the power went")
        return self.model.generate(*given, **more)


@pytest.fixture
def run(monkeypatch, model, tmp_path):
    """Return what runs so many units of the study: four of capitals, then two of arithmetic."""
    seconds = {"capitals": 100.0, "arithmetic-2": 50.0}
    monkeypatch.setattr(answering, "expected_seconds", lambda *given: seconds)
    study = Study.from_text(TEXT, name="mine")

    def run(units):
        until: Any = Until(model, units)
        return study.run(tmp_path, model=until, save_every=25.0, command=COMMAND)

    return run


@pytest.fixture
def broken_off(run, tmp_path):
    """Return what leaves a folder in which so many units are finished."""

    def broken_off(units):
        with pytest.raises(RuntimeError, match="power"):
            run(units)
        return tmp_path

    return broken_off


def test_the_rows_so_far_are_over_the_items_that_were_asked(broken_off):
    results = Results.read(broken_off(3))
    frame = results.table
    assert set(frame["task"]) == {"capitals"}
    assert set(frame["n"]) == {30}
    assert len(results.answers) == 3 * 10 * PLANS
    right = {}
    for answer in results.answers:
        right.setdefault(answer["digest"], []).append(answer["metrics"].get("exact_match"))
    for row in frame.to_dict(orient="records"):
        if row["metric"] == "exact_match":
            assert row["value"] == sum(right[row["digest"]]) / 30
    [weights] = set(frame["weights"])
    assert weights == "as they were made"


def test_what_is_missing_is_named_by_task_items_and_plans(broken_off):
    results = Results.read(broken_off(3))
    plans = results.gaps[0].plans
    assert len(plans) == PLANS
    assert list(results.gaps) == [
        Gap("capitals", 30, 40, plans),
        Gap("arithmetic-2", 0, 16, plans),  # two shards that miss the same plans
    ]
    told = "capitals: items 31 to 40 under 0-3, freeze 0-3, 0-3 freeze and 2 more"
    assert str(results.gaps[0]) == told


def test_the_rows_of_a_task_that_is_finished_are_those_of_the_finished_study(broken_off, run):
    partial = Results.read(broken_off(4)).table
    whole = run(99).table
    assert set(partial["task"]) == {"capitals"}
    expected = whole[whole["task"] == "capitals"].reset_index(drop=True)
    pd.testing.assert_frame_equal(partial, expected, check_exact=True)


def test_a_finished_study_misses_nothing(run, tmp_path):
    run(99)
    assert Results.read(tmp_path).gaps == ()


def test_before_anything_is_finished_there_is_no_table(broken_off):
    with pytest.raises(UserError, match="no cell of the study mine is finished yet"):
        Results.read(broken_off(0))


def test_a_task_that_has_changed_since_is_not_summed_up(broken_off, monkeypatch):
    out = broken_off(3)
    monkeypatch.setattr(Questions, "digest", "another")
    with pytest.raises(UserError, match="capitals has changed since the study ran"):
        Results.read(out)


@pytest.mark.parametrize("form", [None, "csv", "json", "md"])
def test_the_command_prints_the_table_and_says_on_stderr_what_is_missing(form, broken_off):
    out = broken_off(3)
    words = ["results", str(out), *(["--format", form] if form else [])]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "freeze 0-3" in done.stdout
    assert "not finished" not in done.stdout
    assert done.stderr.startswith("not finished: each row is over the n items")
    assert "capitals: items 31 to 40 under" in done.stderr
    assert "arithmetic-2: items 1 to 16 under" in done.stderr
    assert f"to go on:  {COMMAND}" in done.stderr
