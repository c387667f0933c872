"""What recording costs: a folder with a million records, and the share of a study's time.

    python benchmarks/recording.py [--records 1000000]

Prints how long opening the folder and printing its summary takes (a process of its own, from its
first instruction to its last, the best of three), how long reading all records takes, and what
share of a study on the bundled model is spent on saving. Exits with 1 where a bound is broken.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from impasto.study import Results, Study
from impasto.study.running import answering, driving, runner
from impasto.tasks import arithmetic

MOST_SECONDS, MOST_SHARE = 2.0, 0.02
COMMANDS = (("results",), ("status",))


@dataclass
class Instant:
    """A model that answers anything at once, so that only recording takes time."""

    name: str = "instant"
    num_layers: int = 12
    tokenizer: None = None
    max_positions: int = 2048
    identity: dict[str, str] = field(default_factory=lambda: {"weights": "none"})

    def tokens(self, text: str) -> list[int]:
        """Take every byte of a text for a token."""
        return list(text.encode())

    def generate(
        self, plans: Sequence[Any], prompts: Sequence[Any], *given: Any, **more: Any
    ) -> list[list[str]]:
        """Say that two plus two is four."""
        return [[" 4"] * len(prompts) for _ in plans]


def main() -> int:
    """Measure and print; return 0 if the bounds hold."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--records", type=int, default=1_000_000)
    given = read.parse_args()
    with tempfile.TemporaryDirectory() as place:
        slowest = large(Path(place, "large"), given.records)
        share = small(Path(place, "small"))
    return 0 if slowest < MOST_SECONDS and share < MOST_SHARE else 1


def large(out: Path, records: int) -> float:
    """Make a folder with so many records; return the longest that a summary takes, in seconds."""
    items = len(arithmetic(3).items)
    seeds = list(range(1, records // items // (Instant.num_layers + 1) + 2))
    text = f"""\
model: instant
tasks: [{{name: arithmetic, terms: 3}}]
plans: [gaussian: {{k: all, seed: {seeds}}}]
"""
    model: Any = Instant()
    lasted, results = _timed(lambda: Study.from_text(text, name="large").run(out, model=model))
    count, size = len(results.answers), sum(path.stat().st_size for path in out.iterdir())
    print(f"{count:,} records, {size / 2**20:.0f} MiB, made in {lasted:.1f} s")
    slowest = 0.0
    for command in COMMANDS:
        words = [sys.executable, "-m", "impasto.cli", *command, str(out)]
        runs = [_timed(partial(subprocess.run, words, capture_output=True)) for _ in range(3)]
        assert all(done.returncode == 0 for _, done in runs), runs[0][1].stderr
        lasted = min(lasted for lasted, _ in runs)
        slowest = max(slowest, lasted)
        print(f"impasto {command[0]:8} {lasted:6.2f} s   (at most {MOST_SECONDS:.0f})")
    lasted, _ = _timed(lambda: sum(1 for _ in Results.read(out).answers))
    print(f"all records read {lasted:5.1f} s")
    return slowest


def small(out: Path) -> float:
    """Run a study on the bundled model; return the share of its time that saving takes."""
    spent = [0.0]

    def timed(function: Any, sign: int = 1) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            lasted, result = _timed(lambda: function(*given, **more))
            spent[0] += sign * lasted
            return result

        return call

    driving._save = timed(driving._save)
    runner.register = timed(runner.register)
    # asked for while registering
    answering.expected_seconds = timed(answering.expected_seconds, -1)
    runner.save_table = timed(runner.save_table)
    study = Study.from_yaml("attend_first")
    lasted, results = _timed(lambda: study.run(out, limit=40))
    share = spent[0] / lasted
    print(f"attend_first, 40 questions a task: {lasted:.1f} s, {len(results.answers):,} records")
    print(
        f"recording took {spent[0]:.2f} s, {100 * share:.2f} %   (at most {100 * MOST_SHARE:.0f})"
    )
    return share


def _timed(call: Any) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    sys.exit(main())
