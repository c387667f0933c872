"""Progress where there is no terminal: few lines, with the time that is left."""

import io

from impasto.study import Standing
from impasto.study.following.progress import PlainProgress


def lines_of(told):
    """Return the lines that are printed when (second, share, what) is told in turn."""
    stream, seconds = io.StringIO(), iter([second for second, _, _ in told])
    progress = PlainProgress(stream, clock=lambda: next(seconds))
    for _, share, what in told:
        progress(Standing(share, what))
    return stream.getvalue().splitlines()


def test_a_line_for_each_tenth_however_often_it_is_told():
    told = [(i, i / 1000, "Capitals") for i in range(1001)]
    lines = lines_of(told)
    assert len(lines) == 11
    assert lines[0] == "  0 %  Capitals"
    assert lines[-1] == "100 %  Capitals"


def test_the_time_left_follows_from_the_pace_since_the_first_plan():
    told = [(0, 0.0, "loading demo"), (60, 0.1, "Capitals"), (70, 0.2, "Capitals")]
    assert lines_of(told)[-1] == " 20 %  Capitals, about 1:20 left"


def test_a_new_task_is_told_at_once():
    told = [(0, 0.10, "Capitals"), (1, 0.11, "Arithmetic, 2 terms")]
    assert [line[:9] for line in lines_of(told)] == [" 10 %  Ca", " 11 %  Ar"]
