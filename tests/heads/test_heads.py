"""Heads: what they read is the reference's, what they say is what each plan's own head says."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.preprocessing import StandardScaler

import encoder_reference
import impasto
import tiny
from families import family
from impasto import Plan, UserError
from impasto.heads import predict
from impasto.heads.linear import PENALTIES, STRENGTHS, solve, train_published
from impasto.heads.reading import Reading
from impasto.heads.tuning import classifier, tuned
from impasto.tasks import glue as made
from impasto.tasks.problem import Example, FineTuned, Frozen, Problem
from thinning import thinned

regression: Any = LogisticRegressionCV  # its annotations are not all right
PLANS = [Plan.parse(line) for line in ("0-3", "0 3", "3-0", "0 [1-2]*2 3", "0-1 2.attn 3.mlp")]
GOOD = [("the film is good", None), ("bad", None), ("a plot and its cast seems very fine", None)]
PAIRS = [("the film is good", "its cast is great"), ("bad", "good and a very dull plot")]


def glue(*tasks, **options) -> Any:
    return made(*tasks, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return impasto.load(tiny.bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.files(tmp_path_factory.mktemp("data"))


def asked(task):
    requests = [request for [request] in task.requests()]
    return [(request.first, request.second) for request in requests]


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "first", "pooler"])
def test_what_a_head_reads_is_the_references_for_every_plan(model, pooling):
    found = Reading.of(model, Frozen(pooling=pooling)).features(PLANS, GOOD)
    for plan, rows in zip(PLANS, found, strict=True):
        for (text, _), row in zip(GOOD, rows, strict=True):
            states = encoder_reference.states_of(model.hf, plan.steps, model.tokens(text), {})
            expected = states.mean(0) if pooling == "mean" else states[0]
            if pooling == "pooler":
                expected = model.hf.pooler(states[None])[0]
            torch.testing.assert_close(row, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_two_texts_are_read_as_one_with_its_segments_or_apart(model):
    together = Reading.of(model, Frozen()).features(PLANS[:1], PAIRS)[0]
    read = model.tokenizer(*PAIRS[0], return_tensors="pt")
    assert read["token_type_ids"].sum() > 0
    expected = model.hf(**read).last_hidden_state[0].mean(0)
    torch.testing.assert_close(together[0], expected, atol=1e-5, rtol=0)
    apart = Reading.of(model, Frozen(pairs="apart")).features(PLANS[:1], PAIRS)[0]
    u, v = Reading.of(model, Frozen()).features(PLANS[:1], [(text, None) for text in PAIRS[0]])[0]
    torch.testing.assert_close(apart[0], torch.cat([u, v, (u - v).abs(), u * v]))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_solved_head_is_scikit_learns_on_standardised_features(classes):
    draw = np.random.default_rng(0)
    features = draw.normal(3.0, 2.0, (90, 8))
    labels = [int(value) for value in np.digitize(features[:, 0], [3.0, 4.5][: classes - 1])]
    scaler = StandardScaler().fit(features)
    own: Any = regression(
        Cs=STRENGTHS, cv=3, scoring="neg_log_loss", max_iter=300, l1_ratios=(0,),
        use_legacy_attributes=False,
    )  # fmt: skip
    own.fit(scaler.transform(features), labels)
    new = draw.normal(3.0, 2.0, (50, 8))
    assert solve(features, labels, classes)(new) == own.predict(scaler.transform(new)).tolist()
    numbers = features @ draw.normal(size=8)
    ridge = RidgeCV(alphas=PENALTIES).fit(scaler.transform(features), numbers)
    found = solve(features, numbers.tolist(), 0)(new)
    np.testing.assert_allclose(found, ridge.predict(scaler.transform(new)), atol=1e-6)


def test_a_head_of_one_class_or_rare_ones_says_what_it_can():
    features = np.random.default_rng(0).normal(size=(20, 4))
    assert set(solve(features, [1] * 20, 2)(features)) == {1}
    assert len(solve(features, [0] * 19 + [1], 2)(features)) == 20


def test_the_published_head_is_drawn_from_its_seed_and_learns():
    features = np.random.default_rng(0).normal(size=(200, 6))
    labels = (features[:, 0] > 0).astype(int).tolist()
    one, again, other = (train_published(features, labels, 2, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.weight, again.weight)
    assert not np.array_equal(one.weight, other.weight)
    assert np.mean(np.array(one(features)) == labels) > 0.8


@pytest.mark.parametrize(
    "options",
    [
        {"head": "published"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"pairs": "apart"}, marks=pytest.mark.slow),
    ],
)
def test_plans_together_say_what_each_says_alone_and_heads_are_found_again(
    model, data, options, tmp_path, monkeypatch
):
    tasks, together = glue(list(data), data=data, **options).tasks, []
    for task in tasks:
        together = predict(model, PLANS, task.problem, asked(task), tmp_path)
        for plan, said in zip(PLANS, together, strict=True):
            alone = predict(model, [plan], task.problem, asked(task))[0]
            np.testing.assert_allclose(said, alone, atol=1e-3)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == len(PLANS) * len(data)
    monkeypatch.setattr("impasto.heads.predicting._fitted", None)  # so fitting again would fail
    again = predict(model, PLANS, tasks[-1].problem, asked(tasks[-1]), tmp_path)
    np.testing.assert_allclose(again, together, atol=1e-6)


def test_frozen_plans_share_what_they_begin_with(model, data):
    counted = []
    hook = model.hf.encoder.layer[0].attention.self.query.register_forward_hook(
        lambda module, args, output: counted.append(args[0].shape[0] * args[0].shape[1])
    )
    task = glue("sst2", data=data["sst2"]).tasks[0]
    texts = [each.first for each in task.problem.examples] + [text for text, _ in asked(task)]
    predict(model, PLANS[:1], task.problem, asked(task))
    once = sum(counted)
    counted.clear()
    predict(model, [PLANS[0], PLANS[1], PLANS[3], PLANS[4]], task.problem, asked(task))
    hook.remove()
    assert sum(counted) == once < 1.5 * sum(len(model.tokens(text)) for text in texts)


def test_little_memory_fits_few_plans_at_a_time_and_says_the_same(model, data):
    task = glue("sst2", data=data["sst2"]).tasks[0]
    expected = predict(model, PLANS, task.problem, asked(task))
    try:
        model.memory = 2_000_000
        assert predict(model, PLANS, task.problem, asked(task)) == expected
    finally:
        model.memory = None


FAST = {"protocol": "fine-tuned", "epochs": 15, "batch": 16, "learning_rate": 2e-3}


def test_fine_tuning_learns_under_the_plan_and_is_kept(model, data, tmp_path, monkeypatch):
    task = glue("sst2", data=data["sst2"], **FAST).tasks[0]
    plan = Plan.parse("0 [1|2] 3")
    before = {name: weight.clone() for name, weight in model.hf.state_dict().items()}
    [said] = predict(model, [plan], task.problem, asked(task), tmp_path)
    right = np.mean([a == item.example.label for a, item in zip(said, task.items, strict=True)])
    assert right > 0.9
    assert all(torch.equal(before[name], w) for name, w in model.hf.state_dict().items())
    [kept] = tmp_path.iterdir()
    assert {path.name for path in kept.iterdir()} == {"config.json", "model.safetensors"}
    monkeypatch.setattr("impasto.heads.tuning._trained", None)  # so training again would fail
    assert predict(model, [plan], task.problem, asked(task), tmp_path) == [said]


def test_a_training_that_was_stopped_goes_on_to_the_same_end(model, data, tmp_path):
    task = glue("stsb", data=data["stsb"], **FAST | {"epochs": 6}).tasks[0]
    plan = Plan.parse("0 2 1 3")
    whole = predict(model, [plan], task.problem, asked(task), tmp_path / "whole")

    def stop(share):
        if share > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, [plan], task.problem, asked(task), tmp_path / "parts", stop)
    [training] = (tmp_path / "parts").iterdir()
    assert training.name.endswith(".training")
    steps = []
    parts = predict(model, [plan], task.problem, asked(task), tmp_path / "parts", steps.append)
    assert steps[0] > 0.4
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    assert not training.exists()


@pytest.mark.parametrize("lost", ["trainer_state.json", "optimizer.pt", "model.safetensors"])
@pytest.mark.parametrize("how", thinned(["missing", "cut"]))
def test_a_checkpoint_that_is_half_written_is_passed_over(lost, how, model, data, tmp_path):
    task = glue("stsb", data=data["stsb"], **FAST | {"epochs": 3}).tasks[0]
    plan, keep = Plan.parse("0 2 1 3"), tmp_path / "parts"

    def stop(share):
        if share > 0.9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, [plan], task.problem, asked(task), keep, stop)
    [training] = keep.iterdir()
    [last] = training.glob("checkpoint-*")
    before = training / "checkpoint-1"
    shutil.copytree(last, before)
    for name in ("trainer_state.json", "optimizer.pt"):  # of the one before: half removed
        (before / name).unlink()
    content = (last / lost).read_bytes()
    (last / lost).unlink() if how == "missing" else (last / lost).write_bytes(content[:-40])
    steps = []
    [said] = predict(model, [plan], task.problem, asked(task), keep, steps.append)
    assert steps[0] < 0.3  # from the start
    assert len(said) == len(task.items)
    assert not training.exists()


def test_what_was_kept_and_cannot_be_read_is_made_anew(model, data, tmp_path):
    frozen = glue("sst2", data=data["sst2"]).tasks[0]
    [said] = predict(model, PLANS[:1], frozen.problem, asked(frozen), tmp_path)
    [head] = tmp_path.iterdir()
    head.write_bytes(head.read_bytes()[:20])
    assert predict(model, PLANS[:1], frozen.problem, asked(frozen), tmp_path) == [said]
    tuned_task = glue("sst2", data=data["sst2"], **FAST | {"epochs": 1}).tasks[0]
    [said] = predict(model, PLANS[:1], tuned_task.problem, asked(tuned_task), tmp_path / "tuned")
    [kept] = (tmp_path / "tuned").iterdir()
    weights = kept / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    again = predict(model, PLANS[:1], tuned_task.problem, asked(tuned_task), tmp_path / "tuned")
    np.testing.assert_allclose(again, [said], atol=1e-4)
    (tmp_path / "tuned" / f"{kept.name}.training").mkdir()  # of a kill just before it was removed
    predict(model, PLANS[:1], tuned_task.problem, asked(tuned_task), tmp_path / "tuned")
    assert [path.name for path in (tmp_path / "tuned").iterdir()] == [kept.name]


def test_a_classifier_begins_with_the_models_weights_and_its_pooler(model):
    hf = classifier(model, 3, seed=0)
    for name, weight in model.hf.state_dict().items():
        assert torch.equal(hf.bert.state_dict()[name], weight)
    assert torch.equal(hf.classifier.weight, classifier(model, 3, seed=0).classifier.weight)
    assert not torch.equal(hf.classifier.weight, classifier(model, 3, seed=1).classifier.weight)


def test_training_gradients_are_the_references(model):
    hf, plan, ids = classifier(model, 2, 0).eval(), Plan.parse("0 [1-2]*2 3.mlp"), [2, 7, 15, 3]
    label = torch.tensor([1])
    rows = encoder_reference.states_of(hf, plan.steps, ids, {})
    encoder_reference.through_head(hf, rows, ids, labels=label).loss.backward()
    expected = {name: w.grad.clone() for name, w in hf.named_parameters() if w.grad is not None}
    hf.zero_grad()
    with impasto.apply(hf, plan):
        hf(input_ids=torch.tensor([ids]), labels=label).loss.backward()
    for name, weight in hf.named_parameters():
        if name in expected and weight.grad is not None:
            torch.testing.assert_close(weight.grad, expected[name], atol=1e-5, rtol=1e-3)
        else:
            assert name not in expected or not expected[name].any(), name


def test_what_cannot_be_fitted_is_refused_with_the_rule(model, tmp_path):
    problem = Problem("sst2", [Example("good", None, 1)], 2, Frozen())
    with pytest.raises(UserError, match=r"is no encoder.*lm-eval's tasks of GLUE"):
        predict(impasto.load(family("llama")), PLANS[:1], problem, GOOD)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="about earlier tokens"):
        predict(model, [Plan.parse("0 freeze 1-3")], problem, GOOD)
    with pytest.raises(UserError, match="came without a tokenizer"):
        predict(impasto.load(model.hf), PLANS[:1], problem, GOOD)  # type: ignore[arg-type]
    headless = type(model.hf)(model.hf.config, add_pooling_layer=False).eval()
    headless.config.name_or_path = ""
    bare = impasto.load(headless, model.tokenizer)
    pooled = Problem("sst2", [Example("good", None, 1)], 2, Frozen(pooling="pooler"))
    with pytest.raises(UserError, match="no pretrained pooler"):
        predict(bare, PLANS[:1], pooled, GOOD)  # type: ignore[arg-type]


def test_tuned_is_told_apart_by_seed_and_plan(model):
    digests = {
        Problem("sst2", [Example("good", None, 1)], 2, FineTuned(seed=seed)).digest
        for seed in (0, 1, 2)
    }
    assert len(digests) == 3
    assert tuned is not None
