"""Shapes and types in signatures are checked while the tests run."""

import gc
import os
from collections import defaultdict
from pathlib import PurePosixPath

import pytest
import torch

import harness_index
import shapes
from browser import launched

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# lm-eval would fork this process, whose threads hold locks, to draw its resamples.
os.environ["DISABLE_MULTIPROC"] = "1"
shapes.check("impasto.run", "impasto.model")

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other


@pytest.fixture(autouse=True, scope="session")
def _quick_index():
    """Index few of lm-eval's folders, for its whole index takes ten seconds in every process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("impasto.tasks.harness.loading._index", harness_index.index)
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_cache_of_code(tmp_path_factory):
    """Keep what transformers copies of an exported folder's code out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        where = str(tmp_path_factory.mktemp("modules"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", where)
        yield


@pytest.fixture(scope="module")
def browser():
    """Give a browser for the tests of pages."""
    with launched() as started:
        yield started


def pytest_collection_finish():
    """Spare the garbage collector what was imported, which is most of the heap and stays."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter):
    """With --durations, tell how long the tests of each folder took, in all processes together."""
    if terminalreporter.config.getoption("durations") is None:
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = PurePosixPath(report.nodeid.split("::")[0]).parent
                seconds[str(folder)] += report.duration
    terminalreporter.section("seconds by folder, all processes together")
    for folder, taken in sorted(seconds.items(), key=lambda pair: -pair[1]):
        terminalreporter.write_line(f"{taken:8.1f}  {folder}")
