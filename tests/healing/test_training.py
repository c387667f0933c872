"""Training under a plan: towards the full model, and nothing of the full model is changed."""

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import impasto
import tiny
from families import FAMILIES, family, weighted
from impasto import Plan, UserError
from impasto.mending.settings import METHODS, Lora, Training, read_settings
from impasto.mending.teaching import Likeliest, kl_of_all, kl_of_likeliest
from impasto.mending.trainable import student
from impasto.run.opening import opened
from impasto.study import Standing
from thinning import thinned

TEXTS = [
    f"Q: What is the capital of {country}?\nA: {capital}\n{a} + {b} = {a + b}\n"
    for a, (country, capital) in enumerate(
        [("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome"), ("Peru", "Lima")]
    )
    for b in range(12)
]
PLAN = "0-4 6-9 11"
SHORT: Any = {"steps": 12, "evaluate_every": 4, "batch": 4, "length": 48, "written": 0}


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.hf.state_dict().items()}


def assert_untouched(model, before, flags) -> None:
    after = model.hf.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert [weight.requires_grad for weight in model.hf.parameters()] == flags
    assert not any(module._forward_hooks for module in model.hf.modules())
    assert not any(module.training for module in model.hf.modules())
    assert all(weight.grad is None for weight in model.hf.parameters())


# ------------------------------------------------------------------ what it gives


@pytest.mark.parametrize("method", thinned(["linear", "lora", "last", "full"], 2))
def test_every_method_wins_back_a_part_and_leaves_the_model_as_it_was(method, demo):
    before, flags = state_of(demo), [w.requires_grad for w in demo.hf.parameters()]
    more: Any = {"length": 48, "map": "state"}
    more = more if method == "linear" else SHORT | {"written": None}
    rates = {"full": 3e-5, "last": 3e-4, "lora": 5e-4}  # the usual ones are for more steps
    more = more | ({"learning_rate": rates[method]} if method in rates else {})
    healed = impasto.heal(demo, PLAN, TEXTS, method, **more)
    assert_untouched(demo, before, flags)
    perplexity, kl, agreement = healed.measured
    assert kl.healed < kl.plan
    assert kl.full == 0
    assert agreement.full == 1
    assert 0 < healed.won_back <= 1
    assert kl.difference == pytest.approx(kl.healed - kl.plan)
    assert kl.low < kl.difference < kl.high
    assert perplexity.full <= perplexity.plan
    [near] = healed.model.loglikelihood(healed.plan, [("Q: What is the capital of ", "France")])
    [plain] = demo.loglikelihood(healed.plan, [("Q: What is the capital of ", "France")])
    assert near != plain


@pytest.mark.parametrize("method", ["lora", "last"])
def test_after_an_error_in_the_middle_the_model_is_as_it_was(method, demo):
    before, flags = state_of(demo), [w.requires_grad for w in demo.hf.parameters()]

    def fails(standing: Standing) -> None:
        if standing.share > 0.3:
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        impasto.heal(demo, PLAN, TEXTS, method, progress=fails, **SHORT)
    assert_untouched(demo, before, flags)
    with impasto.apply(demo.hf, Plan.parse(PLAN)):
        pass


@pytest.mark.parametrize("method", thinned(["lora", "last", "full"]))
def test_where_every_step_is_worse_it_stops_and_the_plan_itself_comes_out(method, demo, tmp_path):
    out = tmp_path / "healed"
    worse = SHORT | {"steps": 12, "evaluate_every": 2, "patience": 2, "learning_rate": 3.0}
    healed = impasto.heal(demo, PLAN, TEXTS, method, out, **worse)
    assert (healed.spent.steps, healed.spent.kept_step, healed.is_changed) == (4, 0, False)
    assert healed.won_back == 0
    assert all(row.healed == row.plan and row.difference == 0 for row in healed.measured)
    assert healed.sentences[0] == "no step was better than the plan; weights are the plan's own"
    assert healed.sentences[1].endswith("in 4 steps (none kept)")
    assert healed.sentences[0] in (out / "README.md").read_text()
    content = json.loads((out / "healed.json").read_text())
    assert (content["is_changed"], content["won_back"]) == (False, 0)
    loaded = impasto.load(out, merge_adapter=True).hf.state_dict()
    for name, value in demo.hf.state_dict().items():
        assert torch.allclose(loaded[name], value, atol=1e-7), name


