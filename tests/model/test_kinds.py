"""A checkpoint is opened by its own class: composite models, classifiers, bare decoders."""

import json
from typing import Any

import pytest
import torch
import transformers as hf

import impasto
import reference
from census_build import build
from families import FAMILIES, small, weighted
from impasto import Plan
from impasto.error import UserError
from impasto.model.structure.anatomy import ModelError
from thinning import thinned

IDS = torch.randint(3, 90, (1, 15), generator=torch.Generator().manual_seed(4))[0].tolist()
LINES = ("0-5", "0-2 4-5", "0-2 3.mlp 4-5", "0-1 freeze 2-5", "0 [1|2] 3-5")
_LLAMA: dict[str, Any] = {"num_key_value_heads": 2}
_SEEN: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "image_size": 28,
    "num_attention_heads": 4, "patch_size": 14,
}  # fmt: skip
_QWEN = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 3, "max_position_embeddings": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip


def llava() -> Any:
    text = FAMILIES["llama"]().config
    kind: Any = hf.LlavaConfig
    config = kind(text_config=text, vision_config=hf.CLIPVisionConfig(**_SEEN), image_token_id=96)
    return weighted(hf.LlavaForConditionalGeneration(config))


def qwen_with_positions_of_three_axes() -> Any:
    kind: Any = hf.Qwen2_5_VLConfig
    seen = {"depth": 2, "hidden_size": 32, "num_heads": 4, "out_hidden_size": 32}
    tokens = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92}
    config = kind(text_config=_QWEN, vision_config=seen, **tokens)
    return weighted(hf.Qwen2_5_VLForConditionalGeneration(config))


@pytest.mark.parametrize("build", [llava, qwen_with_positions_of_three_axes])
def test_a_composite_model_is_opened_by_its_folder_and_exported(build, tmp_path):
    build().save_pretrained(tmp_path / "model")
    model = impasto.load(tmp_path / "model")
    assert type(model.hf) is type(build())
    ids = torch.tensor([IDS])
    with torch.no_grad():
        own = model.hf(input_ids=ids, use_cache=False).logits[0]
    identity = Plan.identity(model.num_layers)
    torch.testing.assert_close(model.next_logits(identity, ids)[0], own[-1])
    score = model.loglikelihood(identity, [(IDS[:-2], IDS[-2:])])[0][0]
    log_p = own.log_softmax(-1)[-3:-1].gather(1, torch.tensor(IDS[-2:])[:, None]).sum()
    assert score[0] == pytest.approx(float(log_p), abs=1e-4)
    for line in ("0 2", "0 freeze 1-2"):
        done = impasto.export(model, Plan.parse(line), tmp_path / line.replace(" ", "_"))
        assert done.opens_by == "AutoModelForMultimodalLM"
        again = impasto.load(done.folder)
        found = again.next_logits(again.plan or Plan.identity(2), ids)
        wanted = model.next_logits(Plan.parse(line), ids)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


CLASSIFIERS = {
    "of texts": (hf.LlamaForSequenceClassification, {"num_labels": 3, "pad_token_id": 0}),
    "of rewards": (hf.Qwen2ForSequenceClassification, {"num_labels": 1, "pad_token_id": 0}),
    "of tokens": (hf.GPT2ForTokenClassification, {"num_labels": 3}),
}


def classifier(name: str) -> Any:
    kind, special = CLASSIFIERS[name]
    special = special | (_LLAMA if "gpt2" not in kind.__module__ else {})
    return weighted(small(kind, **special))


