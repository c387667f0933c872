"""A healed plan is a cell of a study: told by how it is healed, kept, and gone on with."""

import json
import re

import pytest
from test_training import TEXTS

import impasto
from impasto import Study, UserError
from impasto.cli.run import _say
from impasto.figures import Found
from impasto.figures.catalogue import ENTRIES
from impasto.mending import serving
from impasto.plan.healed import HealedPlan
from impasto.study.cluster.wire import AskedItems
from impasto.study.file.entries import WRITTEN, PlanEntry

STUDY = """
model: demo
tasks: [capitals, {{name: texts, file: {measure}, tokens: 256, length: 48}}]
plans:
  - drop_last: {{part: block, count: [0, 2]}}
  - drop_last: {{part: block, count: [0, 2]}}
    heal: {{method: linear, texts: {{file: {heal}}}, length: 48, map: state}}
"""


@pytest.fixture
def written(tmp_path):
    """Return a study file beside its two files of texts."""
    for name, texts in (("heal", TEXTS[:-8]), ("measure", TEXTS[-8:])):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(text.strip() for text in texts))
    names = {name: tmp_path / f"{name}.txt" for name in ("heal", "measure")}
    (tmp_path / "thaw.yaml").write_text(STUDY.format(**names))
    return tmp_path / "thaw.yaml"


def test_healed_plans_are_cells_of_their_own_that_are_answered_once(
    written, tmp_path, monkeypatch, capsys
):
    study = Study.from_yaml(written)
    assert "healed in is not counted" in " ".join(study.estimate(limit=4).notices)
    results = study.run(tmp_path / "out", limit=4)
    capsys.readouterr()
    _say(results, "", ())
    assert re.search(
        r"time .* s \(expected at most .* s without healing\)", capsys.readouterr().out
    )
    rows = results.table[results.table["metric"] == "kl"].set_index("strategy")
    assert list(rows.index) == ["baseline", "drop_last", "drop_last", "healed"]
    assert rows.loc["healed", "value"] < 0.5 * rows.loc["drop_last", "value"].max()
    assert rows.loc["healed", "plan"] == "0-9"
    told = json.loads(rows.loc["healed", "parameters"])
    assert told | {"of": "drop_last", "heal": "linear", "count": 2} == told
    capitals = results.table[results.table["task"] == "capitals"].set_index("strategy")
    assert capitals.loc["healed", "n"] == 4

    def never(*given):
        raise AssertionError("it was healed before")

    monkeypatch.setattr(serving, "mended", never)
    again = study.run(tmp_path / "out", limit=4)
    assert again.table.equals(results.table)
    serving._healed.clear()
    study.run(tmp_path / "out", limit=6)  # more questions of the same, from the weights kept there
    pictures = list(ENTRIES["BA2"].draw(Found.read_all(tmp_path / "out")))
    assert [picture.name for picture in pictures] == ["BA2-capitals", "BA2-texts-measure"]


def test_other_settings_or_other_texts_make_another_cell(written):
    def digest() -> str:
        entries = [entry.read() for entry in Study.from_yaml(written).plans]
        [plan] = [
            labelled.plan
            for entry in entries
            for labelled in entry.expand(12)
            if isinstance(labelled.plan, HealedPlan)
        ]
        return plan.digest

    first = digest()
    assert digest() == first
    text = written.read_text()
    written.write_text(text.replace("map: state", "map: units"))
    other = digest()
    written.write_text(text)
    with (written.parent / "heal.txt").open("a") as file:
        file.write("\n\n1 + 1 = 2")
    assert len({first, other, digest()}) == 3


def test_a_study_is_written_as_it_was_read(written):
    study = Study.from_yaml(written)
    assert Study.from_text(study.to_yaml()) == study


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("map: state", "mapp: state", "did you mean 'map'"),
        ("method: linear", "method: linaer", "did you mean 'linear'"),
        ("map: state", "steps: 3", "steps is a setting of method lora"),
        ("texts: {", "textss: {", "heal has a method, texts"),
        ("heal.txt", "measure.txt", "measure on other texts"),
    ],
)
def test_a_mistake_in_how_a_plan_is_healed_names_its_line(before, after, says, written):
    written.write_text(written.read_text().replace(before, after))
    with pytest.raises(UserError, match=r"line \d") as told:
        Study.from_yaml(written)
    assert says in str(told.value)


def test_workers_are_sent_how_a_plan_is_healed():
    plain = impasto.Plan.parse("0-4 6-11")
    healed = HealedPlan.of(plain, {"method": "lora", "texts": {"file": "texts.txt"}})
    work = AskedItems(1, [plain, healed], [], None, None, "capitals", [])
    assert AskedItems.unpacked(work.packed()).plans == [plain, healed]


def test_a_cell_is_told_by_the_usual_settings_as_by_those_that_are_written():
    heal = {"method": "linear", "texts": {"file": "texts.txt"}}
    lines = [{}, {"behind": True}, {"behind": False}]  # the first two are the same
    entries = [PlanEntry(WRITTEN, line="0-1 3", heal={**heal, **more}) for more in lines]
    usual, same, other = (entry.expand(4)[0].plan.digest for entry in entries)
    assert usual == same != other
