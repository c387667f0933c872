"""Whether a model that is asked a thousand times stays as fast and as small as it was.

Calls of each kind by turns, of unlike lengths and plans, on one model. After the first calls, which
fill caches that are bounded, the process forks: its child waits while the other calls are made.
Then the two take turns at the same calls, one right after the other, so that whatever else the
machine does slows both. The old process is to take no more time than the young one, and no more
memory than when it was young, within 2 %.

    OMP_NUM_THREADS=1 python benchmarks/many_calls.py [--calls 1000] [--model demo]
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binom

import impasto
from impasto import Plan

WARM = 0.2  # share of the calls before memory and time count
MOST = 0.02
TURNS = 40  # in which old and young are compared
TEXTS = [
    "Q: What is the capital of France?\nA:",
    "The little dog ran to the",
    "Q: What is 12 + 7?\nA:",
    "One day a girl named Lily found a needle in her room. She knew it was",
]
KINDS, PLANS = 2, 3
TURN = len(TEXTS) * PLANS  # calls that have each kind, text and plan as often as any other


def main() -> int:
    """Make the calls and print memory and time over them; return 0 where both are flat."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--calls", type=int, default=1000)
    read.add_argument("--model", default="demo")
    given = read.parse_args()
    torch.set_num_threads(1)  # the child of a process with more has none of them
    model = impasto.load(given.model)
    layers = model.num_layers
    plans = [Plan.parse(line) for line in (f"0-{layers - 1}", f"0-2 freeze 3-{layers - 1}")]
    plans += [Plan.parse(f"0-{layers // 2} [{layers // 2 + 1}-{layers - 2}] {layers - 1}")]
    warm = int(given.calls * WARM)
    for number in range(warm):
        call(model, plans, number)
    young, before = Young(model, plans), resident()
    for number in range(warm, given.calls):
        call(model, plans, number)
    after = resident()
    pairs = compared(model, plans, young)
    return told(given.calls, (before, after), pairs)


def call(model: Any, plans: list[Plan], number: int) -> None:
    """Ask a model something that its number chooses."""
    text, plan = TEXTS[number % len(TEXTS)], plans[number % len(plans)]
    if number // len(TEXTS) % KINDS:
        model.generate(plan, [text], max_new_tokens=4)
    else:
        model.loglikelihood(plan, [(text, " Paris"), (text, " the garden")])


def turn(model: Any, plans: list[Plan]) -> float:
    """Return the seconds of a core that a turn of calls takes."""
    begin = time.process_time()
    for number in range(KINDS * TURN):
        call(model, plans, number)
    return time.process_time() - begin


class Young:
    """A child of this process, which has made no more calls than it had when it was born."""

    def __init__(self, model: Any, plans: list[Plan]) -> None:
        asked, ask = os.pipe()
        told, tell = os.pipe()
        self._child = os.fork()
        if not self._child:
            os.close(ask)
            while os.read(asked, 1):
                os.write(tell, json.dumps(turn(model, plans)).encode())
            os._exit(0)
        os.close(asked)
        self._ask, self._told = ask, told

    def turn(self) -> float:
        """Return the seconds of a core that a turn of calls takes there."""
        os.write(self._ask, b".")
        return json.loads(os.read(self._told, 100))

    def end(self) -> None:
        """End the child."""
        os.close(self._ask)
        os.waitpid(self._child, 0)


def compared(model: Any, plans: list[Plan], young: Young) -> list[tuple[float, float]]:
    """Return what turns take here and there, each pair at the same time."""
    pairs = []
    for number in range(TURNS + 2):
        if number % 2:
            here, there = turn(model, plans), young.turn()
        else:
            there, here = young.turn(), turn(model, plans)
        pairs.append((here, there))
    young.end()
    return pairs[2:]  # in the first ones the child gets pages of its own


def told(calls: int, sizes: tuple[int, int], pairs: list[tuple[float, float]]) -> int:
    """Print how memory and time went; return 0 where both are flat."""
    before, after = sizes
    grown = after / before - 1
    ratios = sorted(here / there - 1 for here, there in pairs)
    slower = statistics.median(ratios)
    below = int(binom.ppf(0.025, len(ratios), 0.5)) - 1  # 95 % of the median, by order
    low, high = ratios[below], ratios[-1 - below]
    here, there = (
        1000 * statistics.median(side) / KINDS / TURN for side in zip(*pairs, strict=True)
    )
    warm = int(calls * WARM)
    print(f"{calls} calls, the first {warm} left out")
    print(f"memory   {before / 2**20:.1f} MiB, then {after / 2**20:.1f} ({grown:+.2%})")
    print(
        f"time     {there:.2f} ms a call after {warm}, {here:.2f} after {calls} "
        f"({slower:+.2%}, {low:+.2%} to {high:+.2%}, the median of {len(pairs)} pairs of turns)"
    )
    return 0 if grown <= MOST and slower <= MOST else 1


def resident() -> int:
    """Return the memory that this process has, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
