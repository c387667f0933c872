"""A run's progress as a notebook shows it."""

import pytest

from impasto.study.following.notebook import EVERY, NotebookProgress, bar, in_notebook
from impasto.study.following.progress import followed
from impasto.study.following.standing import Standing


def test_a_bar_says_what_runs_how_long_it_took_and_what_is_left():
    shown = bar(Standing(0.25, "<b>Capitals</b>", "under 3 plans", model="model 1 of 2, m"), 30, 90)
    assert 'value="0.2500"' in shown
    assert "25 %" in shown
    assert "&lt;b&gt;Capitals&lt;/b&gt;" in shown
    assert "0:30 elapsed" in shown
    assert "about 1:30 left" in shown
    assert "at most 1:30 left" in bar(Standing(0.25, "x", is_most=True), 30, 90)
    assert "left" not in bar(Standing(1.0, "x"), 30, None)


def test_it_is_shown_now_and_then_and_begins_anew_with_a_model():
    now, shown = [0.0], []
    progress = NotebookProgress(shown.append, lambda: now[0])
    for at in range(10):
        now[0] = at * EVERY / 2
        progress(Standing(at / 10, "x"))
    assert 4 <= len(shown) <= 6
    now[0] = 100.0
    progress(Standing(0.5, "x", model="model 2 of 2, m"))
    assert "0:00 elapsed" in shown[-1]


@pytest.mark.parametrize("wanted", [None, False, True])
def test_elsewhere_it_is_shown_where_that_is_asked_for_alone(wanted, capsys):
    assert not in_notebook()
    with followed(wanted) as progress:
        progress(Standing(0.5, "Capitals"))
    assert ("Capitals" in capsys.readouterr().err) == bool(wanted)


def test_what_the_caller_gave_is_called():
    told = []
    with followed(told.append) as progress:
        progress(Standing(0.5, "x"))
    assert told == [Standing(0.5, "x")]
