"""`impasto studies`: what comes with impasto, printed and copied so that the copy runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from impasto.cli import app
from impasto.searching.file import WrittenSearch
from impasto.study import Study
from impasto.study.file.shipped import shipped


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def cli(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_list_has_every_one_with_what_it_shows():
    lines = cli("studies").stdout.splitlines()
    for found in shipped():
        after = lines[lines.index(f"  {found.name}") + 1]
        assert found.about.startswith(after.strip())
        assert len(after.strip()) > 10
    assert max(map(len, lines)) <= 80


def test_one_is_printed_as_it_is():
    [found] = [one for one in shipped() if one.name == "attend_first"]
    assert cli("studies", "attend_first").stdout == found.path.read_text()


@pytest.mark.parametrize("name", [found.name for found in shipped() if found.kind != "texts"])
def test_a_copy_runs_elsewhere_with_the_texts_that_it_reads(name):
    done = cli("studies", name, "--to", "mine/copy.yaml")
    assert done.exit_code == 0, done.output
    if name == "thinner":
        search = WrittenSearch.from_yaml("mine/copy.yaml")
        files = [search.objective[0].options["file"]]
    else:
        study = Study.from_yaml("mine/copy.yaml", checked=True)
        texts = [plan.heal["texts"] for plan in study.plans if plan.heal]
        entries = [*(task.options for task in study.tasks), *texts]
        files = [entry["file"] for entry in entries if "file" in entry]
    assert all(Path(file).parent == Path("mine").absolute() for file in files)
    assert all(Path(file).is_file() for file in files)
    assert bool(files) == (name in ("thinner", "painters_thaw"))


def test_nothing_is_written_over():
    Path("copy.yaml").write_text("mine")
    Path("demo_texts.txt").write_text("other texts")
    for words in (("attend_first", "--to", "copy.yaml"), ("thinner", "--to", "new.yaml")):
        done = cli("studies", *words)
        assert done.exit_code == 2
        assert "is there already" in done.stderr
    assert Path("copy.yaml").read_text() == "mine"
    assert not Path("new.yaml").exists()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("atend_first",), "did you mean 'attend_first'?"),
        (("--to", "x.yaml"), "impasto studies NAME --to FILE"),
        (("attend_first", "--to", "."), "is a folder; name a file: --to attend_first.yaml"),
    ],
)
def test_mistakes_are_answered(words, answer):
    done = cli("studies", *words)
    assert done.exit_code == 2
    assert answer in done.stderr
