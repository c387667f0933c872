"""Selectors: families whose layers are chosen by what texts show of a model, as a study begins."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
# (pandas types what a row has too widely)

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import impasto
import tiny
from fake_reader import LINES, FakeReader
from impasto import Study, UserError
from impasto.cli import app
from impasto.figures import Found
from impasto.figures.catalogue import ENTRIES
from impasto.plan import Plan
from impasto.report import write_report
from impasto.study import Results, StudyError
from impasto.study.following.status import status
from impasto.study.work.influence import block_influence

HARM = {0: 3.0, 1: 1.0, 2: 0.5, 3: 2.0}  # of a layer that is left out; of its attention half
BY_HARM = "2 1 3 0"


@dataclass
class Chooser(FakeReader):
    """A model of which each layer is worth something else."""

    def _near(self, plan, ids):
        there = {step.index: step.part for step in plan.steps}
        lost = sum(
            harm if layer not in there else harm / 2 if there[layer] != "block" else 0.0
            for layer, harm in HARM.items()
        )
        tokens = len(ids) - 1
        return tokens, -tokens * math.log(7 + lost), tokens * lost / 3, tokens


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    return f"{{file: {tmp_path / 'lines.txt'}, tokens: 300, length: 64}}"


def study_of(texts, *plans, model="m", task=""):
    task = task or texts.replace("{", "{name: texts, label: other, ", 1)
    lines = "".join(f"  - {plan}\n" for plan in plans)
    return Study.from_text(f"model: {model}\ntasks: [{task}]\nplans:\n{lines}", name="mine")


def one_shot(texts, part="block", count="all"):
    return f"one_shot: {{part: {part}, count: {count}, texts: {texts}}}"


def written(study):
    return {(entry.strategy, entry.choices.get("part")): entry.choices for entry in study.plans}


def test_the_study_as_it_ran_names_the_layers_that_harm_least(texts, tmp_path):
    out = tmp_path / "out"
    results = study_of(texts, one_shot(texts, "all")).run(out, model=Chooser())
    choices = written(results.study)
    assert {part for _, part in choices} == {"attention", "mlp", "block"}
    assert all(each["order"] == BY_HARM and "texts" not in each for each in choices.values())
    frame = results.table
    rows = frame[(frame["metric"] == "kl") & frame["parameters"].str.contains("block")]
    assert list(rows["plan"]) == ["0-1 3", "0 3", "0"]
    assert json.loads(rows["parameters"].iloc[1]) == {"part": "block", "count": 2}
    again = Study.from_yaml(out / "study.yaml")
    assert written(again) == choices
    assert Results.read(out).study == results.study


def test_what_chose_is_saved_and_asked_once(texts, tmp_path):
    study, model = study_of(texts, one_shot(texts)), Chooser()
    study.run(tmp_path / "out", model=model)
    before = len(model.calls)
    study.run(tmp_path / "out", model=model)
    assert len(model.calls) == before
    same = study_of(texts, one_shot(texts), task=texts.replace("{", "{name: texts, ", 1))
    shared = Chooser()
    same.run(tmp_path / "same", model=shared)
    asked = sum(plans * items for plans, items, _ in shared.calls)
    own = sum(plans * items for plans, items, _ in model.calls)
    assert asked == own * 7 // 8  # 4 plans chose and 4 ran, of which the first had chosen


def test_a_run_that_ends_while_layers_are_chosen_goes_on(texts, tmp_path):
    study = study_of(texts, one_shot(texts, "all"))
    cut = Chooser(left=1)
    with pytest.raises(RuntimeError, match="the power went"):
        study.run(tmp_path / "out", model=cut)
    with pytest.raises(UserError, match="no results yet"):
        Results.read(tmp_path / "out")
    results = study.run(tmp_path / "out", model=Chooser())
    assert results.table.equals(study.run(model=Chooser()).table)


def test_results_are_read_without_a_model(texts, tmp_path):
    out = tmp_path / "out"
    study_of(texts, one_shot(texts), "drop_last: {part: block, count: all}").run(
        out, model=Chooser()
    )
    (tmp_path / "lines.txt").unlink()
    said: Any = status(out)
    assert said.lines()
    found = Found.read(out)
    assert found.strategies == {"baseline", "one_shot", "drop_last"}
    assert list(ENTRIES["selectors"].draw([found]))
    assert write_report([found], out).exists()


def test_each_of_several_models_has_an_order_of_its_own(texts, monkeypatch, tmp_path):
    class Other(Chooser):
        @property
        def identity(self):
            return {"weights": "others"}

        def _near(self, plan, ids):
            tokens, log_p, kl, agreeing = super()._near(plan, ids)
            return tokens, -log_p, kl, agreeing

    models = {"one": Chooser(name="one"), "other": Other(name="other")}
    monkeypatch.setattr("impasto.run.load", lambda name, **options: models[name])
    monkeypatch.setattr("impasto.model.loading.load.outline", lambda name, **options: (4, False))
    study = study_of(texts, one_shot(texts), model="one")
    text = study.to_yaml().replace("model: one", "models: [one, other]")
    results = Study.from_text(text, name="mine").run(tmp_path / "out")
    orders = [written(part.study)["one_shot", "block"]["order"] for part in results.parts]
    assert orders == [BY_HARM, "0 3 1 2"]
    assert "texts" in (tmp_path / "out" / "study.yaml").read_text()


def test_influence_is_one_minus_the_cosine_of_what_a_layer_reads_and_gives():
    model = impasto.load("demo")
    texts = [model.tokens(f"Q: What is the capital of {name}?\nA:") for name in ("France", "Peru")]
    seen = [[] for _ in range(12)]

    def keep(at):
        def hook(module, given, options, output):
            states = given[0] if given else options["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            seen[at].append(1 - torch.cosine_similarity(states.double(), after.double(), dim=-1)[0])

        return hook

    handles = [
        layer.register_forward_hook(keep(at), with_kwargs=True)
        for at, layer in enumerate(model.hf.model.layers)
    ]
    with torch.no_grad():
        for ids in texts:
            model.hf(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    expected = [float(torch.cat(values).mean()) for values in seen]
    assert block_influence(model, texts) == pytest.approx(expected, abs=1e-6)


def test_block_influence_leaves_out_the_least_influential(texts):
    model = impasto.load("demo")
    said = []
    study = study_of(texts, f"block_influence: {{count: [1, 3], texts: {texts}}}", model="demo")
    results = study.run(model=model, say=said.append)
    order = written(results.study)["block_influence", None]["order"].split()
    lines = [model.tokens(line) for line in LINES]
    values = block_influence(model, _first(lines, 300))
    assert [int(layer) for layer in order] == sorted(range(12), key=values.__getitem__)
    plans = list(dict.fromkeys(results.table["plan"]))
    dropped = {int(layer) for layer in order[:3]}
    kept = Plan.parse(" ".join(str(i) for i in range(12) if i not in dropped), layers=12)
    assert plans[-1] == str(kept)
    assert any(f"in the order {' '.join(order)}" in line for line in said)


def _first(texts, tokens):
    read = []
    for ids in texts:
        read.append(ids[:tokens])
        tokens -= len(read[-1])
        if not tokens:
            break
    return read


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("block_influence", "and has neither"),
        ("block_influence: {count: 1}", "and has neither"),
        ('block_influence: {count: 1, order: "1", texts: {file: a.txt}}', "not both"),
        ("block_influence: {count: 1, order: [1, 2]}", "order is one text"),
        ("block_influence: {count: 1, texts: a.txt}", "texts are options such as"),
        ("block_influence: {count: 1, texts: {name: texts, file: a}}", "texts are options such as"),
        ("block_influence: {count: 1, texts: {}}", "file: FILE.txt"),
        ("block_influence: {count: 1, texts: {file: a, tokns: 1}}", "no option 'tokns'"),
        ("block_influence: {part: mlp, count: 1, texts: {file: a}}", "takes no part"),
        ("block_influence: {count: x, texts: {file: a}}", "count is a whole number"),
        ("one_shot: {part: attn, count: 1, texts: {file: a}}", "attention, mlp, block"),
    ],
)
def test_what_is_wrong_for_every_model_is_told_with_its_line(entry, message):
    with pytest.raises(StudyError, match="line 3") as raised:
        Study.from_text(f"model: m\ntasks: [capitals]\nplans: [{entry}]")
    assert message in str(raised.value)


def test_what_the_model_shows_to_be_wrong_is_told_before_anything_is_asked(texts, tmp_path):
    model = Chooser()
    with pytest.raises(UserError, match="count is a whole number from 0 to 3"):
        study_of(texts, one_shot(texts, count=4)).run(model=model)
    (tmp_path / "short.txt").write_text("a\n")
    short = f"{{file: {tmp_path / 'short.txt'}}}"
    with pytest.raises(UserError, match=r"no text of .* has two tokens"):
        study_of(texts, one_shot(short)).run(model=model)
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        study_of(texts, one_shot(f"{{file: {tmp_path / 'nowhere.txt'}}}")).run(model=model)
    assert model.calls == []


def test_two_orders_of_one_family_are_told_apart_by_nothing(texts, tmp_path):
    entries = [f'one_shot: {{part: mlp, count: 1, order: "{layer}"}}' for layer in (1, 2)]
    with pytest.raises(StudyError, match="here twice with other layers"):
        study_of(texts, *entries).run(model=Chooser())


def test_an_encoder_is_refused_and_told_what_it_can_have(tmp_path, texts):
    model = tiny.bert(tmp_path / "bert")
    task = f"{{name: masked_text, data: {tmp_path / 'lines.txt'}}}"
    entry = f"block_influence: {{count: 1, texts: {texts}}}"
    with pytest.raises(UserError, match=r"is an encoder: name the layers that go first \(order"):
        study_of(texts, entry, task=task).run(model=model)


def test_an_estimate_counts_what_choosing_costs(texts, tmp_path):
    study = study_of(texts, one_shot(texts, count=1), model="demo")
    named = study_of(texts, 'one_shot: {part: block, count: 1, order: "0"}', model="demo")
    assert study.estimate().cost.rows > 3 * named.estimate().cost.rows
    assert "measured when the study runs" in study.estimate().notices[0]
    path = tmp_path / "study.yaml"
    path.write_text(study.to_yaml())
    done = CliRunner().invoke(app, ["explain", str(path)])
    assert done.exit_code == 0, done.output
