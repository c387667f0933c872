"""GLUE's tasks: its columns, labels, metrics and average, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

import tiny
from impasto.error import UserError
from impasto.tasks import check_entry, load_suite
from impasto.tasks import glue as made
from impasto.tasks.glue.metrics import measure, standard_error
from impasto.tasks.glue.sources import SOURCES, STANDARD
from impasto.tasks.glue.task import SCORE


def glue(*tasks, **options) -> Any:
    return made(*tasks, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.files(tmp_path_factory.mktemp("data"))


def judged(task, said):
    values = [task.judge(item, [one]) for item, one in zip(task.items, said, strict=True)]
    names = dict.fromkeys(name for value in values for name in value)
    return {
        name: task.aggregate(name, [value[name] for value in values if name in value])
        for name in names
    }


def test_metrics_are_glues(data):
    draw = np.random.default_rng(0)
    tasks = {task.problem.name: task for task in glue(list(data), data=data).tasks}
    for name, task in tasks.items():
        right = [item.example.label for item in task.items]
        said = draw.integers(0, 2, len(right)).tolist() if name != "stsb" else draw.normal(size=24)
        found = {metric: estimate.value for metric, estimate in judged(task, said).items()}
        if name == "sst2":
            expected = {"acc": np.mean(np.equal(said, right))}
        elif name == "mrpc":
            expected = {"acc": np.mean(np.equal(said, right)), "f1": f1_score(right, said)}
        else:
            expected = {"pearson": pearsonr(said, right)[0], "spearman": spearmanr(said, right)[0]}
        expected[SCORE] = np.mean(list(expected.values()))
        assert found == pytest.approx(expected), name


def written(folder, name, rows):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_cola_is_told_by_matthews_and_mnli_by_both_of_its_validation_splits(tmp_path):
    cola = written(tmp_path, "cola", [{"sentence": "a", "label": i % 2} for i in range(8)])
    task = glue("cola", data={"train": cola, "validation": cola}).tasks[0]
    said = [0, 1, 1, 1, 0, 0, 0, 1]
    assert judged(task, said)["matthews"].value == pytest.approx(
        matthews_corrcoef([0, 1] * 4, said)
    )
    rows = [{"premise": "a", "hypothesis": "b", "label": i % 3} for i in range(6)]
    one, two = written(tmp_path, "m", rows), written(tmp_path, "mm", rows[:3])
    splits = {"train": one, "validation_matched": one, "validation_mismatched": two}
    task = glue("mnli", data=splits).tasks[0]
    found = judged(task, [0, 1, 2, 0, 1, 2, 0, 0, 0])
    assert found["acc"].value == 1
    assert found["acc_mismatched"].value == pytest.approx(1 / 3)
    assert found[SCORE].value == pytest.approx(2 / 3)


def test_the_average_is_the_plain_mean_of_the_tasks_scores(data):
    suite = glue(list(data), data=data, protocol="fine-tuned", seed=[0, 1])
    assert [task.name for task in suite.tasks][:2] == [
        "sst2_fine-tuned_seed0", "sst2_fine-tuned_seed1",
    ]  # fmt: skip
    estimates = {
        task.name: judged(task, [number % 2] * len(task.items))
        for number, task in enumerate(suite.tasks)
    }
    *seeds, whole = suite.groups
    scores = [group.aggregate(estimates)[SCORE].value for group in seeds]
    assert whole.aggregate(estimates)[SCORE].value == pytest.approx(np.mean(scores))
    pair = [estimates[f"mrpc_fine-tuned_seed{seed}"]["acc"].value for seed in (0, 1)]
    assert seeds[1].aggregate(estimates)["acc"].value == pytest.approx(np.mean(pair))
    assert seeds[1].aggregate(estimates)["acc"].stderr == pytest.approx(
        np.std(pair, ddof=1) / 2**0.5
    )


@pytest.mark.parametrize("metrics", [["f1"], ["acc", "f1"], ["matthews"], ["pearson", "spearman"]])
def test_errors_are_those_of_answers_drawn_anew(metrics):
    rng = np.random.default_rng(3)
    right = rng.normal(size=80) if "pearson" in metrics else rng.integers(0, 2, 80)
    said = np.where(rng.random(80) < 0.7, right, right[::-1])
    pairs = np.column_stack([said, right])
    drawn = [
        np.mean([measure(metric, pairs[at]) for metric in metrics])  # type: ignore[arg-type]
        for at in rng.integers(80, size=(400, 80))
    ]
    assert standard_error(metrics, pairs.tolist()) == pytest.approx(np.std(drawn), rel=0.15)


def test_scores_and_their_average_have_errors(data):
    suite = glue(["sst2", "mrpc", "stsb"], data=data)
    draw = np.random.default_rng(0)
    found = {
        task.name: judged(task, [float(draw.integers(2)) for _ in task.items])
        for task in suite.tasks
    }
    assert found["sst2_frozen"][SCORE].stderr == found["sst2_frozen"]["acc"].stderr
    errors = [found[task.name][SCORE].stderr for task in suite.tasks]
    assert all(error > 0.01 for error in errors)
    average = suite.groups[-1].aggregate(found)[SCORE]
    assert average.stderr == pytest.approx(np.sqrt(np.square(errors).sum()) / 3)


def test_an_answer_that_is_always_the_same_has_no_error():
    assert standard_error(["matthews"], [(1, i % 2) for i in range(9)]) == 0
    assert standard_error(["pearson", "spearman"], [(0.5, i) for i in range(9)]) == 0


def test_chance_is_the_commonest_class(data):
    tasks = {task.problem.name: task for task in glue(list(data), data=data).tasks}
    assert tasks["sst2"].chance("acc") == 0.5
    assert tasks["stsb"].chance("pearson") == 0


def test_limits_cut_and_every_option_makes_another_problem(data):
    [task] = glue("sst2", data=data["sst2"], limit=5, train_limit=7).tasks
    assert (len(task.items), len(task.problem.examples)) == (5, 7)
    options = [
        {}, {"train_limit": 7}, {"pooling": "first"}, {"head": "published"}, {"max_length": 16},
        {"protocol": "fine-tuned"}, {"protocol": "fine-tuned", "seed": 1},
        {"protocol": "fine-tuned", "epochs": 1}, {"protocol": "fine-tuned", "learning_rate": 1e-5},
    ]  # fmt: skip
    problems = [glue("sst2", data=data["sst2"], **one).tasks[0].problem for one in options]
    assert len({problem.digest for problem in problems}) == len(options)


def test_the_eight_tasks_are_glues_and_wnli_only_if_named():
    assert STANDARD == ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")
    assert set(SOURCES) == {*STANDARD, "wnli"}
    assert check_entry("glue") == "glue_frozen"
    assert check_entry({"name": "glue", "protocol": "fine-tuned"}) == "glue_fine-tuned"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"sentence": "good", "label": 2}, "row 2, column 'label': must be a class from 0 to 1"),
        ({"sentence": "good", "label": -1}, "test split has no labels"),
        ({"sentence": "good", "label": "yes"}, "must be a class"),
        ({"sentence": "good"}, "the column 'label' is missing"),
        ({"text": "good", "label": 1}, "the column 'sentence' is missing; its columns are text"),
        ({"sentence": "", "label": 1}, "must be text"),
    ],
)
def test_a_wrong_row_is_told_with_file_row_and_column(tmp_path, row, says):
    path = written(tmp_path, "sst2", [{"sentence": "bad", "label": 0}, row])
    with pytest.raises(UserError, match=says) as told:
        glue("sst2", data={"train": path, "validation": path})
    assert str(path) in str(told.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tasks": ["sst3"]}, "tasks are some of cola, sst2"),
        ({"protocol": "tuned"}, "protocol is one of frozen, fine-tuned"),
        ({"head": "solved", "pooling": "max"}, "pooling is one of"),
        ({"head": "published", "pairs": "apart"}, "reads the pooler"),
        ({"seed": []}, "seed is a whole number"),
        ({"epochs": 0}, "epochs is a number above 0"),
        ({"batch": 0}, "batch is a whole number from 1"),
        ({"data": {"sst2": {"train": "x"}}, "tasks": ["sst2"]}, "train: FILE.jsonl, validation"),
        ({"data": {"rte": {}}, "tasks": ["sst2"]}, "gives the files of each task"),
        ({"seeds": 1}, "glue has no option 'seeds'"),
    ],
)
def test_a_wrong_entry_is_told_before_anything_is_read(options, says):
    with pytest.raises(ValueError, match=says):
        check_entry({"name": "glue", **options})


def test_masked_texts_come_to_perplexity_and_accuracy(tmp_path):
    path = written(tmp_path, "texts", [{"text": "a b"}, {"text": "c"}])
    [task] = load_suite({"name": "masked_text", "data": path}).tasks
    found = judged(task, [(-2.0, 1, 2), (-4.0, 0, 1)])
    assert found["pseudo_perplexity"].value == pytest.approx(np.exp(2))
    assert found["acc"].value == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="needs the option 'data'"):
        check_entry("masked_text")
