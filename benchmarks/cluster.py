"""Whether a study survives its cluster, and how much sooner two workers end than one.

    python benchmarks/cluster.py [--only losses|speed] [--limit N]

`losses`: on a cluster of two nodes (both this machine), a worker's process is killed and then a
whole node goes, mid-study; the table and every answer must be those of a run in one process.
`speed`: the same study, divided alike, on one single-threaded worker and on two, each on a Ray of
its own; two must end at least 1.6 times sooner. Both the whole command and the time from the first
question to the last answer are printed. Exits with 1 where something does not hold.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from impasto.study import Cluster, Results, Standing, Study

LEAST = 1.6
SAVE_EVERY = 3.0  # seconds of work in a unit
MEMORY = 2**30
STUDY = "attend_first"


def main() -> int:
    """Run what is asked for and print what came out; return 0 if all held."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--only", choices=["losses", "speed"])
    read.add_argument("--limit", type=int, help="questions of each task; all by default")
    given = read.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    held = True
    with tempfile.TemporaryDirectory() as place:
        study = Study.from_yaml(STUDY).as_run(limit=given.limit)
        divided = Path(place, "divided")
        units = divide(study, divided)
        if given.only != "speed":
            held &= losses(study, divided, Path(place), units)
        if given.only != "losses":
            held &= speed(study, divided, Path(place), units)
    return 0 if held else 1


@dataclass
class Watched:
    """What a run's progress tells: when the first question was put, and that something is due."""

    acts: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    asked: float | None = None

    def __call__(self, standing: Standing) -> None:
        """Note the first question; act once the share of an act is reached."""
        if standing.of and self.asked is None:
            self.asked = time.perf_counter()
        if self.acts and standing.of and standing.cells >= self.acts[0][0] * standing.of:
            self.acts.pop(0)[1]()


def divide(study: Study, out: Path) -> int:
    """Have a folder's study divided into units, and nothing asked; return how many there are."""
    from impasto.study.database.opening import DATABASE, open_to_read

    def leave(standing: Standing) -> None:
        if standing.of:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        study.run(out, memory=MEMORY, save_every=SAVE_EVERY, progress=leave)
    connection = open_to_read(out / DATABASE)
    [units] = connection.execute("SELECT count(*) FROM units").fetchone()
    connection.close()
    return units


def losses(study: Study, divided: Path, place: Path, units: int) -> bool:
    """Kill a worker and remove a node mid-study; say whether its table is the undisturbed one."""
    from ray.cluster_utils import Cluster as Machines

    whole, out = place / "whole", place / "losses"
    shutil.copytree(divided, whole)
    study.run(whole, memory=MEMORY)
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1})
    second = machines.add_node(num_cpus=1)
    told: list[str] = []
    kill = (0.25, lambda: workers()[0].kill())
    remove = (0.6, lambda: machines.remove_node(second))
    shutil.copytree(divided, out)
    try:
        study.run(
            out,
            memory=MEMORY,
            cluster=Cluster(str(machines.address)),
            progress=Watched([kill, remove]),
            say=told.append,
        )
    finally:
        machines.shutdown()
    lost = [notice for notice in told if "is gone" in notice]
    same = equal(Results.read(out), Results.read(whole))
    print(f"two nodes, {units} units: a worker killed at 25 % of the cells, a node gone at 60 %")
    print("\n".join(f"  {notice}" for notice in lost))
    print("  same table and answers as in one process" if same else "  OTHER TABLE", flush=True)
    return same and len(lost) >= 2


def workers() -> list[psutil.Process]:
    """Return the processes of the workers that this one's clusters have started."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "ray::Actor" in " ".join(process.cmdline())]


def speed(study: Study, divided: Path, place: Path, units: int) -> bool:
    """Time one worker and two; say whether two are sooner by as much as they should be."""
    times: dict[int, tuple[float, float]] = {}
    for count in (1, 2):
        out = shutil.copytree(divided, place / f"speed{count}")
        watched, begin = Watched(), time.perf_counter()
        study.run(out, memory=MEMORY, cluster=Cluster(workers=count), progress=watched)
        end = time.perf_counter()
        assert watched.asked is not None
        times[count] = end - begin, end - watched.asked
        print(
            f"{count} single-threaded worker{'s' * (count > 1)}, {units} units: "
            f"{times[count][0]:.1f} s in all, {times[count][1]:.1f} s from the first question on",
            flush=True,
        )
    whole, asking = (times[1][at] / times[2][at] for at in (0, 1))
    print(f"two sooner than one: {whole:.2f}x in all, {asking:.2f}x without start-up; ", end="")
    print(f"at least {LEAST}x in all is asked")
    return whole >= LEAST


def equal(found: Results, whole: Results) -> bool:
    """Say whether two results have the same table, to the bit, and the same answers."""
    try:
        pd.testing.assert_frame_equal(found.table, whole.table, check_exact=True)
    except AssertionError as error:
        print(error)
        return False
    return found.answers == whole.answers


if __name__ == "__main__":
    sys.exit(main())
