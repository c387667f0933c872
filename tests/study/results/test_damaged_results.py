"""Results of a stranger, or damaged ones: one message of what is wrong where, in every command."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from characters import Characters
from impasto.cli import app
from impasto.error import UserError
from impasto.study import Results, Study
from impasto.study.database.opening import DATABASE
from thinning import thinned

TEXT = "model: m\ntasks: [{name: capitals, limit: 4}]\nplans: [freeze: {k: [1, 2]}]\n"


class Model(Characters):
    """Says Paris to everything."""

    name, num_layers, tokenizer, identity = "m", 4, None, {"weights": "w"}

    def generate(self, plans, prompts, *given, **more):
        return [[" Paris"] * len(prompts) for _ in plans]


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def out(tmp_path):
    """Return the folder of a finished study."""
    folder = tmp_path / "mine"
    model: Any = Model()
    Study.from_text(TEXT, name="mine").run(folder, model=model, command="impasto run mine.yaml")
    return folder


def change(out, statement, *values):
    """Change a folder's database, also where its form does not allow that."""
    with closing(sqlite3.connect(out / DATABASE, isolation_level=None)) as database:
        form = "UPDATE sqlite_master SET sql = replace(sql, ?, ?)"
        for words in (["NOT NULL", "/*T NUL*/"], None, ["/*T NUL*/", "NOT NULL"]):
            if words is None:
                database.execute(statement, values)
                continue
            database.execute("PRAGMA writable_schema = ON")
            database.execute(form, words)
            database.execute("PRAGMA writable_schema = RESET")


DEEP = "[" * 100_000
CHANGES = {
    "a text for a number": ("UPDATE cells SET finished = 'now'", "finished in the table cells"),
    "a text for a count": ("UPDATE results SET n = 'four'", "n in the table results"),
    "bytes for a text": ("UPDATE plans SET line = x'00ff'", "line in the table plans"),
    "a number for JSON": ("UPDATE models SET parts = 5", "parts in the table models"),
    "nothing for a text": ("UPDATE results SET task = NULL", "task in the table results"),
    "nothing for a study": ("UPDATE studies SET file = NULL", "file in the table studies"),
    "deep JSON": (f"UPDATE tasks SET parts = '{DEEP}'", "nested too deep"),
    "broken JSON": ("UPDATE runs SET versions = '{'", "is no JSON"),
    "JSON of another kind": ("UPDATE runs SET versions = '[1]'", "JSON of texts by name"),
    "nested parameters": ("UPDATE results SET parameters = '{\"a\": {}}'", "values by name"),
    "layers without end": ("UPDATE models SET layers = 1000000000", "from 1 to 10000"),
    "a negative shard": ("UPDATE shards SET start = -3", "start in the table shards"),
    "a shard of nothing": ("UPDATE shards SET start = stop", "items that its task has not"),
    "a shard without end": ("UPDATE shards SET stop = 1000000000", "items that its task has not"),
    "a process of no system": ("UPDATE runs SET pid = 1 << 60", "pid in the table runs"),
    "a time without end": ("UPDATE runs SET began = 9e999", "began in the table runs"),
    "a digest that is none": ("UPDATE models SET digest = 'abc'", "a sha256 in hex"),
    "a study that is none": ("UPDATE study_files SET file = 'model: ['", "not YAML"),
    "no models": ("DELETE FROM study_models", "no model of a study file"),
    "no tasks": ("DELETE FROM tasks", "a row of tasks that is not there"),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END", "trigger 't'"),
    "no table": ("DROP TABLE costs", "the table costs"),
}


