"""The words for a number of plans: what is listed, and how many different plans that is.

A study lists each label once, and labels may name the same plan: freezing at depth 0 of a model of
one layer, or a random order drawn twice. Only different plans are run.
"""


def count_of_plans(entries: int, distinct: int | None = None) -> str:
    """Return `96 plans (91 distinct)`, or `96 plans` where all that are listed differ."""
    words = f"{entries:,} plan{'' if entries == 1 else 's'}"
    return words if distinct in (None, entries) else f"{words} ({distinct:,} distinct)"
