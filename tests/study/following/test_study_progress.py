"""Progress: few lines with the time that is left; a bar that no message collides with."""

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from impasto.plan import Plan
from impasto.study import Standing
from impasto.study.following.progress import PlainProgress
from impasto.study.following.standing import Standings
from impasto.study.work.units import Unit


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
    assert lines[-1] == "100 %  Capitals, 16:40 elapsed"


def test_the_time_left_follows_from_the_pace_since_the_first_plan():
    told = [(0, 0.0, "loading demo"), (60, 0.1, "Capitals"), (70, 0.2, "Capitals")]
    assert lines_of(told)[-1] == " 20 %  Capitals, 1:10 elapsed, about 1:20 left"


def test_a_new_task_is_told_at_once():
    told = [(0, 0.10, "Capitals"), (1, 0.11, "Arithmetic, 2 terms")]
    assert [line[:9] for line in lines_of(told)] == [" 10 %  Ca", " 11 %  Ar"]


def test_the_time_left_is_the_most_where_a_study_may_end_sooner():
    stream, seconds = io.StringIO(), iter([0, 60, 70])
    progress = PlainProgress(stream, clock=lambda: next(seconds))
    for share, cells in ((0.1, 2), (0.2, 4), (0.3, 6)):
        progress(Standing(share, "Capitals", cells=cells, of=10, is_most=True))
    assert stream.getvalue().splitlines()[-1] == (
        " 30 %  Capitals, 6 of 10 cells so far, 1:10 elapsed, at most 4:05 left"
    )


def unit(number, start, stop, expected=None):
    return Unit(number, "capitals", start, stop, (Plan.identity(4),) * 2, expected)


def test_rounds_to_come_count_as_if_all_that_may_be_asked_were_asked():
    told = []
    standings = Standings({"capitals": "Capitals"}, told.append, clock=lambda: 0.0)
    standings.begin([unit(1, 0, 50), unit(2, 50, 100)], cells=4, later=400)
    assert standings.saved(unit(1, 0, 50)).share == pytest.approx(100 / 600)
    assert told[-1].is_most
    standings.saved(unit(2, 50, 100))
    standings.begin([unit(3, 100, 300)], cells=6, later=0)
    assert standings.now().share == pytest.approx(200 / 600)
    assert (standings.now().cells, standings.now().of, standings.now().is_most) == (4, 6, False)
    standings.done(6)
    assert (told[-1].share, told[-1].cells, told[-1].of) == (1.0, 6, 6)


def test_later_answers_take_as_long_as_those_whose_time_is_known():
    standings = Standings({"capitals": "Capitals"}, lambda standing: None, clock=lambda: 0.0)
    standings.begin([unit(1, 0, 10, 3.0), unit(2, 10, 100, 1.0)], cells=4, later=200)
    assert standings.saved(unit(1, 0, 10, 3.0)).share == pytest.approx(3 / 8)


def test_a_long_run_says_a_line_now_and_then():
    told = [(10 * i, 0.1 + i / 100_000, "Capitals") for i in range(100)]
    lines = lines_of(told)
    assert len(lines) == 1 + 3
    assert lines[-1].startswith(" 10 %  Capitals, 15:00 elapsed, about ")


BAR = """
import logging, sys, typer
from impasto.screen import shown
from impasto.study import Standing
from impasto.study.following.progress import show_progress
with shown():
    logging.basicConfig(level="INFO", format="%(message)s")  # takes the stream before the bar
    with show_progress() as progress:
        for at in range(6):
            progress(Standing(at / 6, "Capitals", "1–194, 0-11 and 91 more", cells=at, of=6))
            typer.echo(f"said {at}", err=True)
            logging.info("logged %d", at)
            print(f"printed {at}", flush=True)
"""


def on_a_terminal(code, columns):
    """Return what a process writes on a terminal of so many columns."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    told = {"TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=os.environ | told
    ) as process:
        os.close(theirs)
        written = b""
        with suppress(OSError):  # which ends it on Linux
            while some := os.read(ours, 65536):
                written += some
    os.close(ours)
    assert process.returncode == 0
    return written.decode()


def test_no_message_collides_with_the_bar_whoever_writes_it():
    written = on_a_terminal(BAR, 80)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written))
    for what in ("said", "logged", "printed"):
        assert [line for line in lines if what in line] == [f"{what} {at}" for at in range(6)]
    bars = [line for line in lines if "%" in line]
    assert all(len(line) <= 80 for line in bars)
    assert any(re.search(r"\d:\d\d elapsed, about \d+:\d\d left Capitals", line) for line in bars)


def test_lines_in_the_place_of_a_bar_have_no_control_characters():
    done = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    lines = done.stderr.splitlines()
    assert sum("%  Capitals" in line for line in lines) == 6
    assert [line for line in lines if "logged" in line] == [f"logged {at}" for at in range(6)]
