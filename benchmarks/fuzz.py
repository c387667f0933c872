"""Whether anything but messages of ours comes of files that are damaged, or made to do harm.

Each case takes a sound file, changes it at random in a few places and does with it what a user
would (`damaged.py`). Only an `ImpastoError` may come of that, within 5 seconds and 1 GiB of memory;
whatever else does is printed with the number by which the case comes again. Cases run in forked
processes, so that one which takes a process down is told, too; what is imported and opened the
first time is there before. A case is what its kind, the seed and its number make it, so that many
can be run in pieces.

    python benchmarks/fuzz.py databases [--rounds 10000] [--first 0] [--seed 0]
    python benchmarks/fuzz.py databases --only 4711      # one case, with its traceback
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).parent))
from damaged import KINDS, Case
from impasto import ImpastoError

SECONDS, BYTES = 5.0, 2**30  # of one case; seconds of this process, whatever else runs
CHUNK = 100  # cases of one process
MEMORY = Path("/dev/shm")  # where files are written that no disk need keep
FINE = ("read", "refused")  # how a case may end


def main() -> int:
    """Fuzz one kind of file; return 0 where nothing came up."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("kind", choices=sorted(KINDS))
    read.add_argument("--rounds", type=int, default=10_000)
    read.add_argument("--first", type=int, default=0)
    read.add_argument("--seed", type=int, default=0)
    read.add_argument("--only", type=int)
    given = read.parse_args()
    warnings.simplefilter("ignore")
    where = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="impasto-fuzz-", dir=where) as place:
        case = KINDS[given.kind](Path(place))
        if given.only is not None:
            print(one(case, given.kind, given.seed, given.only, Path(place)) or "right")
            return 0
        return run(case, given, Path(place))


def run(case: Case, given: argparse.Namespace, place: Path) -> int:
    """Run the cases that were asked for and print how they ended; return 0 where all are fine."""
    begin, outcomes = time.monotonic(), Counter()
    stop = given.first + given.rounds
    for first in range(given.first, stop, CHUNK):
        numbers = range(first, min(first + CHUNK, stop))
        outcomes += chunk(case, given.kind, given.seed, numbers, place)
        if (first - given.first) % (5 * CHUNK) == 0:
            faults = sum_of_faults(outcomes)
            print(f"{given.kind}: up to {numbers.stop}, {faults} faults", flush=True)
    lasted = time.monotonic() - begin
    print(f"{given.kind}, seed {given.seed}: cases {given.first} to {stop - 1} in {lasted:.0f} s")
    for outcome, count in outcomes.most_common():
        print(f"{count:6}  {outcome}")
    return 1 if sum_of_faults(outcomes) else 0


def sum_of_faults(outcomes: "Counter[str]") -> int:
    """Return how many cases ended as none may."""
    return sum(count for name, count in outcomes.items() if name not in FINE)


def chunk(case: Case, kind: str, seed: int, numbers: range, place: Path) -> "Counter[str]":
    """Return how many cases ended how; a process that dies is followed by another one."""
    found: Counter[str] = Counter()
    while numbers:
        ended = forked(case, kind, seed, numbers, place)
        for number, fault in ended:
            found[fault.splitlines()[0]] += 1
            if fault not in FINE:
                print(f"case {number}: {fault}", flush=True)
        numbers = numbers[len(ended) :]
        if numbers:
            print(f"case {numbers[0]}: the process died", flush=True)
            found["the process died"] += 1
            numbers = numbers[1:]
    return found


def forked(case: Case, kind: str, seed: int, numbers: range, place: Path) -> list[tuple[int, str]]:
    """Return how the cases ended that a process of their own came to."""
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        with os.fdopen(tell, "w") as stream:
            bound_memory()
            for number in numbers:
                fault = one(case, kind, seed, number, place)
                stream.write(json.dumps([number, fault]) + "\n")
                stream.flush()
        os._exit(0)
    os.close(tell)
    with os.fdopen(told) as stream:
        ended = [json.loads(line) for line in stream]
    os.waitpid(child, 0)
    return ended


def one(case: Case, kind: str, seed: int, number: int, place: Path) -> str:
    """Return how a case ended: `read`, `refused`, or what went wrong."""
    draw = random.Random(f"{kind} {seed} {number}")
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        with bounded(), Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
            case(draw, folder)
        return "read"
    except ImpastoError as error:
        text = str(error)
        return (
            "refused" if len(text) < 4000 else f"a message of {len(text)} characters\n{text[:200]}"
        )
    except TooLong:
        return "longer than it may\n" + traceback.format_exc()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return f"{type(error).__name__} at {where}\n{traceback.format_exc()}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class TooLong(BaseException):
    """A case took longer than it may."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Have the block end with TooLong where it takes more of a core than a case may."""

    def late(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def bound_memory() -> None:
    """Let this process take no more memory than a case may, beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
