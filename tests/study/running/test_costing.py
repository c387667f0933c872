"""Costs of a study's plans: measured once, kept in the folder, read with the results."""

from importlib import import_module

import pytest

import impasto
from impasto.analysis.costs import trade_off
from impasto.error import UserError
from impasto.figures import ENTRIES, Found, MissingError
from impasto.plan import Plan
from impasto.study import Cluster, Results, Study
from impasto.study.results.table import COSTS
from impasto.table import Table

TEXT = "model: demo\ntasks: [{name: capitals, limit: 2}]\nplans: [PLANS]\n"
PLANS = '"0-7", freeze: {k: [2, 12]}, inject: {k: 2}'
SEQUENCES = 2
LAYERS = 12


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


def run(model, out, plans=PLANS, **more):
    return Study.from_text(TEXT.replace("PLANS", plans)).run(out, model=model, **more)


@pytest.fixture(scope="module")
def results(demo, tmp_path_factory):
    return run(demo, tmp_path_factory.mktemp("runs") / "timed", bench=SEQUENCES)


def test_every_plan_that_has_a_time_of_its_own_has_its_costs(results):
    costs = results.costs
    timed = ["0-11", "0-7", "0-1 freeze 2-11", "0-11 freeze"]
    assert costs["plan"].tolist() == timed * 2  # in the study's order; an injection has none
    assert costs["tokens"].tolist() == [50] * 4 + [100] * 4
    assert costs["digest"].tolist() == [Plan.parse(line).digest for line in timed] * 2
    assert list(costs.columns) == list(COSTS)
    assert (costs["seconds"] > 0).all()
    assert set(costs["sequences"]) == {SEQUENCES}
    whole, half = (costs[costs["plan"] == line].iloc[1] for line in ("0-11", "0-7"))
    assert (whole["improvement"], whole["expected"]) == (0, 0)
    assert half["improvement"] == pytest.approx(1 - half["seconds"] / whole["seconds"])
    assert 0.3 < half["expected"] < 0.5
    assert 3 * half["kept_bytes"] == 2 * whole["kept_bytes"]
    assert half["parameters"] < whole["parameters"] == 5_608_128
    assert half["flops"] < whole["flops"]


def test_costs_are_read_with_the_results_and_change_none_of_them(results, demo, tmp_path):
    run(demo, tmp_path, bench=SEQUENCES)
    read = Results.read(tmp_path)
    assert read.costs["plan"].tolist() == results.costs["plan"].tolist()
    assert read.table["value"].tolist() == results.table["value"].tolist()
    plain = run(demo, tmp_path / "plain")
    assert plain.costs.empty
    assert plain.table["value"].tolist() == results.table["value"].tolist()


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again_unless_more_is_asked(demo, tmp_path, monkeypatch):
    asked = []
    speed = import_module("impasto.speed")
    real = speed.costs_of
    monkeypatch.setattr(
        speed, "costs_of", lambda *given, **more: asked.append(given) or real(*given, **more)
    )
    said = []
    run(demo, tmp_path, '"0-7"', bench=2)
    before = run(demo, tmp_path, '"0-7"', bench=2, say=said.append).costs
    assert len(asked) == 1
    assert "what the plans cost was measured before and is there already" in said
    run(demo, tmp_path, '"0-7"', bench=3)
    assert len(asked) == 2
    after = run(demo, tmp_path, '"0-7", "0-3"', bench=3).costs  # all anew, in one session
    assert len(asked) == 3
    assert after["plan"].tolist() == ["0-11", "0-7", "0-3"] * 2
    assert len(set(after["measured"])) == 1
    assert min(after["measured"]) > max(before["measured"])
    kept = run(demo, tmp_path, '"0-7"').costs  # a study is told of its own plans only
    assert kept["plan"].tolist() == ["0-11", "0-7"] * 2


def test_figures_and_tables_take_the_measured_costs(results):
    found = Found.of(results)
    assert found.costs is not None
    assert found.costs[0] == "time to one token after 100 (ms)"
    [picture] = ENTRIES["trade_off"].draw([found])
    assert isinstance(picture.content, Table)
    table = trade_off(results.table, results.costs)
    assert [row[0] for row in picture.content.rows] == table["plan"].tolist()
    assert {row[-1] for row in picture.content.rows} <= {"", "yes"}
    with pytest.raises(MissingError) as lacking:
        list(ENTRIES["trade_off"].draw([Found(None, None, {})]))
    assert "--bench" in lacking.value.command


def test_what_cannot_be_timed_is_refused_before_anything_runs(demo, model, tmp_path):
    with pytest.raises(UserError, match="--bench times decoders that run in this process"):
        run(model, tmp_path / "fake", '"0-2"', bench=2)
    with pytest.raises(UserError, match="a plan's cost is that of this machine"):
        run(demo, tmp_path / "far", bench=2, cluster=Cluster())
    assert not (tmp_path / "fake").exists()
