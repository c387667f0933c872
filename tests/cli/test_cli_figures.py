"""The commands that draw: figures of a study's folder, similarity, probes."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from characters import Characters
from impasto.cli import app
from impasto.study import Study
from impasto.tasks import arithmetic, capitals

TEXT = """
model: m
tasks: [{name: capitals, limit: 6}, {name: arithmetic, terms: 2, limit: 6}]
plans: [freeze: {k: all}, skip: {n: all}, reverse: {n: all}]
"""
TEXTS = ["Q: What is the capital of Spain?", "A: Madrid", "3+4=", "12-5=", "9+9="]
ANSWERS = {item.prompt: item.answer for task in (capitals(), arithmetic(2)) for item in task.items}


class Model(Characters):
    """Answers rightly whatever the plan."""

    name, num_layers, tokenizer, identity = "m", 8, None, {"weights": "w"}

    def generate(self, plans, prompts, *given, **more):
        return [[f" {ANSWERS[prompt]}" for prompt in self.texts(prompts)] for _ in plans]


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def out(tmp_path):
    """Return the folder of a finished study."""
    model: Any = Model()
    Study.from_text(TEXT, name="mine").run(tmp_path / "mine", model=model)
    return tmp_path / "mine"


def test_a_folders_figures_are_drawn_and_the_others_are_named(out):
    done = cli("figures", out, "--format", "svg")
    assert done.exit_code == 0, done.output
    drawn = {line.split()[0] for line in done.stdout.splitlines()}
    assert drawn == {"A2", "A3", "B4", "B6", "B11", "pareto"}
    assert all((out / "figures" / f"{name}.svg").exists() for name in ("A2-capitals", "B4", "B11"))
    assert not list(out.glob("figures/*.png"))
    assert "A4, A5, A6" in done.stderr


def test_a_figure_that_lacks_its_data_says_which_and_how_to_make_it(out):
    done = cli("figures", out, "--only", "b7,A2")
    assert done.exit_code == 1
    assert "A2-capitals.png" in done.stdout
    assert "- random_order: {n: all, seed: all}" in done.stderr
    assert f"impasto run {out / 'study.yaml'} --out {out}" in done.stderr
    assert "impasto similarity --model m" in cli("figures", out, "--only", "B3").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "B99"], "no figure 'B99'"),
        (["--format", "jpeg"], "figures are png, svg, pdf"),
        (["--format", ","], "--format takes"),
    ],
)
def test_wrong_options_are_users_mistakes(words, says, out):
    done = cli("figures", out, *words)
    assert done.exit_code == 2
    assert says in done.stderr


def test_a_folder_without_results_is_a_users_mistake(tmp_path):
    assert cli("figures", tmp_path).exit_code == 2


def test_similarity_writes_matrices_and_figures_that_can_be_drawn_again(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    done = cli("similarity", "--texts", texts, "--out", tmp_path / "out", "--entropy")
    assert done.exit_code == 0, done.output
    assert "5 texts" in done.stdout
    assert "depths fall into beginning" in done.stdout
    content = json.loads((tmp_path / "out" / "similarity.json").read_text())
    assert content["layers"] == 12
    assert content["measures"]["tokens"]["mean"][3][3] == pytest.approx(1, abs=1e-6)
    (tmp_path / "out" / "figures" / "B3.png").unlink()
    assert cli("figures", tmp_path / "out").exit_code == 0
    for name in ("B3", "B3-flattened", "C1", "entropy"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").exists()


def test_probe_reads_labels_off_a_column(tmp_path):
    texts = tmp_path / "texts.jsonl"
    rows = [{"q": f"{a}+{b}=", "kind": a % 2} for a in range(8) for b in range(5)]
    texts.write_text("\n".join(map(json.dumps, rows)))
    done = cli("probe", "--texts", texts, "--column", "q", "--label", "kind", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "2 labels are read off best at depth" in done.stdout
    assert len(json.loads((tmp_path / "probes.json").read_text())["accuracy"]) == 13
    few = cli("probe", "--texts", texts, "--column", "q", "--label", "q", "--out", tmp_path)
    assert few.exit_code == 2
    assert "5 folds take 5 texts of every label" in few.stderr


@pytest.mark.parametrize("command", ["similarity", "probe"])
def test_texts_that_cannot_be_read_are_said_before_a_model_is_loaded(command, tmp_path):
    label = ["--label", "x"] if command == "probe" else []
    done = cli(command, "--texts", tmp_path / "no.jsonl", "--model", "nowhere", *label)
    assert done.exit_code == 2
    assert "no.jsonl does not exist" in done.stderr
