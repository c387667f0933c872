"""Whether a study that is killed ends as an undisturbed one: SIGKILL at random moments, then again.

Every round kills a run up to twice, by turns from outside at any moment, among the records of a
unit that is being saved, and around its COMMIT; then the same study runs to its end. Its table must
equal the undisturbed one row for row, every answer too, and nothing may be asked that was saved.

    python benchmarks/kill_and_resume.py [--rounds 30] [--seed 0]
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from impasto.study import Results, Study
from impasto.study.database import saving
from impasto.study.database.opening import DATABASE
from impasto.study.running import answering
from impasto.study.work.asking import Here

STUDY = """\
model: demo
tasks: [{name: capitals, limit: 32}, {name: arithmetic, terms: 2, limit: 32}]
plans: [freeze: {k: [0, 6]}, gaussian: {k: 4, seed: [0, 1]}, inject: {k: [0, 6]}, "0-3 [4-7] 8-11"]
"""
SHARDS = 4  # of each task, whatever this machine's speed: units that are saved one by one
WAYS = ("outside", "among records", "around COMMIT")

Asked = tuple[str, int, str]  # task, first item, plan


def main() -> int:
    """Run the rounds and print what came out; return 0 if all held."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--rounds", type=int, default=30)
    read.add_argument("--seed", type=int, default=0)
    given = read.parse_args()
    draw = random.Random(given.seed)
    failures = kills = 0
    with tempfile.TemporaryDirectory() as place:
        lasts = min(undisturbed(Path(place, name)) for name in ("first", "whole"))
        whole = Results.read(Path(place, "whole"))
        cells, units = len(asked_in(Path(place, "whole"))), count_units(Path(place, "whole"))
        told = (
            f"{len(whole.table)} rows, {len(whole.answers)} answers, {cells} cells, {units} units"
        )
        print(f"undisturbed: {lasts:.1f} s, {told}", flush=True)
        for number in range(given.rounds):
            out = Path(place, str(number))
            way = WAYS[number % len(WAYS)]
            died, again = disturbed(out, way, lasts, draw)
            kills += died
            same = equal(Results.read(out), whole)
            failures += not same or bool(again)
            print(
                f"round {number + 1:2}: killed {died} times {way:14} "
                f"{'same table and answers' if same else 'OTHER TABLE'}, "
                f"{len(again)} cells asked again after they were saved",
                flush=True,
            )
            shutil.rmtree(out)
    print(f"{given.rounds} rounds, {kills} kills, {failures} failures")
    return 1 if failures or not kills else 0


def undisturbed(out: Path) -> float:
    """Run the study in one go; return how many seconds that takes."""
    begin = time.monotonic()
    assert finish(out), "the undisturbed run failed"
    return time.monotonic() - begin


def disturbed(out: Path, way: str, lasts: float, draw: random.Random) -> tuple[int, list[Asked]]:
    """Run a study, killed up to twice, to its end; return the kills and what was asked again."""
    died, again = 0, []
    for _ in range(2):
        saved, before = saved_in(out), asked_in(out)
        died += run_killed(out, way, lasts, draw)
        again += [cell for cell in asked_in(out)[len(before) :] if cell in saved]
    saved, before = saved_in(out), asked_in(out)
    assert finish(out), "a resumed run failed"
    again += [cell for cell in asked_in(out)[len(before) :] if cell in saved]
    return died, again


def run_killed(out: Path, way: str, lasts: float, draw: random.Random) -> bool:
    """Run in a process of its own that is killed; say whether that came before its end."""
    moment, seed = draw.uniform(0.0, lasts), draw.random()
    child = os.fork()
    if not child:
        with dying(way, random.Random(seed)):
            run(out)
        os._exit(0)
    if way == "outside":
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def finish(out: Path) -> bool:
    """Run in a process of its own, undisturbed."""
    child = os.fork()
    if not child:
        run(out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def run(out: Path) -> None:
    """Run the study, writing down what is asked of the model as it is asked."""
    answered = Here._answered

    def noted(self: Any, unit: Any, progress: Any) -> Any:
        with Path(f"{out}.asked").open("a", encoding="utf-8") as file:
            for plan in unit.plans:
                file.write(f"{unit.task}\t{unit.start}\t{plan.digest}\n")
        return answered(self, unit, progress)

    Here._answered = noted
    answering.expected_seconds = lambda model, tasks, asked: {
        needed.task.name: float(SHARDS) for needed in tasks
    }
    try:
        Study.from_text(STUDY, name="killed").run(out, save_every=1.0, memory=2**30)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)


@contextmanager
def dying(way: str, draw: random.Random) -> Iterator[None]:
    """Let this process kill itself at a random place of a random transaction, where asked to."""
    if way == "among records":
        encoded, left = saving.encoded, [draw.randrange(1, 480)]

        def counted(record: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return encoded(record)

        saving.encoded = counted
    if way == "around COMMIT":
        transaction, before = saving.transaction, [draw.randrange(1, 8)]

        @contextmanager
        def timed(connection: sqlite3.Connection) -> Iterator[None]:
            with transaction(connection):
                yield
                before[0] -= 1
                if not before[0]:
                    kill = (os.getpid(), signal.SIGKILL)
                    threading.Timer(draw.uniform(0.0, 0.004), os.kill, kill).start()

        saving.transaction = timed
    yield


def saved_in(out: Path) -> set[Asked]:
    """Return the cells that a folder's database has finished."""
    if not (out / DATABASE).exists():
        return set()
    connection = sqlite3.connect(out / DATABASE)
    try:
        return set(
            connection.execute(
                "SELECT tasks.name, start, plans.digest FROM cells "
                "JOIN plans ON plans.id = plan JOIN shards ON shards.id = shard "
                "JOIN tasks ON tasks.id = task WHERE finished IS NOT NULL"
            )
        )
    except sqlite3.OperationalError:
        return set()  # killed before there were any tables
    finally:
        connection.close()


def asked_in(out: Path) -> list[Asked]:
    """Return the cells that the model was asked, in order, by all runs in a folder."""
    path = Path(f"{out}.asked")
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return [(task, int(start), plan) for task, start, plan in rows]


def count_units(out: Path) -> int:
    """Return how many units of work a folder's study was divided into."""
    connection = sqlite3.connect(out / DATABASE)
    [count] = connection.execute("SELECT count(*) FROM units").fetchone()
    connection.close()
    return count


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
