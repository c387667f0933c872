"""Sentences from tables: each states the numbers of its table, and no more than they carry."""

import json
from math import nan
from typing import Any

import numpy as np
import pytest

from analysis.tables import records, table
from impasto.analysis import findings, item_scores
from impasto.analysis.words import loses
from impasto.plan import Plan
from impasto.tasks.metrics import metric_of

CHANCE = 0.1
N = 300
RNG = np.random.default_rng(6)
RIGHT = np.arange(N) < 294  # 98 %


class Made:
    """A study that is made up plan by plan: answers to the same questions."""

    def __init__(self, right: Any = RIGHT, metric="exact_match", **common):
        self.metric, self.right = metric, np.asarray(right, float)
        self.common = {"baseline": self.right.mean(), "n": len(self.right), "metric": metric}
        self.common |= {"chance": CHANCE} | common
        self.rows, self.records = [], []
        self.add("baseline", self.right, plan="0-3", digest="b")

    def add(self, strategy, right, metric=None, **own):
        """Add a plan's answers; a share is of the answers that the baseline has right."""
        if isinstance(right, float):
            right = self.right * (np.arange(len(self.right)) < round(right * len(self.right)))
        right, metric = np.asarray(right, float), metric or self.metric
        row = self.common | {"strategy": strategy, "value": right.mean(), "metric": metric} | own
        row.setdefault("digest", f"{strategy} {json.dumps(own, sort_keys=True)}")
        self.rows.append(row)
        task = row.get("task", "capitals")
        kept = {(r["task"], r["digest"], r["item"]): r for r in self.records}
        for one in records(task, row["digest"], **{metric: right.tolist()}):
            there = kept.get((task, one["digest"], one["item"]))
            if there is None:
                self.records.append(one)
            else:
                there["metrics"] |= one["metrics"]
        return self

    def curve(self, strategy, shares, **own):
        for k, share in shares.items():
            self.add(strategy, share, k=k, **own)
        return self

    def told(self):
        return findings(table(*self.rows), item_scores(self.records))


def test_a_sentence_names_manipulation_task_depth_interval_and_baseline():
    made = Made().curve("freeze", {0: 0.1, 1: 0.4, 2: 0.7, 3: 0.97, 4: 0.98})
    assert made.told() == [
        "Capitals: freezing earlier tokens stops mattering at depth 3 of 4 (95 % interval 3 to 3): "
        "from there accuracy is within 5 points of the baseline's 98 %; at depth 2 it is 70 %."
    ]


def test_from_few_questions_the_depth_cannot_be_told():
    made = Made(right=[1.0] * 3).curve("freeze", {0: 0.0, 1: 1.0, 2: 1.0, 3: 1.0})
    assert made.told() == [
        "Capitals: freezing earlier tokens: from which depth on it no longer matters cannot be "
        "told from 3 questions."
    ]
    more = Made(right=[1.0] * 40).curve("freeze", {0: 0.0, 1: 0.5, 2: 1.0, 3: 1.0})
    assert "from 40 questions: not before depth 2 of 4." in more.told()[0]


def test_a_depth_that_lies_between_two_far_ones_is_told_by_these():
    shares = {0: 0.1, 1: 0.92, 2: 0.92, 3: 0.93, 4: 0.98}
    [sentence] = Made().curve("freeze", shares).told()
    assert "cannot be told from 300 questions: between depth 1 and depth 4 of 4" in sentence


def test_the_critical_depth_is_that_of_the_mean_over_seeds():
    made = Made()
    made.curve("gaussian", {0: 0.1, 1: 0.92, 2: 0.98}, seed=0)
    made.curve("gaussian", {0: 0.1, 1: 0.98, 2: 0.98}, seed=1)
    [sentence] = made.told()
    assert "stops mattering at depth 1 of 4" in sentence
    assert "10 % (mean of 2 seeds)" in sentence


