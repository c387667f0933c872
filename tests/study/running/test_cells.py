"""Which results are taken for which: told by content, never by a path or a name."""

import shutil
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file, save_file

from impasto.study import Study
from impasto.study.work.identity import model_identity, weights_stamp


def study(plans="baseline", tasks="{name: capitals, limit: 5}", model="m"):
    return Study.from_text(f"model: {model}\ntasks: [{tasks}]\nplans: [{plans}]\n", name="mine")


def asked(model):
    """Return the plans that a model was asked, call by call, and forget them."""
    calls = [[str(plan) for plan in call["plans"]] for call in model.calls]
    model.calls.clear()
    return calls


def test_an_edited_study_runs_only_what_is_new_in_it(model, tmp_path):
    study("freeze: {k: [1, 2]}").run(tmp_path, model=model)
    assert asked(model) == [["0-3", "0 freeze 1-3", "0-1 freeze 2-3"]]
    said = []
    results = study("freeze: {k: [1, 3]}").run(tmp_path, model=model, say=said.append)
    assert asked(model) == [["0-2 freeze 3"]]
    assert list(results.table["value"]) == [1.0, 0.0, 1.0]
    assert said == [
        "capitals: 1 new cells: its plans were not run here before",
        "2 of 3 cells are there already",
    ]


def test_plans_that_differ_only_in_their_seed_share_no_cell(model, tmp_path):
    study("gaussian: {k: 1, seed: 0}").run(tmp_path, model=model)
    asked(model)
    study("gaussian: {k: 1, seed: 1}").run(tmp_path, model=model)
    assert asked(model) == [["0 noise(gaussian, seed=1) 1-3"]]


def test_a_model_by_the_same_name_with_other_weights_shares_no_cell(model, tmp_path):
    study().run(tmp_path, model=model)
    model.weights, model.needs, said = "as they were changed", 2, []
    model.calls.clear()
    study().run(tmp_path, model=model, say=said.append)
    assert asked(model) == [["0-3"]]
    assert said == ["capitals: 1 new cells: the model's weights changed"]


def test_tasks_of_one_name_with_other_data_share_no_cell(model, tmp_path):
    study().run(tmp_path, model=model)
    asked(model)
    said = []
    study(tasks="{name: capitals, limit: 5, seed: 7}").run(tmp_path, model=model, say=said.append)
    assert asked(model) == [["0-3"]]
    assert said == [
        "capitals: 1 new cells: the task's questions changed, the task's definition changed"
    ]


def test_another_library_shares_no_cell(model, tmp_path, monkeypatch):
    study().run(tmp_path, model=model)
    asked(model)
    from impasto.study.running import runner
    from impasto.study.work.identity import Identity, engine_identity

    changed = Identity({**engine_identity().parts, "torch": "99.0"})
    monkeypatch.setattr(runner, "engine_identity", lambda: changed)
    said = []
    study().run(tmp_path, model=model, say=said.append)
    assert asked(model) == [["0-3"]]
    torchs = f"from {torch.__version__} to 99.0"
    assert said == [f"capitals: 1 new cells: torch changed {torchs}"]


def test_another_name_for_the_same_model_and_study_runs_nothing(model, tmp_path):
    study().run(tmp_path, model=model)
    asked(model)
    model.name = "renamed"
    frame = study().run(tmp_path, model=model).table
    assert asked(model) == []
    assert set(frame["model"]) == {"renamed"}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a copy of the bundled model."""
    copy = tmp_path / "model"
    shutil.copytree(str(files("impasto").joinpath("demo")), copy)
    return copy


def test_weights_at_one_path_are_told_apart_when_the_files_change(folder, tmp_path):
    """The second run must not take the first model's results, nor its digest from the cache."""
    text = study("freeze: {k: 2}", "{name: capitals, limit: 3}", model=str(folder))
    out, said = tmp_path / "out", []
    first = text.run(out, say=said.append).table
    again = text.run(out, say=said.append).table
    assert said == ["2 of 2 cells are there already"]
    weights = load_file(folder / "model.safetensors")
    name = "model.embed_tokens.weight"
    weights[name] = torch.zeros_like(weights[name])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said.clear()
    other = text.run(out, say=said.append).table
    assert said == ["capitals: 2 new cells: the model's weights changed"]
    assert first["weights"].equals(again["weights"])
    assert set(first["weights"]) & set(other["weights"]) == set()
    assert set(first["value"]) == {1.0}
    assert set(other["value"]) == {0.0}


def test_a_digest_of_weights_depends_on_every_number_and_not_on_where_they_lie(folder):
    import impasto

    here, there = impasto.load(str(folder)), impasto.load("demo", dtype=torch.float16)
    same = model_identity(impasto.load(here.hf, tokenizer=here.tokenizer))
    assert same.digest == model_identity(here).digest
    assert model_identity(here).changes(model_identity(there).parts) == [
        "weights",
        "configuration",
        "numbers",
    ]
    before = model_identity(here)
    with torch.no_grad():
        here.hf.model.layers[3].mlp.up_proj.weight[1, 2] += 1e-3
    assert model_identity(here).changes(before.parts) == ["weights"]


def test_files_are_told_apart_without_reading_them(folder):
    import impasto

    hf = impasto.load(str(folder)).hf
    before = weights_stamp(hf, {})
    assert before is not None
    assert weights_stamp(hf, {}) == before
    assert weights_stamp(hf, {"dtype": "float16"}) != before
    (folder / "model.safetensors").touch()
    assert weights_stamp(hf, {}) != before
