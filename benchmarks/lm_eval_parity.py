"""Show that impasto's numbers are lm-evaluation-harness's own.

Every metric of every task, standard errors included, under the unchanged model and under ten other
plans, is compared with lm-eval's `simple_evaluate` on its own model class `HFLM`, which runs the
same weights: as they are, or under `impasto.apply`. lm-eval gets its tasks by its own way to local
files, not by impasto's. Needs real benchmark files and the model stories260K:

    IMPASTO_REAL_DATA=folder python benchmarks/lm_eval_parity.py [--limit N] [--tasks …] [--plans …]

The folder has `data/hub/*.jsonl` in the columns of their hub data sets, `data/wikitext2` and
`models/stories260K`. Prints one line per task and plan; exits with 1 where a number differs.
`--tasks` and `--plans` choose a part, so that the whole can be run piece by piece: plans count from
0, the unchanged model, to 10.
"""

import argparse
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import impasto
from impasto import Plan, Study
from impasto.tasks.harness.quiet import quiet, sampling_here

DATA = Path(os.environ.get("IMPASTO_REAL_DATA") or Path(__file__).parents[2] / "shared")
PLANS = (
    "0 2-4",
    "0-1 3-4",
    "0 3 2 1 4",
    "0 [1-3] 4",
    "0 [1-3]*2 4",
    "0 2*3 4",
    "0-2 3-4.mlp",
    "0-3 4.attn",
    "0-1 freeze 2-4",
    "0-2 noise(gaussian, seed=3) 3-4",
)
SUBJECTS = (
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "college_chemistry",
    "econometrics",
    "global_facts",
    "marketing",
    "philosophy",
    "sociology",
    "virology",
)
BOOTSTRAP = 100
TOLERANCE = 2e-4  # relative, of what is no count: log-likelihoods are sums of rounded floats


@dataclass(frozen=True)
class Case:
    """A task, the files of its splits, and how many of its documents are asked."""

    name: str
    files: dict[str, Path]
    limit: int


