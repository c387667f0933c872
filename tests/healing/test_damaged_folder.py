"""A healed plan's folder from anywhere: read as strictly as a study file, its card only text."""

import json
from pathlib import Path

import pytest

import impasto
from impasto import Plan, UserError
from impasto.healing import Healed
from impasto.healing.measuring import Measured
from impasto.mending.fitting import FittedGap
from impasto.mending.training import ABOUT, Spent, training_folder
from impasto.plan.healed import plan_of_healed


def healed(base: str = "demo") -> Healed:
    numbers = Measured("kl", 0.0, 0.2, 0.1, -0.1, -0.2, -0.05, 9)
    gap = FittedGap("layer 3", "a.weight", 0.1, 0.3, 0.2, 400)
    return Healed(Plan.parse("0-2 4-11"), "linear", {"seed": 0}, base, {"plan": "ab"}, [numbers],
                  Spent(1.5, 400, 2**20), [gap])  # fmt: skip


def written(folder: Path) -> Path:
    healed().write(folder, lambda _: None)
    return folder


def test_what_was_written_reads_back(tmp_path) -> None:
    read = Healed.read(written(tmp_path / "out"))
    assert read.content() == healed().content()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", 3),
        ("base", None),
        ("digests", {"plan": 1}),
        ("settings", []),
        ("measured", "none"),
        ("measured", []),
        ("measured", [{"name": "kl"}]),
        ("spent", {"seconds": "1", "tokens": 1, "peak_bytes": None}),
        ("spent", {"seconds": 1, "tokens": 1, "peak_bytes": "much"}),
        ("fitted", [{"left_out": 1}]),
        ("plan", "0-3 frieze"),
        ("plan", 7),
    ],
)
def test_a_value_of_another_type_is_a_message(key, value, tmp_path) -> None:
    out = written(tmp_path / "out")
    content = json.loads((out / "healed.json").read_text())
    (out / "healed.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(UserError, match="is not what healing writes"):
        Healed.read(out)


@pytest.mark.parametrize("text", ["", '{"plan": "0', "[" * 100_000, "[]", "\ud800", "9" * 5000])
def test_a_file_that_is_cut_or_deep_is_a_message(text, tmp_path) -> None:
    out = written(tmp_path / "out")
    (out / "healed.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    for read in (Healed.read, plan_of_healed):
        with pytest.raises(UserError, match=r"healed\.json"):
            read(out)


def test_names_on_a_card_are_only_text(tmp_path) -> None:
    name = '*a*`b`<script>"); harm("'
    (tmp_path / name).mkdir()
    folder = tmp_path / name / "x[y](z)"
    healed(base="=1+1|`<b>`\x1b[31m").write(folder, lambda _: None)
    card = (folder / "README.md").read_text()
    assert card.startswith("# x[y]\\(z): healed")
    assert "\x1b" not in card
    out = tmp_path / 'b"); harm("'
    healed().write(out, lambda _: None)
    assert 'impasto.load("b\\"); harm(\\"")' in (out / "README.md").read_text()


def test_a_training_that_a_kill_left_beside_what_it_made_goes(tmp_path) -> None:
    out = written(tmp_path / "out")
    training = training_folder(out)
    training.mkdir()
    (training / ABOUT).write_text("{}")
    with pytest.raises(UserError, match="exists and is not overwritten"):
        impasto.heal("demo", "0-8", ["a text"], "last", out)
    assert not training.exists()


def test_what_a_kill_left_aside_goes(tmp_path) -> None:
    stray = tmp_path / ".out.99999999.part"
    stray.mkdir()
    written(tmp_path / "out")
    assert not stray.exists()
