"""Paths in a study are relative to its file, and where that lies makes no other results."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from characters import Characters
from impasto.searching.file import WrittenSearch
from impasto.study import Results, Study, StudyError
from impasto.study.file.shipped import shipped

TEXTS = "The capital of France is Paris.\n\n2 + 3 = 5\n"
TASK = {
    "task": "own", "dataset_path": "json", "output_type": "multiple_choice",
    "dataset_kwargs": {"data_files": {"test": "none.jsonl"}}, "test_split": "test",
    "doc_to_text": "{{question}}", "doc_to_choice": ["a", "b"], "doc_to_target": "answer",
}  # fmt: skip
STUDY = """
model: m
tasks:
  - {name: own, include_path: tasks, data: {test: data/own.jsonl}}
plans:
  - skip_one: {n: 1}
  - from: ../plans/drop.txt
"""
HEALED = """
model: ./mine
tasks: [{name: texts, file: more.txt}]
plans:
  - plan: "0 2-3"
    heal: {method: linear, texts: {file: texts.txt}}
  - block_influence: {texts: {file: texts.txt}, count: 1}
"""


class Model(Characters):
    """Finds the first choice the likeliest."""

    name, num_layers, tokenizer, identity = "m", 4, None, {"weights": "w"}

    def loglikelihood(self, plans, pairs, *given, **more):
        return [[(-1.0, False)] * len(pairs) for _ in plans]


@pytest.fixture
def there(tmp_path):
    """Return the file of a study with files of every kind beside it."""
    folder = tmp_path / "there" / "studies"
    (folder / "tasks").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder.parent / "plans").mkdir()
    (folder / "mine").mkdir()
    (folder / "tasks" / "own.yaml").write_text(json.dumps(TASK))
    rows = [{"question": f"q{n}", "answer": n % 2} for n in range(4)]
    (folder / "data" / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder.parent / "plans" / "drop.txt").write_text("none\nattn\nnone\nnone\n")
    (folder / "texts.txt").write_text(TEXTS)
    (folder / "more.txt").write_text(TEXTS * 2)
    (folder / "own.yaml").write_text(STUDY)
    (folder / "healed.yaml").write_text(HEALED)
    return folder / "own.yaml"


def test_files_are_found_beside_the_study_from_anywhere(there, tmp_path, monkeypatch):
    read = []
    for place in (tmp_path, there.parent, there.parent / "data"):
        monkeypatch.chdir(place)
        read.append(Study.from_yaml(there))
    assert read[0] == read[1] == read[2]
    assert read[0].to_yaml() == read[2].to_yaml()
    assert "0 1.mlp 2-3" in [str(p.plan) for p in read[0].labelled_plans(4)]
    [task] = read[0].tasks
    assert task.options["include_path"] == str(there.parent / "tasks")
    assert task.options["data"] == {"test": str(there.parent / "data" / "own.jsonl")}


def test_texts_that_heal_or_choose_and_models_are_found_beside_it_too(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study.from_yaml(there.with_name("healed.yaml"))
    texts = str(there.with_name("texts.txt"))
    healed, chosen = study.plans
    assert healed.heal is not None
    assert healed.heal["texts"] == {"file": texts}
    assert chosen.choices["texts"] == {"file": texts}
    assert study.model == str(there.with_name("mine"))
    assert study.as_run("there/studies/../studies/mine").model == study.model
    assert study.as_run("there").model == "there"


def keys(folder: Path) -> set[tuple[Any, ...]]:
    table = Results.read(folder).table
    return set(table[["digest", "data", "weights", "engine"]].itertuples(index=False, name=None))


def test_results_have_the_same_keys_wherever_a_study_lies_and_runs(there, tmp_path, monkeypatch):
    model: Any = Model()
    monkeypatch.chdir(tmp_path)
    Study.from_yaml(there).run("first", model=model, allow_code=True)
    shutil.copytree(there.parents[1], tmp_path / "elsewhere" / "deep")
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = Path("deep/studies/own.yaml")
    said: list[str] = []
    Study.from_yaml(moved).run(tmp_path / "first", model=model, allow_code=True, say=said.append)
    assert any("cells are there already" in line for line in said)
    Study.from_yaml(moved).run("second", model=model, allow_code=True)
    assert keys(Path("second")) == keys(tmp_path / "first")


def test_a_healed_plans_key_is_that_of_its_texts_and_not_of_their_place(there, tmp_path):
    shutil.copytree(there.parent, tmp_path / "copied")
    (tmp_path / "copied" / "more.txt").write_text(TEXTS * 3)

    def digests(folder: Path) -> list[str]:
        entry = Study.from_yaml(folder / "healed.yaml").plans[0].read()
        return [labelled.plan.digest for labelled in entry.expand(4)]

    assert digests(tmp_path / "copied") == digests(there.parent)
    (tmp_path / "copied" / "texts.txt").write_text(TEXTS + "More.\n")
    assert digests(tmp_path / "copied") != digests(there.parent)


def test_what_is_kept_with_the_results_runs_again_from_there(there, tmp_path, monkeypatch):
    model: Any = Model()
    monkeypatch.chdir(there.parent)
    Study.from_yaml("own.yaml").run(tmp_path / "out", model=model, allow_code=True)
    monkeypatch.chdir(tmp_path / "out")
    said: list[str] = []
    again = Study.from_yaml("study.yaml")
    again.run(tmp_path / "out", model=model, allow_code=True, say=said.append)
    assert [line for line in said if "new cells" in line] == []
    assert any("cells are there already" in line for line in said)


def test_a_path_from_the_working_folder_is_refused_with_what_would_be_right(
    there, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text(TEXTS)
    study = there.with_name("wrong.yaml")
    study.write_text("model: m\ntasks:\n  - {name: texts, file: notes.txt}\nplans: [baseline]\n")
    with pytest.raises(StudyError) as error:
        Study.from_yaml(study)
    assert "wrong.yaml, line 3: notes.txt is not in " in str(error.value)
    assert str(study.parent) in str(error.value)
    assert str(error.value).endswith("so write ../../notes.txt")


def test_a_file_that_is_nowhere_is_told_by_where_it_was_looked_for(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = there.with_name("wrong.yaml")
    study.write_text("model: m\ntasks: [{name: texts, file: no.txt}]\nplans: [baseline]\n")
    with pytest.raises(StudyError, match="does not exist") as error:
        Study.from_yaml(study).load_suite()
    assert str(study.with_name("no.txt")) in str(error.value)


def test_a_searchs_files_are_beside_it_too(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there.with_name("small.yaml").write_text(
        "model: ./mine\nobjective: {kl: {file: texts.txt}}\nbudget: {parts: 75%}\n"
        "confirm: {tasks: [{name: texts, file: more.txt}]}\n"
    )
    search = WrittenSearch.from_yaml(there.with_name("small.yaml"))
    assert search.model == str(there.with_name("mine"))
    assert search.objective[0].options["file"] == str(there.with_name("texts.txt"))
    assert search.confirm[0].options["file"] == str(there.with_name("more.txt"))


def test_what_comes_with_impasto_is_run_by_its_name_where_no_such_file_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for found in shipped():
        if found.kind in ("study", "preset"):
            assert Study.from_yaml(found.name).name == found.name
    assert WrittenSearch.from_yaml("thinner").name == "thinner"
    Path("edits").mkdir()  # a folder of results, say
    assert len(Study.from_yaml("edits").plans) > 1
    Path("edits.yaml").write_text("model: demo\ntasks: [capitals]\nplans: ['0-3']\n")
    assert len(Study.from_yaml("edits.yaml").plans) == 1


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("attend_frist", "did you mean attend_first"),
        ("studies/attend_first.yaml", "what comes with impasto has no folder: attend_first"),
        ("nothing_like_it", "impasto studies lists those that come with impasto"),
    ],
)
def test_a_name_that_is_none_is_answered_with_those_that_are(name, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as error:
        Study.from_yaml(name)
    assert answer in str(error.value)
