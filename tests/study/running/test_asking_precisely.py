"""A study asks until every plan's change is known as precisely as was wanted, and no longer."""

import json
import os
import re
import signal
from itertools import pairwise
from typing import Any, cast

import pandas as pd
import pytest
from typer.testing import CliRunner

from impasto.cli import app
from impasto.study import Results, Stopped, Study, StudyError
from impasto.study.following.status import status
from impasto.study.running import answering, runner
from impasto.tasks import capitals
from thinning import thinned

ALL = 194  # capitals


@pytest.fixture(autouse=True)
def several_shards(monkeypatch):
    """Have all of capitals take eight shards' time, so that rounds have more than one."""
    monkeypatch.setattr(answering, "expected_seconds", lambda *given: {"capitals": 200.0})


def study(limit, *, plans='["0-2 freeze 3"]'):
    text = f"model: m\ntasks: [{{name: capitals, limit: {limit}}}]\nplans: {plans}\n"
    return Study.from_text(text, name="mine")


def asked(results):
    """Return the items that every plan was asked, in order; all plans were asked the same."""
    by_plan = {}
    for answer in results.answers:
        by_plan.setdefault(answer["digest"], []).append(answer["item"])
    items = list(by_plan.values())
    assert all(each == items[0] for each in items)
    return items[0]


def same(found, whole):
    pd.testing.assert_frame_equal(found.table, whole.table, check_exact=True)
    return list(found.answers) == list(whole.answers) and found.precisions == whole.precisions


PLANS = 4  # the baseline and these
BOTH = '["0-2 freeze 3", "0-1 freeze 2-3", {inject: {k: 1}}]'


def test_plans_that_change_nothing_are_known_soon(model, tmp_path):
    said = []
    results = study("{within: 4%}").run(tmp_path, model=model, save_every=25.0, say=said.append)
    [reached] = results.precisions
    assert reached.asked == 100
    assert reached.is_enough
    assert 0.02 < (reached.widest or 0.0) <= 0.04
    assert set(results.table["n"]) == {100}
    assert set(asked(results)) == {item.id for item in capitals(limit=100).items}
    assert said == [
        "capitals: asked 100 of 194 questions; the widest interval is ± 2.72 points (plan "
        "0-2 freeze 3), wanted ± 4"
    ]
    assert status(tmp_path).state == "finished"


def test_it_does_not_stop_because_no_item_has_changed_yet(model):
    results = study("{within: 2%}").run(model=model, save_every=25.0)
    assert len(asked(results)) == 137  # 1.96·√2 / 139 is the first to be at most 2 %


def test_a_precision_that_cannot_be_reached_says_how_far_it_came(wavering, tmp_path):
    said = []
    wanted = study("{within: 2%}", plans=BOTH)
    results = wanted.run(tmp_path, model=wavering(), save_every=25.0, say=said.append)
    told = said[-1]
    assert re.fullmatch(
        r"capitals: asked all 194 questions; the widest interval is ± [5-8]\.\d+ points "
        r"\(plan 0-1 freeze 2-3\), wanted ± 2",
        told,
    )
    assert len(asked(results)) == ALL
    read = Results.read(tmp_path)
    assert list(map(str, read.precisions)) == [told]
    assert not read.gaps
    assert f"known    {told}" in list(status(tmp_path).lines())
    done = CliRunner().invoke(app, ["results", str(tmp_path)])
    assert told in done.stderr


@pytest.mark.parametrize(
    ("limit", "given", "count"),
    [("{within: 2%, at_most: 150}", None, 150), ("{within: 2%, at_most: 150}", 60, 60),
     ("{within: 2%}", 170, 170), ("{within: 2%, at_most: 150}", 160, 150)],
)  # fmt: skip
def test_at_most_and_the_limit_of_the_command_line_bound_it(limit, given, count, wavering):
    wanted = study(limit, plans=BOTH)
    results = wanted.run(model=wavering(), save_every=25.0, limit=given)
    assert set(asked(results)) == {item.id for item in capitals(limit=count).items}
    assert "as many as at_most allows; the widest interval is ±" in str(results.precisions[0])


