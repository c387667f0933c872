"""The documentation is whole: links lead somewhere, examples print what they say."""

import ast
import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import impasto

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors(page):
    """Return what GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    dead = []
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not re.match(r"[a-z]+:", link) and (
            not target.exists() or (anchor and anchor not in anchors(target))
        ):
            dead.append(link)
    assert dead == []


def test_the_index_names_every_page_once():
    named = re.findall(r"^\| \[\w+\]\((\w+\.md)\)", text_of(DOCS / "README.md"), re.MULTILINE)
    assert sorted(named) == sorted({page.name for page in DOCS.glob("*.md")} - {"README.md"})


def test_every_picture_is_shown_and_made_by_the_script_that_makes_pictures():
    made = set(runpy.run_path(str(DOCS / "make_pictures.py"))["MADE"])
    shown = {
        Path(link).name
        for page in PAGES
        for link in LINK.findall(text_of(page))
        if "pictures/" in link
    }
    assert {file.name for file in (DOCS / "pictures").iterdir()} == made == shown


def test_the_python_reference_is_that_of_the_docstrings(tmp_path):
    made = tmp_path / "api.md"
    subprocess.run([sys.executable, DOCS / "make_api.py", made], check=True, capture_output=True)
    assert text_of(DOCS / "api.md") == text_of(made), "run: python docs/make_api.py"


def test_completion_knows_every_public_name_of_the_reference():
    listed = runpy.run_path(str(DOCS / "make_api.py"))["PAGES"].values()
    places = [place.removesuffix(".*").split(".") for group in listed for place in group]
    names = {place[1] for place in places if len(place) == 2}
    assert names >= {"Plan", "load", "Study", "search", "heal", "export", "strategies", "analysis"}
    assert names <= set(dir(impasto))
    assert all(getattr(impasto, name) is not None for name in dir(impasto))


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_examples_print_what_stands_below_them(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = FENCE.findall(text_of(ROOT / name))
    followed = [*blocks[1:], ("", "")]
    values = {}
    examples = [
        (code, after)
        for (kind, code), after in zip(blocks, followed, strict=True)
        if kind == "python"
    ]
    assert examples
    for code, (kind, printed) in examples:
        ast.parse(code)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, name, "exec"), values)
        if kind == "text":
            assert said.getvalue() == printed
