"""Loading for a plan: layers that it does not name are neither read nor held."""

import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
from families import FAMILIES, family
from impasto import Plan, UserError
from thinning import thinned

NAMES = list(FAMILIES)
IDS = torch.tensor([[5, 17, 3, 88, 41, 2, 60, 9]])
PLAN = Plan.parse("4 1 [1|4.mlp] freeze 4")


def saved(name, folder):
    family(name).save_pretrained(folder)
    return folder


def held(hf, layers):
    """The bytes of a model's weights without some of its layers."""
    names = [f"{blocks}.{layer}." for layer in layers for blocks in (".layers", ".h")]
    weights = hf.named_parameters()
    return sum(w.nbytes for name, w in weights if not any(part in name for part in names))


@pytest.mark.parametrize("name", thinned(NAMES, 4))
def test_the_plan_runs_as_on_the_whole_model_and_only_its_layers_are_held(name, tmp_path):
    whole = impasto.load(saved(name, tmp_path / "model"))
    model, hf = impasto.load(tmp_path / "model", plan=PLAN), whole.hf
    assert type(model.hf) is type(hf)
    assert not any(weight.is_meta for weight in model.hf.parameters())
    assert held(model.hf, ()) == held(hf, (0, 2, 3, 5))
    assert torch.equal(model.next_logits(PLAN, IDS), whole.next_logits(PLAN, IDS))
    prompts = [IDS[0].tolist(), [3, 1]]
    assert model.generate(PLAN, prompts, 4) == whole.generate(PLAN, prompts, 4)


def test_a_plan_that_names_another_layer_is_refused_with_what_is_there(tmp_path):
    model = impasto.load(saved("gpt2", tmp_path / "model"), plan=PLAN)
    for ask in (
        lambda plan: model.generate(plan, [[1]]),
        lambda plan: model.loglikelihood(plan, [([1], [2])]),
        lambda plan: model.next_logits(plan, IDS),
        lambda plan: model.hidden_states(plan, [[1]]),
        lambda plan: impasto.apply(model.hf, plan),
    ):
        with pytest.raises(UserError, match=r"not loaded \(0, 2-3, 5\).*runs 1, 4"):
            ask(Plan.parse("0-5"))
    with pytest.raises(UserError, match="layer 0 is not loaded"):
        model.hf(input_ids=IDS)


def test_a_plan_for_loading_is_checked_before_anything_is_read(tmp_path):
    folder = saved("llama", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"")
    for plan, says in [
        (Plan.parse("0-6"), "layer 6 does not exist"),
        (Plan.parse("freeze"), "runs no layer"),
    ]:
        with pytest.raises(UserError, match=says):
            impasto.load(folder, plan=plan)
    with pytest.raises(UserError, match="yet to load"):
        impasto.load(family("llama"), plan=PLAN)


PEAK = r"""
import os, re, sys, torch, impasto
from pathlib import Path
from impasto.model.loading.load import load_hf

def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10

torch.set_num_threads(1)
impasto.load("demo").next_logits(impasto.Plan.identity(12), torch.tensor([[1, 2]]))  # all imported
for line in sys.argv[2:]:
    if os.fork():
        os.wait()
        continue
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    plan = impasto.Plan.parse(line) if line else None
    model = impasto.load(sys.argv[1], plan=plan)
    model.next_logits(plan or impasto.Plan.identity(8), torch.tensor([[1, 2, 3]]))
    print(peak() - before, flush=True)
    os._exit(0)
"""


@pytest.mark.slow
def test_memory_grows_by_the_layers_that_the_plan_names(tmp_path):
    """Eight layers of 16 MiB; a process's own peak, that of reading included."""
    config = LlamaConfig(
        vocab_size=97, hidden_size=512, intermediate_size=2048, num_hidden_layers=8,
        num_attention_heads=4, max_position_embeddings=32,
    )  # fmt: skip
    with torch.device("meta"):
        hf = LlamaForCausalLM(config)
    hf.to_empty(device="cpu")
    for weight in hf.parameters():
        weight.data.fill_(0.01)
    layer = sum(weight.nbytes for weight in hf.model.layers[0].parameters()) / 2**20
    assert 15 < layer < 17
    hf.save_pretrained(tmp_path / "model")
    del hf
    run = [sys.executable, "-c", PEAK, str(tmp_path / "model"), "", "1 6 1 6"]
    told = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    whole, two = map(float, told.split())
    assert whole - two == pytest.approx(6 * layer, rel=0.15)
