"""A page of ten thousand plans: it opens within two seconds and fits an attachment."""

import json
import random
import time

import pandas as pd
import pytest

from browser import Opened, chromium, launched
from impasto import strategies
from impasto.figures import Found
from impasto.report import write_report
from impasto.report.flips import MOST, Cell, find_flips, said
from impasto.study import Results, Study
from thinning import thinned

LAYERS = 32


def big(plans=1000, tasks=10, items=60):
    """Return the results of a large study, every answer included."""
    rng = random.Random(0)
    families = ["skip", "reverse", "parallel", "middle_repeat", "skip_one", "switch", "freeze"]
    labelled = [("baseline", {}, strategies.baseline(LAYERS))]
    for name in families:
        labelled += [(name, *found) for found in strategies.expand(name, LAYERS)]
    seeds = {"k": "all", "seed": list(range(max(40, plans // LAYERS)))}
    labelled += [("gaussian", *found) for found in strategies.expand("gaussian", LAYERS, **seeds)]
    labelled = labelled[:plans]
    rows, records = [], []
    for task in range(tasks):
        answered: dict[str, list[bool]] = {}
        for strategy, parameters, plan in labelled:
            right = [rng.random() < 0.7 or strategy == "baseline" for _ in range(items)]
            is_new = plan.digest not in answered
            right, digest, line = answered.setdefault(plan.digest, right), plan.digest, str(plan)
            for item, is_right in enumerate(right if is_new else ()):
                records.append(
                    {"task": f"t{task}", "digest": digest, "plan": line}
                    | {"item": f"item {item}", "responses": [f"answer {is_right} {item}"]}
                    | {"metrics": {"exact_match": is_right}}
                )
            value = sum(right) / items
            others = {k: v for k, v in parameters.items() if k not in ("k", "seed")}
            rows.append(
                {"study": "s", "model": "m", "layers": LAYERS, "task": f"t{task}"}
                | {"title": f"Task {task}", "part_of": "", "strategy": strategy}
                | {"k": parameters.get("k"), "seed": parameters.get("seed")}
                | {"parameters": json.dumps(others), "plan": str(plan), "digest": plan.digest}
                | {"metric": "exact_match", "value": value, "stderr": 0.05, "n": items}
                | {"chance": 0.1, "baseline": 1.0, "truncated": 0, "not_finite": 0}
            )
    frame = pd.DataFrame(rows).astype({"k": "Int64", "seed": "Int64"})
    return Results(Study("big", ("m",), (), ()), frame, records)


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="the page is tested in Chromium")
@pytest.mark.parametrize(
    ("plans", "tasks", "items", "seconds"), [(1000, 10, 60, 2), (10_000, 1, 20, 2)]
)
def test_thousands_of_plans_open_within_seconds(plans, tasks, items, seconds, tmp_path):
    results = big(plans, tasks, items)
    assert len(set(results.table["plan"])) > 0.9 * plans
    path = write_report([Found(tmp_path, results, {})], tmp_path)
    assert path.stat().st_size < 10e6
    with launched() as browser:
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            opened = Opened(browser, path)
            taken.append(time.perf_counter() - start)
            assert opened.page.locator("#chart .point").count() > 300
            assert opened.complaints == []
            opened.page.context.close()
    print(f"{path.stat().st_size / 1e6:.2f} MB, opened in {sorted(taken)[1]:.2f} s")
    assert sorted(taken)[1] < seconds


def records(answers, digest, task="t"):
    return [
        {"task": task, "digest": digest, "item": str(i), "responses": [f"said {i}"]}
        | {"metrics": {"exact_match": right}}
        for i, right in enumerate(answers)
    ]


def test_flips_are_counted_whole_and_kept_in_part():
    baseline, plan = [True] * 80 + [False] * 20, [False] * 80 + [True] * 20
    found = find_flips(
        records(baseline, "b") + records(plan, "p"), {"t": "exact_match"}, "b", MOST // 7
    )
    cell = found.cells["t"]["p"]
    assert (cell.lost, cell.gained, found.shown) == (80, 20, 7)
    assert cell.some_lost == [(i, f"said {i}") for i in range(7)]
    assert cell.some_gained == [(80 + i, f"said {80 + i}") for i in range(7)]


def test_glues_answers_are_right_or_wrong_though_its_score_is_of_many():
    def answered(said, digest, **more):
        return [
            {"task": "cola", "digest": digest, "item": f"{i}", "responses": [float(one)]}
            | {"metrics": {"matthews": [one, 1], "score": [one, 1, None]} | more}
            for i, one in enumerate(said)
        ]

    metrics = {"cola": "score"}
    found = find_flips(answered([1, 1, 0], "b") + answered([1, 0, 1], "p"), metrics, "b", 2)
    assert found.cells["cola"]["p"] == Cell(1, 1, [(1, "0")], [(2, "1")])
    without = {"matthews": None, "pearson": [0.5, 1]}
    correlated = answered([1, 1], "b", **without) + answered([0, 0], "p", **without)
    assert find_flips(correlated, metrics, "b", 2).cells == {}


def test_an_injection_is_compared_by_the_original_answer():
    injected = [r | {"metrics": {"answers_original": False}} for r in records([1, 1], "i")]
    found = find_flips(records([True, True], "b") + injected, {"t": "exact_match"}, "b", 2)
    assert found.cells["t"]["i"].lost == 2


@pytest.mark.parametrize(
    ("responses", "line"),
    [
        ([" Paris\n"], "Paris"),
        (["a", "b"], "a | b"),
        (["x" * 200], "x" * 89 + "…"),
        ([[-1.5, True]], "log p -1.50"),
        ([[-3.0, False], [-1.0, True], [float("nan"), False]], "choice 2 of 3 by log p"),
        ([], ""),
        ([{"odd": 1}], ""),
    ],
)
def test_what_was_said_is_a_short_line(responses, line):
    assert said(responses) == line


@pytest.mark.parametrize("metric", ["exact_match", "perplexity"])
@pytest.mark.parametrize("share", thinned([1.0, 0.3, 0.0]))
def test_a_study_whose_scores_are_partly_no_numbers_has_its_page(metric, share, tmp_path):
    results = big(plans=20, tasks=2, items=3)
    known = results.table.index < share * len(results.table)
    results.table["value"] = results.table["value"].where(known)
    results.table["baseline"] = results.table["baseline"].where(known | (share > 0))
    results.table["metric"] = metric
    path = write_report([Found(tmp_path, results, {})], tmp_path)
    assert path.stat().st_size > 20_000
