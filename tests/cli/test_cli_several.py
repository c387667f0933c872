"""The command line with several models in a study, and several studies in a folder."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from characters import Characters
from impasto.cli import app
from impasto.study import Results
from named_models import TEXT, Loads
from thinning import thinned


class Model(Characters):
    """Says Paris to everything."""

    tokenizer = None

    def __init__(self, num_layers, name, needs, weights):
        self.num_layers, self.name = num_layers, name
        self.identity = {"weights": weights, "layers": str(num_layers)}

    def generate(self, plans, prompts, *given, **more):
        return [[" Paris"] * len(prompts) for _ in plans]


@pytest.fixture
def loads(monkeypatch, tmp_path):
    """Have fakes loaded by their names, in an empty folder with two studies."""
    found = Loads(Model)
    monkeypatch.setattr("impasto.run.load", found.load)
    monkeypatch.setattr("impasto.model.loading.load.outline", found.outline)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text(TEXT)
    one = "model: other\ntasks: [{name: capitals, limit: 5}]\nplans: [freeze: {k: 1}]\n"
    (tmp_path / "one.yaml").write_text(one)
    return found


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def out(loads):
    """Return a folder with both studies; the one of several models ran last."""
    for study in ("one.yaml", "two.yaml"):
        done = cli("run", study, "--out", "out", "--quiet")
        assert done.exit_code == 0, done.output
    return "out"


def test_a_run_ends_with_what_each_model_came_to(loads):
    done = cli("run", "two.yaml")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "results  runs/two/results.csv"
    small, large = lines.index("model    small"), lines.index("model    large")
    assert [line[:2] for line in (lines[large - 1], lines[-1])] == ["- ", "- "]
    assert small < large
    for label in ("model 1 of 2, small: loading small", "model 2 of 2, large: Capitals"):
        assert label in done.stderr
    assert set(pd.read_csv("runs/two/results.csv")["model"]) == {"small", "large"}


def test_the_tables_of_all_models_are_printed_under_their_names(out):
    done = cli("results", out)
    lines = done.stdout.splitlines()
    assert lines[0] == "model small, 3 layers"
    assert lines[2].split()[:2] == ["strategy", "k"]
    middle = lines.index("model large, 5 layers")
    assert lines[middle - 1] == ""
    # two tasks each: what it is, the columns and the plans, with a line between the two
    assert (middle - 2, len(lines) - middle - 1) == (2 * (2 + 6) + 1, 2 * (2 + 8) + 1)
    assert done.stderr == (
        "this is two, which ran last; out also holds the study one: --study NAME shows another\n"
    )


def test_a_study_is_chosen_by_its_name(out):
    done = cli("results", out, "--study", "one")
    assert done.stdout.splitlines()[1].split()[0] == "strategy"
    assert (len(done.stdout.splitlines()), done.stderr) == (2 + 2, "")
    done = cli("status", out, "--study", "one")
    assert done.stdout.splitlines()[0] == "study    one, model other, 2 plans"
    assert done.stderr == ""
    for command in ("results", "status"):
        done = cli(command, out, "--study", "on")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "It holds the studies one, two." in done.stderr


@pytest.mark.parametrize("form", thinned(["csv", "json", "parquet", "md"], 4))
def test_every_format_has_the_rows_of_all_models(form, out):
    assert cli("results", out, "--to", f"table.{form}").exit_code == 0
    content = Path(f"table.{form}").read_bytes()
    if form == "md":
        assert content.decode().count("| two | small |") == 12
        assert content.decode().count("| two | large |") == 16
        return
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[form]
    table = read(io.BytesIO(content))
    assert table["model"].tolist() == ["small"] * 12 + ["large"] * 16
    assert set(table["command"]) == {"impasto run two.yaml --out out --quiet"}
    assert {"versions", "weights", "engine"} <= set(table)


def test_quality_and_cost_are_told_of_each_model(out):
    done = cli("results", out, "--costs")
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line.startswith("model ")] == [
        "model small, 3 layers",
        "model large, 5 layers",
    ]
    assert done.stderr.count("none was measured") == 1
    table = json.loads(cli("results", out, "--costs", "--format", "json").stdout)
    assert {row["model"] for row in table} == {"small", "large"}


def test_status_says_how_far_each_model_is(out):
    lines = cli("status", out).stdout.splitlines()
    assert lines[:2] == ["study    two, 2 models", "state    finished"]
    assert lines[2:4] == ["model    small, 6 plans (5 distinct)", "cells    10 of 10 (100 %)"]
    assert "model    large, 8 plans" in lines


def test_of_a_study_that_was_stopped_it_is_said_what_its_models_lack(loads):
    def gone(name):
        if name == "large":
            raise KeyboardInterrupt

    loads.act = gone
    done = cli("run", "two.yaml", "--quiet")
    assert done.exit_code == 130
    assert "to go on:  impasto run two.yaml --quiet" in done.stderr
    done = cli("results", "runs/two")
    assert done.stdout.splitlines()[0] == "model small, 3 layers"
    assert done.stderr == "large: nothing is there yet\nto go on:  impasto run two.yaml --quiet\n"
    loads.act = lambda name: None
    assert cli("run", "two.yaml", "--quiet").exit_code == 0
    assert cli("results", "runs/two").stderr == ""


def test_one_of_the_models_runs_alone(loads):
    assert cli("run", "two.yaml", "--model", "large", "--quiet").exit_code == 0
    assert loads.names == ["large"]
    assert [found.study.model for found in Results.read_all("runs/two")] == ["large"]
    assert cli("results", "runs/two").stdout.startswith("capitals: exact_match")


def test_a_folder_is_packed_with_all_its_studies(out):
    assert cli("results", out, "--pack", "packed").exit_code == 0
    assert cli("results", "new", "--unpack", "packed").exit_code == 0
    for name, count in (("one", 1), ("two", 2)):
        assert len(Results.read_all("new", study=name)) == count
    refused = cli("results", out, "--pack", "again", "--study", "one")
    assert refused.exit_code == 2
    assert "leave out --study" in refused.stderr


def test_fresh_says_how_many_studies_it_throws_away(out):
    done = cli("run", "one.yaml", "--out", out, "--fresh", "--quiet")
    assert done.exit_code == 2
    assert "the results of 2 studies in out" in done.stderr


def test_explain_costs_every_model(tmp_path, monkeypatch):
    import impasto

    monkeypatch.chdir(tmp_path)
    impasto.export("demo", impasto.Plan.parse("0-3"), "short")
    tasks = "tasks: [{name: capitals, limit: 2}]\nplans: [freeze: {k: all}]\n"
    (tmp_path / "two.yaml").write_text(f"models: [demo, ./short]\n{tasks}")
    done = cli("explain", "two.yaml")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(("model", "study"))] == [
        "model    demo",
        "study    two: 14 plans, 2 items",
        f"model    {tmp_path / 'short'}",
        "study    two: 6 plans, 2 items",
    ]
    assert lines[-1].startswith("all      0:0")
    alone = cli("explain", "two.yaml", "--model", "./short").stdout.splitlines()
    assert alone[0] == "study    two: 6 plans, 2 items"
    assert not alone[-1].startswith("all")
