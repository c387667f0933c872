"""Running a study: each plan once, each label a row, all files or none."""

import pandas as pd
import pytest

from impasto.error import UserError
from impasto.study import Results, Study, StudyError

TEXT = """\
model: demo
tasks: [{name: capitals, limit: 20}, {name: arithmetic, terms: 2}]
plans:
  - freeze: {k: all}
  - drop_attention_from: {k: 4}
  - gaussian: {k: [1, 2], seed: [0, 1]}
  - inject: {k: [0, 4]}
  - "0-1 2 3"
"""
FILES = [".lock", "results.csv", "results.sqlite", "study.log", "study.yaml"]


@pytest.fixture
def study():
    return Study.from_text(TEXT, name="mine")


def value(frame, strategy, metric="exact_match", task="capitals", **columns):
    rows = frame[(frame.strategy == strategy) & (frame.metric == metric) & (frame.task == task)]
    for column, wanted in columns.items():
        rows = rows[rows[column] == wanted]
    [found] = rows["value"]
    return found


def test_the_table_has_a_row_for_every_plan_task_and_metric(study, model):
    frame = study.run(model=model).table
    per_task = 1 + 5 + 1 + 4 + 2 * 2 + 1  # the baseline always; two metrics where a plan injects
    assert len(frame) == 2 * per_task
    assert not frame.duplicated(["task", "strategy", "k", "seed", "plan", "metric"]).any()
    assert set(frame["model"]) == {"fake"}
    assert set(frame["layers"]) == {4}
    assert dict(frame.groupby("task")["n"].first()) == {"capitals": 20, "arithmetic-2": 110}


def test_values_are_what_the_model_said(study, model):
    frame = study.run(model=model).table
    assert value(frame, "baseline") == 1.0
    assert [value(frame, "freeze", k=k) for k in range(5)] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert value(frame, "gaussian", k=1, seed=1) == 0.0
    assert value(frame, "plan", plan="0-3") == 1.0
    assert set(frame[frame.metric == "exact_match"]["baseline"]) == {1.0}


def test_an_injection_is_asked_for_both_answers(study, model):
    frame = study.run(model=model).table
    for task in ("capitals", "arithmetic-2"):
        assert value(frame, "inject", "answers_injected", task, k=0) == 1.0
        assert value(frame, "inject", "answers_original", task, k=0) == 0.0
        assert value(frame, "inject", "answers_injected", task, k=4) == 0.0
        assert value(frame, "inject", "answers_original", task, k=4) == 1.0
    injected = frame[frame.metric == "answers_injected"]
    assert set(injected["baseline"]) == {0.0}  # the unchanged model never gives the donor's answer


def test_all_plans_of_a_task_run_in_one_call_and_equal_plans_once(study, model):
    study.run(model=model)
    assert len(model.calls) == 2
    for call in model.calls:
        digests = [plan.digest for plan in call["plans"]]
        assert len(digests) == len(set(digests))
        # the baseline, skipping no attention and the written line are one plan
        assert len(digests) == 1 + 5 + 4 + 2


def test_plans_that_run_alike_keep_their_rows_and_share_their_value(study, model):
    frame = study.run(model=model).table
    alike = frame[(frame.plan == "0-3") & (frame.task == "capitals")]
    assert sorted(alike["strategy"]) == ["baseline", "drop_attention_from", "plan"]
    assert alike["digest"].nunique() == 1


def test_donors_are_the_questions_that_the_task_names(study, model):
    study.run(model=model)
    [task, _] = study.load_suite().tasks
    for question, donors in zip(task.items, model.calls[0]["donors"], strict=True):
        donor, named = donors["donor"], task.donor_of(question)
        assert (donor.prompt, donor.donor_span) == (named.prompt, named.subject)
        assert donor.target_span == question.subject


def test_without_injection_there_are_no_donors(model):
    Study.from_text("model: m\ntasks: [capitals]\nplans: [freeze: {k: 1}]\n").run(model=model)
    assert model.calls[0]["donors"] is None


def test_a_limit_bounds_every_task_and_keeps_a_smaller_one(study, model):
    frame = study.run(model=model, limit=30).table
    assert dict(frame.groupby("task")["n"].first()) == {"capitals": 20, "arithmetic-2": 30}


