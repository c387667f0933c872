"""Read 100,000 random and mutated texts as plans: nothing but PlanError, none over 10 ms.

Usage: python benchmarks/parse_fuzz.py [COUNT] [SEED]

Prints how many texts were read and refused and the slowest parse, in processor time of this
process; exits with 1 if a text raised anything but PlanError, did not read back, or took too long.
A text that seems slow is read again, and its fastest of five counts, so that a collection of
garbage or a busy neighbour is not taken for the parser.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from impasto.plan import Plan, PlanError

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "plan"))
from plan_samples import (  # type: ignore[import-not-found]
    DESIGN_EXAMPLES,
    HOSTILE,
    random_text,
)

LIMIT_SECONDS = 0.010


def parse(text: str) -> tuple[Plan | None, float]:
    """Return the plan, or None if it was refused, and the seconds of processor time it took."""
    start = time.process_time()
    try:
        plan = Plan.parse(text, layers=None)
    except PlanError:
        plan = None
    return plan, time.process_time() - start


def main(count: int = 100_000, seed: int = 0) -> int:
    """Return 0 if every text kept the promise."""
    rng = random.Random(seed)
    known = [*DESIGN_EXAMPLES, *HOSTILE.values()]
    plans, slowest, faults = 0, (0.0, ""), 0
    for number in range(count):
        text = known[number] if number < len(known) else random_text(rng)
        seconds = 0.0
        try:
            plan, seconds = parse(text)
            if seconds > LIMIT_SECONDS / 2:
                seconds = min(seconds, *(parse(text)[1] for _ in range(5)))
            slowest = max(slowest, (seconds, text))
            same = plan is None or len(plan.steps) > 500 or Plan.parse(str(plan)) == plan
            plans += plan is not None
        except Exception as error:
            same = False
            print(f"{type(error).__name__}: {error}")
        if not same or seconds > LIMIT_SECONDS:
            faults += 1
            print(f"FAULT: {text[:100]!r}")
    seconds, text = slowest
    print(f"{count} texts: {plans} plans, {count - plans} refused, {faults} faults")
    print(f"slowest: {1e3 * seconds:.2f} ms, {len(text)} characters: {text[:60]!r}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