def cases(limit: int, scratch: Path) -> Iterator[Case]:
    """Yield every case; files that the data do not have in this form are written to `scratch`."""
    hub = DATA / "data" / "hub"
    yield Case("arc_easy", {"test": hub / "arc_easy.jsonl"}, limit)
    yield Case("hellaswag", {"validation": hub / "hellaswag.jsonl"}, limit)
    yield Case("winogrande", {"validation": hub / "winogrande.jsonl"}, limit)
    yield Case("lambada_openai", {"test": hub / "lambada_openai.jsonl"}, limit)
    for name in ("truthfulqa_mc1", "truthfulqa_mc2"):
        yield Case(name, {"validation": hub / "truthfulqa_mc.jsonl"}, limit)
    for subject in SUBJECTS:
        files = {
            split: _filtered(hub / f"mmlu_{split}.jsonl", subject, scratch)
            for split in ("test", "dev")
        }
        yield Case(f"mmlu_{subject}", files, limit)
    gsm8k = {"test": hub / "gsm8k.jsonl", "train": hub / "gsm8k_train.jsonl"}
    yield Case("gsm8k", gsm8k, max(1, limit // 10))
    pages = _pages(DATA / "data" / "wikitext2" / "wiki.test.raw", scratch)
    yield Case("wikitext", {"test": pages}, limit)


def ours(cases: list[Case], model: Any, plans: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return every metric of every case and plan as one study finds it, in lm-eval's words."""
    entries = [
        {
            "name": case.name,
            "limit": case.limit,
            "bootstrap_iters": BOOTSTRAP,
            "data": {split: str(path) for split, path in case.files.items()},
        }
        for case in cases
    ]
    text = json.dumps({"model": "any", "tasks": entries, "plans": ["baseline", *plans]})
    frame = Study.from_text(text).run(model=model).table
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in frame.to_dict(orient="records"):
        name, _, filtering = row["metric"].partition(",")
        found.setdefault((row["task"], row["plan"]), {}).update(
            {
                f"{name},{filtering or 'none'}": row["value"],
                f"{name}_stderr,{filtering or 'none'}": row["stderr"],
            }
        )
    spelled = [str(Plan.parse(plan)) for plan in plans]
    return {case.name: [found[case.name, plan] for plan in spelled] for case in cases}


def theirs(
    tasks: dict[str, dict[str, Any]], limit: int, model: Any, batch: int = 16
) -> dict[str, dict[str, Any]]:
    """Return every metric of every task as lm-eval finds it on the model as it runs now.

    What lm-eval spends on listing the machine's packages and devices is spared.
    """
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    no_list = patch("lm_eval.evaluator.add_env_info", lambda results: None)
    with quiet(), sampling_here(BOOTSTRAP), no_list:
        make: Any = HFLM  # whose declared type is lost where it is registered
        lm = make(pretrained=model.hf, tokenizer=model.tokenizer, batch_size=batch)
        results: Any = simple_evaluate(
            lm,
            tasks=list(tasks.values()),
            limit=limit,
            bootstrap_iters=BOOTSTRAP,
            log_samples=False,
            task_manager=TaskManager(include_defaults=False),  # the definitions say it all
        )
    return {
        name: {metric: value for metric, value in results["results"][name].items() if "," in metric}
        for name in tasks
    }


def definitions(names: list[str]) -> dict[str, dict[str, Any]]:
    """Return lm-eval's own definition of each task."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    index = TaskManager().task_index
    return {name: load_yaml(str(index[name].yaml_path)) for name in names}


def localised(task: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Return lm-eval's definition of a task, reading these files and no other splits."""
    splits = ("training_split", "validation_split", "test_split", "fewshot_split")
    without = {key: None for key in splits if task.get(key) not in files}
    named = {split: str(path) for split, path in files.items()}
    local = {"dataset_path": "json", "dataset_kwargs": {"data_files": named}}
    return task | without | local | {"dataset_name": None}


def differences(mine: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the metrics in which two results differ."""
    if mine.keys() != other.keys():
        return [f"metrics {sorted(mine)} and {sorted(other)}"]
    return [
        f"{metric} {mine[metric]!r}, lm-eval's {other[metric]!r}"
        for metric in mine
        if not _same(mine[metric], other[metric])
    ]


def _same(one: float, other: Any) -> bool:
    if other == "N/A":
        return math.isnan(one)
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)


def _filtered(path: Path, subject: str, scratch: Path) -> Path:
    """Write a subject's rows to a file of their own."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    out = scratch / f"{path.stem}_{subject}.jsonl"
    mine = [line + "\n" for line in lines if json.loads(line)["subject"] == subject]
    out.write_text("".join(mine), encoding="utf-8")
    return out


def _pages(path: Path, scratch: Path) -> Path:
    """Write WikiText as one page a row, in the column of the hub's document-level data set."""
    text = path.read_text(encoding="utf-8")
    pages = re.split(r"(?m)^(?= = [^=].* = $)", text)
    out = scratch / "wikitext.jsonl"
    out.write_text("".join(json.dumps({"page": page}) + "\n" for page in pages if page.strip()))
    return out


def main() -> int:
    """Compare, and print one line for each task and plan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--limit", type=int, default=200, help="documents per task")
    parser.add_argument("--tasks", nargs="*", help="only these")
    every = range(len(PLANS) + 1)
    parser.add_argument("--plans", nargs="*", type=int, choices=every, help="only these")
    asked = parser.parse_args()
    if not (DATA / "models" / "stories260K").is_dir():
        parser.error("IMPASTO_REAL_DATA points at no folder with models/stories260K")
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [
            case
            for case in cases(asked.limit, Path(scratch))
            if not asked.tasks or case.name in asked.tasks
        ]
        known = definitions([case.name for case in chosen])
        for case in chosen:
            plans = every if asked.plans is None else asked.plans
            wrong += compare(case, localised(known[case.name], case.files), plans)
    print("every number is lm-eval's" if not wrong else f"{wrong} results differ")
    return int(wrong > 0)


def compare(case: Case, task: dict[str, Any], plans: Sequence[int]) -> int:
    """Print how a task's numbers compare under these plans; return under how many they differ."""
    model = impasto.load(DATA / "models" / "stories260K")
    unchanged = str(Plan.identity(model.num_layers))
    lines = [(unchanged, *PLANS)[number] for number in plans]
    began = time.perf_counter()
    mine = ours([case], model, lines)[case.name]
    seconds = time.perf_counter() - began
    wrong = 0
    for line, found in zip(lines, mine, strict=True):
        began = time.perf_counter()
        with impasto.apply(model.hf, Plan.parse(line)) if line != unchanged else nullcontext():
            other = theirs({case.name: task}, case.limit, model)[case.name]
        faults = differences(found, other)
        wrong += bool(faults)
        values = "  ".join(f"{m} {v:.6g}" for m, v in found.items() if "_stderr" not in m)
        print(
            f"{case.name:24} {line:32} {'differs' if faults else 'equal':8} {values}"
            f"  ({seconds:.1f} s for all plans; lm-eval {time.perf_counter() - began:.1f} s)",
            *faults,
            sep="\n    ",
            flush=True,
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
