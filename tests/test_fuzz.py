"""Files that are damaged at random end in a message of ours, or are read: a few cases of each kind.

`benchmarks/damaged.py` has the cases, and `benchmarks/fuzz.py` makes thousands of them.
"""

import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from impasto.tasks.harness import loading
from thinning import thinned

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CASES = {"studies": 150, "databases": 5, "data": 300, "packed": 2, "models": 3, "searches": 3,
         "plans": 200, "healed": 3}  # fmt: skip


@pytest.fixture(scope="module")
def fuzz():
    """Return the benchmark as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield loaded("fuzz")
    finally:
        sys.path.remove(str(BENCHMARKS))


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", thinned(CASES, 2))
def test_nothing_but_our_messages_comes_of_damaged_files(kind, fuzz, tmp_path, monkeypatch):
    monkeypatch.chdir(BENCHMARKS.parent)
    monkeypatch.setattr(loading, "_index", loading._index)  # the studies' case puts another there
    case = fuzz.KINDS[kind](tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended = {number: fuzz.one(case, kind, 0, number, tmp_path) for number in range(CASES[kind])}
    faults = {n: told for n, told in ended.items() if told not in fuzz.FINE}
    assert not faults
    assert "refused" in ended.values()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_nothing_but_our_messages_comes_of_a_thousand(kind, fuzz, tmp_path, monkeypatch):
    monkeypatch.chdir(BENCHMARKS.parent)
    monkeypatch.setattr(loading, "_index", loading._index)
    case = fuzz.KINDS[kind](tmp_path)
    outcomes = fuzz.chunk(case, kind, 1, range(1000), tmp_path)
    assert fuzz.sum_of_faults(outcomes) == 0, outcomes
