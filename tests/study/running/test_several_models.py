"""Several models in one study: one after the other, into one folder, each as if it ran alone."""

import os
import signal
from types import SimpleNamespace

import pandas as pd
import pytest

from impasto.error import UserError
from impasto.model.loading.load import Outline
from impasto.study import Cluster, Results, Stopped, Study, StudyError
from impasto.study.following.status import status
from impasto.study.running import answering
from named_models import LAYERS, TEXT, Loads


@pytest.fixture
def loads(model, monkeypatch):
    """Have fakes loaded by their names: small, large and other."""
    found = Loads(type(model))
    monkeypatch.setattr("impasto.run.load", found.load)
    monkeypatch.setattr("impasto.model.loading.load.outline", found.outline)
    return found


@pytest.fixture
def study():
    return Study.from_text(TEXT, name="mine", source="mine.yaml")


def same(found, whole):
    pd.testing.assert_frame_equal(found, whole, check_exact=True)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_each_model_runs_the_plans_by_its_own_number_of_layers(study, loads, tmp_path):
    results = study.run(tmp_path)
    assert loads.names == ["small", "large"]
    assert list(results.models) == ["small", "large"]
    for name, of_model in results.models.items():
        frame = of_model.table
        assert (set(frame["model"]), set(frame["layers"])) == ({name}, {LAYERS[name]})
        assert set(frame[frame.strategy == "freeze"]["k"]) == set(range(LAYERS[name] + 1))
        assert set(frame[frame.strategy == "plan"]["plan"]) == {"0-2"}
    same(
        results.table,
        pd.concat([r.table for r in results.models.values()]).reset_index(drop=True),
    )
    assert len(pd.read_csv(tmp_path / "results.csv")) == len(results.table)
    assert Study.from_yaml(tmp_path / "study.yaml") == study


def test_each_models_results_are_those_that_it_has_alone(study, loads, tmp_path):
    together = study.run(tmp_path)
    for name in study.models:
        alone = study.run(model=name)
        assert list(alone.models) == [name]
        same(together.models[name].table, alone.table)
        assert list(together.models[name].answers) == list(alone.answers)


def test_a_model_is_gone_before_the_next_one_is_loaded(study, loads, tmp_path):
    study.run(tmp_path)
    assert loads.kept == [False, False]


def test_the_results_of_all_models_are_read_in_the_studys_order(study, loads, tmp_path):
    results = study.run(tmp_path)
    read = Results.read_all(tmp_path)
    assert [of_model.study.model for of_model in read] == ["small", "large"]
    for found, told in zip(read, results.models.values(), strict=True):
        same(found.table, told.table)
        assert list(found.answers) == list(told.answers)
    with pytest.raises(UserError, match=r"has the models small, large: Results\.read_all"):
        Results.read(tmp_path)


def test_the_answers_of_all_models_say_whose_they_are(study, loads):
    results = study.run()
    answers = results.answers
    count = {name: len(of_model.answers) for name, of_model in results.models.items()}
    assert len(answers) == len(list(answers)) == sum(count.values())
    assert [answer["model"] for answer in answers] == ["small"] * count["small"] + [
        "large"
    ] * count["large"]
    assert answers[-1] == {"model": "large", **results.models["large"].answers[-1]}
    assert answers[count["small"]] == {"model": "large", **results.models["large"].answers[0]}
    assert answers[: count["small"] + 1][-1] == answers[count["small"]]
    with pytest.raises(IndexError):
        answers[len(answers)]


def test_progress_and_notices_say_which_model_of_how_many(study, loads, tmp_path):
    told, said = [], []
    study.run(tmp_path, progress=told.append)
    assert list(dict.fromkeys(standing.model for standing in told)) == [
        "model 1 of 2, small",
        "model 2 of 2, large",
    ]
    for label in {standing.model for standing in told}:
        shares = [standing.share for standing in told if standing.model == label]
        assert (shares, shares[0], shares[-1]) == (sorted(shares), 0.0, 1.0)
    study.run(tmp_path, say=said.append)
    assert said == [
        "small: 10 of 10 cells are there already",
        "large: 16 of 16 cells are there already",
    ]


def test_a_plan_that_one_model_lacks_layers_for_is_told_before_anything_is_loaded(
    loads, tmp_path, line_of
):
    study = Study.from_text(TEXT.replace('"0-2"', '"0-4"'), source="mine.yaml")
    with pytest.raises(StudyError, match="model small, with 3 layers") as caught:
        study.run(tmp_path / "out")
    assert line_of(caught.value) == 3
    assert (loads.names, (tmp_path / "out").exists()) == ([], False)
    assert set(study.run(model="large").table["layers"]) == {5}


def test_a_depth_that_one_model_lacks_is_told_too(loads):
    study = Study.from_text(TEXT.replace("k: all", "k: [1, 4]"))
    with pytest.raises(StudyError, match=r"(?s)k is a whole number from 0 to 3.*model small"):
        study.run()


