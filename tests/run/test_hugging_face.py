"""Under apply, a model is at home in everything that takes a Hugging Face model."""

import inspect
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    TextStreamer,
    Trainer,
    TrainingArguments,
    pipeline,
)

import impasto
import reference
from families import FAMILIES, SEQUENTIAL, family, weighted
from impasto import Plan, UserError
from thinning import thinned

IDS = [5, 17, 3, 88, 41, 2, 60, 9]
PROMPT = "Q: What is the capital of France?\nA:"
HISTORY = Plan.parse("0-1 noise(gaussian) [2|3]*2 freeze 4.mlp 5")
DEMO = Plan.parse("0-3 [4-7]*2 freeze 8-11")


def tokens(*rows):
    return torch.tensor(rows)


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


def test_sampling_draws_the_same_with_and_without_a_cache():
    hf = family("llama")
    written = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        with impasto.apply(hf, HISTORY):
            written.append(
                hf.generate(
                    tokens(IDS, IDS[::-1]), do_sample=True, temperature=1.3, max_new_tokens=8,
                    use_cache=use_cache, pad_token_id=0,
                )
            )  # fmt: skip
    assert torch.equal(*written)


def test_prompt_lookup_crops_the_cache_and_writes_what_greedy_search_writes():
    hf = family("llama")
    prompt = IDS + IDS + IDS[:3]
    for plan in (HISTORY, Plan.parse("0 (1 2)*2 3-5")):
        with impasto.apply(hf, plan):
            out = hf.generate(
                tokens(prompt), prompt_lookup_num_tokens=3, max_new_tokens=8, do_sample=False,
                pad_token_id=0,
            )  # fmt: skip
        assert out[0, len(prompt) :].tolist() == reference.generate(hf, plan, prompt, 8)


def test_streaming_and_the_pipeline_say_what_generate_says(demo, capsys):
    [[expected]] = demo.generate(DEMO, [PROMPT], max_new_tokens=4)
    encoded = demo.tokenizer(PROMPT, return_tensors="pt")
    with impasto.apply(demo.hf, DEMO):
        streamer = TextStreamer(demo.tokenizer, skip_prompt=True)
        demo.hf.generate(**encoded, max_new_tokens=4, do_sample=False, streamer=streamer)
        pipe = pipeline("text-generation", model=demo.hf, tokenizer=demo.tokenizer)
        given = pipe(PROMPT, max_new_tokens=4, do_sample=False, return_full_text=False)
    assert capsys.readouterr().out.rstrip("\n") == expected.rstrip("\n")
    assert given[0]["generated_text"] == expected


def test_the_evaluation_harness_scores_the_plan(demo):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    pairs = [(PROMPT, " Paris"), (PROMPT, " Rome is"), (PROMPT * 3, " Paris\n")]
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    with impasto.apply(demo.hf, DEMO):
        lm = huggingface.HFLM(pretrained=demo.hf, tokenizer=demo.tokenizer, batch_size=2)
        found = lm.loglikelihood(requests, disable_tqdm=True)
    expected = demo.loglikelihood(DEMO, pairs)[0]
    for (log_p, greedy), (own, own_greedy) in zip(found, expected, strict=True):
        assert log_p == pytest.approx(own, abs=1e-4)
        assert greedy == own_greedy


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("plan", [HISTORY, Plan.parse("0 sum[1|2.attn] 4-5")], ids=str)
def test_gradients_are_the_references(name, plan):
    hf = family(name)
    ids = IDS[:5]
    expected = torch.zeros(())
    for j in range(1, len(ids)):
        logits = inspect.unwrap(reference.next_logits)(hf, plan, ids[:j])
        expected = expected - logits.log_softmax(-1)[ids[j]] / (len(ids) - 1)
    own = torch.autograd.grad(expected, list(hf.parameters()), allow_unused=True)
    with impasto.apply(hf, plan):
        loss = hf(tokens(ids), labels=tokens(ids)).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    found = torch.autograd.grad(loss, list(hf.parameters()), allow_unused=True)
    for (place, _), a, b in zip(hf.named_parameters(), found, own, strict=True):
        if b is None or not b.any():
            assert a is None or not a.any(), f"{place} has a gradient, and no part in the plan"
        else:
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3, msg=place)