def test_rounds_are_nested_and_each_goes_as_far_as_the_widest_interval_asks(
    wavering, tmp_path, monkeypatch
):
    rounds = []
    drive = runner.drive

    def driven(connection, units, *given):
        rounds.append((min(unit.start for unit in units), max(unit.stop for unit in units)))
        drive(connection, units, *given)

    monkeypatch.setattr(runner, "drive", driven)
    results = study("{within: 8%}", plans=BOTH).run(tmp_path, model=wavering(), save_every=25.0)
    assert [start for start, _ in rounds] == [0, *(stop for _, stop in rounds[:-1])]
    assert rounds[0] == (0, 100)
    assert 2 <= len(rounds) <= 4
    last = rounds[-1][1]
    assert 100 < last < ALL
    assert results.precisions[0].is_enough
    assert set(asked(results)) == {item.id for item in capitals(limit=last).items}


def crash():
    raise RuntimeError("the power went")


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("act", thinned([crash, interrupt], 4))
def test_a_run_that_ends_early_goes_on_to_the_same_questions_and_table(at, act, wavering, tmp_path):
    wanted = study("{within: 7%}", plans=BOTH)
    undisturbed = wavering()
    whole = wanted.run(tmp_path / "whole", model=undisturbed, save_every=25.0)
    assert undisturbed.calls >= 6
    first = wavering(crash_at=at, act=act)
    if at <= undisturbed.calls - (act is interrupt):
        with pytest.raises((RuntimeError, Stopped)):
            wanted.run(tmp_path / "out", model=first, save_every=25.0)
        assert status(tmp_path / "out").state in ("failed", "stopped")
    second = wavering()
    results = wanted.run(tmp_path / "out", model=second, save_every=25.0)
    assert first.asked + second.asked == undisturbed.asked
    assert same(results, whole)
    assert same(Results.read(tmp_path / "out"), whole)


def test_a_run_divided_otherwise_asks_the_same_questions(wavering):
    wanted = study("{within: 7%}", plans=BOTH)
    first, *others = (
        asked(wanted.run(model=wavering(), save_every=seconds)) for seconds in (10.0, 25.0, 999.0)
    )
    assert others == [first, first]


def test_what_was_asked_is_not_asked_again_at_another_precision(wavering, tmp_path):
    loose, tight = (study(f"{{within: {within}}}", plans=BOTH) for within in ("9%", "6%"))
    first, second, third = wavering(), wavering(), wavering()
    before = len(asked(loose.run(tmp_path, model=first, save_every=25.0)))
    after = asked(tight.run(tmp_path, model=second, save_every=25.0))
    assert before < len(after)
    assert second.asked == PLANS * (len(after) - before)
    again = asked(loose.run(tmp_path, model=third, save_every=25.0))
    assert third.asked == 0
    assert len(again) == before


def test_a_lower_at_most_is_kept_to_in_a_folder_that_holds_more(wavering, tmp_path):
    whole = study("{within: 6%}", plans=BOTH).run(tmp_path, model=wavering(), save_every=25.0)
    fewer = study("{within: 6%, at_most: 45}", plans=BOTH)
    results = fewer.run(tmp_path, model=wavering(), save_every=25.0)
    assert set(asked(results)) == {item.id for item in capitals(limit=45).items}
    idle = wavering()
    again = study("{within: 6%}", plans=BOTH).run(tmp_path, model=idle, save_every=25.0)
    assert idle.asked == 0
    assert same(again, whole)


def test_a_new_plan_is_asked_what_the_others_were_and_more_where_it_needs_more(wavering, tmp_path):
    study("{within: 4%}").run(tmp_path, model=wavering(), save_every=25.0)
    later = wavering()
    results = study("{within: 8%}", plans=BOTH).run(tmp_path, model=later, save_every=25.0)
    assert 100 < len(asked(results)) < ALL
    assert later.asked == PLANS * len(asked(results)) - 2 * 100