def test_where_the_number_of_layers_is_not_known_it_is_told_when_the_model_is_there(
    loads, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "impasto.model.loading.load.outline", lambda name, **options: Outline(None, False)
    )
    study = Study.from_text(TEXT.replace('"0-2"', '"0-4"'))
    with pytest.raises(StudyError, match=r"layers 0\.\.2"):
        study.run(tmp_path)


def test_a_model_that_is_not_there_is_told_before_another_is_loaded(tmp_path, loads, monkeypatch):
    monkeypatch.undo()
    loaded = []
    monkeypatch.setattr("impasto.run.load", loaded.append)
    study = Study.from_text(TEXT.replace("small, large", "demo, ./nowhere"))
    with pytest.raises(UserError, match="nowhere is not a folder"):
        study.run(tmp_path / "out")
    assert (loaded, (tmp_path / "out").exists()) == ([], False)


# ------------------------------------------------------------------ going on


@pytest.fixture
def units(monkeypatch):
    """Have every task divided into two units of five items."""
    tasks = {"capitals": 50.0, "arithmetic-2": 50.0}
    monkeypatch.setattr(answering, "expected_seconds", lambda *given: tasks)
    monkeypatch.setattr("impasto.study.work.units.FEWEST_ITEMS", 5)


def run(study, out, **more):
    return study.run(out, save_every=25.0, **more)


@pytest.mark.parametrize("calls", [1, 3, 5, 8])
def test_a_run_that_died_goes_on_with_the_model_it_was_at(calls, study, loads, units, tmp_path):
    whole = run(study, None)
    assert len(loads.forget()) == 8

    def dies(name):
        if len(loads.asked) == calls:
            raise RuntimeError("the power went")

    loads.act = dies
    with pytest.raises(RuntimeError):
        run(study, tmp_path)
    asked = loads.forget()
    loads.act = lambda name: None
    found = run(study, tmp_path)
    assert asked[-1] == loads.asked[0]  # the same call of the engine
    assert len(loads.asked) == 8 - calls + 1
    same(found.table, whole.table)
    assert list(found.answers) == list(whole.answers)


def test_an_interrupt_stops_in_the_model_and_says_so(study, loads, units, tmp_path):
    loads.act = lambda name: interrupt() if len(loads.asked) == 6 else None
    with pytest.raises(Stopped, match="model 2 of 2, large: 16 of 32 cells are saved"):
        run(study, tmp_path)
    assert status(tmp_path).state == "stopped"
    assert [(model.cells, model.of) for model in status(tmp_path).models] == [(20, 20), (16, 32)]


def test_an_interrupt_in_a_models_last_unit_stops_before_the_next_model(
    study, loads, units, tmp_path
):
    loads.act = lambda name: interrupt() if len(loads.asked) == 4 else None
    with pytest.raises(Stopped, match="model 1 of 2, small: finished and saved"):
        run(study, tmp_path)
    assert loads.names == ["small"]
    told = status(tmp_path)
    assert (told.state, told.models[1].of) == ("stopped", None)
    assert "cells    not begun" in list(told.lines())
    assert [of_model.study.model for of_model in Results.read_all(tmp_path)] == ["small"]
    loads.forget()
    run(study, tmp_path)
    assert [name for name, _ in loads.asked] == ["large"] * 4


def test_status_says_how_far_each_model_is_while_it_runs(study, loads, tmp_path):
    seen = []
    loads.act = lambda name: seen.append(status(tmp_path))
    study.run(tmp_path)
    first, last = seen[0], seen[-1]
    assert {told.state for told in seen} == {"running"}
    assert [(m.model, m.cells, m.of) for m in first.models] == [
        ("small", 0, 10),
        ("large", 0, None),
    ]
    assert [(m.cells, m.of) for m in last.models] == [(10, 10), (8, 16)]
    assert status(tmp_path).state == "finished"


def test_a_run_that_was_killed_between_two_models_is_not_said_to_be_finished(
    study, loads, tmp_path, monkeypatch
):
    load = loads.load

    def gone(name, **options):
        if name == "large":
            raise MemoryError
        return load(name)

    monkeypatch.setattr("impasto.run.load", gone)
    monkeypatch.setattr("impasto.study.running.runner.end_file", lambda *given: None)
    with pytest.raises(MemoryError):
        study.run(tmp_path)
    assert status(tmp_path).state == "running"  # this process is still there
    monkeypatch.setattr("impasto.study.following.status._lives", lambda *given: False)
    assert status(tmp_path).state == "killed"


def test_an_edited_study_runs_only_what_is_new_of_each_model(study, loads, tmp_path):
    study.run(tmp_path)
    loads.forget()
    edited = Study.from_text(TEXT.replace('"0-2"', '"0-1"'), name="mine")
    edited.run(tmp_path)
    assert loads.forget() == [("small", ["0-1"])] * 2 + [("large", ["0-1"])] * 2
    more = Study.from_text(TEXT.replace("small, large", "small, other, large"), name="mine")
    more.run(tmp_path)
    assert {name for name, _ in loads.asked} == {"other"}
    assert [r.study.model for r in Results.read_all(tmp_path)] == ["small", "other", "large"]


