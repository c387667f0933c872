"""`impasto status` moves while a unit of work runs, before anything is saved."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from characters import Characters
from impasto.error import UserError
from impasto.searching import WrittenSearch
from impasto.searching.running import run_search
from impasto.study import Standing, Study
from impasto.study.folder.lock import HOLDER, check_free, only_writer
from impasto.study.following.noting import NOTE, noted, read_note
from impasto.study.following.status import status
from impasto.study.running.options import Running

TEXT = "model: m\ntasks: [{name: capitals, limit: 10}]\nplans: [freeze: {k: [1, 2]}]\n"


class Model(Characters):
    """Says how far it is in three steps, each of which calls `looks`."""

    name, num_layers, tokenizer, identity = "m", 4, None, {"weights": "w"}
    looks: Any = None

    def generate(self, plans, prompts, *given, progress=None, **more):
        for step in (1, 2, 3):
            if progress is not None:
                progress(step / 4)
            self.looks(step)
        return [[" Paris"] * len(prompts) for _ in plans]


def told(out, clock, *standings):
    """Tell a note of standings at given seconds; return what is noted after each."""
    seconds = iter([second for second, _ in standings])
    notes = []
    with noted(out, "m", lambda standing: None, clock=lambda: next(seconds)) as tell:
        for _, standing in standings:
            tell(standing)
            notes.append(read_note(out, os.getpid()))
    return notes


def test_a_run_notes_what_it_is_at_now_and_then(tmp_path):
    at = [(s, Standing(s / 100, "Capitals", "1–10, 0-3")) for s in (0, 10, 11, 20)]
    notes: Any = told(tmp_path, None, *at)
    assert [note.share for note in notes] == [0, 0.1, 0.1, 0.2]
    assert (notes[3].doing, notes[3].detail, notes[3].elapsed) == ("Capitals", "1–10, 0-3", 20)
    assert notes[1].left is None
    assert notes[3].left == pytest.approx(80)
    assert not (tmp_path / NOTE).exists()  # once it is over


def test_what_is_saved_is_noted_at_once(tmp_path):
    at = [(0, Standing(0.1, "Capitals")), (0.1, Standing(0.5, "Capitals", cells=2))]
    assert [note.share for note in told(tmp_path, None, *at) if note] == [0.1, 0.5]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"pid": 1}', "\0", "null", '{"pid": 1, "share": "much"}']
)
def test_a_note_that_is_none_is_left_out(text, tmp_path):
    (tmp_path / NOTE).write_text(text)
    assert read_note(tmp_path, 1) is None


def test_another_process_note_is_none_of_this_run(tmp_path):
    with noted(tmp_path, "m", lambda standing: None) as tell:
        tell(Standing(0.5, "Capitals"))
        assert read_note(tmp_path, os.getpid()) is not None
        assert read_note(tmp_path, os.getpid() + 1) is None
        note = json.loads((tmp_path / NOTE).read_text())
        (tmp_path / NOTE).write_text(json.dumps(note | {"share": -1}))
        assert read_note(tmp_path, os.getpid()) is None


def test_status_moves_while_a_unit_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("impasto.study.following.noting.EVERY", 0.0)
    lines: list[list[str]] = []
    model: Any = Model()
    model.looks = lambda step: lines.append(list(status(tmp_path / "out").lines()))
    Study.from_text(TEXT, name="s").run(tmp_path / "out", model=model, command="impasto run s")
    shares = [line.split()[1] for shown in lines for line in shown if line.startswith("run ")]
    assert shares == sorted(shares, key=int)
    assert len(set(shares)) >= 3
    assert all("now      Capitals 1–10, 0-3 and 2 more" in shown for shown in lines[:3])
    assert any(line.startswith("left     about") for line in lines[2])
    assert all("cells    0 of 3 (0 %)" in shown for shown in lines[:3])  # nothing is saved yet
    after = list(status(tmp_path / "out").lines())
    assert not any(line.startswith(("now", "run")) for line in after)


HOLDING = """
import sys
from pathlib import Path
from impasto.study.folder.lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """Return a folder that another process writes to, and that process."""
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield out, other
        other.communicate("")


def test_a_locked_folder_is_told_with_who_has_it_since_when_and_what_to_do(held):
    out, other = held
    with pytest.raises(UserError) as error:
        check_free(out)
    said = str(error.value)
    assert f"process {other.pid} on " in said
    assert (out / HOLDER).read_text().strip() in said
    assert ", since 20" in said
    assert f"impasto status {out}" in said
    assert "--out" in said


def test_it_is_told_before_anything_is_read_or_loaded(held, monkeypatch):
    out, other = held
    read: list[Any] = []
    monkeypatch.setattr("impasto.study.running.models.load_model", lambda *a: read.append(a))
    monkeypatch.setattr(Study, "load_entries", lambda self: read.append(self))
    monkeypatch.setattr(Study, "check_tasks", lambda self: read.append(self))
    from typer.testing import CliRunner

    from impasto.cli import app

    for command, file in (("run", "attend_first"), ("search", "thinner")):
        done = CliRunner().invoke(app, [command, file, "--out", str(out)])
        assert done.exit_code == 2
        assert f"process {other.pid} on " in done.stderr
    assert read == []


def test_checking_a_free_folder_leaves_it_as_it_was(tmp_path):
    check_free(tmp_path / "none")
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with only_writer(tmp_path):
        pass
    check_free(tmp_path)
    assert not (tmp_path / HOLDER).exists()


def searched(out):
    search = WrittenSearch.from_yaml("thinner")
    return run_search(search, out, None, Running())


@pytest.mark.parametrize("begin", [lambda out: Study.from_text(TEXT).run(out), searched])
def test_a_new_folder_is_locked_before_the_model_is_loaded_and_goes_if_that_fails(
    begin, tmp_path, monkeypatch
):
    out = tmp_path / "new"
    states: list[str] = []

    def load(*given):
        with pytest.raises(UserError, match="is being written to by process"):
            check_free(out)
        with pytest.raises(UserError, match="has not asked anything yet") as error:
            status(out)
        states.append(str(error.value))
        raise UserError("no such model")

    monkeypatch.setattr("impasto.study.running.answering.load_model", load)
    with pytest.raises(UserError, match="no such model"):
        begin(out)
    assert len(states) == 1
    assert not out.exists()
    Path(out).mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="no such model"):
        begin(out)
    assert (out / "mine.txt").exists()
