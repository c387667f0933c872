"""Searches as users run them: found, kept, gone on with, and what is said of them on the way."""

import json
import sqlite3
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import impasto
from characters import Characters
from impasto.cli import app
from impasto.error import UserError
from impasto.plan import Plan
from impasto.searching import Found, WrittenSearch, machine
from impasto.searching.running import run_search
from impasto.searching.timing import PartTimes, time_plan
from impasto.study import Stopped
from impasto.study.following.status import status_of
from impasto.study.running.options import Running
from thinning import thinned

TEXTS = [f"text number {n} of some" for n in range(48)]
HARM = {"attention": (9, 1, 2, 3, 8, 4), "mlp": (9, 5, 1, 6, 5, 8)}  # by layer


class Letters:
    """Reads a character as a token."""

    name_or_path = "characters"

    def __len__(self):
        return 256

    def __call__(self, text, **_):
        return {"input_ids": [ord(character) for character in text]}


class Model(Characters):
    """Diverges by what it lacks, each part by its own, and two neighbours' more."""

    name, num_layers, identity, max_positions = "m", 6, {"weights": "w"}, 64

    tokenizer: Any = Letters()

    def __init__(self, after=None):
        self.asked, self.after = 0, after

    def fidelity(self, plans, texts, *, length=None, progress=lambda share: None):
        self.asked += len(plans)
        if self.after is not None and self.asked >= self.after:
            raise KeyboardInterrupt
        return [[self._said(plan, text) for text in texts] for plan in plans]

    def _said(self, plan, text):
        words = {step.index: step.part for step in plan.steps}
        lost = 0.0
        for layer in range(self.num_layers):
            for part, other in (("attention", "mlp"), ("mlp", "attention")):
                if words.get(layer, other) == other:
                    lost += HARM[part][layer] / 10
        return len(text) - 1, -2.0 * len(text) - lost, lost * (1 + sum(text) % 7), len(text) // 2

    def generate(self, plans, prompts, *given, **more):
        full = Plan.identity(self.num_layers)
        said = {True: " Paris", False: " Rome"}
        return [[said[plan == full]] * len(prompts) for plan in plans]


def search(model, out=None, **more) -> Found:
    given: dict[str, Any] = {"budget": {"parts": 0.75}, "out": out, **more}
    return impasto.search(model, TEXTS, **given)


def files_of(out):
    return {path.name: path.read_bytes() for path in (out / "search").iterdir()}


def test_candidates_that_drop_out_are_asked_no_more_than_is_counted():
    class Counting(Model):
        texts_of: Any = None

        def fidelity(self, plans, texts, **given):
            for plan in plans:
                self.texts_of[plan.digest] = self.texts_of.get(plan.digest, 0) + len(texts)
            return super().fidelity(plans, texts, **given)

    model = Counting()
    model.texts_of = {}
    found = search(model, method="greedy", references=[])
    choosing = len(TEXTS) // 2
    dropped = [one for one in found.tried if one.asked < 1]
    assert len(dropped) > len(found.tried) / 4
    for one in dropped:
        assert model.texts_of[one.plan.digest] == round(one.asked * choosing)


def edits(plan):
    return {str(edit) for edit in plan.edits}


def test_it_finds_the_parts_that_harm_least(tmp_path):
    found = search(Model())
    assert edits(found.best) == {"attention 1", "attention 2", "mlp 2"}
    assert found.best.cost == {"parts": 0.75}
    assert found.best.held_out is not None
    assert found.best.held_out.value == pytest.approx(found.best.objective, rel=0.3)
    assert (found.items, found.held_out) == (24, 24)
    assert found.full.objective == 0
    assert found.front[-1].plan == found.full.plan
    assert found.best in found.front


@pytest.mark.parametrize(
    "method", thinned(["one_shot", "greedy", "beam", "evolve", "exhaustive", "pairs"])
)
def test_every_method_keeps_the_budget(method):
    found = search(Model(), method=method)
    assert found.best.cost["parts"] <= 0.75
    if method != "evolve":  # which keeps how many of each kind it began with
        assert edits(found.best) == {"attention 1", "attention 2", "mlp 2"}


def test_layers_that_are_kept_are_not_touched():
    found = search(Model(), keep=[2], tail=4)
    assert {edit.layer for plan in found.tried for edit in plan.edits} == {3, 4, 5}