@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_a_classifier_runs_plans_and_gives_the_logits_of_its_classes(name, tmp_path):
    made = classifier(name)
    made.save_pretrained(tmp_path / "model")
    model = impasto.load(tmp_path / "model")
    assert type(model.hf) is type(made)
    with torch.no_grad():
        own = made(input_ids=torch.tensor([IDS])).logits[0]
    found = model.class_logits(Plan.identity(6), [IDS, IDS[:4]])
    torch.testing.assert_close(found[0], own)
    assert len(found) == 2
    for line in LINES:
        plan = Plan.parse(line, layers=6)
        states = model.hidden_states(plan, [IDS])[0][-1, -1]
        wanted = reference.states_of(made, plan.steps, IDS, {})[-1]
        torch.testing.assert_close(states, wanted, atol=1e-4, rtol=1e-4)
        with impasto.apply(made, plan), torch.no_grad():
            applied = made(input_ids=torch.tensor([IDS])).logits[0]
        torch.testing.assert_close(model.class_logits(plan, [IDS])[0], applied)
        last = applied[-1] if "tokens" in name else applied
        head = made.classifier if "tokens" in name else made.score
        norm = made.base_model.norm if hasattr(made.base_model, "norm") else made.base_model.ln_f
        torch.testing.assert_close(last, head(norm(wanted)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", list(CLASSIFIERS))
@pytest.mark.parametrize("line", thinned(["0 2-5", "0-1 freeze 2-5"]))
def test_a_classifier_is_exported_with_its_head(name, line, tmp_path):
    model = impasto.load(classifier(name))
    plan = Plan.parse(line, layers=6)
    done = impasto.export(model, plan, tmp_path / "exported")
    kind = getattr(hf, done.opens_by)
    again = kind.from_pretrained(done.folder, trust_remote_code=True).eval()
    with torch.no_grad():
        found = again(input_ids=torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(found, model.class_logits(plan, [IDS])[0], atol=1e-4, rtol=1e-4)


def test_what_needs_a_head_is_refused_without_one():
    model, plan = impasto.load(classifier("of texts")), Plan.identity(6)
    for ask in (
        lambda: model.next_logits(plan, torch.tensor([IDS])),
        lambda: model.loglikelihood([plan], [(IDS, [3])]),
        lambda: model.generate([plan], [IDS]),
        lambda: model.fidelity([plan], [IDS]),
        lambda: model.generating_cost([plan], [IDS]),
    ):
        with pytest.raises(UserError, match="needs the head that predicts next tokens"):
            ask()


def test_a_decoder_without_a_head_has_states_and_no_classes(tmp_path):
    made = weighted(small(hf.LlamaModel, **_LLAMA))
    made.save_pretrained(tmp_path)
    model, plan = impasto.load(tmp_path), Plan.parse("0-2 4-5", layers=6)
    assert model.hidden_states(plan, [IDS])[0].shape == (6, 15, 32)
    with pytest.raises(UserError, match="has no head, and so no classes"):
        model.class_logits(plan, [IDS])


def test_a_bidirectional_model_without_a_head_is_an_encoder():
    made = weighted(small(hf.BertModel))
    assert impasto.load(made).is_encoder


def test_an_encoder_decoder_is_refused_as_what_it_is(tmp_path):
    kind: Any = hf.T5Config
    config = kind(
        vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    made = hf.T5ForConditionalGeneration(config)
    with pytest.raises(ModelError, match="T5ForConditionalGeneration is an encoder-decoder"):
        impasto.load(made)
    made.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="T5ForConditionalGeneration is an encoder-decoder"):
        impasto.load(tmp_path)


def test_code_that_comes_with_a_checkpoint_is_not_run_unless_it_is_trusted(tmp_path):
    code = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    config = {"model_type": "made_up", "auto_map": code, "architectures": ["Model"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ModelError, match="Where you trust that code, give trust_remote_code=True"):
        impasto.load(tmp_path)


def test_a_model_without_a_decoder_of_texts_says_so(tmp_path):
    config = hf.ViTConfig(**_SEEN)
    hf.ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="ViTForImageClassification has no decoder of texts"):
        impasto.load(tmp_path)


def test_the_decoder_of_an_encoder_of_images_is_opened_and_exported(tmp_path):
    whole = build(hf.VisionEncoderDecoderModel)
    whole.save_pretrained(tmp_path / "model")
    ids = torch.tensor([IDS])
    with torch.no_grad():
        own = whole.decoder(input_ids=ids, use_cache=False).logits[0, -1]
    for model in (impasto.load(whole), impasto.load(tmp_path / "model")):
        torch.testing.assert_close(model.next_logits(Plan.identity(4), ids)[0], own)
    plan = Plan.parse("0 2-3")
    impasto.export(model, plan, tmp_path / "out")
    again = impasto.load(tmp_path / "out")
    torch.testing.assert_close(
        again.next_logits(Plan.identity(3), ids), model.next_logits(plan, ids)
    )


def test_a_layer_that_a_model_passes_over_on_texts_does_nothing(tmp_path):
    whole = build(hf.MllamaForConditionalGeneration)
    model, ids = impasto.load(whole), torch.tensor([IDS])
    assert model.limits == [
        "the layers 3 do nothing in plans: the model's own forward passes over them on texts"
    ]
    with torch.no_grad():
        own = whole(input_ids=ids, use_cache=False).logits[0, -1]
    for line in ("0-3", "0-2", "3 0-1 3 3 2"):
        torch.testing.assert_close(model.next_logits(Plan.parse(line), ids)[0], own)
    for line, words in (("0-2 3.mlp", "passes over it"), ("0-2 3{last=2}", "no attention")):
        with pytest.raises(ModelError, match=words):
            model.next_logits(Plan.parse(line), ids)
    with pytest.raises(UserError, match="passes over the layers 3 when it reads texts alone"):
        impasto.export(model, Plan.parse("0 2"), tmp_path / "out")
    whole.save_pretrained(tmp_path / "model")
    few = impasto.load(tmp_path / "model", plan=Plan.parse("0 2"))
    for line in ("0 2", "0 3 2"):
        wanted = model.next_logits(Plan.parse("0 2"), ids)
        torch.testing.assert_close(few.next_logits(Plan.parse(line), ids), wanted)
