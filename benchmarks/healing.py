"""Healing: what each method wins back of what plans lost, and what it takes (docs/healing.md).

    python benchmarks/healing.py [--plans "0-6 8-11; 0-9"] [--methods linear,lora,last,full]
                                 [--model DIR --texts FILE --length 128] [--set steps=100]
                                 [--keep FILE]

Without a model it is the bundled one, on the texts of its own tasks. KL to the full model is of
texts that neither fit nor chose anything, in nats a token; the interval is that of the paired
differences over these texts, as a share of the plan's KL. Seconds are the processor's, of healing
alone (fitting or training, with the texts that the full model writes, without measuring), so that
other work on the machine does not count; run it with OMP_NUM_THREADS=1. Settings of training are
for the methods that have them. What a file of `--keep` has is not run again. Exits with 1 where
`linear` wins back less than half or takes a minute, or neither `lora` nor `last` wins back 80 % in
five minutes.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import impasto
from impasto.mending.gaps import gaps
from impasto.mending.settings import METHODS
from impasto.plain_data import read_yaml
from impasto.plan import Plan
from impasto.study import Standing
from impasto.table import Table

DEMO_TEXTS = Path(impasto.__file__).parent / "studies" / "demo_texts.txt"
PLANS = {  # by the number of layers
    12: "0-6 8-11; 0-4 6-7 9-11; 0-7 8.mlp 9-11; 0-2 3.mlp 4-7 8.attn 9-11",
    5: "0-1 3-4; 0 2 4; 0-2 3.mlp 4; 0-3",
}
QUICK, LONG = ("linear", 0.5, 60.0), ("lora or last", 0.8, 300.0)


class Row(NamedTuple):
    """A plan, healed by a method.

    Attributes:
        asked: What identifies it.
        plan, healed: KL of the plan and of the healed plan, nats a token.
        low, high: The 95 % interval of their difference.
        seconds: The processor's.
        steps, kept: How many steps were trained, and which was kept.
    """

    asked: dict[str, Any]
    plan: float
    healed: float
    low: float
    high: float
    seconds: float
    steps: int
    kept: int

    @property
    def share(self) -> float:
        """What was won back, of the plan's KL."""
        return 1 - self.healed / self.plan

    @property
    def text(self) -> str:
        """What the table says."""
        low, high = sorted(-100 * end / self.plan + 0.0 for end in (self.low, self.high))
        took = f"{self.seconds:.0f} s"
        share = f"{100 * self.share:.0f} %, {low:.0f} to {high:.0f}"
        return f"{self.healed:.4f} ({share}), {took}"


class Clock:
    """The processor's seconds of a healing, told from its progress."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def __call__(self, standing: Standing) -> None:
        """Note when healing begins, and when measuring does."""
        now, doing = time.process_time(), standing.doing
        if doing.startswith("healing") and not self.began:
            self.began = now
        if doing.startswith("measuring") and not self.ended:
            self.ended = now


def healed(model: Any, asked: Mapping[str, Any]) -> Row:
    """Heal a plan, and measure it."""
    clock, began = Clock(), time.process_time()
    result = impasto.heal(
        model, asked["plan"], asked["texts"], asked["method"], progress=clock, **asked["settings"]
    )
    kl = next(each for each in result.measured if each.name == "kl")
    seconds = clock.ended - (clock.began or began)
    spent = result.spent
    return Row(
        dict(asked), kl.plan, kl.healed, kl.low, kl.high, seconds, spent.steps, spent.kept_step
    )


def rows(model: Any, asked: list[dict[str, Any]], keep: Path | None) -> Iterator[Row]:
    """Yield a row for each that is asked, from a file where it has it."""
    known = []
    if keep is not None and keep.exists():
        known = [Row(*json.loads(line)) for line in keep.read_text().splitlines()]
    for each in asked:
        there = [row for row in known if row.asked == each]
        row = there[-1] if there else healed(model, each)
        if keep is not None and not there:
            with keep.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{each['plan']:30} {each['method']:7} {row.text}", file=sys.stderr, flush=True)
        yield row


def left_out(plan: str, layers: int) -> str:
    """Return what a plan leaves out."""
    return " ".join(str(gap.left_out) for gap in gaps(Plan.parse(plan), layers))


def table(found: list[Row], layers: int) -> Table:
    """Return the table: a row for each plan, a column for each method."""
    methods = list(dict.fromkeys(row.asked["method"] for row in found))
    lines = []
    for plan in dict.fromkeys(row.asked["plan"] for row in found):
        own = {row.asked["method"]: row for row in found if row.asked["plan"] == plan}
        first = next(iter(own.values()))
        texts = [own[method].text if method in own else "" for method in methods]
        lines.append([f"`{plan}`", left_out(plan, layers), f"{first.plan:.4f}", *texts])
    return Table(["plan", "left out", "KL", *(f"`{method}`" for method in methods)], lines)


def missed(found: list[Row]) -> Iterator[str]:
    """Yield each bound that is missed, in a sentence."""
    for plan in dict.fromkeys(row.asked["plan"] for row in found):
        for names, share, seconds in (QUICK, LONG):
            own = [
                row
                for row in found
                if row.asked["plan"] == plan and row.asked["method"] in names.split(" or ")
            ]
            if own and not any(row.share >= share and row.seconds < seconds for row in own):
                best = max(own, key=lambda row: row.share)
                yield (
                    f"{plan}: {names} wins back {100 * best.share:.0f} % in {best.seconds:.0f} s, "
                    f"less than {100 * share:.0f} % in {seconds:.0f} s"
                )


def main() -> int:
    """Heal, print the table, and return 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=Path, default=DEMO_TEXTS)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--plans")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    model = impasto.load(given.model)
    plans = given.plans or PLANS[model.num_layers]
    pairs = dict(pair.split("=", 1) for pair in given.set)
    settings = {name: read_yaml(value, name) for name, value in pairs.items()}
    asked = [
        {
            "model": Path(given.model).name,
            "texts": str(given.texts),
            "plan": plan.strip(),
            "method": method,
            "settings": {
                "length": given.length,
                **{key: v for key, v in settings.items() if key in METHODS[method].model_fields},
            },
        }
        for plan in plans.split(";")
        for method in given.methods.split(",")
    ]
    found = list(rows(model, asked, given.keep))
    print(table(found, model.num_layers).written("md"))
    faults = list(missed(found))
    print("\n".join(faults))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
