"""Texts in a study: saved, resumed, sent to workers and summed up like every other task."""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
# (pandas types what a comparison returns too widely; the fake answers one kind of question)

from math import exp
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import tiny
from fake_reader import LINES, FakeReader, study_of
from impasto import Study, UserError
from impasto.cli import app
from impasto.study import Results
from impasto.study.running import answering
from impasto.study.work.precision import PERCENT, measured

PLANS = 3


@pytest.fixture
def model():
    return FakeReader()


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "expected_seconds", lambda *given: {"texts-lines": 100.0})
    return study_of(tmp_path)


def values(results):
    frame = results.table
    return {(row.plan, row.metric): row.value for row in frame.itertuples()}


def test_the_table_has_three_metrics_of_every_plan(study, model):
    results = study.run(model=model)
    found = values(results)
    assert found["0-3", "perplexity"] == pytest.approx(7)
    assert (found["0-3", "kl"], found["0-3", "agreement"]) == (0, 1)
    assert found["0-2", "perplexity"] == pytest.approx(8)
    assert found["0-2", "kl"] == pytest.approx(1 / 3)
    frame = results.table
    assert set(frame["n"]) == {max(frame["n"])}
    assert frame["chance"].isna().all()
    tokens = sum(record["responses"][0][0] + 1 for record in results.answers) / PLANS
    assert tokens == 500


def test_a_study_that_ends_early_goes_on_and_ends_with_the_same_table(study, model, tmp_path):
    whole = study.run(model=model, save_every=25.0)
    units = len(model.calls)
    assert units > 2
    cut = FakeReader(left=2)
    with pytest.raises(RuntimeError, match="the power went"):
        study.run(tmp_path / "out", model=cut, save_every=25.0)
    so_far = Results.read(tmp_path / "out").table
    assert 0 < so_far["n"].max() < whole.table["n"].max()
    rest = FakeReader()
    results = study.run(tmp_path / "out", model=rest, save_every=25.0)
    assert len(rest.calls) == units - 2
    pd.testing.assert_frame_equal(results.table, whole.table, check_exact=True)
    again = FakeReader()
    study.run(tmp_path / "out", model=again, save_every=25.0)
    assert again.calls == []


def test_plans_that_inject_run_on_the_other_tasks_alone(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES[:3]))
    text = (
        f"model: demo\ntasks: [{{name: texts, file: {path}, length: 64}}, "
        "{name: capitals, limit: 2}]\nplans: [0-5 inject(donor) 6-11]\n"
    )
    frame = Study.from_text(text).run().table
    assert set(frame[frame["task"] == "texts-lines"]["plan"]) == {"0-11"}


def test_texts_are_told_apart_by_file_or_label(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.txt").write_text("\n".join(LINES[:3]))
    first, second = (f"{{name: texts, file: {tmp_path / each / 't.txt'}" for each in "ab")
    text = "model: m\nplans: [0-2]\ntasks:\n- {}}}\n- {}{}}}\n"
    with pytest.raises(UserError, match="the task 'texts-t' is here twice"):
        Study.from_text(text.format(first, second, ""))
    study = Study.from_text(text.format(first, second, ", label: other"))
    assert set(study.run(model=FakeReader()).table["task"]) == {"texts-t", "texts-other"}


def test_how_precisely_a_perplexity_is_known_is_a_share_of_the_baselines(study, model, tmp_path):
    [entry] = study.tasks
    options = {**entry.options, "limit": {"within": "2%"}}
    found = Study.from_text(f"model: m\nplans: [0-2]\ntasks: [{options}]\n")
    frame = found.run(tmp_path / "out", model=model).table
    assert set(frame["metric"]) == {"perplexity", "kl", "agreement"}
    [one] = measured(found.load_suite().read_by(model))
    rows = [[(-2.0 * n, n) for n in range(2, 40)], [(-3.0 * n - n % 2, n) for n in range(2, 40)]]
    width = one.width("perplexity", *({"texts-lines": values} for values in rows))
    assert width.unit == PERCENT
    change = exp(3 + 0.5) - exp(2)
    assert 0 < width.half < change / exp(2)


# ------------------------------------------------------------------ what it costs, and mistakes


@pytest.fixture
def demo_study(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    task = f"{{name: texts, file: {tmp_path / 'lines.txt'}, tokens: 100, length: 64}}"
    path = tmp_path / "texts.yaml"
    path.write_text(f"model: demo\ntasks: [{task}]\nplans: [0-5 freeze 6-11, skip_one: {{n: 3}}]\n")
    return path


def test_explain_counts_what_texts_cost(demo_study):
    done = CliRunner().invoke(app, ["explain", str(demo_study)])
    assert done.exit_code == 0, done.output
    assert "texts: 3 plans, " in done.stdout
    found = Study.from_yaml(demo_study).estimate()
    assert 0 < found.cost.rows <= found.cost.plans < found.cost.alone
    less = Study.from_yaml(demo_study).estimate(limit=2)
    assert less.cost.rows < found.cost.rows
    assert less.items == 2


def test_explain_and_run_meet_the_same_texts(demo_study):
    study = Study.from_yaml(demo_study)
    frame = study.run().table
    assert set(frame["n"]) == {study.estimate().items}
    kl = frame[frame["metric"] == "kl"].set_index("plan")["value"]
    assert kl["0-11"] == 0
    assert (kl.drop("0-11") > 0).all()


def test_an_encoder_is_told_what_is_for_it(demo_study, tmp_path):
    model = tiny.bert(tmp_path / "bert")
    text = demo_study.read_text().replace("0-5 freeze 6-11", "0-2")
    with pytest.raises(UserError, match=r"is an encoder.*\(Fidelity\).*glue and masked_text"):
        Study.from_text(text).run(model=model)


def test_pieces_beyond_the_models_positions_are_told_before_anything_runs(demo_study):
    text = demo_study.read_text().replace("length: 64", "length: 257")
    said: list[Any] = []
    with pytest.raises(UserError, match=r"257 tokens exceed .* 256 positions: length is at most"):
        Study.from_text(text).run(say=said.append)