@pytest.mark.parametrize("name", thinned(CHANGES))
def test_what_none_of_ours_holds_is_refused_in_every_command(name, out, tmp_path):
    statement, says = CHANGES[name]
    change(out, statement)
    before = (out / DATABASE).read_bytes()
    commands = (
        ["results", out], ["results", out, "--check"], ["results", out, "--format", "csv"],
        ["status", out], ["report", out], ["figures", out],
        ["results", tmp_path / "new", "--unpack", out / DATABASE],
    )  # fmt: skip
    for command in commands:
        done = cli(*command)
        assert (done.exit_code, type(done.exception)) == (2, SystemExit), (command, done.output)
        assert says in done.stderr, command
        assert len(done.stderr) < 3000
    assert (out / DATABASE).read_bytes() == before
    assert not (tmp_path / "new").exists()
    if name == "a study that is none":  # which another run does not read
        return
    with pytest.raises(UserError, match="damaged"):
        Study.from_text(TEXT, name="mine").run(out, model=Model())  # type: ignore[arg-type]


ANSWERS = {
    "a response that is none": ("responses = '5'", "no list of responses"),
    "metrics that are none": ("metrics = '[]'", "no values by name"),
    "broken JSON": ("metrics = '{'", "is no JSON"),
    "deep JSON": (f"responses = '{DEEP}'", "nested too deep"),
    "a metric of another kind": ("metrics = '{\"exact_match\": [1, 2, 3]}'", "in others"),
    "a response of another kind": ("responses = '[[1.5, true]]'", "in others"),
    "half a character": ("responses = '[\"\\ud800\"]'", "half a character"),
    "a number without end": (f"metrics = '{{\"exact_match\": {10**400}}}'", "64 bits"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_checked_as_they_are_read(name, out, tmp_path):
    statement, says = ANSWERS[name]
    change(out, f"UPDATE records SET {statement} WHERE position = 2 AND cell = 1")
    for command in (
        ["results", out, "--check"],
        ["report", out],
        ["results", tmp_path / "new", "--unpack", out / DATABASE],
    ):
        done = cli(*command)
        assert (done.exit_code, type(done.exception)) == (2, SystemExit), (command, done.output)
        assert says in done.stderr, command
    with pytest.raises(UserError, match=r"in others|JSON|deep|responses|values|character|bits"):
        list(Results.read(out).answers)


def test_an_answer_that_is_missing_is_told(out):
    change(out, "DELETE FROM records WHERE cell = 1 AND position = 2")
    for command in (["results", out, "--check"], ["report", out]):
        assert "the answer to item 3 of capitals" in cli(*command).stderr


def test_a_plan_of_another_digest_is_told(out):
    change(out, "UPDATE plans SET line = '3-0' WHERE id = 1")
    change(out, "UPDATE results SET plan = '3-0' WHERE number = 0")
    for command in (["results", out, "--check"], ["results", out]):
        assert "the digest of another one" in cli(*command).stderr


@pytest.mark.parametrize("value", ["1e308", "9e999", "-9e999"])
def test_a_share_without_end_is_told(value, out):
    change(out, f"UPDATE results SET value = {value}")
    for words in (("results", out), ("report", out), ("results", out, "--check")):
        done = cli(*words)
        assert done.exit_code == 2
        assert "a value without end" in done.stderr


def test_pages_that_are_damaged_are_told_wherever_they_are_met(out, tmp_path):
    sound = (out / DATABASE).read_bytes()
    outcomes = set()
    for page in range(1, len(sound) // 4096):
        begin = page * 4096
        (out / DATABASE).write_bytes(sound[:begin] + b"\xa5" * 4096 + sound[begin + 4096 :])
        for command in (["status", out], ["report", out], ["results", out, "--check"]):
            done = cli(*command)
            assert done.exit_code in (0, 2), (page, command, done.exception)
            outcomes.add((command[-1], done.exit_code))
    assert ("--check", 0) not in outcomes
    assert ("--check", 2) in outcomes


def test_a_sound_folder_is_said_to_be_so(out):
    done = cli("results", out, "--check")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("mine: 1 study, 3 cells, 12 answers\n")
    assert "no other option" in cli("results", out, "--check", "--costs").stderr
