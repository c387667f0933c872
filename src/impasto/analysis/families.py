"""Sentences about families of plans without a depth: where they hold, and where they break.

The members of a family are told apart by their paired intervals, which hold together: those that
surely cost more than the tolerance, those that surely do not, and those of which the questions do
not tell.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from impasto.analysis.changes import Changes, Losses, Member
from impasto.analysis.confidence import corrected
from impasto.analysis.costs import HEALED, family_of
from impasto.analysis.curves import Row
from impasto.analysis.depth import ROUNDING, TOLERANCE
from impasto.analysis.depth_findings import LACKS
from impasto.analysis.words import listed, loses, points_of, share_of
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import Metric, metric_name, metric_of

WRITTEN = "plan"
MOST_NAMES = 4
OF_ONE_LAYER, LAYER = ("skip_one", "switch"), "layer "  # their n is a layer: left out, or switched
MOST_TOLD = 10.0  # ten times more of a perplexity: who loses "at most" that may lose anything


@dataclass
class Family:
    """A family's plans: by what tells them apart, the digests of those that differ by seed only.

    `word` is what a reader calls the only parameter that its plans differ in.
    """

    title: str
    word: str = ""
    members: dict[str, dict[str, None]] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, list[str]]:
        """What tells the members apart: a parameter's name, or none, and each member's value."""
        if set(self.members) == set(self.lines.values()):
            return "", list(self.members)
        given = [json.loads(key) for key in self.members]
        names = [name for name in given[0] if len({str(one.get(name)) for one in given}) > 1]
        if len(names) == 1:
            return self.word or f"{names[0]} = ", [str(one[names[0]]) for one in given]
        return "", [" ".join(f"{name}={one.get(name)}" for name in names) for one in given]


def families_of(rows: Sequence[Row], changes: Changes) -> list[Family]:
    """Return the families of plans without a depth, in the study's order.

    Plans that are the baseline itself, as leaving out no layer is, belong to none.
    """
    found: dict[str, Family] = {}
    for row in rows:
        if row.k is not None or changes.is_idle((row.digest,)):
            continue
        named = Family(_title(row), LAYER if row.strategy in OF_ONE_LAYER else "")
        family = found.setdefault(family_of(row.strategy, row.parameters), named)
        key = row.plan if row.strategy == WRITTEN else row.parameters
        family.members.setdefault(key, {})[row.digest] = None
        family.lines[key] = row.plan
    return list(found.values())


def family_findings(
    changes: Changes, rows: Sequence[Row], tasks: Mapping[str, str], where: str, base: float
) -> Iterator[str]:
    """Yield a sentence for each family of the rows: what its plans lose on average over the tasks.

    `tasks` are the tasks' metrics, all of one kind; `where` says which they are, and `base` is what
    the baseline comes to there.
    """
    kind = metric_of(next(iter(tasks.values())))
    what = metric_name(next(iter(tasks.values()))) if len(tasks) == 1 else kind.title
    of = f"{where}, the baseline's {what} {share_of(base, kind)}"
    for family in families_of(rows, changes):
        members: list[Member] = [tuple(digests) for digests in family.members.values()]
        lost = changes.average(tasks, members, corrected(len(members))).within(kind, base)
        if np.isnan(lost.lost).any():
            yield f"{family.title} ({of}) cannot be judged: {LACKS}."
        elif len(members) == 1:
            [line] = family.lines.values()
            name = line if set(family.members) == {line} else f"{family.title}, {line}"
            yield f"{name} ({of}) {loses(lost.lost[0], lost.low[0], lost.high[0], kind)}."
        else:
            correction = f"95 % intervals, corrected for {len(members):,} plans"
            yield f"{family.title} ({of}): {_told(family, lost, kind)} ({correction})."


def _told(family: Family, lost: Losses, kind: Metric) -> str:
    """Say which members break, which hold and which are open, the most numerous last."""
    breaks = lost.low > TOLERANCE + ROUNDING
    holds = lost.high <= TOLERANCE + ROUNDING
    parts = [np.flatnonzero(which) for which in (breaks, holds, ~breaks & ~holds)]
    there = [at for at in parts if len(at)]
    most = max(map(len, there))
    told = []
    for at in sorted(there, key=lambda at: len(at) == most):
        if len(there) == 1:
            who = f"every one of {len(at)}"
        else:
            who = "any other" if told and len(told) == len(there) - 1 else _who(family, at)
        if breaks[at[0]]:
            told.append(f"{who} costs {points_of(lost.low[at].min(), kind)} or more")
        elif not lost.high[at].max() <= MOST_TOLD:
            told.append(f"what {who} costs cannot be told from so few {kind.items}")
        else:
            told.append(f"{who} costs at most {points_of(lost.high[at].max(), kind)}")
    return "; ".join(told)


def _who(family: Family, at: np.ndarray) -> str:
    """Return the names of some members: `n = 0, 2 to 4 or 7`, `layer 0 or 2`."""
    parameter, values = family.names
    words: list[str] = []
    for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
        if parameter and len(run) > 2:
            words.append(f"{values[run[0]]} to {values[run[-1]]}")
        else:
            words += [values[place] for place in run]
    if len(words) > MOST_NAMES:
        words = [*words[: MOST_NAMES - 1], f"{len(words) - MOST_NAMES + 1} more"]
    return parameter + listed(words, "or" if "more" not in words[-1] else "and")


def _title(row: Row) -> str:
    """Return what a reader calls a plan's family."""
    strategy = STRATEGIES.get(row.strategy)
    if row.strategy == HEALED:
        return f"Healed plans ({json.loads(row.parameters)['heal']})"
    if strategy is None:
        return "Written plans"
    part = str(json.loads(row.parameters).get("part", ""))
    return (strategy.looks.get(part) or strategy.looks[""]).label
