"""What goes to a terminal: text alone, whatever names and answers hold, also when it is gone."""

import errno
import io

import pytest
from typer.testing import CliRunner

from impasto.cli import app
from impasto.screen import Screen, printable

ESCAPE = "\x1b]0;title\x07"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ± text — é 🙂\n\tindented", "plain ± text — é 🙂\n\tindented"),
        (ESCAPE, r"\x1b]0;title\x07"),
        ("a\rb\bc\x9bd", r"a\x0db\x08c\x9bd"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_shown_and_all_else_stays(text, shown):
    assert printable(text) == shown


def test_what_a_command_prints_is_shown_not_sent():
    told = CliRunner().invoke(app, ["run", f"{ESCAPE}.yaml"])
    assert told.exit_code == 2
    assert "\x1b" not in told.output
    assert r"\x1b]0;title\x07.yaml" in told.output


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def __init__(self, code):
        super().__init__()
        self.code = code

    def write(self, text):
        raise OSError(self.code, "gone")


def test_a_closed_terminal_takes_nothing_and_that_is_no_fault():
    for is_needed in (True, False):
        Screen(Gone(errno.EIO), is_needed).write("saved")
    Screen(Gone(errno.EPIPE), is_needed=False).write("notice")
    with pytest.raises(OSError, match="gone"):  # so that `impasto results | head` ends
        Screen(Gone(errno.EPIPE), is_needed=True).write("table")
    with pytest.raises(OSError, match="gone"):
        Screen(Gone(errno.ENOSPC), is_needed=False).write("notice")


def test_bytes_go_to_stdout_alone():
    stream = io.TextIOWrapper(io.BytesIO())
    assert Screen(stream, is_needed=True).buffer is stream.buffer
    assert Screen(stream, is_needed=False).buffer is None  # so that nothing passes by it


def test_a_line_may_be_begun_anew():
    stream = io.StringIO()
    Screen(stream, True).write("\rhalf\rway")
    assert stream.getvalue() == "\rhalf\\x0dway"