def test_a_manipulation_that_never_matters_is_said_to_never_matter_where_the_questions_show_it():
    shares = {0: 0.97, 2: 0.97, 4: 0.98}
    [sentence] = Made().curve("shuffle", shares).told()
    assert "never matters: at every depth that was run accuracy is within 5 points" in sentence
    assert "(95 % intervals, 300 questions)" in sentence
    [few] = Made(right=[1.0] * 20).curve("shuffle", dict.fromkeys(shares, 1.0)).told()
    assert "cannot be told from 20 questions" in few


def test_a_manipulation_that_always_matters_is_said_to_matter_to_the_end():
    made = Made().curve("freeze", {2: 0.1, 3: 0.2})
    made.add("freeze", RIGHT, k=4, digest="b")
    [to_the_end] = made.told()
    assert "matters up to the last layer, at every depth before 4: 72.2 points or" in to_the_end
    [at_every_depth] = Made().curve("freeze", {1: 0.1, 2: 0.2}).told()
    assert "matters at every depth that was run: 7" in at_every_depth
    [at_the_last] = Made().curve("freeze", {0: 0.97, 2: 0.2}).told()
    assert "still matters at depth 2 of 4, the last that was run" in at_the_last


def test_by_a_task_at_chance_nothing_is_said_but_that():
    made = Made(right=np.arange(60) < 8, chance=0.167, title="arc_easy")
    made.curve("freeze", {0: 0.1, 1: 0.12}).add("skip", 0.1, parameters='{"n": 1}', plan="0 3")
    made.add("plan", 0.1, plan="0-2", digest=Plan.parse("0-2").digest)
    assert made.told() == [
        "arc_easy: the baseline's 13.3 % (6.9 to 24.2 %) is not above chance, 16.7 %: nothing can "
        "be said of plans by this task."
    ]


def test_of_texts_that_a_model_guesses_nothing_is_said_but_that():
    poor = {"metric": "perplexity", "baseline": 322_216.0, "stderr": 9_000.0}
    made = [
        {"strategy": "baseline", "value": 322_216.0, "k": None, "digest": "b"},
        {"strategy": "freeze", "value": 400_000.0, "k": 0, "digest": "p"},
        {"strategy": "plan", "value": 300_000.0, "plan": "0-2", "digest": "q"},
    ]
    told = findings(table(*(row | poor | {"chance": 1536.0} for row in made)))
    assert told == [
        "Capitals: the baseline's perplexity of 322,200 (304,600 to 339,900) is no better than a "
        "guess among all tokens, 1536: nothing can be said of plans by this task."
    ]
    unknown = findings(table(*(row | poor | {"chance": nan} for row in made)))
    assert not any("guess" in sentence for sentence in unknown)


@pytest.mark.parametrize("strategy", ["freeze", "skip_one"])
def test_a_model_that_guesses_is_seldom_said_anything_of(strategy):
    """Baseline and plans guess among four answers: whatever is said of a plan is wrong."""
    said = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        made = Made(right=rng.random(100) < 0.25, chance=0.25)
        for at in range(4):
            own = {"k": at} if strategy == "freeze" else {"parameters": json.dumps({"n": at})}
            made.add(strategy, rng.random(100) < 0.25, **own)
        said += "nothing can be said" not in made.told()[0]
    assert said <= 5


def test_a_task_that_is_hardly_above_chance_is_not_judged_by_five_points():
    made = Made(right=np.arange(N) < 9, metric="rougeL", chance=float("nan"))
    [sentence] = made.curve("freeze", {0: 0.0, 1: 0.03}).told()
    assert "cannot be judged by 5 points: the baseline's 3 %" in sentence


def test_injection_is_told_by_where_the_injected_answer_wins_and_where_it_leaves_no_trace():
    made = Made()
    shares = {0: (0.9, 0.0), 1: (0.6, 0.3), 2: (0.1, 0.9), 3: (0.0, 0.97), 4: (0.0, 0.98)}
    for k, (injected, original) in shares.items():
        made.add("inject", original, metric="answers_original", k=k)
        made.add("inject", injected, metric="answers_injected", k=k)
    [sentence] = made.told()
    assert "more often than the original up to depth 1 of 4 (95 % interval 1 to 1" in sentence
    assert "at most 90 %)" in sentence
    assert "from depth 3 on (95 % interval 2 to 3) the original answer is untouched" in sentence