def test_what_was_found_is_kept_and_read_again(tmp_path):
    found = search(Model(), tmp_path, confirm=[{"name": "capitals", "limit": 40}])
    read = Found.read(tmp_path)
    assert read.best == found.best and read.front == found.front  # noqa: PT018
    assert read.references == found.references
    assert read.sentences == found.sentences
    assert read.confirmed == found.confirmed
    assert [one.plan for one in read.tried] == [one.plan for one in found.tried]
    table = pd.read_csv(tmp_path / "search" / "tried.csv")
    assert len(table) == len(found.tried)
    assert set(table.columns) == {"plan", "edits", "objective", "asked", "parts"}


def test_what_was_asked_is_not_asked_again(tmp_path):
    first, again = Model(), Model()
    before = search(first, tmp_path)
    assert search(again, tmp_path).best == before.best
    assert first.asked > again.asked == 0


@pytest.mark.parametrize("after", thinned([1, 40, 90]))
def test_one_that_was_stopped_goes_on_and_ends_the_same(after, tmp_path):
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    search(Model(), calm)
    with pytest.raises(KeyboardInterrupt):
        search(Model(after=after), stopped)
    said = status_of(stopped)
    assert said.state == "stopped"
    model = Model()
    search(model, stopped)
    assert files_of(stopped) == files_of(calm)
    assert status_of(stopped).state == "finished"


def test_stopped_is_said_between_rounds(tmp_path, monkeypatch):
    from impasto.searching import asking

    monkeypatch.setattr(asking, "stoppable", lambda told: asked_to_stop())
    with pytest.raises(Stopped):
        search(Model(), tmp_path)


class asked_to_stop:  # noqa: N801  (reads like a function)
    def __enter__(self):
        return lambda: True

    def __exit__(self, *_):
        return None


def test_the_front_is_confirmed_on_questions_that_the_search_never_saw(tmp_path):
    found = search(Model(), tmp_path, confirm=[{"name": "capitals", "limit": 60}])
    assert {one.plan for one in found.confirmed} <= {one.plan for one in found.front}
    [mine] = [one for one in found.confirmed if one.plan == found.best.plan]
    assert (mine.task, mine.kind, mine.n) == ("capitals", "generation", 60)
    assert mine.corrected >= mine.p
    assert (
        f"{found.best.plan} cannot be told from the full model on Capitals" in found.sentences[-1]
    )


def test_items_that_chose_do_not_confirm(tmp_path):
    model: Any = Model()
    found = impasto.search(
        model, tasks=[{"name": "capitals", "limit": 40}], budget={"parts": 0.75},
        confirm=[{"name": "capitals", "limit": 40}], out=tmp_path,
    )  # fmt: skip
    assert found.objective == "average loss on Capitals"
    assert {one.n for one in found.confirmed} == {20}


def test_costs_that_a_model_cannot_tell_are_told():
    with pytest.raises(UserError, match="nobody can count the parameters of m: bound parts"):
        search(Model(), budget={"parameters": 0.8})


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"budget": {}}, "budget is empty"),
        ({"budget": 0.75}, "'budget' cannot be 0.75"),
        ({"budget": {"part": 0.75}}, "did you mean 'parts'"),
        ({"budget": {"parts": "120%"}}, "120% is no bound: the full model has 12"),
        ({"budget": {"parts": -1}}, "not -1"),
        ({"budget": {"parts": 0.2}, "keep": [0, 1]}, "the cheapest has parts: 33.33%"),
        ({"moves": ["heads"]}, "moves has no 'heads'"),
        ({"moves": ["repeat"]}, "no plan of these moves keeps parts: 75%"),
        ({"keep": [6]}, "keep names layers, 0 to 5"),
        ({"tail": 7}, "tail: 7 of a model of 6 layers"),
        ({"method": "best"}, "method has no 'best'"),
        ({"objective": "loss"}, "objective has no 'loss'"),
        ({"references": ["mine"]}, "references has no 'mine'"),
        ({"confirm": ["capitols"]}, "did you mean 'capitals'"),
        ({"tokens": 0}, "tokens is a whole number from 2"),
        ({"tasks": ["capitals"]}, "not both"),
        ({"seed": -1}, "'seed' cannot be -1"),
    ],
)
def test_mistakes_are_told(given, word):
    with pytest.raises(UserError) as caught:
        search(Model(), **given)
    assert word in str(caught.value)


@pytest.mark.parametrize("texts", [None, "no.txt", [1, 2], ["a"]])
def test_texts_that_are_none_are_told(texts):
    model: Any = Model()
    with pytest.raises(UserError):
        impasto.search(model, texts, budget={"parts": 0.75})


