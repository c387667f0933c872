"""What a study will cost is counted on exactly what would run."""

import pytest
from typer.testing import CliRunner

import impasto
from impasto import Study
from impasto.cli import app
from impasto.run import load_decoder
from impasto.study.work.counting import Counting

STUDY = """\
model: demo
tasks: [{name: capitals, limit: 6}]
plans: [{freeze: {k: [2, 6, 10]}}, "0-3 [4-7]*2 8-11"]
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return path


def test_an_estimate_counts_plans_items_and_what_sharing_saves(study):
    found = Study.from_yaml(study).estimate()
    assert (found.plans, found.items) == (5, 6)
    assert found.cost.alone > found.cost.plans > found.cost.tokens > found.cost.rows > 0
    read, pace = found.cost.rows - found.cost.written, found.pace
    writing = found.cost.written * pace.text + found.cost.calls * pace.call
    assert found.seconds == pytest.approx(read * pace.row + found.cost.pairs * pace.pair + writing)
    assert min(pace.row, pace.pair, pace.call, found.cost.calls, found.cost.written) > 0
    assert found.weight_bytes == pytest.approx(4 * 5.6e6, rel=0.02)
    assert found.cost.peak_bytes > 0


def test_fewer_items_cost_less(study):
    read = Study.from_yaml(study)
    assert read.estimate(limit=2).cost.alone < 0.5 * read.estimate().cost.alone


def test_a_counting_model_adds_up_what_the_model_says_it_costs():
    model = load_decoder("demo")
    counting = Counting(model)
    plans = [impasto.Plan.identity(12), impasto.Plan.parse("0-5 freeze 6-11")]
    pairs = [("Q: What is the capital of France?\nA:", " Paris"), ("Q: 1 + 1 =", " 2")]
    assert counting.loglikelihood(plans, pairs) == [[(0.0, False)] * 2] * 2
    assert counting.total == model.scoring_cost(plans, pairs)
    counting.generate(plans, ["Q: 1 + 1 ="], max_new_tokens=3)
    both = model.scoring_cost(plans, pairs) + model.generating_cost(plans, ["Q: 1 + 1 ="], 3)
    assert counting.total == both


def test_a_run_says_what_was_expected_and_what_it_took(study, tmp_path):
    results = Study.from_yaml(study).run(tmp_path / "out", limit=1)
    assert results.seconds is not None
    assert (results.seconds.expected or 0) > 0
    assert results.seconds.taken > 0


def test_explain_prints_what_a_study_will_cost(study):
    done = CliRunner().invoke(app, ["explain", str(study), "--limit", "2", "--memory", "1GiB"])
    assert done.exit_code == 0, done.output
    assert ": 5 plans, 2 items" in done.stdout
    for line in (
        "plans as a tree",
        "common tokens read once",
        "dead rows not run",
        "per layer-row",
    ):
        assert line in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain"], "one of them"),
        (["explain", "small.yaml", "--plan", "0-3"], "one of them"),
        (["explain", "none.yaml"], "does not exist"),
        (["run", "none.yaml", "--memory", "lots"], "no amount of memory"),
    ],
)
def test_mistakes_are_answered(words, message):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert message in done.output


def test_explain_tells_entries_from_distinct_plans_and_how_many_items_there_can_be(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        "model: demo\ntasks: [{name: capitals, limit: {within: 2%, at_most: 3}}, "
        '{name: arithmetic, limit: 2}]\nplans: [freeze: {k: [2, 2]}, "0-1 freeze 2-11", "0-11"]\n'
    )
    done = CliRunner().invoke(app, ["explain", str(path)])
    assert "small: 4 plans (2 distinct), at most 5 items" in done.stdout
    found = Study.from_yaml(path).estimate()
    assert (found.entries, found.plans, found.items) == (4, 2, 5)
    plain = Study.from_yaml(path).estimate(limit=2)
    assert (plain.items, plain.is_most) == (4, True)
