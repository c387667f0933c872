"""The commands around a study's folder: tables, packing, following along, beginning anew."""

import json
import sqlite3
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from characters import Characters
from impasto.cli import app
from impasto.study import Results, Study
from impasto.tasks import capitals

TEXT = 'model: m\ntasks: [{name: capitals, limit: 4}]\nplans: [freeze: {k: [1, 2]}, "0-1 [2|3]"]\n'


class Model(Characters):
    """Says Paris to everything."""

    name, num_layers, tokenizer, identity = "m", 4, None, {"weights": "w"}

    def generate(self, plans, prompts, *given, **more):
        return [[" Paris"] * len(prompts) for _ in plans]


def cli(*words, **more):
    return CliRunner().invoke(app, [str(word) for word in words], **more)


@pytest.fixture
def out(tmp_path):
    """Return the folder of a finished study."""
    folder = tmp_path / "runs" / "mine"
    model: Any = Model()
    Study.from_text(TEXT, name="mine").run(folder, model=model, command="impasto run mine.yaml")
    return folder


def test_the_table_is_printed(out):
    done = cli("results", out)
    assert done.exit_code == 0, done.output
    title, columns, *rows = done.stdout.splitlines()
    assert title == "capitals: exact_match in %, change in points (95 % interval), n = 4"
    assert columns.split() == ["strategy", "k", "value", "change", "plan"]
    assert len(rows) == 4
    assert "not_finite" not in done.stdout  # where there is nothing to say


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_every_format_has_every_row_with_what_it_can_be_traced_by(form, out, tmp_path):
    file = tmp_path / f"table.{form}"
    assert cli("results", out, "--to", file).exit_code == 0
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[form](file)
    frame = Results.read(out).table
    assert list(read["value"]) == list(frame["value"])
    assert list(read["plan"]) == list(frame["plan"])
    for row in read.to_dict(orient="records"):
        assert row["weights"] == "w"
        assert len(row["digest"]) == len(row["data"]) == len(row["engine"]) == 64
        assert json.loads(row["versions"])["impasto"]
        assert row["command"] == "impasto run mine.yaml"


def test_markdown_keeps_the_bars_of_a_plan_within_its_cell(out):
    lines = cli("results", out, "--format", "md").stdout.splitlines()
    assert any(r"0-1 [2 \| 3]" in line or r"0-1 [2-3]" in line for line in lines)
    counts = {line.replace(r"\|", "").count("|") for line in lines}
    assert len(counts) == 1


def test_a_study_travels_as_one_file(out, tmp_path):
    file, there = tmp_path / "mine.impasto", tmp_path / "there"
    assert cli("results", out, "--pack", file).exit_code == 0
    assert cli("results", there, "--unpack", file).exit_code == 0
    assert (there / "results.csv").read_bytes() == (out / "results.csv").read_bytes()
    assert list(Results.read(there).answers) == list(Results.read(out).answers)
    assert "exists already" in cli("results", out, "--pack", file).stderr
    assert "holds results already" in cli("results", there, "--unpack", file).stderr


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM records; END",
        "CREATE VIEW v AS SELECT * FROM cells",
        "DROP TABLE timings",
        "ALTER TABLE runs ADD COLUMN more TEXT",
    ],
)
def test_a_packed_file_that_is_not_exactly_ours_is_refused(change, out, tmp_path):
    file, there = tmp_path / "mine.impasto", tmp_path / "there"
    cli("results", out, "--pack", file)
    database = sqlite3.connect(file)
    database.execute(change)
    database.close()
    done = cli("results", there, "--unpack", file)
    assert done.exit_code == 2
    assert "of form 6" in done.stderr
    assert not there.exists()


def test_a_packed_file_whose_rows_miss_others_is_refused(out, tmp_path):
    file = tmp_path / "mine.impasto"
    cli("results", out, "--pack", file)
    database = sqlite3.connect(file)
    database.execute("DELETE FROM plans")
    database.commit()
    database.close()
    done = cli("results", tmp_path / "there", "--unpack", file)
    assert "the table cells refers to a row of plans that is not there" in done.stderr