def test_adapters_are_made_trained_and_loaded_without_a_warning(demo, tmp_path, recwarn):
    given = SHORT | {"steps": 1, "gradient_checkpointing": True}
    impasto.heal(demo, PLAN, TEXTS, "lora", tmp_path / "healed", **given)
    impasto.load(tmp_path / "healed")
    assert [str(each.message) for each in recwarn if each.category is FutureWarning] == []


def test_a_head_that_shares_its_weight_is_trained_without_a_warning(demo, tmp_path, caplog):
    assert demo.hf.config.tie_word_embeddings
    logger = logging.getLogger("transformers.trainer")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING, logger.name)
    given = SHORT | {"steps": 4, "learning_rate": 3e-4}
    healed = impasto.heal(demo, PLAN, TEXTS, "last", tmp_path / "healed", **given)
    assert healed.is_changed, "a checkpoint was loaded"
    logger.removeHandler(caplog.handler)
    assert [each.message for each in caplog.records if each.name == logger.name] == []
    loaded = impasto.load(tmp_path / "healed").hf
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, healed.model.hf.lm_head.weight)
    assert not torch.equal(loaded.lm_head.weight, demo.hf.lm_head.weight)


@pytest.mark.slow
def test_the_same_seed_trains_the_same_weights(demo):
    few = SHORT | {"steps": 4}
    found = [impasto.heal(demo, PLAN, TEXTS, "lora", **few) for _ in range(2)]
    one, two = (healed.model.hf.state_dict() for healed in found)
    assert all(torch.equal(one[name], two[name]) for name in one)


# ------------------------------------------------------------------ gradients and memory


def edited(hf, plan: Plan):
    """Return the model with the plan's layers in a list by hand."""
    hf.model.layers = torch.nn.ModuleList([hf.model.layers[i] for i in plan.layers])
    for place, layer in enumerate(hf.model.layers):
        layer.get_submodule("self_attn").__dict__["layer_idx"] = place
    hf.config.num_hidden_layers = len(hf.model.layers)
    return hf


