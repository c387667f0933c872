"""Results are kept by the engine's version: not by what the code looks like, and not by a hash."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

import impasto
from impasto import engine_version
from impasto.error import ImpastoError
from impasto.study import Results, Stopped, Study
from impasto.study.database.engines import CODE
from impasto.study.folder.files import HEADS, heads_folder
from impasto.study.following.status import status
from impasto.study.running import runner
from impasto.study.work.identity import LIBRARIES, Identity, engine_identity, versions

PLANS = "freeze: {k: [1, 2]}, inject: {k: 0}"
CELLS = 4
DECLARED, OTHER = next(iter(engine_version.EQUAL_CODE)), "f" * 64


def study(plans=PLANS):
    text = f"model: m\ntasks: [{{name: capitals, limit: 5}}]\nplans: [{plans}]\n"
    return Study.from_text(text, name="mine")


@contextmanager
def before_versions(code):
    """Have results written as they were before there were versions: by a hash of the code."""
    libraries = {name: versions()[name] for name in LIBRARIES}
    old = Identity({CODE: code, **libraries})
    told = {name: version for name, version in versions().items() if name not in ("engine", "code")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "engine_identity", lambda: old)
        patch.setattr(runner, "versions", lambda: told)
        yield


@contextmanager
def engine(version, equal=None):
    """Have another version of the engine, with what it declares equal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_version, "ENGINE_VERSION", version)
        patch.setattr(engine_version, "EQUAL", equal or {})
        yield


def rows(out, query):
    database = sqlite3.connect(out / "results.sqlite")
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def asked(model):
    """Return how many plans a model was asked, and forget them."""
    count = sum(len(call["plans"]) for call in model.calls)
    model.calls.clear()
    return count


def same(found, whole):
    pd.testing.assert_frame_equal(found.table, whole.table, check_exact=True)
    return list(found.answers) == list(whole.answers)


# ------------------------------------------------------------------ what counts, and what does not