def test_a_trainer_trains_the_planned_model(tmp_path):
    hf = type(family("llama"))(family("llama").config)
    torch.manual_seed(0)
    before = {name: weight.clone() for name, weight in hf.state_dict().items()}
    data = [{"input_ids": IDS, "labels": IDS}] * 16
    arguments = TrainingArguments(
        str(tmp_path), max_steps=12, per_device_train_batch_size=2, learning_rate=1e-2,
        report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    plan = Plan.parse("0-1 freeze 2 4-5")
    with impasto.apply(hf, plan):
        first = float(hf(tokens(IDS), labels=tokens(IDS)).loss)
        Trainer(hf, arguments, train_dataset=data).train()  # type: ignore[arg-type]
        hf.eval()
        last = float(hf(tokens(IDS), labels=tokens(IDS)).loss)
    assert last < first / 2
    changed = {name for name, weight in hf.state_dict().items() if not weight.equal(before[name])}
    assert not any("layers.3." in name for name in changed), "a skipped layer was trained"
    assert any("layers.4.mlp" in name for name in changed)


def test_lora_trains_and_runs_on_a_planned_model():
    peft = pytest.importorskip("peft")
    hf = type(family("llama"))(family("llama").config).eval()
    config = peft.LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(hf, config).eval()
    plan = Plan.parse("0-1 noise(shuffle) [2|3] 4-5")
    with impasto.apply(adapted, plan):
        out = adapted(input_ids=tokens(IDS), labels=tokens(IDS))
        written = adapted.generate(input_ids=tokens(IDS), max_new_tokens=4, do_sample=False)
    out.loss.backward()
    trained = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert trained
    assert all("lora" in name for name in trained)
    assert written[0, len(IDS) :].tolist() == reference.generate(hf, plan, IDS, 4)
    expected = reference.next_logits(hf, plan, IDS)
    torch.testing.assert_close(out.logits[0, -1], expected, atol=1e-4, rtol=0)


def test_a_model_spread_out_by_accelerate_runs_plans(tmp_path):
    """Half of the blocks lie on disk and come in as they run."""
    family("llama").save_pretrained(tmp_path / "model")
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "disk"}
    places |= {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(6)}
    spread = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", device_map=places | {"lm_head": "disk"}, offload_folder=tmp_path / "off"
    )
    model = impasto.load(spread)
    requests = [(IDS[:5], IDS[5:]), (IDS[:2], IDS[2:4])]
    for plan in (HISTORY, Plan.parse("0 3-5"), Plan.parse("0-2 freeze 3-5.attn")):
        expected = [reference.score(family("llama"), plan, *request) for request in requests]
        for (log_p, _), (own, _) in zip(
            model.loglikelihood(plan, requests)[0], expected, strict=True
        ):
            assert log_p == pytest.approx(own, abs=1e-4)
        new = model.generate(plan, [IDS], max_new_tokens=3)[0][0]
        assert new == reference.generate(family("llama"), plan, IDS, 3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_hidden_states_are_the_plans_depths(name):
    hf, plan = family(name), Plan.parse("0 [1-4]*2 noise(gaussian) freeze 5")
    [depths] = impasto.load(hf).hidden_states(plan, [IDS])
    with torch.no_grad(), impasto.apply(hf, plan):
        told = hf(tokens(IDS), output_hidden_states=True).hidden_states
        plain = hf(tokens(IDS), output_hidden_states=True, return_dict=False)[-1]
    assert len(told) == len(depths) == 5
    for a, b, c in zip(told[:-1], depths[:-1], plain[:-1], strict=True):
        torch.testing.assert_close(a[0], b, atol=1e-5, rtol=0)
        assert torch.equal(a, c)
    for j in range(1, len(IDS) + 1):
        own = reference.states_of(hf, plan.steps, IDS[:j], {})[-1]
        torch.testing.assert_close(depths[-1, j - 1], own, atol=1e-4, rtol=0)


def test_attentions_are_those_that_ran():
    hf, ids = family("llama", "eager"), tokens(IDS)
    try:
        with torch.no_grad():
            own = hf(ids, output_attentions=True).attentions
            with impasto.apply(hf, Plan.parse("0 1.mlp 2-5 5")):
                found = hf(ids, output_attentions=True).attentions
        assert len(found) == 6
        assert torch.equal(found[0], own[0])
        assert all(torch.allclose(weights.sum(-1), torch.ones(())) for weights in found)
        with impasto.apply(hf, HISTORY), pytest.raises(UserError, match="output_attentions"):
            hf(ids, output_attentions=True)
    finally:
        family("llama", "sdpa")


def test_what_a_plan_cannot_run_under_is_refused_with_the_reason():
    hf = type(family("llama"))(family("llama").config)
    with impasto.apply(hf, HISTORY), pytest.raises(UserError, match="do not select among them"):
        hf(tokens(IDS), output_hidden_states=[1, 2])
    hf = SEQUENTIAL["bamba"]()
    with impasto.apply(hf, Plan.parse("0-3 5")):
        hf.gradient_checkpointing_enable()
        hf.train()
        with pytest.raises(UserError, match="checkpointing"):
            hf(tokens(IDS))
        hf.gradient_checkpointing_disable()
        hf(tokens(IDS))
    hf = type(family("llama"))(family("llama").config)
    with (
        impasto.apply(hf, HISTORY),
        pytest.raises(UserError, match=r"nn\.DataParallel.*CUDA_VISIBLE_DEVICES=0"),
    ):
        hf._replicate_for_data_parallel()(tokens(IDS))


@pytest.mark.parametrize("line", ["0-1 3 4.mlp 5", "0-2 freeze [3 | 4] 5", "0 0-1 2.attn 5"])
@pytest.mark.parametrize("name", thinned(["llama", "gpt2", "gemma2"]))
def test_gradient_checkpointing_gives_the_same_gradients_and_keeps_less(name, line):
    found, kept = {}, {}
    plan = Plan.parse(line)
    for checkpoints in (False, True):
        hf = weighted(FAMILIES[name]())  # a new one, to be trained
        hf.train()
        if checkpoints:
            hf.gradient_checkpointing_enable()
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        torch.manual_seed(0)  # of dropout
        with impasto.apply(hf, plan):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = hf(tokens(IDS), labels=tokens(IDS), use_cache=False).loss
            loss.backward()
        assert hf.is_gradient_checkpointing == checkpoints, "it is as it was"
        found[checkpoints] = {n: w.grad for n, w in hf.named_parameters() if w.grad is not None}
        kept[checkpoints] = sum(sizes)
    assert found[True].keys() == found[False].keys()
    assert len(found[True]) > 10
    for key, gradient in found[True].items():
        assert torch.allclose(gradient, found[False][key], atol=1e-6, rtol=1e-5), key
    assert kept[True] < 0.6 * kept[False]


@pytest.mark.parametrize("kind", [LlamaModel, LlamaForSequenceClassification])
def test_a_decoder_without_its_head_predicts_no_tokens(kind):
    model: Any = impasto.load(kind(family("llama").config).eval())
    plan = Plan.identity(model.num_layers)
    assert len(model.hidden_states(plan, [IDS])[0]) == model.num_layers + 1
    with pytest.raises(UserError, match="head"):
        model.generate([plan], [IDS], 2)