def test_cells_are_shared_with_a_study_of_one_of_the_models(study, loads, tmp_path):
    one = Study.from_text(TEXT.replace("models: [small, large]", "model: large"), name="one")
    one.run(tmp_path)
    loads.forget()
    said = []
    study.run(tmp_path, say=said.append)
    assert {name for name, _ in loads.asked} == {"small"}
    assert said == [
        f"{tmp_path} also holds the study one; --study NAME says which is to be read",
        "large: 16 of 16 cells are there already",
    ]


def test_a_model_runs_alone_by_its_name_or_loaded(study, loads, model, tmp_path):
    assert list(study.run(tmp_path, model="large").models) == ["large"]
    assert loads.names == ["large"]
    assert "model: large" in (tmp_path / "study.yaml").read_text()
    assert list(study.run(model=model).models) == ["fake"]


def test_a_model_that_changed_is_told_and_another_of_the_study_is_not(loads, tmp_path, monkeypatch):
    study, said = Study.from_text(TEXT, name="mine"), []
    study.run(tmp_path, say=said.append)
    assert said == []  # not that large has other weights than small
    load = loads.load

    def changed(name, **options):
        model = load(name)
        model.weights = f"{name} after training"
        return model

    monkeypatch.setattr("impasto.run.load", changed)
    study.run(tmp_path, say=said.append)
    assert "large: capitals: 8 new cells: the model's weights changed" in said
    assert len(said) == 4


def test_each_model_has_a_trackers_run_of_its_own(study, loads, tmp_path, monkeypatch):
    from impasto.study.following import tracking

    begun = []

    def begin(name, about, folder, part):
        begun.append((name, about["model"], part))
        return SimpleNamespace(numbers=lambda *_: None, table=lambda _: None, close=lambda: None)

    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    monkeypatch.setitem(tracking.TRACKERS, "wandb", begin)
    study.run(tmp_path, track="wandb")
    assert begun == [("mine", "small", "1-small"), ("mine", "large", "2-large")]


# ------------------------------------------------------------------ decoders and encoders

MIXED = """\
models: [small, large]
tasks:
  - {name: capitals, limit: 4}
  - {name: masked_text, data: texts.jsonl}
plans:
  - freeze: {k: [0, 1]}
  - skip_one
  - inject: {k: 0}
"""


@pytest.fixture
def mixed(loads, tmp_path, monkeypatch):
    """A study of a decoder, small, and an encoder, large, which answers masked texts only."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text('{"text": "a b"}\n{"text": "c"}\n')
    load = loads.load

    def as_encoder(name, **options):
        model = load(name)
        if name == "large":
            model.generate = None
            model.masked_scores = lambda plans, texts, *given: [
                [(-1.0, 0, 1)] * len(texts) for _ in plans
            ]
        return model

    monkeypatch.setattr("impasto.run.load", as_encoder)
    monkeypatch.setattr(
        "impasto.model.loading.load.outline",
        lambda name, **options: Outline(LAYERS[name], name == "large"),
    )
    return lambda text=MIXED: Study.from_text(text, name="mixed", source="mixed.yaml")


def test_what_only_one_kind_of_models_takes_is_left_out_for_the_other_and_said(mixed):
    said = []
    results = mixed().run("out", say=said.append)
    assert said == [
        "small, a decoder, runs without masked_text (for encoders only)",
        "large, an encoder, runs without capitals, freeze (for decoders only)",
        "large, an encoder, runs without inject (its tasks name no donors)",
    ]
    decoder, encoder = (of_model.table for of_model in results.models.values())
    assert set(decoder["task"]) == {"capitals"}
    assert set(decoder["strategy"]) == {"baseline", "freeze", "skip_one", "inject"}
    assert set(encoder["task"]) == {"masked_text"}
    assert set(encoder["strategy"]) == {"baseline", "skip_one"}
    for found, told in zip(Results.read_all("out"), results.models.values(), strict=True):
        same(found.table, told.table)
    assert Study.from_yaml("out/study.yaml") == mixed()
    assert set(mixed().run(model="large").table["task"]) == {"masked_text"}


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (
            ("[small, large]", "[small, other]"),
            4,
            r"none of the models takes masked_text \(for enc",
        ),
        (
            ("  - {name: capitals, limit: 4}\n", ""),
            None,
            "small is a decoder, and the study's tasks",
        ),
        (("inject: {k: 0}", "freeze: {k: 5}"), 8, "model small, with 3 layers"),
    ],
)
def test_what_no_model_takes_is_refused_before_anything_is_loaded(
    change, line, message, mixed, loads, line_of
):
    with pytest.raises(StudyError, match=message) as caught:
        mixed(MIXED.replace(*change)).run("out")
    assert line is None or line_of(caught.value) == line
    assert loads.names == []


def test_encoders_are_not_timed_nor_run_on_a_cluster(mixed, loads):
    with pytest.raises(UserError, match="--bench times decoders, and large is an encoder"):
        mixed().run(bench=2)
    with pytest.raises(UserError, match="large is an encoder; its studies run in one process"):
        mixed().run(cluster=Cluster("local"))
    assert loads.names == []