def test_a_name_that_changes_in_the_code_changes_no_key_and_is_traced(tmp_path):
    copy = shutil.copytree(
        Path(impasto.__file__).parent,
        tmp_path / "impasto",
        ignore=shutil.ignore_patterns("demo", "__pycache__"),
    )
    for path in (
        copy / "run/decoder.py",
        copy / "study/work/asking.py",
        copy / "tasks/answering.py",
    ):
        text = path.read_text()
        assert "_" in text
        path.write_text(
            text.replace("_answered", "_said").replace("_check", "_look") + "\nNEW = 1\n"
        )
    ask = (
        "import json; from impasto.study.work.identity import engine_identity, versions; "
        "print(json.dumps([engine_identity().digest, versions()['code']]))"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    told = subprocess.run(
        [sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True
    )
    digest, code = json.loads(told.stdout)
    assert digest == engine_identity().digest
    assert code != versions()["code"]


def test_the_version_is_read_without_torch():
    ask = "import sys, impasto.engine_version; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


def test_a_higher_version_asks_again_and_says_why(model, tmp_path):
    first = study().run(tmp_path, model=model)
    assert asked(model) == CELLS
    said = []
    with engine(2):
        again = study().run(tmp_path, model=model, say=said.append)
        assert asked(model) == CELLS
        assert said == ["capitals: 4 new cells: impasto's engine changed from 1 to 2"]
        study().run(tmp_path, model=model)
        assert asked(model) == 0
    assert set(first.table["engine"]).isdisjoint(again.table["engine"])
    assert again.run["versions"]["engine"] == "2"


def test_a_version_that_is_declared_equal_asks_nothing(model, tmp_path):
    whole = study().run(tmp_path, model=model)
    asked(model)
    with engine(2, equal={2: 1}):
        assert same(study().run(tmp_path, model=model), whole)
        assert study().run(tmp_path, model=model).run["versions"]["engine"] == "2"
    assert same(study().run(tmp_path, model=model), whole)  # and the other way round
    assert asked(model) == 0


def test_versions_that_are_declared_equal_later_lose_nothing_that_either_made(model, tmp_path):
    study("freeze: {k: 1}").run(tmp_path, model=model)
    with engine(2):
        study("freeze: {k: [1, 2]}").run(tmp_path, model=model)
    whole = study().run(model=model)
    asked(model)
    with engine(3, equal={2: 1, 3: 1}):
        found = study().run(tmp_path, model=model)
        assert asked(model) == 1  # the injection: all else is there, some of it twice
        assert same(found, whole)
        assert len(rows(tmp_path, "SELECT * FROM engines")) == 1


# ------------------------------------------------------------------ databases of before


def test_a_database_of_before_versions_goes_on_and_nothing_is_asked_again(model, tmp_path):
    with before_versions(DECLARED):
        study().run(tmp_path, model=model)
    asked(model)
    heads = [row[0] for row in rows(tmp_path, "SELECT digest FROM models")]
    [old] = [row[0] for row in rows(tmp_path, "SELECT digest FROM engines")]
    kept = heads_folder(tmp_path, heads[0], old) / "a head"
    kept.parent.mkdir(parents=True)
    kept.write_text("fitted")
    whole, said = study().run(model=model), []
    asked(model)
    found = study().run(tmp_path, model=model, say=said.append)
    assert asked(model) == 0
    assert said == [f"{CELLS} of {CELLS} cells are there already"]
    assert same(found, whole)
    assert same(Results.read(tmp_path), whole)
    assert rows(tmp_path, "SELECT count(*) FROM studies") == [(1,)]
    assert [json.loads(row[0]) for row in rows(tmp_path, "SELECT parts FROM engines")] == [
        dict(engine_identity().parts)
    ]
    runs = [json.loads(row[0]) for row in rows(tmp_path, "SELECT versions FROM runs ORDER BY id")]
    assert [run["code"] for run in runs] == [DECLARED[:16], versions()["code"]]
    assert [path.read_text() for path in (tmp_path / HEADS).glob("*/*")] == ["fitted"]
    assert (heads_folder(tmp_path, heads[0], engine_identity().digest) / "a head").exists()


def test_a_study_of_before_versions_that_was_stopped_is_asked_its_rest(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "impasto.study.running.answering.expected_seconds", lambda *given: {"capitals": 100.0}
    )
    text = "model: m\ntasks: [{name: capitals, limit: 40}]\nplans: [freeze: {k: [1, 2]}]\n"
    read = Study.from_text(text, name="mine")
    calls, answers = [], model.generate

    def stops(*given, **more):
        calls.append(given)
        if len(calls) == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)
        return answers(*given, **more)

    whole = read.run(model=model, save_every=25.0)
    monkeypatch.setattr(model, "generate", stops)
    with before_versions(DECLARED), pytest.raises(Stopped):
        read.run(tmp_path, model=model, save_every=25.0)
    assert status(tmp_path).cells == 2 * 3
    found = read.run(tmp_path, model=model, save_every=25.0)
    assert len(calls) == 4  # four shards, each asked once
    assert same(found, whole)


def test_results_of_before_versions_can_be_read_as_they_are(model, tmp_path):
    with before_versions(DECLARED):
        whole = study().run(tmp_path, model=model)
    assert same(Results.read(tmp_path), whole)
    assert status(tmp_path).state == "finished"


def test_what_code_of_before_made_that_is_not_declared_equal_is_asked_again(model, tmp_path):
    with before_versions(OTHER):
        study().run(tmp_path, model=model)
    asked(model)
    said = []
    study().run(tmp_path, model=model, say=said.append)
    assert asked(model) == CELLS
    assert said == [f"capitals: 4 new cells: impasto's engine changed from code {OTHER[:16]} to 1"]


def test_a_folder_that_was_written_to_by_both_kinds_in_turns_goes_on(model, tmp_path):
    for plans, times in (("freeze: {k: 1}", 2), ("freeze: {k: [1, 2]}", 1)):
        for _ in range(times):
            with before_versions(DECLARED):
                study(plans).run(tmp_path, model=model)
            study(plans).run(tmp_path, model=model)
    asked(model)
    whole = study().run(model=model)
    asked(model)
    assert same(study().run(tmp_path, model=model), whole)
    assert asked(model) == 1
    assert len(rows(tmp_path, "SELECT * FROM engines")) == 1


def test_measured_costs_of_before_are_not_measured_again(tmp_path, monkeypatch):
    demo = impasto.load("demo")
    text = 'model: demo\ntasks: [{name: capitals, limit: 2}]\nplans: ["0-7"]\n'
    read = Study.from_text(text, name="timed")
    with before_versions(DECLARED):
        before = read.run(tmp_path, model=demo, bench=2).costs
    monkeypatch.setattr("impasto.speed.costs_of", None)
    said = []
    after = read.run(tmp_path, model=demo, bench=2, say=said.append).costs
    assert "what the plans cost was measured before and is there already" in said
    pd.testing.assert_frame_equal(after, before)


# ------------------------------------------------------------------ databases of later


def test_a_database_of_a_newer_engine_is_refused_and_left_alone(model, tmp_path):
    with engine(3):
        whole = study().run(tmp_path, model=model)
    path = tmp_path / "results.sqlite"
    before = path.read_bytes()
    asked(model)
    with pytest.raises(ImpastoError) as raised:
        study().run(tmp_path, model=model)
    message = str(raised.value)
    assert "holds answers of impasto's engine 3, and this is impasto's engine 1" in message
    assert "update impasto, or give another folder with --out" in message
    assert asked(model) == 0
    assert path.read_bytes() == before
    assert same(Results.read(tmp_path), whole)  # what is there can be read
    study().run(tmp_path, model=model, fresh=True)
    assert asked(model) == CELLS
