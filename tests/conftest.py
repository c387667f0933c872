"""Shapes and types in signatures are checked while the tests run."""

import os

import pytest
import torch

import harness_index
import shapes

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
