"""The commands on the bundled model, as a user calls them: a process of its own, nothing faked."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STUDY = """\
model: demo
tasks: [{name: arithmetic, terms: 2, limit: 6}]
plans: [freeze: {k: [0, 6, 12]}, gaussian: {k: [0, 6], seed: [0, 1]}, inject: {k: [0, 12]}]
"""
FRANCE = "Q: What is the capital of Spain?\nA: Madrid\nQ: What is the capital of France?\nA:"


def impasto(*arguments, folder):
    """Run the command line in a folder; return what it printed and its exit code."""
    code = "from impasto.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_study_runs_from_its_file_to_figures_and_findings(tmp_path):
    (tmp_path / "short.yaml").write_text(STUDY)
    done = impasto("run", "short.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs" / "short"
    shown = (path for path in (out / "figures").iterdir() if not path.name.startswith("."))
    drawn = {path.stem for path in shown}
    assert drawn == {"A3-arithmetic-2", "A5-arithmetic-2", "pareto"}
    sentences = [line for line in done.stdout.splitlines() if line.startswith("- ")]
    assert len(sentences) == 3  # manipulations
    assert "Loading" not in done.stderr  # the libraries keep silent


def test_the_bundled_model_answers_beside_a_plan(tmp_path):
    plan = ("--plan", "freeze 0-11", "--stop", r"\n")
    done = impasto("generate", *plan, FRANCE, folder=tmp_path)
    assert done.stdout.startswith("baseline: 0-11\n     Paris\nplan: freeze 0-11\n")
    assert done.stderr == ""


def test_a_folder_without_a_model_is_one_message(tmp_path):
    done = impasto("generate", "--model", tmp_path, "--plan", "0", "hi", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("impasto: model")
    assert "Traceback" not in done.stderr
