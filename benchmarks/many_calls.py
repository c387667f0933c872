"""Whether a model that is asked a thousand times stays as fast and as small as it was.

Calls of each kind by turns, of unlike lengths and plans, on one model. After the first calls, which
fill caches that are bounded, memory and time of the later ones are to be those of the earlier ones,
within 2 %: the process's own memory, and the median time of a call in thirds of the run.

    python benchmarks/many_calls.py [--calls 1000] [--model demo]
"""

import argparse
import gc
import os
import statistics
import sys
import time
from pathlib import Path

import impasto
from impasto import Plan

WARM = 0.2  # share of the calls before memory and time count
MOST = 0.02
TEXTS = [
    "Q: What is the capital of France?\nA:",
    "The little dog ran to the",
    "Q: What is 12 + 7?\nA:",
    "One day a girl named Lily found a needle in her room. She knew it was",
]


def main() -> int:
    """Make the calls and print memory and time over them; return 0 where both are flat."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--calls", type=int, default=1000)
    read.add_argument("--model", default="demo")
    given = read.parse_args()
    model = impasto.load(given.model)
    layers = model.num_layers
    plans = [Plan.parse(line) for line in (f"0-{layers - 1}", f"0-2 freeze 3-{layers - 1}")]
    plans += [Plan.parse(f"0-{layers // 2} [{layers // 2 + 1}-{layers - 2}] {layers - 1}")]
    seconds: list[float] = []
    sizes: list[int] = []
    for number in range(given.calls):
        text, plan = TEXTS[number % len(TEXTS)], plans[number % len(plans)]
        begin = time.process_time()
        if number % 2:
            model.generate(plan, [text], max_new_tokens=4)
        else:
            model.loglikelihood(plan, [(text, " Paris"), (text, " the garden")])
        seconds.append(time.process_time() - begin)
        if number % 20 == 0:
            gc.collect()
            sizes.append(resident())
    return told(seconds, sizes)


def told(seconds: list[float], sizes: list[int]) -> int:
    """Print how memory and time went; return 0 where both are flat."""
    first = int(len(sizes) * WARM)
    grown = sizes[-1] / sizes[first] - 1
    later = seconds[int(len(seconds) * WARM) :]
    half = len(later) // 24 * 12  # whole turns of texts, plans and kinds
    early, late = statistics.median(later[:half]), statistics.median(later[-half:])
    slower = late / early - 1
    print(f"{len(seconds)} calls, the first {WARM:.0%} left out")
    print(f"memory   {sizes[first] / 2**20:.1f} MiB, then {sizes[-1] / 2**20:.1f} ({grown:+.2%})")
    print(f"time     {1000 * early:.2f} ms a call, then {1000 * late:.2f} ({slower:+.2%})")
    return 0 if grown <= MOST and slower <= MOST else 1


def resident() -> int:
    """Return the memory that this process has, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
