"""The notebooks in examples/ run, and come to what they are shown with."""

import re
import runpy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def kept(outputs: Any) -> list[str]:
    """Return the texts of a cell's stored outputs; a bar that came and went has none."""
    texts = [
        out["text"] if out["output_type"] == "stream" else out["data"].get("text/plain", "")
        for out in outputs
    ]
    return [text.rstrip() for text in texts if text.strip()]


@pytest.fixture
def shell():
    yield InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    InteractiveShell.clear_instance()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_comes_to_what_it_is_shown_with(path, shell):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    for cell in cells:
        with capture_output() as captured:
            ran = shell.run_cell(cell.source, store_history=True)
        ran.raise_error()
        shown = re.split(r"^Out\[\d+\]: ?\n?", captured.stdout, flags=re.MULTILINE)
        assert [text.rstrip() for text in shown if text.strip()] == kept(cell.outputs), cell.source


def test_every_notebook_is_listed_and_stored_as_it_ran():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        assert f"({path.name})" in listed
        outputs = [out for c in nbformat.read(path, 4).cells for out in c.get("outputs", [])]
        assert all(out.get("name") != "stderr" for out in outputs)
        assert any(
            "data:image/svg+xml" in out.get("data", {}).get("text/html", "") for out in outputs
        )


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel_of_its_own(path):
    executed = runpy.run_path(str(EXAMPLES / "execute.py"))["executed"]
    before = nbformat.read(path, as_version=4)
    for cell, was in zip(executed(path).cells, before.cells, strict=True):
        assert kept(cell.get("outputs", [])) == kept(was.get("outputs", []))