def test_an_unfinished_study_says_that_it_may_ask_more(wavering, tmp_path):
    with pytest.raises(RuntimeError):
        study("{within: 2%}", plans=BOTH).run(
            tmp_path, model=wavering(crash_at=2, act=crash), save_every=25.0
        )
    lines = list(status(tmp_path).lines())
    assert f"cells    {PLANS} of {6 * PLANS} (so far, 17 %)" in lines
    known = "capitals: asking 137 of 194 questions; no interval is known yet, wanted ± 2"
    assert f"known    {known}" in lines
    assert any(line.startswith("left     at most") for line in lines)
    read = Results.read(tmp_path)
    assert read.gaps
    assert str(read.precisions[0]) == known


def test_a_study_that_ends_between_two_rounds_is_not_finished(wavering, tmp_path, monkeypatch):
    from impasto.study.results.notices import still_missing

    wanted = study("{within: 7%}", plans=BOTH)
    whole = wanted.run(tmp_path / "whole", model=wavering(), save_every=25.0)
    register, calls = runner.register, []

    def dies(*given):
        calls.append(given)
        return register(*given) if len(calls) == 1 else crash()

    with monkeypatch.context() as patch:
        patch.setattr(runner, "register", dies)
        with pytest.raises(RuntimeError):
            wanted.run(tmp_path / "out", model=wavering(), save_every=25.0)
    read = Results.read(tmp_path / "out")
    assert not read.gaps
    notices = list(still_missing(read))
    assert notices[0].startswith("not finished")
    assert "  capitals: as many more as its precision takes" in notices
    assert same(wanted.run(tmp_path / "out", model=wavering(), save_every=25.0), whole)
    assert list(still_missing(whole)) == []


