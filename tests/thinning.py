"""Of a test with many like cases some run each time, and all of them with the slow tests."""

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int = 3) -> list[Any]:
    """Return a test's cases, all but the first of every so many marked slow.

    It is for cases that go through the same code, and that other tests cover in their own way.
    """
    found = []
    for number, case in enumerate(cases):
        marks = (pytest.mark.slow,) if number % every else ()
        if isinstance(case, type(pytest.param(0))):
            found.append(pytest.param(*case.values, id=case.id, marks=(*case.marks, *marks)))
        else:
            found.append(pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks))
    return found
