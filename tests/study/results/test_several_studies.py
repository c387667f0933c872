"""Several studies in one folder, told apart by their names; and folders of older forms."""

import sqlite3

import pandas as pd
import pytest

from impasto.error import UserError
from impasto.figures import Found
from impasto.study import Results, Study
from impasto.study.following.status import status
from impasto.study.results import packing
from impasto.study.results.notices import which_study
from named_models import TEXT, Loads
from older_form import FORM, form_of, made_older

ONE = "model: m\ntasks: [{name: capitals, limit: 5}]\nplans: [freeze: {k: 1}]\n"


def study(name, text=ONE):
    return Study.from_text(text, name=name)


@pytest.fixture
def loads(model, monkeypatch):
    found = Loads(type(model))
    monkeypatch.setattr("impasto.run.load", found.load)
    monkeypatch.setattr("impasto.model.loading.load.outline", found.outline)
    return found


def plans(results):
    return list(results.table["plan"])


def test_the_study_that_ran_last_is_read_and_any_other_by_its_name(model, tmp_path):
    first = study("first").run(tmp_path, model=model)
    second = study("second", ONE.replace("k: 1", "k: 2")).run(tmp_path, model=model)
    assert plans(Results.read(tmp_path)) == plans(second)
    for name, results in (("first", first), ("second", second)):
        read = Results.read(tmp_path, study=name)
        pd.testing.assert_frame_equal(read.table, results.table, check_exact=True)
        assert list(read.answers) == list(results.answers)
        [of_all] = Results.read_all(tmp_path, study=name)
        [found] = Found.read_all(tmp_path, study=name)
        assert plans(of_all) == list(found.frame["plan"]) == plans(results)
        assert status(tmp_path, study=name).study == name
    study("first").run(tmp_path, model=model)
    assert plans(Results.read(tmp_path)) == plans(first)


def test_which_study_is_meant_is_said_where_there_are_several(model, tmp_path):
    study("first").run(tmp_path, model=model)
    assert list(which_study(tmp_path, None)) == []
    for name in ("second", "third"):
        study(name).run(tmp_path, model=model)
    assert list(which_study(tmp_path, "first")) == []
    assert list(which_study(tmp_path, None)) == [
        f"this is third, which ran last; {tmp_path} also holds the studies first, second: "
        "--study NAME shows another"
    ]


def test_a_run_says_which_other_studies_a_folder_holds(model, tmp_path):
    study("first").run(tmp_path, model=model)
    said = []
    study("second", ONE.replace("k: 1", "k: 2")).run(tmp_path, model=model, say=said.append)
    assert said == [
        f"{tmp_path} also holds the study first; --study NAME says which is to be read",
        "capitals: 1 new cells: its plans were not run here before",
        "1 of 2 cells are there already",
    ]


@pytest.mark.parametrize("read", [Results.read, Results.read_all, Found.read_all, status])
def test_a_name_that_no_study_has_is_answered_with_those_there_are(read, model, tmp_path):
    for name in ("first", "second"):
        study(name).run(tmp_path, model=model)
    with pytest.raises(
        UserError,
        match=r"no study 'frist'; did you mean 'first'\?\nIt holds the studies first, second",
    ):
        read(tmp_path, study="frist")


def test_of_an_edited_study_the_newest_is_meant(model, tmp_path):
    study("mine").run(tmp_path, model=model)
    study("other").run(tmp_path, model=model)
    edited = study("mine", ONE.replace("k: 1", "k: 2")).run(tmp_path, model=model)
    assert plans(Results.read(tmp_path, study="mine")) == plans(edited)
    study("mine").run(tmp_path, model=model)
    assert plans(Results.read(tmp_path, study="mine")) != plans(edited)


def test_of_several_models_each_figure_knows_its_own_inside_alone(loads, tmp_path):
    from impasto.analysis.inside.probes import Probed
    from impasto.analysis.inside.saved import Inside

    study("two", TEXT).run(tmp_path)
    share = (0.5,) * 4
    probed = Probed(accuracy=share, low=share, high=share, chance=0.5, labels=2, texts=9)
    for name, text in Inside("large", 3, "texts.jsonl", probed=probed).files().items():
        (tmp_path / name).write_text(text)
    small, large = Found.read_all(tmp_path)
    assert (small.model, dict(small.inside)) == ("small", {})
    assert (large.model, [inside.model for inside in large.inside.values()]) == ("large", ["large"])


def test_a_folder_of_several_models_and_studies_travels_as_one_file(loads, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    study("single", TEXT.replace("[small, large]", "[other]")).run(one)
    results = study("double", TEXT).run(one)
    packing.pack(one, tmp_path / "packed")
    packing.unpack(tmp_path / "packed", two)
    assert (two / "results.csv").read_bytes() == (one / "results.csv").read_bytes()
    assert (two / "study.yaml").read_bytes() == (one / "study.yaml").read_bytes()
    for found, told in zip(Results.read_all(two), results.models.values(), strict=True):
        assert list(found.answers) == list(told.answers)
    assert [r.study.model for r in Results.read_all(two, study="single")] == ["other"]


# ------------------------------------------------------------------ older forms


@pytest.fixture
def older(model, tmp_path):
    """A folder of before with the studies first and, last run, second, which was edited."""
    out = tmp_path / "older"
    for name, depth in (("second", 1), ("first", 1), ("second", 2)):
        study(name, ONE.replace("k: 1", f"k: {depth}")).run(out, model=model)
    made_older(out)
    model.calls.clear()
    return out


def test_an_older_folder_is_read_as_it_is(older, tmp_path):
    assert plans(Results.read(older)) == ["0-3", "0-1 freeze 2-3"]
    assert plans(Results.read(older, study="first")) == ["0-3", "0 freeze 1-3"]
    assert len(list(Results.read(older).answers)) == 10
    assert (status(older).study, status(older).state) == ("second", "finished")
    packing.pack(older, tmp_path / "packed")
    packing.unpack(tmp_path / "packed", tmp_path / "new")
    assert plans(Results.read(tmp_path / "new")) == plans(Results.read(older))
    assert form_of(older) == FORM


def test_an_older_folder_goes_on_and_asks_nothing_again(older, model):
    before = {name: plans(Results.read(older, study=name)) for name in ("first", "second")}
    study("first").run(older, model=model)
    assert model.calls == []
    assert form_of(older) > FORM
    for name, told in before.items():
        assert plans(Results.read(older, study=name)) == told
    assert plans(Results.read(older)) == before["first"]  # it ran last now


def test_an_older_file_that_holds_more_than_tables_is_refused(older, tmp_path):
    packed = tmp_path / "packed"
    packed.write_bytes((older / "results.sqlite").read_bytes())
    database = sqlite3.connect(packed)
    database.execute("CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM records; END")
    database.close()
    with pytest.raises(UserError, match="the trigger 't' is none of form"):
        packing.unpack(packed, tmp_path / "new")


def test_an_older_folder_takes_several_models(loads, tmp_path):
    small = TEXT.replace("[small, large]", "[small]")
    study("mine", small).run(tmp_path)
    made_older(tmp_path)
    loads.forget()
    study("mine", TEXT).run(tmp_path)
    assert {name for name, _ in loads.asked} == {"large"}
    assert [r.study.model for r in Results.read_all(tmp_path)] == ["small", "large"]