def test_adapters_gradients_under_a_plan_are_those_of_a_model_edited_by_hand():
    from peft import LoraConfig, get_peft_model

    plan = Plan.parse("0-1 3 5")
    hf = family("llama")
    made = student(opened(hf), plan, Lora(rank=4))
    names = [name for name, _ in made.named_parameters() if "lora_" in name]
    assert names
    layers = {int(name.split("layers.")[1].split(".")[0]) for name in names}
    assert layers == {0, 1, 3, 5}, "only parts that run have adapters"
    by_hand = edited(weighted(FAMILIES["llama"]()), plan)
    modules = sorted({name.removeprefix("base_model.model.").split(".lora_")[0] for name in names})
    places = {layer: place for place, layer in enumerate((0, 1, 3, 5))}

    def placed(name: str) -> str:
        head, _, rest = name.partition("layers.")
        layer, _, tail = rest.partition(".")
        return f"{head}layers.{places[int(layer)]}.{tail}"

    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=[placed(each) for each in modules], task_type="CAUSAL_LM"
    )
    other = get_peft_model(by_hand, config)
    ours = dict(made.named_parameters())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in names:
            drawn = torch.randn(ours[name].shape, generator=draw) * 0.1
            ours[name].copy_(drawn)
            other.get_parameter(placed(name)).copy_(drawn)
    ids = torch.randint(0, 97, (2, 9), generator=draw)
    with impasto.apply(made, plan):
        made(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    other(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    for name in names:
        wanted: Any = other.get_parameter(placed(name)).grad
        mine: Any = ours[name].grad
        assert wanted.abs().max() > 0
        assert torch.allclose(mine, wanted, rtol=1e-4, atol=1e-6), name


def test_adapters_take_no_second_copy_of_the_weights():
    hf = family("llama")
    made = student(opened(hf), Plan.parse("0-1 3-5"), Lora(rank=1))
    places = {w.data_ptr(): w.nbytes for model in (hf, made) for w in model.parameters()}
    weights = sum(weight.nbytes for weight in hf.parameters())
    adapters = sum(w.nbytes for n, w in made.named_parameters() if "lora_" in n)
    assert sum(places.values()) == weights + adapters
    assert all(("lora_" in name) == w.requires_grad for name, w in made.named_parameters())


def test_in_the_middle_of_a_training_little_is_held_beside_the_weights(demo):
    def held() -> dict[int, int]:
        gc.collect()
        tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
        storages = [each.untyped_storage() for each in tensors if each.device.type == "cpu"]
        return {storage.data_ptr(): storage.nbytes() for storage in storages}

    before, most = held(), [0]

    def look(standing: Standing) -> None:
        if standing.doing.startswith("healing") and standing.share > 0.5:  # a step is done
            new = held()
            most[0] = max(most[0], sum(new[place] for place in new.keys() - before.keys()))

    few = SHORT | {"steps": 2, "rank": 1}
    impasto.heal(demo, PLAN, TEXTS, "lora", progress=look, **few)
    weights = sum(weight.nbytes for weight in demo.hf.parameters())
    assert 0 < most[0] <= 0.15 * weights, "with adapters, gradients and AdamW's two states"


@pytest.mark.slow
def test_in_bfloat16_weights_stay_float32_and_a_part_is_won_back(demo):
    given = SHORT | {"learning_rate": 5e-4, "written": None}
    plain, half = (
        impasto.heal(demo, PLAN, TEXTS, "lora", bf16=on, **given) for on in (False, True)
    )
    assert 0 < half.won_back < 1
    one, two = plain.model.hf.state_dict(), half.model.hf.state_dict()
    assert {value.dtype for value in two.values()} == {torch.float32}
    assert any(not torch.equal(one[name], two[name]) for name in one), "it computed otherwise"


@pytest.mark.slow
def test_with_gradient_checkpointing_the_same_weights_come_out(demo):
    plain, less = (
        impasto.heal(demo, PLAN, TEXTS, "lora", gradient_checkpointing=on, **SHORT | {"steps": 4})
        for on in (False, True)
    )
    one, two = plain.model.hf.state_dict(), less.model.hf.state_dict()
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


# ------------------------------------------------------------------ the loss


def test_the_likeliest_tokens_give_the_whole_kl_where_they_are_all():
    draw = torch.Generator().manual_seed(0)
    full, own = torch.randn(2, 2, 5, 30, generator=draw)
    best = full.log_softmax(-1).topk(30)
    found = kl_of_likeliest(Likeliest(best.values, best.indices), own)
    assert torch.allclose(found, kl_of_all(full, own), atol=1e-4)
    few = (4 * full).log_softmax(-1).topk(8)
    less = kl_of_likeliest(Likeliest(few.values, few.indices), own)
    assert (less <= kl_of_all(4 * full, own) + 1e-4).all(), "tokens that count as one hide some"
    assert (less > 0).all()


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("method", "given", "says"),
    [
        ("lorra", {}, "did you mean 'lora'"),
        ("lora", {"stepps": 3}, "did you mean 'steps'"),
        ("linear", {"steps": 3}, "steps is a setting of method lora and last and full"),
        ("lora", {"steps": 0}, "steps cannot be 0"),
        ("lora", {"distil": 2}, "distil cannot be 2"),
        ("last", {"rank": 2}, "rank is a setting of method lora, not of last"),
        ("lora", {"learning_rate": 1e-3, "rate_times_width": 0.5}, "rate is said once"),
        ("full", {"rate_times_width": None}, "rate is said once"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_can(method, given, says):
    with pytest.raises(UserError) as told:
        read_settings(method, given)
    assert says in str(told.value)


def test_a_rate_of_none_is_the_methods_own_and_what_is_kept_says_which():
    rates = {}
    for method in ("lora", "last", "full"):
        usual = read_settings(method, {"learning_rate": None})
        assert usual == read_settings(method, {}) == read_settings(method, usual.model_dump())
        assert isinstance(usual, Training)
        rates[method] = usual.rate(100)
        assert usual.model_dump()["rate_times_width"] == pytest.approx(100 * rates[method])
        own = read_settings(method, {"learning_rate": 0.25})
        assert isinstance(own, Training)
        assert (own.rate(100), own.model_dump()["rate_times_width"]) == (0.25, None)
    assert rates["lora"] > rates["last"] > rates["full"]


@pytest.mark.parametrize("method", METHODS)
def test_a_plan_that_is_the_model_itself_cannot_be_healed(method, demo):
    with pytest.raises(UserError, match="nothing to heal"):
        impasto.heal(demo, "0-11", TEXTS, method)


def test_a_plan_without_a_module_for_adapters_is_refused(demo):
    with pytest.raises(UserError, match=r"no linear module named q_proj"):
        impasto.heal(demo, "0-2.mlp", TEXTS, "lora", modules=["q_proj"], **SHORT)


# ------------------------------------------------------------------ stopping and going on

SCRIPT = """
import sys, impasto
texts = {texts!r}
impasto.heal("demo", {plan!r}, texts, "lora", {out!r}, steps=24, evaluate_every=4, batch=4,
             length=48, patience=9)
"""


def begun(out: Path) -> subprocess.Popen:
    code = SCRIPT.format(texts=TEXTS, plan=PLAN, out=str(out))
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_was_ended_goes_on_and_comes_to_the_same(how, tmp_path):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    assert begun(whole).wait(300) == 0
    process = begun(ended)
    training = tmp_path / "ended.training"
    until = time.monotonic() + 200
    while not list(training.glob("checkpoint-8/trainer_state.json")):
        assert time.monotonic() < until
        assert process.poll() is None, "it ended too soon"
        time.sleep(0.02)
    process.send_signal(how)
    assert process.wait(60) != 0
    assert not ended.exists()
    for file in training.glob("checkpoint-8/optimizer.pt"):  # as a kill in its writing leaves it
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"a training that was stopped, with other settings"):
        impasto.heal("demo", PLAN, TEXTS, "lora", ended, steps=99, length=48)
    assert begun(ended).wait(300) == 0
    assert not training.exists()
    one, two = (impasto.load(folder).hf.state_dict() for folder in (whole, ended))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_models_that_a_method_cannot_heal_are_refused_with_the_reason(demo, tmp_path, monkeypatch):
    encoder = impasto.load(tiny.bert(tmp_path / "bert"))
    with pytest.raises(UserError, match="predicts no next tokens"):
        impasto.heal(encoder, "0-2", TEXTS, "linear")
    monkeypatch.setattr(demo.hf, "is_quantized", True, raising=False)
    for method in ("linear", "last", "full"):
        with pytest.raises(UserError, match=f"quantised, and method {method}"):
            impasto.heal(demo, PLAN, TEXTS, method)


def test_without_peft_the_error_says_what_to_install(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install \"impasto\[adapters\]\""):
        impasto.heal(demo, PLAN, TEXTS, "lora", **SHORT)


def test_texts_are_no_task_to_measure(demo):
    with pytest.raises(UserError, match="measured anyway"):
        impasto.heal(demo, PLAN, TEXTS, tasks=[{"name": "texts", "file": __file__}])