class Broken:
    """A model whose scores break down under one plan."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def loglikelihood(self, plans, requests, donors=None, progress=None):
        broken = [str(plan) == "0-1 freeze 2-3" for plan in plans]
        return [[(float("nan") if none else -1.0, True)] * len(requests) for none in broken]


def test_plans_whose_scores_are_no_numbers_have_no_interval(model, tmp_path):
    (tmp_path / "own").mkdir()
    rows = [{"text": "a", "answer": " b"} for _ in range(300)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "own" / "said.yaml").write_text(
        "task: said\ndataset_path: json\noutput_type: loglikelihood\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "doc_to_text: '{{text}}'\ndoc_to_target: '{{answer}}'\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    entry = f"{{name: said, include_path: {tmp_path / 'own'}, limit: {{within: 4%}}}}"
    for plans, told in (
        ('["0-1 freeze 2-3"]', "asked 100 of 300 questions; no interval is known, wanted ± 4"),
        ('["0-1 freeze 2-3", "0-2 freeze 3"]', "± 2.72 points (plan 0-2 freeze 3), wanted ± 4"),
    ):
        text = f"model: m\ntasks: [{entry}]\nplans: {plans}\n"
        results = Study.from_text(text).run(model=cast(Any, Broken(model)), allow_code=True)
        assert str(results.precisions[0]).endswith(told)


def test_progress_is_of_all_that_may_be_asked(wavering):
    told = []
    study("{within: 5%, at_most: 180}", plans=BOTH).run(
        model=wavering(), save_every=25.0, progress=told.append
    )
    shares = [standing.share for standing in told if standing.of]
    assert all(then <= now + 1e-9 for then, now in pairwise(shares))
    assert shares[-1] == 1
    first = next(i for i, standing in enumerate(told) if standing.cells)
    assert told[first].is_most
    assert not told[-1].is_most
    assert told[-1].cells == told[-1].of


def test_other_tasks_of_the_study_are_asked_what_they_always_were(model, tmp_path):
    text = (
        "model: m\ntasks: [{name: capitals, limit: {within: 4%}}, {name: arithmetic, limit: 30}]\n"
        'plans: ["0-2 freeze 3"]\n'
    )
    results = Study.from_text(text).run(tmp_path, model=model)
    counts = results.table.groupby("task")["n"].unique().map(list).to_dict()
    assert counts == {"capitals": [100], "arithmetic-2": [30]}
    assert [reached.name for reached in results.precisions] == ["capitals"]


def test_a_study_without_another_plan_has_no_change_to_know(model):
    with pytest.raises(ValueError, match="no other plan runs on it: give it a number"):
        study("{within: 4%}", plans="[baseline]").run(model=model)


def test_what_is_written_down_reads_back(tmp_path, model):
    wanted = study("{within: 4%, at_most: 120}")
    wanted.run(tmp_path, model=model)
    read = Study.from_yaml(tmp_path / "study.yaml")
    assert read == wanted.as_run(model="fake")
    limited = read.as_run(limit=50)
    assert limited.tasks[0].options["limit"] == {"within": "4%", "at_most": 50}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("{within: 0}", "within is a share from 0.01 % to 100 %, such as 2% or 0.02, not 0"),
        ("{within: -2%}", "not '-2%'"),
        ("{within: 101%}", "not '101%'"),
        ("{within: 1.5}", "not 1.5"),
        ("{within: 2}", "not 2"),
        ("{within: lots}", "not 'lots'"),
        ("{within: true}", "not True"),
        ("{within: .nan}", "not nan"),
        ("{within: [2%]}", "not ['2%']"),
        ("{within: 2%, atmost: 9}", "limit has no 'atmost'; did you mean 'at_most'? It has within"),
        ("{within: 2%, at_most: 0}", "at_most is a whole number from 1, not 0"),
        ("{within: 2%, at_most: true}", "at_most is a whole number from 1, not True"),
        ("{at_most: 10}", "limit says how precisely, limit: {within: 2%}, or how many"),
        ("{}", "limit says how precisely"),
    ],
)
def test_a_limit_that_cannot_be_is_told_with_its_line(limit, message, line_of):
    tasks = f"[arithmetic,\n  {{name: capitals, limit: {limit}}}]"
    text = f"model: m\n\ntasks: {tasks}\nplans: [freeze]\n"
    with pytest.raises(StudyError, match=re.escape(message)) as raised:
        Study.from_text(text)
    assert line_of(raised.value) == 4
    assert "\n" not in str(raised.value)


def test_a_head_that_is_fitted_is_asked_all_at_once(line_of):
    text = "model: m\ntasks: [{name: glue, tasks: rte, limit: {within: 2%}}]\nplans: [skip_one]\n"
    with pytest.raises(StudyError, match="glue asks a head that is fitted first") as raised:
        Study.from_text(text)
    assert line_of(raised.value) == 2


@pytest.mark.parametrize("share", ["0.04", "4 %", '"4%"', "4.0%"])
def test_a_share_is_written_as_one_likes(share, model):
    results = study(f"{{within: {share}}}").run(model=model)
    assert results.precisions[0].within == 0.04


def test_a_group_is_known_as_a_whole_and_each_task_asked_the_same_share(tmp_path):
    import impasto
    from harness_reference import mmlu, write

    subjects = {"anatomy": 150, "virology": 60, "astronomy": 40}
    most = mmlu(150, tuple(subjects))
    rows = [
        row
        for subject, count in subjects.items()
        for row in [row for row in most if row["subject"] == subject][:count]
    ]
    (tmp_path / "own").mkdir()
    members = "".join(f"  - mmlu_{subject}\n" for subject in subjects)
    (tmp_path / "own" / "some_mmlu.yaml").write_text(
        f"group: some_mmlu\ntask:\n{members}"
        "aggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    )
    files = {split: write(tmp_path / f"{split}.jsonl", rows) for split in ("test", "dev")}
    entry = {
        "name": "some_mmlu", "include_path": str(tmp_path / "own"), "data": files,
        "subset_column": "subject", "num_fewshot": 0, "limit": {"within": "20%"},
    }  # fmt: skip
    text = json.dumps({"model": "demo", "tasks": [entry], "plans": ["0-3 [4-7] 8-11"]})
    results = Study.from_text(text).run(
        tmp_path / "out", model=impasto.load("demo"), allow_code=True
    )
    [reached] = results.precisions
    assert (reached.name, reached.asked, reached.items) == ("some_mmlu", 100, 250)
    counts = results.table.groupby("task")["n"].unique().map(list).to_dict()
    assert counts == {
        "mmlu_anatomy": [60], "mmlu_virology": [24], "mmlu_astronomy": [16], "some_mmlu": [100]
    }  # fmt: skip
    assert set(asked_of(results, "mmlu_virology")) == {str(number) for number in range(24)}


def asked_of(results, task):
    return [answer["item"] for answer in results.answers if answer["task"] == task]
