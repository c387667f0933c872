"""How wide a text is in the letters that it is drawn in, and breaking it to the room there is."""

from bisect import bisect_right
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

LABEL_CHARACTERS = 30  # of a line's name; longer ones are cut, visibly
TEXT_CHARACTERS = 2000  # of a text that is broken into lines, which is more than a page has
SAFE = 1.03  # letters on a screen are set to whole pixels, a little wider than they measure


@lru_cache(maxsize=4096)
def width_of(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line in points; use it within the settings of `style`."""
    font = FontProperties(family=["DejaVu Sans"], size=size, weight="bold" if bold else "normal")
    return SAFE * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def wrapped(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """Return a text in lines no wider than the room, in points; a longer word is broken.

    A text that no page has room for is cut, visibly.
    """
    if len(text) > TEXT_CHARACTERS:
        text = f"{text[: TEXT_CHARACTERS - 1]}…"
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size, bold) <= room:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = lines[-1] or word
        while width_of(lines[-1], size, bold) > room and len(lines[-1]) > 1:
            whole = lines.pop()
            widths = lambda n, of=whole: width_of(of[:n], size, bold)  # noqa: E731
            fits = max(1, bisect_right(range(len(whole)), room, key=widths) - 1)
            lines += [whole[:fits], whole[fits:]]
    return lines


def joined(parts: tuple[str, ...], between: str, room: float, size: float) -> list[str]:
    """Return parts in lines no wider than the room, broken between parts where that is enough."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{between}{part}" if lines else part
        if lines and width_of(longer, size) <= room:
            lines[-1] = longer
        else:
            lines += wrapped(part, room, size)
    return lines


def cut(label: str) -> str:
    """Return a name that a figure has room for."""
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…"
