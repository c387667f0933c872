"""How fast one version of impasto is beside another, and whether their answers are the same.

    git worktree add ../before COMMIT
    python benchmarks/paired.py ../before .                 # every workload
    python benchmarks/paired.py ../before . --only C,decode --rounds 9

Each version runs in a process of its own, with its own ``src`` first on the path. The two take
turns in every round, and which goes first changes from round to round, so that drift of the machine
falls on both alike. What is printed is the median of the rounds' ratios (new : old) with its
quartiles, of processor time, which other work on the machine hardly changes, and of time on the
clock; and how far the two versions' answers are apart. Exits with 1 where the ratio of processor
time is above ``--most`` or answers differ by more than 1e-4. With several threads, processor time
has their waiting in it.

Workloads: those of sweep.py (C, B, A, few-shot, generation, shots-generation), made smaller by
``--questions``, and under ``impasto.apply`` a prompt of 1,024 tokens (prefill) and tokens behind it
(decode).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sides import Side

SWEEPS = ("C", "B", "A", "few-shot", "generation", "shots-generation")
APPLIED = ("prefill", "decode")
PLANS = ("0-15", "0-7 freeze 8-15", "0-9 10-15.mlp", "0-1 [2-13] 14-15")
TOLERANCE = 1e-4


def main() -> int:
    """Measure and print; return 0 if nothing is slower and no answer differs."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", default=",".join((*SWEEPS, *APPLIED)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=float, default=1.03)
    given = parser.parse_args()
    good = [_compared(name, given) for name in given.only.split(",")]
    return 0 if all(good) else 1


def _compared(name: str, given: argparse.Namespace) -> bool:
    """Compare the two versions on a workload; return whether the new one is as good."""
    sides = [_Side(each, name, given) for each in (given.old, given.new)]
    ratios: list[list[float]] = [[], []]  # of processor time, of time on the clock
    for turn in range(given.rounds + 1):  # the first warms up
        spent = [[0.0, 0.0], [0.0, 0.0]]
        for place in (0, 1) if turn % 2 else (1, 0):
            spent[place] = sides[place].seconds()
        if turn:
            for all_of_kind, old, new in zip(ratios, *spent, strict=True):
                all_of_kind.append(new / old)
    apart = _apart(*(side.answers() for side in sides))
    (low, middle, high), (_, clock, _) = (statistics.quantiles(each, n=4) for each in ratios)
    good = middle <= given.most and apart <= TOLERANCE
    print(f"{name:11} {middle:.3f} of the old version's processor time (quartiles {low:.3f} to "
          f"{high:.3f}), {clock:.3f} on the clock, answers differ by {apart:.1e}: "
          f"{'ok' if good else 'MISSED'}", flush=True)  # fmt: skip
    return good


class _Side(Side):
    """A process that runs the workload by one version."""

    def __init__(self, folder: Path, name: str, given: argparse.Namespace) -> None:
        words = [__file__, name, str(given.questions), str(given.threads)]
        super().__init__(words, folder / "src", "where", PAIRED="1")

    def seconds(self) -> list[float]:
        """Run the workload once, and return its seconds of processor time, and on the clock."""
        return json.loads(self.asked("run"))

    def answers(self) -> list[float]:
        """Return the last run's answers as numbers, and let the process end."""
        found = json.loads(self.asked("answers"))
        self.asked("end")
        self.process.wait()
        return found


def _apart(old: list[float], new: list[float]) -> float:
    if len(old) != len(new):
        return float("inf")
    return max((abs(a - b) for a, b in zip(old, new, strict=True)), default=0.0)


# ---------------------------------------------------------------------- in a process of its own


def _serve(name: str, questions: int, threads: int) -> None:
    """Answer what `_Side` asks for."""
    import torch

    import impasto

    torch.set_num_threads(threads)
    work = _applied(name) if name in APPLIED else _swept(name, questions)
    found: Any = []
    for line in sys.stdin:
        asked, said = line.strip(), ""
        if asked == "where":
            said = str(Path(impasto.__file__).resolve())
        elif asked == "run":
            begin = time.process_time(), time.perf_counter()
            found = work()
            end = time.process_time(), time.perf_counter()
            said = json.dumps([end[0] - begin[0], end[1] - begin[1]])
        elif asked == "answers":
            said = json.dumps(_numbers(found))
        print(f"> {said}", flush=True)
        if asked == "end":
            return


def _swept(name: str, questions: int) -> Callable[[], Any]:
    from workloads import Workload, workload

    size = 4 * questions if "generation" in name else questions
    given = argparse.Namespace(
        device="cpu", dtype=None, threads=2, questions=size, layers=None, peer_every=None
    )
    given.dtype = _float32()
    work = workload(name, given)
    if not isinstance(work, Workload):
        raise SystemExit(f"{name} cannot run: {work}")
    return work.sweep


def _float32() -> Any:
    import torch

    return torch.float32


def _applied(name: str) -> Callable[[], Any]:
    import torch

    import impasto
    from plan_cost import decode, prefill, random_llama

    hf = random_llama()
    ids = torch.randint(hf.config.vocab_size, (1, 1024))
    make, times = (prefill, 1) if name == "prefill" else (decode, 24)

    def run() -> list[Any]:
        found = []
        for line in PLANS:
            with impasto.apply(hf, impasto.Plan.parse(line)):
                work = make(hf, ids)
                for _ in range(times):
                    work()
                with torch.no_grad():
                    found.append(hf(ids[:, :64]).logits[0, -1].tolist())
        return found

    return run


def _numbers(answers: Any) -> list[float]:
    """Return all numbers in lists of lists of them, in order; other values by their characters."""
    if isinstance(answers, list | tuple):
        return [number for each in answers for number in _numbers(each)]
    if isinstance(answers, str):
        return [float(ord(sign)) for sign in answers]
    return [float(answers)]


if __name__ == "__main__":
    if os.environ.get("PAIRED"):
        _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
