"""How numbers stand in sentences: shares in percent, losses in points, lists of names."""

import json
from collections.abc import Sequence
from math import floor, isfinite, isinf, log10

from impasto.table import MINUS
from impasto.tasks.metrics import Metric

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_WHOLE = 1e9  # below it a number is written in full: 322,200


def percent(share: float) -> str:
    """Return a share as a reader wants it: `99.5 %`, and `100 %` where nothing follows."""
    return f"{100 * share:.1f}".removesuffix(".0").replace("-", MINUS) + " %"


def share_of(value: float, kind: Metric) -> str:
    """Return a value: in percent where its metric has a range, else with four digits."""
    if kind.is_bounded:
        return percent(value)
    text = f"{value:.4g}"
    return f"{float(text):,.0f}" if "e+" in text and value < MOST_WHOLE else text


def number_of(loss: float) -> str:
    """Return a loss times a hundred with one digit, none where it is 0."""
    if isinf(loss):
        return "any amount"
    text = f"{100 * loss + 0.0:.1f}".removesuffix(".0")
    return "0" if text in ("0", "-0") else text.replace("-", MINUS)


def points_of(loss: float, kind: Metric) -> str:
    """Return a loss with its unit: points of a score, percent of a perplexity."""
    if not kind.is_bounded:
        return f"{number_of(loss)} %"
    number = number_of(loss)
    return f"{number} point" if number == "1" else f"{number} points"


def ends_of(low: float, high: float) -> str:
    """Return the ends of a loss's interval, which below 0 is a gain: `−0.3 to 1.9`."""
    if isinf(low) and isinf(high):
        return "not known"
    return f"{number_of(low)} to {number_of(high)}"


def loses(lost: float, low: float, high: float, kind: Metric, correction: str = "") -> str:
    """Say what a plan loses, or gains, with its interval, as the predicate of a sentence."""
    verb = "loses"
    if number_of(lost).startswith(MINUS):
        verb, lost, low, high = "gains", -lost, -high, -low
    return f"{verb} {points_of(lost, kind)} (95 % interval {ends_of(low, high)}{correction})"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return words as a sentence lists them: `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def variant(parameters: str) -> str:
    """Return what tells a family's plans apart besides depth and seed: `{first=1, last=64}`.

    `parameters` are JSON. It is nothing where there are none but a donor's name.
    """
    given = {name: value for name, value in json.loads(parameters).items() if name != "name"}
    said = ", ".join(f"{name}={value}" for name, value in given.items() if value)
    return f"{{{said}}}" if said else ""


def short(value: float, digits: int = 4) -> str:
    """Return a number of any size with so many digits."""
    return spelled(float(f"{value:.{digits}g}")) if isfinite(value) else ""


def spelled(value: float) -> str:
    """Return a number as an axis has it: whole up to a million, then a power of ten."""
    if value == 0:
        return "0"
    power = floor(log10(abs(value)) + 1e-9)
    if -4 < power < 6:
        return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
    factor = value / 10**power
    times = "" if abs(factor - 1) < 1e-6 else f"{factor:g}×"
    return f"{times}10{str(power).translate(SUPERSCRIPTS)}"
