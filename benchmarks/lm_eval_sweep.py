"""Time a study of many plans on benchmarks, and the same by lm-eval's own model class in a loop.

Sixty plans like paper B's on the model stories260K, on arc_easy, hellaswag, winogrande and
lambada_openai, 200 documents each. The loop puts each plan on the model by `impasto.apply` and runs
lm-eval's `simple_evaluate` with `HFLM`. Needs real benchmark files, as lm_eval_parity.py does:

    IMPASTO_REAL_DATA=folder python benchmarks/lm_eval_sweep.py [--sampled N] [--limit N]

`--sampled N` runs the loop for N plans spread over the study and scales its time up. Prints both
times and their ratio, and exits with 1 where a number differs or the study is not 5 times faster.
"""

import argparse
import json
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

import impasto
from impasto import Plan, Study
from lm_eval_parity import DATA, Case, definitions, differences, localised, ours, theirs

TASKS = {
    "arc_easy": {"test": "arc_easy.jsonl"},
    "hellaswag": {"validation": "hellaswag.jsonl"},
    "winogrande": {"validation": "winogrande.jsonl"},
    "lambada_openai": {"test": "lambada_openai.jsonl"},
}
STUDY = Path(impasto.__file__).parent / "studies" / "painters.yaml"
PLANS = 60
WANTED = 5.0


def painters(layers: int) -> list[str]:
    """Return sixty plans: paper B's families as in the study painters, then more like them.

    Five layers have forty different plans in those families, most of them loops of Figure 10. The
    others skip, reverse, repeat or run side by side other spans than the middle.
    """
    study = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    text = json.dumps({"model": "any", "tasks": ["capitals"], "plans": study["plans"]})
    labelled = Study.from_text(text).labelled_plans(layers)
    plans = dict.fromkeys(str(entry.plan) for entry in labelled)
    last = layers - 1
    for first, final in combinations(range(layers), 2):
        middle, size = (first + final) // 2, final - first + 1
        for edited in ("", f"{final}-{first}", f"{middle}*{size}", f"[{first}-{final}]"):
            before = f"0-{first - 1}" if first else ""
            after = f"{final + 1}-{last}" if final < last else ""
            line = " ".join(part for part in (before, edited, after) if part)
            if line:
                plans[str(Plan.parse(line, layers=layers))] = None
    return list(plans)[:PLANS]


def main() -> int:
    """Time both, compare their numbers, and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sampled", type=int, default=PLANS, help="plans that the loop runs")
    parser.add_argument("--limit", type=int, default=200, help="documents per task")
    parser.add_argument("--batch", type=int, default=32, help="the loop's batch size")
    asked = parser.parse_args()
    hub = DATA / "data" / "hub"
    cases = [
        Case(name, {split: hub / file for split, file in files.items()}, asked.limit)
        for name, files in TASKS.items()
    ]
    model = impasto.load(DATA / "models" / "stories260K")
    plans = painters(model.num_layers)
    tasks = {name: localised(task, cases[i].files) for i, (name, task) in _numbered(cases)}
    sampled = plans[:: max(1, len(plans) // asked.sampled)][: asked.sampled]
    began = time.perf_counter()
    found = ours(cases, model, plans)
    study = time.perf_counter() - began  # lm-eval's index of its tasks included
    print(f"study: {len(plans)} plans in {study:.1f} s", flush=True)
    mine = {name: dict(zip(plans, metrics, strict=True)) for name, metrics in found.items()}
    began, wrong = time.perf_counter(), 0
    for line in sampled:
        with impasto.apply(model.hf, Plan.parse(line)):
            others = theirs(tasks, asked.limit, model, asked.batch)
        for name, values in others.items():
            faults = differences(mine[name][line], values)
            wrong += bool(faults)
            for fault in faults:
                print(f"{name} under {line}: {fault}")
    loop = (time.perf_counter() - began) * len(plans) / len(sampled)
    scaled = f", scaled up from {len(sampled)}" if len(sampled) < len(plans) else ""
    print(f"loop: {loop:.1f} s{scaled}\nratio: {loop / study:.1f}; results that differ: {wrong}")
    return int(wrong > 0 or loop / study < WANTED)


def _numbered(cases: list[Case]) -> Any:
    return enumerate(definitions([case.name for case in cases]).items())


if __name__ == "__main__":
    sys.exit(main())