FILE = """\
model: m
objective: {perplexity: {file: %s, tokens: 2000}}
budget: {parts: 75%%}
moves: [layer, parallel]
keep: [0]
tail: 5
method: greedy
seed: 3
references: [greedy]
confirm: {tasks: [capitals], limit: 20}
load: {dtype: float32}
"""


def test_a_file_reads_as_it_is_written(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    file = tmp_path / "thin.yaml"
    file.write_text(FILE % texts)
    read = WrittenSearch.from_yaml(file)
    assert read.name == "thin"
    assert WrittenSearch.from_text(read.to_yaml()) == read
    model: Any = Model()
    found = run_search(read, tmp_path / "out", model, Running())
    assert found.objective == "log perplexity on Texts (texts)"
    assert found.method == "greedy"
    assert list(found.references) == ["greedy"]
    lines = list(status_of(tmp_path / "out", study="thin").lines())
    assert lines[:2] == ["search   thin, model m", "state    finished"]


def test_a_folder_that_holds_a_search_says_so(tmp_path):
    search(Model(), tmp_path)
    done = CliRunner().invoke(app, ["results", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds the search search and no study" in done.stderr


def test_a_damaged_file_is_told(tmp_path):
    search(Model(), tmp_path)
    file = tmp_path / "search" / "found.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"best": 3}))
    with pytest.raises(UserError, match="run the search again"):
        Found.read(tmp_path)
    with pytest.raises(UserError, match="holds no finished search"):
        Found.read(tmp_path / "nothing")


def test_the_command_says_what_it_found(tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"Q: What is {n} + 1?\nA: {n + 1}\n" for n in range(40)))
    spec = tmp_path / "thin.yaml"
    spec.write_text(
        f"model: demo\nobjective: {{kl: {{file: {texts}, tokens: 400}}}}\n"
        "budget: {operations: 95%}\nmoves: [layer]\nreferences: [drop_last]\n"
    )
    done = CliRunner().invoke(app, ["search", str(spec), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("found    ")
    assert any(line.startswith("export   impasto export ") for line in lines)
    found = Found.read(tmp_path / "out")
    assert found.best.cost["operations"] <= 0.95
    assert found.layer_rows is not None
    assert found.layer_rows_alone > found.layer_rows  # type: ignore[operator]


@pytest.mark.parametrize("kept", ["3", "{", '{"memory": -1}', '{"pace": "x"}', '{"parts": [1]}'])
def test_what_a_stranger_wrote_of_the_machine_is_told(kept, tmp_path):
    search(Model(), tmp_path)
    with sqlite3.connect(tmp_path / "results.sqlite") as connection:
        connection.execute("UPDATE searches SET kept = ?", [kept])
    with pytest.raises(UserError, match="the table searches of the results has"):
        search(Model(), tmp_path)


def packed(out, there):
    """Pack a folder and unpack it to another one, as a user does."""
    file = out.with_suffix(".impasto")
    for words in ([str(out), "--pack", str(file)], [str(there), "--unpack", str(file)]):
        done = CliRunner().invoke(app, ["results", *words])
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("confirm", [[], [{"name": "capitals", "limit": 20}]])
def test_a_folder_with_a_search_is_checked_packed_shown_and_gone_on_with(confirm, tmp_path):
    out, there = tmp_path / "out", tmp_path / "there"
    found = search(Model(), out, confirm=confirm)
    done = CliRunner().invoke(app, ["results", str(out), "--check"])
    assert done.exit_code == 0, done.output
    assert f"{len(confirm)} stud{'y' if confirm else 'ies'}, 1 search, " in done.output
    packed(out, there)
    assert status_of(there, study="search").state == "finished"
    assert Found.read(there).sentences == found.sentences
    assert Found.read(there).best == found.best
    done = CliRunner().invoke(app, ["report", str(there)])
    assert done.exit_code == 0, done.output
    assert str(found.best.plan) in (there / "report.html").read_text(encoding="utf-8")
    model = Model()
    again = search(model, there, confirm=confirm, seed=1)
    assert model.asked > 0
    assert Found.read(there).tried == again.tried
    model = Model()
    assert search(model, there, confirm=confirm).best == found.best
    assert model.asked == 0


def test_a_search_that_was_killed_is_packed_and_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        search(Model(after=40), tmp_path / "out")
    packed(tmp_path / "out", tmp_path / "there")
    assert not (tmp_path / "there" / "search").exists()
    search(Model(), tmp_path / "there")
    search(Model(), tmp_path / "calm")
    assert files_of(tmp_path / "there") == files_of(tmp_path / "calm")


def test_a_packed_file_of_a_stranger_writes_nowhere_else(tmp_path):
    search(Model(), tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "results.sqlite") as connection:
        connection.execute("UPDATE found_files SET name = '../evil' WHERE name = 'tried.csv'")
    with pytest.raises(AssertionError, match="none of ours"):
        packed(tmp_path / "out", tmp_path / "there")
    assert not list(tmp_path.rglob("evil"))


def test_fresh_throws_away_what_was_found(tmp_path):
    search(Model(), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search(Model(after=1), tmp_path, fresh=True)
    with pytest.raises(UserError, match="holds no finished search"):
        Found.read(tmp_path)


DEMO = """\
model: demo
objective: {kl: {file: %s, tokens: 600}}
budget: {%s}
method: %s
tail: 4
references: [drop_last]
"""


@pytest.fixture
def on_demo(tmp_path):
    """Return what searches the demo model under a budget and writes to a folder."""
    texts, model = tmp_path / "texts.txt", impasto.load("demo")
    texts.write_text("\n".join(f"Q: What is {n} + 1?\nA: {n + 1}\n" for n in range(40)))

    def searched(folder, budget, method="greedy", **more):
        written = WrittenSearch.from_text(DEMO % (texts, budget, method))
        return run_search(written, tmp_path / folder, model, Running(**more))

    return searched


@pytest.mark.slow
def test_one_that_is_killed_ten_times_says_the_same_to_the_last_digit(
    on_demo, tmp_path, monkeypatch
):
    def unmeasured(model):
        raise AssertionError("how work is divided hangs on a clock")

    calls, fidelity = [0], impasto.Model.fidelity
    monkeypatch.setattr(impasto.Model, "seconds_per_layer_row", property(unmeasured))
    on_demo("calm", "parts: 85%", save_every=0.01)

    def killed(*given, **more):
        calls[0] += 1
        if calls[0] % 4 == 0:
            raise KeyboardInterrupt
        return fidelity(*given, **more)

    monkeypatch.setattr(impasto.Model, "fidelity", killed)
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt):
            on_demo("killed", "parts: 85%", save_every=0.01)
    monkeypatch.setattr(impasto.Model, "fidelity", fidelity)
    on_demo("killed", "parts: 85%", save_every=0.01)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "calm")


@pytest.fixture
def alike(monkeypatch):
    """Have every part of the demo model take the same time."""
    names = [f"{part} {layer}" for part in ("attention", "mlp") for layer in range(12)]
    times = PartTimes(dict.fromkeys(["fixed", *names], 1.0))
    monkeypatch.setattr(machine, "time_parts", lambda model: times)


def test_the_best_plan_is_timed_and_the_next_best_taken_where_it_breaks_the_budget(
    on_demo, alike, monkeypatch
):
    takes = [0.97, 0.94, 0.2]
    timed = iter(takes)
    monkeypatch.setattr(machine, "time_plan", lambda model, plan: next(timed))
    found = on_demo("out", "seconds: 95%", "exhaustive")
    assert [one.measured for one in found.timed] == takes[:2]
    assert [one.keeps for one in found.timed] == [False, True]
    passed, best = (one.plan for one in found.timed)
    assert found.best.plan == best
    assert passed not in {one.plan for one in found.front}
    values = {one.plan: one.objective for one in found.tried}
    assert values[passed] <= values[best]
    assert any("was passed over: timed, it takes 97.0 %" in said for said in found.sentences)
    assert any(f"{best} takes 94.0 %" in said for said in found.sentences)
    assert on_demo("out", "seconds: 95%", "exhaustive").timed == found.timed  # by what was kept


def test_that_no_plan_keeps_the_seconds_is_said(on_demo, alike, monkeypatch):
    monkeypatch.setattr(machine, "time_plan", lambda model, plan: 0.99)
    found = on_demo("out", "seconds: 95%")
    assert not any(one.keeps for one in found.timed)
    assert found.best.plan == found.timed[0].plan
    assert any("more than the budget; so do all" in said for said in found.sentences)


def test_a_plan_with_fewer_parts_takes_less_by_the_clock():
    whole, half = Plan.parse("0-11", layers=12), Plan.parse("0-5", layers=12)
    model = impasto.load("demo")
    assert isinstance(model, impasto.Model)
    assert time_plan(model, half) < time_plan(model, whole)
