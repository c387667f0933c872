"""Shell completion: commands, options, studies and folders, as bash asks for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from impasto.cli import app
from impasto.cli.completion import folders, search_files, shipped_names, study_files


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/attend_first", "runs/edits", "mine", ".hidden"):
        Path(folder).mkdir(parents=True)
    for file in ("attend_mine.yaml", "mine/own.yml", "mine/texts.txt", "runs/table.csv"):
        Path(file).touch()


def test_studies_are_completed_by_name_and_as_files():
    assert study_files("attend_m") == ["attend_mine.yaml"]
    assert study_files("attend_f")[:2] == ["attend_first", "attend_first_llm"]
    assert study_files("mi") == ["mine/"]
    assert study_files("mine/") == ["mine/own.yml"]
    assert "thinner" not in study_files("t")
    assert search_files("t") == ["thinner"]
    assert "demo_texts.txt" in shipped_names("demo")
    assert study_files("no/such/") == []


def test_folders_are_completed_and_hidden_ones_only_if_asked_for():
    assert folders("") == ["mine/", "runs/"]
    assert folders("runs/") == ["runs/attend_first/", "runs/edits/"]
    assert folders(".h") == [".hidden/"]
    assert folders(f"{Path.cwd()}/m") == [f"{Path.cwd()}/mine/"]


def completed(*words):
    """Return what bash is given for the last of some words."""
    code = "from impasto.cli import main; import sys; sys.argv[0] = 'impasto'; main()"
    line = " ".join(("impasto", *words))
    asks = {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | asks | {"_IMPASTO_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("res",), {"results"}),
        (("run", "attend_first_l"), {"attend_first_llm", "attend_first_llama2_7b"}),
        (("run", "attend_first", "--de"), {"--device"}),
        (("search", "th"), {"thinner"}),
        (("results", "runs/"), {"runs/attend_first/", "runs/edits/"}),
    ],
)
def test_bash_is_given_what_can_follow(words, wanted):
    assert wanted <= set(completed(*words))


@pytest.mark.parametrize("command", ["run", "search"])
def test_a_command_without_words_says_what_is_missing(command):
    done = CliRunner().invoke(app, [command])
    assert done.exit_code == 2
    assert "Missing argument" in done.stderr


def test_the_scripts_of_all_shells_can_be_shown(monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = CliRunner().invoke(app, ["--show-completion", "bash"])
    assert done.exit_code == 0
    assert "complete" in done.stdout
