"""Whether anything but messages of ours comes of files that are damaged, or made to do harm.

Each case takes a sound file, changes it at random in a few places and does with it what a user
would. Only an `ImpastoError` may come of that, within 5 seconds and 1 GiB of memory; whatever else
does is printed with the number by which the case comes again. Cases run in forked processes, so
that one which takes a process down is told, too.

    python benchmarks/fuzz.py studies|databases|models|data|packed [--rounds 10000] [--seed 0]
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import mutations
from impasto import ImpastoError

SECONDS, BYTES = 5.0, 2**30  # of one case; seconds of this process, whatever else runs
CHUNK = 100  # cases of one process
BASE = """\
model: demo
tasks: [{name: capitals, limit: 6}, {name: arithmetic, terms: 2, limit: 6}]
plans: [freeze: {k: [0, 6]}, skip_one: {n: [3, 4]}, inject: {k: [6]}, "0-3 [4-7] 8-11"]
"""
Case = Callable[[random.Random, Path], None]


class TooLong(BaseException):
    """A case took longer than it may."""


def main() -> int:
    """Fuzz one kind of file; return 0 where nothing came up."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("kind", choices=sorted(KINDS))
    read.add_argument("--rounds", type=int, default=10_000)
    read.add_argument("--seed", type=int, default=0)
    read.add_argument("--only", type=int)
    given = read.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="impasto-fuzz-") as place:
        case = KINDS[given.kind](Path(place))
        if given.only is not None:
            print(one(case, given.kind, given.seed, given.only, Path(place)) or "right")
            return 0
        begin, outcomes = time.monotonic(), Counter()
        for first in range(0, given.rounds, CHUNK):
            numbers = range(first, min(first + CHUNK, given.rounds))
            outcomes += chunk(case, given.kind, given.seed, numbers, Path(place))
            if first % (5 * CHUNK) == 0:
                print(f"{first + len(numbers)} cases, {sum_of_faults(outcomes)} faults", flush=True)
    lasted = time.monotonic() - begin
    print(f"{given.kind}: {given.rounds} cases in {lasted:.0f} s")
    for outcome, count in outcomes.most_common():
        print(f"{count:6}  {outcome}")
    return 1 if sum_of_faults(outcomes) else 0


def sum_of_faults(outcomes: "Counter[str]") -> int:
    """Return how many cases ended as none may."""
    return sum(count for name, count in outcomes.items() if name not in ("read", "refused"))


def chunk(case: Case, kind: str, seed: int, numbers: range, place: Path) -> "Counter[str]":
    """Return how many cases ended how, run in a process of their own."""
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
    found: Counter[str] = Counter()
    for number, fault in ended:
        found[fault.splitlines()[0]] += 1
        if fault not in ("read", "refused"):
            print(f"case {number}: {fault}", flush=True)
    if len(ended) < len(numbers):
        print(f"case {numbers[len(ended)]}: the process died", flush=True)
        found["the process died"] += 1
    return found


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


# ------------------------------------------------------------------ what is done with each kind


def studies(place: Path) -> Case:
    """Return the case of a study file: it is read, its plans are made, it is written again."""
    from impasto.study import Study
    from impasto.tasks.harness import loading

    class Index:
        all_tasks = ("arc_easy", "piqa", "winogrande", "gsm8k")

    loading._index = lambda include_path: Index  # type: ignore[assignment]  # which takes seconds
    texts = [path.read_text() for path in sorted(Path("studies").glob("*.yaml"))] + [BASE]
    for text in texts:
        with contextlib.suppress(ImpastoError):
            Study.from_text(text)  # what is imported the first time takes seconds

    def case(draw: random.Random, folder: Path) -> None:
        file = folder / "study.yaml"
        file.write_bytes(mutations.of_yaml(draw.choice(texts), draw))
        read = Study.from_yaml(file)
        read.labelled_plans(12)
        assert Study.from_text(read.to_yaml(), name=read.name) == read

    return case


def databases(place: Path) -> Case:
    """Return the case of a study's folder: status, results, answers, findings and the page."""
    out = made(place)

    def case(draw: random.Random, folder: Path) -> None:
        shutil.copytree(out, folder / "out")
        mutations.of_database(folder / "out" / "results.sqlite", draw)
        read_all(folder / "out", has_page=draw.random() < 0.3)
        if draw.random() < 0.01:  # which takes seconds, of a sound one too
            signal.setitimer(signal.ITIMER_PROF, 60)
            draw_all(folder / "out")

    return case


def packed(place: Path) -> Case:
    """Return the case of a packed study: it is unpacked and read."""
    from impasto.study.results.packing import pack, unpack

    pack(made(place), place / "packed")

    def case(draw: random.Random, folder: Path) -> None:
        shutil.copy(place / "packed", folder / "packed")
        mutations.of_database(folder / "packed", draw)
        unpack(folder / "packed", folder / "out")
        read_all(folder / "out", has_page=draw.random() < 0.3)

    return case


def models(place: Path) -> Case:
    """Return the case of a model's folder, plain or planned: it is opened and asked."""
    import impasto

    folders = [place / "plain", place / "planned"]
    for folder, plan in zip(folders, ("0-1", "0 freeze 1"), strict=True):
        impasto.export(mutations.tiny_model(place / "source"), impasto.Plan.parse(plan), folder)

    def case(draw: random.Random, folder: Path) -> None:
        shutil.copytree(draw.choice(folders), folder / "model")
        mutations.of_model(folder / "model", draw)
        model = impasto.load(str(folder / "model"))
        model.generate(impasto.Plan.identity(model.num_layers), [[1, 2, 3]], max_new_tokens=2)

    return case


def data(place: Path) -> Case:
    """Return the case of a task's data: the task is loaded from it."""
    from impasto.tasks import load_suite

    def case(draw: random.Random, folder: Path) -> None:
        options, name, content = mutations.of_data(draw)
        (folder / name).write_bytes(content)
        load_suite(json.loads(json.dumps(options).replace("FILE", str(folder / name))))

    return case


def made(place: Path) -> Path:
    """Return the folder of a small finished study."""
    from impasto.study import Study

    out = place / "study"
    if not out.exists():
        Study.from_text(BASE, name="fuzzed").run(out, bench=2)
    return out


def draw_all(out: Path) -> None:
    """Draw all figures of a study's folder."""
    from impasto.figures import draw
    from impasto.study import Results
    from impasto.study.results.several import of_all

    read = Results.read_all(out)
    draw(of_all(read[0].study, read), out / "figures")


def read_all(out: Path, has_page: bool) -> None:
    """Read a study's folder in every way that a user does, but drawing; the page takes longest."""
    from impasto.analysis.costs import trade_off
    from impasto.figures import Found
    from impasto.report import content_of, write_page
    from impasto.study.following.status import status
    from impasto.study.results.formats import shown, written
    from impasto.study.results.notices import about_items, about_precisions, still_missing
    from impasto.study.results.table import Results

    list(status(out).lines())
    read = Results.read_all(out)
    for form in ("csv", "json", "md"):
        written(read, form)
    for results in read:
        shown(results)
        for notices in (about_items(results.table), about_precisions(results)):
            list(notices)
        list(still_missing(results))
        list(results.answers)
        trade_off(results.frame(), results.costs)
    if has_page:
        write_page([content_of(Found.of(results, out)) for results in read], out)


KINDS: dict[str, Callable[[Path], Case]] = {
    "studies": studies,
    "databases": databases,
    "models": models,
    "data": data,
    "packed": packed,
}

if __name__ == "__main__":
    sys.exit(main())
