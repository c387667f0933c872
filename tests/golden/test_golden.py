"""Answers stay what they are while the engine's version does; see `golden_answers`."""

import golden_answers as golden
import pytest

from impasto.engine_version import ENGINE_VERSION, first_equal
from impasto.study.work.identity import versions

HOW = """\
If answers are meant to change: raise ENGINE_VERSION in src/impasto/engine_version.py, run
`python tests/golden/make.py`, and commit both. If they are not, what changed them is a fault.\
"""
SHOWN = 5


def test_the_golden_answers_are_of_this_version():
    version = golden.read()["engine"]
    assert first_equal(version) == first_equal(ENGINE_VERSION), (
        f"the golden answers are those of engine {version}, and this is engine {ENGINE_VERSION}: "
        "run `python tests/golden/make.py` and commit what it writes"
    )


def test_questions_of_each_kind_are_answered_as_this_version_answers_them():
    file = golden.read()
    wrong = list(golden.differences(golden.answers(), file["answers"]))
    if wrong:
        pytest.fail(_message(wrong, file))


def _message(wrong, file):
    """Say what was answered otherwise, under which libraries, and what to do."""
    installed = versions()
    others = [
        f"{name} {installed[name]}, not {version}"
        for name, version in file["versions"].items()
        if installed[name] != version
    ]
    return (
        f"{len(wrong)} of {len(file['answers'])} answers changed by more than rounding "
        f"({golden.TOLERANCE} in log p; what is written, at all), for example\n  "
        + "\n  ".join(wrong[:SHOWN])
        + (f"\nThe libraries are others: {', '.join(others)}" if others else "")
        + f"\n{HOW}"
    )


@pytest.mark.parametrize(
    ("answer", "golden_one", "same"),
    [
        ([[-1.00005, True]], [[-1.0, True]], True),
        ([[-1.0002, True]], [[-1.0, True]], False),
        ([[-1.0, False]], [[-1.0, True]], False),
        ([4, 5], [4, 6], False),
        ([4, 5], [4], False),
        (3000.01, 3000.0, True),
        (float("nan"), 1.0, False),
        (" Paris", " Rome", False),
    ],
)
def test_only_rounding_is_no_difference(answer, golden_one, same):
    assert golden.alike(answer, golden_one) == same