def test_from_few_questions_it_cannot_be_said_whether_an_injected_answer_wins():
    made = Made(right=[1.0] * 4)
    made.add("inject", 0.25, metric="answers_original", k=0)
    made.add("inject", 0.5, metric="answers_injected", k=0)
    [sentence] = made.told()
    assert "cannot be said, from 4 questions, to bring out the injected answer more" in sentence
    assert "untouched cannot be told from 4 questions" in sentence


def test_a_family_is_told_by_where_it_holds_and_where_it_breaks():
    made = Made()
    for n, share in enumerate((0.1, 0.97, 0.2, 0.98, 0.97, 0.98)):
        made.add("skip_one", share, parameters=json.dumps({"n": n}))
    *_, sentence = made.told()
    assert sentence.startswith(
        "Skip one layer (Capitals, the baseline's accuracy 98 %): layer 0 or 2"
    )
    assert "costs 71.1 points or more; any other costs at most 4 points" in sentence
    assert sentence.endswith("(95 % intervals, corrected for 6 plans).")


def test_a_familys_numbers_are_ends_of_intervals_that_hold_together():
    """Every plan truly loses 10 points: none of the numbers may say otherwise."""
    wrong = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        right = rng.random(100) < 0.8
        made = Made(right=right)
        for n in range(8):
            answers = right & (rng.random(100) < 0.875)
            made.add("skip_one", answers, parameters=json.dumps({"n": n}))
        sentence = made.told()[-1]
        numbers = [part.split(" costs ")[1] for part in sentence.split(": ")[1].split("; ")]
        for told in numbers:
            if told.startswith("at most"):
                wrong += float(told.split()[2]) < 10
            else:
                wrong += float(told.split()[0]) > 10
    assert wrong <= 5


def test_a_written_plan_is_told_by_its_line_and_several_are_a_family():
    made = Made().add("plan", 0.5, plan="0-1 [2-3]", digest=Plan.parse("0-1 [2-3]").digest)
    [sentence] = made.told()
    assert sentence.startswith("0-1 [2-3] (Capitals, the baseline's accuracy 98 %) loses 48 points")
    assert "(95 % interval 42." in sentence
    made.add("plan", 0.98, plan="0-3 3", digest=Plan.parse("0-3 3").digest)
    *_, both = made.told()
    assert "Written plans (Capitals" in both
    assert "0-1 [2-3] costs 4" in both


def test_the_baseline_alone_has_no_finding():
    assert Made().told() == []


def test_a_benchmark_is_told_by_its_main_metric_alone():
    made = Made(metric="acc_norm").curve("freeze", {0: 0.1, 1: 0.98})
    made.curve("freeze", {0: 0.5, 1: 0.6}, metric="acc")
    [sentence] = made.told()
    assert "from there accuracy is within 5 points of the baseline's 98 %" in sentence
    assert "at depth 0 it is 10 %" in sentence


def test_a_filters_name_is_said():
    made = Made(metric="exact_match,strict-match").add("skip", 0.5, parameters='{"n": 1}')
    assert "the baseline's accuracy (strict-match) 98 %" in made.told()[-1]


def test_of_a_perplexity_it_is_said_how_much_more_it_is():
    rows, kept = [], []
    log_p = RNG.normal(-2, 0.3, size=50)
    plans = {"baseline": 0.0, "skip": 0.7, "freeze": 0.001}
    for strategy, less in plans.items():
        values = log_p - less * (1 + 0.1 * RNG.random(50))
        kept += records("wikitext", strategy, perplexity=values.tolist())
        rows.append({"strategy": strategy, "digest": strategy, "value": np.exp(-values.mean())})
        rows[-1] |= {"k": 0} if strategy == "freeze" else {}
    own = {"task": "wikitext", "title": "wikitext", "metric": "perplexity", "chance": np.nan}
    own |= {"baseline": rows[0]["value"], "n": 50}
    depth, skip = findings(table(*(row | own for row in rows)), item_scores(kept))
    assert f"perplexity is within 5 % of the baseline's {rows[0]['value']:.4g}" in depth
    assert f"the baseline's perplexity {rows[0]['value']:.4g}) loses 108." in skip


