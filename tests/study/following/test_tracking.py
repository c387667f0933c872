"""Trackers: told what a run knows, missed by nobody, and never the end of a study."""

import sys
from types import SimpleNamespace

import pytest

from impasto.error import UserError
from impasto.study import Study
from impasto.study.following import tracking

TEXT = "model: m\ntasks: [{name: capitals, limit: 4}]\nplans: [freeze: {k: [1, 2]}]\n"


@pytest.fixture
def study():
    return Study.from_text(TEXT, name="mine")


@pytest.fixture
def installed(monkeypatch):
    """Pretend that a package is installed: this module."""

    def install(name, module):
        monkeypatch.setattr(tracking, "find_spec", lambda asked: asked == name or None)
        monkeypatch.setitem(sys.modules, name, module)

    return install


class FakeWandb:
    """Notes what Weights & Biases would be told."""

    def __init__(self):
        self.told = []

    def init(self, **given):
        self.told.append(("init", given["project"], given["name"], given["config"]["weights"]))
        return SimpleNamespace(log=self.log, finish=lambda: self.told.append(("finish",)))

    def log(self, numbers, step=None):
        self.told.append(("log", numbers, step))

    def Table(self, dataframe):  # noqa: N802
        return len(dataframe)


def test_wandb_is_told_of_the_run_and_of_its_table(study, model, tmp_path, installed):
    wandb = FakeWandb()
    installed("wandb", wandb)
    study.run(tmp_path, model=model, track="wandb")
    begin, saved, table, end = wandb.told
    assert begin == ("init", "impasto", "mine", model.weights)
    assert (saved[1]["cells"], saved[1]["share"], saved[2]) == (3.0, 1.0, 3)
    assert table == ("log", {"results": 3}, None)
    assert end == ("finish",)


def test_mlflow_is_told_of_the_run_and_of_its_table(study, model, tmp_path, installed):
    told = []
    names = ("set_experiment", "start_run", "log_params", "log_metrics", "log_text", "end_run")
    fake = {
        name: lambda *given, _name=name, **more: told.append((_name, given, more)) for name in names
    }
    installed("mlflow", SimpleNamespace(**fake))
    study.run(tmp_path, model=model, track="mlflow")
    assert [name for name, _, _ in told] == list(names)
    assert told[1][2] == {"run_name": "mine"}
    assert "exact_match" in told[4][1][0]


def test_a_tracker_that_fails_is_told_once_and_the_study_goes_on(study, model, tmp_path, installed):
    wandb, said = FakeWandb(), []

    def gone(*given, **more):
        raise ConnectionError("the network is gone")

    wandb.log = gone
    installed("wandb", wandb)
    results = study.run(tmp_path, model=model, track="wandb", say=said.append)
    assert len(results.table) == 3
    assert [notice for notice in said if "tracker" in notice] == [
        "the tracker failed and is told no more; the study goes on "
        "(ConnectionError: the network is gone)"
    ]


def test_a_tracker_that_is_not_installed_is_told_how_to_get(study, model, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "impasto\[mlflow\]"'):
        study.run(tmp_path / "out", model=model, track="mlflow")
    with pytest.raises(UserError, match="the trackers are tensorboard, wandb, mlflow"):
        study.run(tmp_path / "out", model=model, track="sacred")
    assert not (tmp_path / "out").exists()


def test_tensorboard_gets_a_curve_over_depth_for_each_manipulation(study, model, tmp_path):
    pytest.importorskip("tensorboard", reason="an extra, not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study.run(tmp_path, model=model, track="tensorboard")
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    points = [(event.step, event.value) for event in found.Scalars("capitals/exact_match/freeze")]
    assert points == [(1, 0.0), (2, 1.0)]
    assert [event.value for event in found.Scalars("run/cells")] == [3.0]
