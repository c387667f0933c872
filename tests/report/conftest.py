"""A browser for the tests of the page."""

import pytest
from browser import launched


@pytest.fixture(scope="module")
def browser():
    with launched() as started:
        yield started