def test_a_loss_that_may_be_anything_is_not_told():
    rows, kept = [], []
    for strategy, n in (("baseline", None), ("skip", 1), ("skip", 2)):
        digest = f"{strategy}{n}"
        values = [-2.0 - (n or 0), -2.0 - 9 * (n or 0)]
        kept += records("texts", digest, perplexity=values)
        rows.append({"strategy": strategy, "digest": digest, "value": np.exp(-np.mean(values))})
        rows[-1] |= {"parameters": json.dumps({"n": n} if n else {})}
    own = {"task": "texts", "metric": "perplexity", "chance": np.nan, "baseline": np.exp(2), "n": 2}
    sentence = findings(table(*(row | own for row in rows)), item_scores(kept))[-1]
    assert "what every one of 2 costs cannot be told from so few texts" in sentence


def test_several_tasks_are_averaged_first_and_then_told_one_by_one():
    made = Made()
    made.add("skip", 0.5, parameters='{"n": 1}')
    other = {"task": "sums", "title": "Sums"}
    made.add("baseline", RIGHT, digest="b", plan="0-3", **other)
    digest = made.rows[1]["digest"]
    made.add("skip", 0.9, parameters='{"n": 1}', digest=digest, **other)
    low = {"task": "low", "title": "Low", "baseline": 0.1}
    made.add("baseline", RIGHT & (np.arange(N) < 30), digest="b", plan="0-3", **low)
    made.add("skip", 0.1, parameters='{"n": 1}', digest=digest, **low)
    told = [sentence for sentence in made.told() if "cheaper" not in sentence]
    assert told[0].startswith("Low: the baseline's 10 %")
    assert "(average over 2 tasks without Low, the baseline's accuracy 98 %) loses 28" in told[-3]
    assert "(Capitals, " in told[-2]
    assert "(Sums, " in told[-1]


def test_a_group_speaks_for_its_tasks():
    made = Made(metric="acc", task="mmlu", title="MMLU").add("skip", 0.5, parameters='{"n": 1}')
    for row in list(made.rows):
        made.rows.append(row | {"task": "law", "title": "Law", "part_of": "mmlu"})
    assert [s for s in made.told() if "Law" in s] == []


def test_a_plan_without_a_value_cannot_be_judged():
    made = Made().curve("freeze", {0: 0.1, 1: 0.98}).add("skip", 0.5, parameters='{"n": 1}')
    for row in made.rows[2:]:
        row["value"] = float("nan")
    told = made.told()
    assert any("freezing earlier tokens cannot be judged: some scores" in one for one in told)
    assert any("Skip (Capitals" in one and "cannot be judged: some scores" in one for one in told)


def test_without_items_the_sentences_say_less():
    made = Made().curve("freeze", {0: 0.1, 1: 0.4, 2: 0.7, 3: 0.97, 4: 0.98})
    [sentence] = findings(table(*made.rows))
    assert "cannot be told" in sentence or "stops mattering" in sentence


def test_a_plan_that_is_better_gains():
    assert loses(0.02, -0.01, 0.05, metric_of("acc")) == "loses 2 points (95 % interval −1 to 5)"
    better = loses(-0.02, -0.05, 0.01, metric_of("acc"), ", corrected for 9 plans")
    assert better == "gains 2 points (95 % interval −1 to 5, corrected for 9 plans)"
    assert loses(-1e-6, -0.05, 0.05, metric_of("kl")) == "loses 0 % (95 % interval −5 to 5)"
