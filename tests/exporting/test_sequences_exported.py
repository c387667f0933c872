"""Planned folders of models whose rows cannot be packed, as plain transformers opens them."""

import copy
from typing import Any

import pytest
import torch
from test_without_impasto import check
from transformers import AutoModelForCausalLM

import impasto
from census import OF_DECODERS
from census_build import build, entries
from families import SEQUENTIAL, family
from impasto import Plan
from thinning import thinned

LINES = ["0 [1|2 3] 4-5", "5 3@0.5 3 1", "0-2 freeze 3-5", "0 noise(gaussian, keep=1) [1|2]*2 3-5"]
PARTS = ["0.attn 1-2 3.mlp 4-5", "0 sum[1.attn|2.mlp] freeze 3.mlp 4-5"]
WHOLE = ("mamba", "mamba2")
FOLDERS = [name for name in SEQUENTIAL if name != "rwkv"]
CASES = [
    (name, line)
    for name in FOLDERS
    for line in (LINES if name in WHOLE else [*LINES, *PARTS])
]  # fmt: skip
LONG, SHORT = [5, 17, 3, 88, 41, 2, 60, 9], [33, 71, 4, 12, 90]


def folder(hf, line, place) -> Any:
    """Export a plan of a model, and return what transformers makes of the folder."""
    found = impasto.export(hf, Plan.parse(line), place / "exported", form="planned")
    assert found.form == "planned"
    return AutoModelForCausalLM.from_pretrained(found.folder, trust_remote_code=True).eval()


def small(model_type):
    """Return a small random model of a family."""
    special: dict[str, Any] = dict(OF_DECODERS)
    return build(dict(entries("CAUSAL_LM"))[model_type], **special)


def test_what_they_write_needs_no_impasto(tmp_path):
    check([(name, Plan.parse(line)) for name, line in CASES[::6]], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("line", [*LINES, *PARTS])
def test_every_family_needs_no_impasto(line, tmp_path):
    able = [name for name in FOLDERS if line in LINES or name not in WHOLE]
    check([(name, Plan.parse(line)) for name in able], tmp_path)


@pytest.mark.parametrize(("name", "line"), thinned(CASES, 6))
def test_padding_leaves_no_trace_in_a_folder(name, line, tmp_path):
    hf, plan = family(name), Plan.parse(line)
    new, model = folder(hf, line, tmp_path), impasto.load(hf)
    wanted = torch.stack([model.next_logits(plan, torch.tensor([ids]))[0] for ids in (LONG, SHORT)])
    left, right = torch.tensor([LONG, [0] * 3 + SHORT]), torch.tensor([LONG, SHORT + [0] * 3])
    with torch.no_grad():
        behind = new(left, attention_mask=(left > 0).long()).logits
        before = new(right, attention_mask=(right > 0).long(), use_cache=False).logits
    torch.testing.assert_close(behind[:, -1], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(before[[0, 1], [7, 4]], wanted, atol=1e-4, rtol=1e-4)
    written = new.generate(
        left, attention_mask=(left > 0).long(), max_new_tokens=4, do_sample=False, pad_token_id=0
    )[:, 8:].tolist()
    assert written == model.generate(plan, [LONG, SHORT], max_new_tokens=4)[0]


def test_beams_of_a_folder_are_those_of_the_plan(tmp_path):
    hf, line = family("qwen3_next"), "0 [1|2] freeze 3-5"
    new, ids = folder(hf, line, tmp_path), torch.tensor([LONG, LONG[::-1]])
    options = {"max_new_tokens": 5, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    with impasto.apply(hf, Plan.parse(line)):
        wanted = hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert torch.equal(new.generate(ids, attention_mask=torch.ones_like(ids), **options), wanted)


def test_a_copy_of_a_folder_s_model_runs_by_itself_and_it_can_be_trained(tmp_path):
    new, ids = folder(family("bamba"), "0 [1|2] 3-5", tmp_path), torch.tensor([LONG])
    other = copy.deepcopy(new)
    with torch.no_grad():
        wanted = new(ids).logits
        for weight in new.parameters():
            weight.zero_()
        assert torch.equal(other(ids).logits, wanted)
    other(ids, labels=ids, use_cache=False).loss.backward()
    assert all(w.grad is not None for w in other.model.layers[2].parameters())


def test_what_a_folder_cannot_read_is_refused(tmp_path):
    new, ids = folder(family("lfm2"), "0 noise(gaussian) 1-5", tmp_path), torch.tensor([LONG])
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1]])
    with pytest.raises(ValueError, match="padding between tokens"):
        new(ids, attention_mask=mask)
    with pytest.raises(ValueError, match="input_ids"):
        new(inputs_embeds=new.get_input_embeddings()(ids))
    with pytest.raises(ValueError, match="does not tell what is inside"):
        new(ids, output_hidden_states=True)


@pytest.mark.parametrize(
    ("line", "instead"),
    [("0-2 4-5", "form='checkpoint'"), ("0 freeze 1-5", "impasto.load and impasto.apply")],
)
def test_a_state_that_is_no_cache_has_no_folder_and_what_has_is_named(line, instead, tmp_path):
    with pytest.raises(impasto.ImpastoError, match=f"RwkvForCausalLM keeps what .* {instead}"):
        impasto.export(family("rwkv"), Plan.parse(line), tmp_path / "exported", form="planned")
    assert not (tmp_path / "exported").exists()


KEPT = (
    "openai-gpt",
    "falcon_h1",
    "zamba2",
    "qwen4_exp",
    "deepseek_v4",
    "inkling_text",
    "gemma3n_text",
)


@pytest.mark.parametrize("model_type", thinned(KEPT, 2))
def test_a_family_of_another_form_has_a_folder(model_type, tmp_path):
    hf = small(model_type)
    line = "0 [1|2] freeze 3"
    new, ids = folder(hf, line, tmp_path), torch.tensor([LONG])
    model = impasto.load(hf)
    with torch.no_grad():
        found = new(ids).logits[0, -1]
    wanted = model.next_logits(Plan.parse(line), ids)[0]
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4


@pytest.mark.parametrize("model_type", ["falcon_h1", "zamba"])
def test_layers_are_left_out_of_a_family_whose_code_goes_through_all(model_type, tmp_path):
    hf, plan = small(model_type), Plan.parse("0 2-3")
    hf.save_pretrained(tmp_path / "model")
    part = impasto.load(tmp_path / "model", plan=plan, dtype="float32")
    wanted = impasto.load(hf).next_logits(plan, torch.tensor([LONG]))
    assert torch.equal(part.next_logits(plan, torch.tensor([LONG])), wanted)
    assert folder(hf, "0 2-3", tmp_path) is not None