def test_status_says_how_far_a_study_is(out):
    done = cli("status", out)
    assert done.exit_code == 0
    assert "state    finished" in done.stdout
    assert "cells    4 of 4 (100 %)" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("results", "nowhere"), "holds no results"),
        (("status", "nowhere"), "holds no results"),
        (("results", "OUT", "--format", "xls"), "the formats are csv, json, md, parquet"),
        (("results", "OUT", "--format", "parquet"), "name a file with --to"),
        (("results", "OUT", "--to", "table.xls"), "does not say its format"),
        (("results", "OUT", "--pack", "a", "--unpack", "b"), "give one"),
        (("results", "OUT", "--pack", "no/such/folder"), "there is no folder"),
        (("results", "there", "--unpack", "nothing"), "does not exist"),
        (("results", "there", "--unpack", "text"), "damaged or no database"),
        (("run", "mine.yaml", "--out", "OUT", "--track", "sacred"), "there is no tracker 'sacred'"),
        (
            ("run", "mine.yaml", "--out", "OUT", "--fresh"),
            "would throw away the results of 1 study",
        ),
    ],
)
def test_a_mistake_is_one_message(words, message, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("this is no database at all, whatever it may be called")
    (tmp_path / "mine.yaml").write_text(TEXT)
    before = (out / "results.sqlite").read_bytes()
    done = cli(*[out if word == "OUT" else word for word in words])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("impasto: ") == 1
    assert (out / "results.sqlite").read_bytes() == before


def test_fresh_asks_and_takes_no_for_an_answer(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("impasto.cli.running._can_ask", lambda: True)
    monkeypatch.setattr("impasto.run.load", lambda name: Model())
    (tmp_path / "mine.yaml").write_text(TEXT)
    words = ("run", "mine.yaml", "--out", out, "--fresh", "--quiet")
    done = cli(*words, input="n\n")
    assert done.exit_code == 2
    assert "nothing was thrown away" in done.stderr
    before = Results.read(out).run["began"]
    assert cli(*words, input="y\n").exit_code == 0
    assert Results.read(out).run["began"] > before
    assert "there already" not in cli(*words, "--yes").stderr


def test_quality_and_cost_are_one_row_for_each_plan(out, tmp_path):
    done = cli("results", out, "--costs")
    assert done.exit_code == 0, done.output
    assert "none was measured" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "cost: attention parts and MLPs run (% of the full model)"
    assert lines[1].startswith("family")
    assert lines[1].endswith("plan")
    assert len(lines) == 2 + 4
    file = tmp_path / "costs.csv"
    assert cli("results", out, "--costs", "--to", file).exit_code == 0
    read = pd.read_csv(file)
    assert sorted(read["plan"]) == sorted(set(Results.read(out).table["plan"]))
    assert not any(read["front"])  # a model at chance has none
    assert "not above chance" in done.stderr
    refused = cli("results", out, "--costs", "--pack", tmp_path / "p")
    assert refused.exit_code == 2
    assert "are three things; give one" in " ".join(refused.output.split())


class Knowing(Model):
    """Knows every answer as long as layer 0 runs first."""

    def generate(self, plans, prompts, *given, **more):
        return [
            [f" {ANSWERS[prompt]}" if 0 in plan.layers else " ?" for prompt in self.texts(prompts)]
            for plan in plans
        ]


ANSWERS = {item.prompt: item.answer for item in capitals().items}


@pytest.fixture
def known(tmp_path):
    """Return the folder of a study with a plan that is cheaper and as good."""
    model: Any = Knowing()
    text = 'model: m\ntasks: [capitals]\nplans: ["0 2-3", "1-3", "0-2.mlp 3"]\n'
    Study.from_text(text, name="known").run(tmp_path / "known", model=model)
    return tmp_path / "known"


def test_plans_that_none_beats_are_marked(known):
    lines = cli("results", known, "--costs").stdout.splitlines()
    marked = [line for line in lines if "  *  " in line]
    assert [line.split()[-2:] for line in marked] == [["0-2.mlp", "3"]]


def test_the_plan_to_take_is_printed_with_its_cost_its_loss_and_how_to_make_it(known):
    done = cli("results", known, "--within", "10%,1pt")
    assert done.exit_code == 0, done.output
    taken, open_ = done.stdout.strip().split("\n\n")
    assert taken.splitlines() == [
        "within   10 % of the baseline's accuracy, 100 % (Capitals)",
        "plan     0-2.mlp 3",
        "cost     runs 62.5 % of the full model's attention parts and MLPs",
        "loss     0 points (95 % interval 0 to 2.9, corrected for 3 plans)",
        "make it  impasto export --model m --plan '0-2.mlp 3' FOLDER",
    ]
    assert "within   1 point of the baseline's accuracy" in open_
    assert "a greater loss is not excluded; to tell, about 2.9 times as many questions" in open_


def test_where_no_plan_is_cheaper_that_is_said(tmp_path):
    model: Any = Knowing()
    text = "model: m\ntasks: [capitals]\nplans: [freeze: {k: 1}]\n"
    Study.from_text(text, name="held").run(tmp_path / "held", model=model)
    done = cli("results", tmp_path / "held", "--within", "10%")
    assert done.exit_code == 0, done.output
    assert done.stdout == "plan     none of the study's plans is cheaper than the baseline\n"


def test_by_a_model_at_chance_no_plan_is_recommended(out):
    done = cli("results", out, "--within", "3%")
    assert done.exit_code == 0
    [line] = done.stdout.splitlines()
    assert line.startswith("Capitals: the baseline's 0 % (0 to 49 %) is not above chance, 25 %:")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--within", "3"), "a loss is a percentage of the baseline's score, as 3%"),
        (("--within", "3%", "--costs"), "it goes with no table and no packing"),
        (("--within", "3%", "--format", "csv"), "it goes with no table and no packing"),
    ],
)
def test_a_wrong_loss_is_one_message(words, message, out):
    done = cli("results", out, *words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_report_is_of_several_folders_and_of_losses(out, known, tmp_path):
    page = tmp_path / "both"
    done = cli("report", out, known, "--out", page, "--within", "3%")
    assert done.exit_code == 0, done.output
    text = (page / "report.html").read_text()
    assert "<h3>mine, m</h3>" in text
    assert "<h3>known, m</h3>" in text
    assert "loses no more than 3 % of the baseline" in text
    assert not (known / "report.html").exists()
    assert cli("report", known).exit_code == 0
    assert "<h3>" not in (known / "report.html").read_text().split("Explore")[0]
    assert cli("report", known, "--within", "three").exit_code == 2


def test_sequences_are_for_a_bench(tmp_path):
    study = tmp_path / "s.yaml"
    study.write_text(TEXT)
    done = cli("run", study, "--sequences", "5")
    assert done.exit_code == 2
    assert "--sequences is for --bench" in done.output
