"""Exporting runs code that was just written; transformers keeps a copy of it."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep what transformers copies of a folder's code out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        where = str(tmp_path_factory.mktemp("modules"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", where)
        yield
