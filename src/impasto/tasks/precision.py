"""`Precision`: how precisely a task is to be known, a study's `limit` in the place of a number.

Only a study can do it: it asks until every plan's change against the baseline is known so well.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from impasto.error import UserError, shown

PERCENT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9}) ?%", re.ASCII)
FORM = "limit: {within: 2%}"
LEAST = 1e-4  # hundreds of millions of questions could be needed


@dataclass(frozen=True, slots=True)
class Precision:
    """How precisely every plan's change is to be known.

    `within` is half of the change's 95 % interval at the most: of metrics from 0 to 1 themselves,
    of others as a share of the baseline's value. `at_most` bounds the questions of each task; None:
    all that it has.
    """

    within: float
    at_most: int | None = None

    @classmethod
    def read(cls, limit: Mapping[Any, Any]) -> "Precision":
        """Return what a mapping such as `{within: 2%, at_most: 1000}` says.

        Raises UserError, saying what would be right, for another key or a value that cannot be.
        """
        for key in limit:
            if key not in ("within", "at_most"):
                near = get_close_matches(str(key), ("within", "at_most"), n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(f"limit has no {shown(key)}{meant} It has within and at_most")
        if limit.get("within") is None:
            raise UserError(f"limit says how precisely, {FORM}, or how many, limit: 100")
        at_most = limit.get("at_most")
        if at_most is not None and (type(at_most) is not int or at_most < 1):
            raise UserError(f"at_most is a whole number from 1, not {shown(at_most)}")
        return cls(_share(limit["within"]), at_most)

    def bounded(self, most: int | None) -> "Precision":
        """Return the precision with at most so many questions of each task."""
        bounds = [bound for bound in (self.at_most, most) if bound is not None]
        return Precision(self.within, min(bounds, default=None))


def _share(value: object) -> float:
    """Return 0.02 for `2%` and for 0.02."""
    share = None
    if isinstance(value, str) and (percent := PERCENT.fullmatch(value.strip())):
        share = float(percent[1]) / 100
    elif isinstance(value, float):  # a whole number could be meant as a share or as percent
        share = value
    if share is None or not LEAST <= share <= 1:
        raise UserError(
            f"within is a share from 0.01 % to 100 %, such as 2% or 0.02, not {shown(value)}"
        )
    return share