def test_progress_goes_over_the_whole_run_without_going_back(study, model):
    told = []
    study.run(model=model, progress=told.append)
    shares = [standing.share for standing in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {"Capitals", "Arithmetic, 2 terms"} <= {standing.doing for standing in told}
    assert (told[-1].cells, told[-1].of) == (24, 24)


def test_the_folder_holds_table_answers_and_study(study, model, tmp_path):
    out = tmp_path / "runs" / "mine"
    results = study.run(out, model=model)
    assert sorted(path.name for path in out.iterdir()) == FILES
    read = Results.read(out)
    pd.testing.assert_frame_equal(read.table, results.table, check_exact=True)
    assert read.answers == results.answers
    assert read.study == study.as_run("fake")
    assert Study.from_yaml(out / "study.yaml") == study.as_run("fake")


def test_every_answer_is_kept_so_that_plans_can_be_compared_question_by_question(
    study, model, tmp_path
):
    study.run(tmp_path, model=model)
    answers = Results.read(tmp_path).answers
    assert len(answers) == len(list(answers)) == (20 + 110) * 12  # questions × different plans
    frame = Results.read(tmp_path).table
    for row in frame.query("task == 'capitals'").to_dict(orient="records"):
        right = [
            answer["metrics"][row["metric"]]
            for answer in answers
            if answer["task"] == "capitals" and answer["digest"] == row["digest"]
        ]
        assert sum(right) / 20 == row["value"]


def test_the_same_study_writes_its_table_again_and_asks_nothing(study, model, tmp_path):
    study.run(tmp_path, model=model)
    first = (tmp_path / "results.csv").read_bytes()
    (tmp_path / "results.csv").write_text("old")
    model.calls.clear()
    study.run(tmp_path, model=model)
    assert (tmp_path / "results.csv").read_bytes() == first
    assert model.calls == []


def test_a_table_that_no_study_wrote_is_left_alone(study, model, tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(UserError, match="no study wrote"):
        study.run(tmp_path, model=model)
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused_before_anything_runs(study, model, tmp_path):
    (tmp_path / "taken").write_text("mine")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(UserError, match="is a file"):
            study.run(out, model=model)
    assert model.calls == []
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_run_that_fails_leaves_no_folder(study, model, tmp_path):
    model.num_layers = 2  # so that the written plan names layers that it lacks
    with pytest.raises(StudyError, match="line"):
        study.run(tmp_path / "out", model=model)
    assert model.calls == []
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fails_on_the_way_leaves_the_earlier_files(study, model, tmp_path, monkeypatch):
    study.run(tmp_path, model=model)
    before = {name: (tmp_path / name).read_bytes() for name in ("results.csv", "study.yaml")}

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        study.run(tmp_path, model=model)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_folder_without_results_is_said_to_have_none(tmp_path):
    with pytest.raises(UserError, match="holds no results"):
        Results.read(tmp_path)


def test_results_that_cannot_be_read_are_said_so(study, model, tmp_path):
    study.run(tmp_path, model=model)
    (tmp_path / "results.sqlite").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="damaged or no database"):
        Results.read(tmp_path)


def test_answers_with_any_signs_in_them_are_read_as_they_were_written(study, model, tmp_path):
    odd = ' "a",\r\u2028\x85\t\x00\\n é 日本 '
    model.generate = lambda plans, prompts, *_, **__: [[odd] * len(prompts) for _ in plans]
    results = study.run(tmp_path, model=model)
    read = Results.read(tmp_path)
    assert read.answers == results.answers
    assert read.answers[0]["responses"] == [odd]


def test_the_model_is_loaded_as_the_study_says(model, monkeypatch):
    seen = []

    def load(name, **options):
        seen.append((name, options))
        return model

    monkeypatch.setattr("impasto.run.load", load)
    text = "model: fake\ntasks: [{name: capitals, limit: 2}]\nplans: [baseline]\n"
    results = Study.from_text(text + "load: {dtype: bfloat16}\n").run()
    Study.from_text(text).run()
    assert seen == [("fake", {"dtype": "bfloat16"}), ("fake", {})]
    assert results.study.load == {"dtype": "bfloat16"}


def test_a_model_that_is_loaded_already_is_not_said_to_be_loaded_otherwise(model):
    text = "model: other\ntasks: [{name: capitals, limit: 2}]\nplans: [baseline]\n"
    assert Study.from_text(text + "load: {dtype: auto}\n").run(model=model).study.load == {}
