"""Models that others have wrapped or quantised run by what they are inside, or say why not."""

import copy
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from torch.nn import functional

import impasto
import reference
from families import FAMILIES, weighted
from impasto import Plan
from impasto.error import UserError
from impasto.model.loading.load import load_hf
from impasto.model.structure.anatomy import ModelError
from plans import PLANS

IDS = torch.randint(3, 90, (1, 15), generator=torch.Generator().manual_seed(4))[0].tolist()


def llama(attention: str = "sdpa") -> Any:
    return weighted(FAMILIES["llama"](attention))


class FourBit(nn.Module):
    """A linear layer whose weights are two to a byte, with one scale for each row."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        self.scale = nn.Buffer(weight.abs().amax(1, keepdim=True) / 7)
        steps = (weight / self.scale).round().to(torch.int8) + 8
        low, high = steps.to(torch.uint8).unflatten(1, (-1, 2)).unbind(2)
        self.packed = nn.Buffer(low | high << 4)

    def forward(self, states):
        steps = torch.stack([self.packed & 15, self.packed >> 4], 2).flatten(1)
        return functional.linear(states, (steps.float() - 8) * self.scale)


def in_four_bits() -> Any:
    hf = llama()
    for block in hf.model.layers:
        for module in list(block.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Linear):
                    setattr(module, name, FourBit(child))
    return hf


def adapted(kind: Any = LoraConfig, **special: Any) -> Any:
    config = kind(task_type="CAUSAL_LM", **special)
    return get_peft_model(llama(), config).eval()


def lora() -> Any:
    return adapted(target_modules=["q_proj", "down_proj"], init_lora_weights=False)


def ia3() -> Any:
    model = adapted(IA3Config, target_modules=["k_proj"], feedforward_modules=[])
    for name, weight in model.named_parameters():
        if "ia3" in name:
            nn.init.uniform_(weight, 0.5, 1.5)
    return model


def compiled() -> Any:
    return torch.compile(llama(), backend="eager")


def compiled_and_adapted() -> Any:
    return torch.compile(lora(), backend="eager")


@pytest.mark.parametrize(
    "build",
    [in_four_bits, lora, ia3, compiled, pytest.param(compiled_and_adapted, marks=pytest.mark.slow)],
)
def test_plans_run_as_on_what_is_inside(build):
    wrapped = build()
    model = impasto.load(wrapped)
    with torch.no_grad():
        own = wrapped(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    identity = model.next_logits(Plan.identity(6), torch.tensor([IDS]))[0]
    torch.testing.assert_close(identity, own, atol=1e-6, rtol=0)
    for plan in PLANS[::4]:
        found = model.next_logits(plan, torch.tensor([IDS]))[0]
        wanted = reference.next_logits(model.hf, plan, IDS)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        with impasto.apply(wrapped, plan), torch.no_grad():
            applied = model.hf(input_ids=torch.tensor([IDS])).logits[0, -1]
        torch.testing.assert_close(applied, wanted, atol=1e-4, rtol=1e-4)
        assert model.generate([plan], [IDS], 2)[0][0] == reference.generate(model.hf, plan, IDS, 2)
    assert model.shape.layers


def test_learned_prompts_are_refused():
    model = adapted(PromptTuningConfig, num_virtual_tokens=3)
    for ask in (impasto.load, lambda each: impasto.apply(each, Plan.identity(6))):
        with pytest.raises(ModelError, match="learned prompts"):
            ask(model)


def test_blocks_that_are_compiled_apart_are_refused_with_the_remedy():
    hf = llama()
    hf.model.layers[1] = torch.compile(hf.model.layers[1], backend="eager")  # type: ignore[call-overload]
    with pytest.raises(ModelError, match=r"layer 1 is wrapped by torch.compile.*_orig_mod"):
        impasto.load(hf)


@pytest.mark.slow
def test_attention_without_a_mask_for_each_row_is_refused_with_the_remedy():
    hf = llama()
    hf.set_attn_implementation("flex_attention")
    with pytest.raises(ModelError, match=r"attends by flex_attention.*sdpa or eager"):
        impasto.load(hf)


@pytest.mark.parametrize("build", [in_four_bits, lora, compiled_and_adapted])
def test_what_no_form_can_hold_is_not_exported(build, tmp_path):
    with pytest.raises(impasto.ImpastoError, match=r"quantised|merge them first"):
        impasto.export(build(), Plan.parse("0 2-5"), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_compiled_model_is_exported_as_its_original(tmp_path):
    done = impasto.export(compiled(), Plan.parse("0 2-5"), tmp_path / "exported")
    found = impasto.load(done.folder).next_logits(Plan.identity(5), torch.tensor([IDS]))[0]
    wanted = reference.next_logits(llama(), Plan.parse("0 2-5"), IDS)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_quantisation_is_named_as_it_is_or_refused(tmp_path):
    llama().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="quantization is one of 4bit, 8bit"):
        load_hf(tmp_path, quantization="3bit")
    with pytest.raises(UserError, match="give one of them"):
        load_hf(tmp_path, quantization="4bit", quantization_config=copy.copy({}))


def test_a_quantisation_whose_package_is_missing_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "transformers.quantizers.quantizer_quanto.is_optimum_quanto_available", bool
    )
    llama().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"cannot be loaded: .*quanto"):
        impasto.load(tmp_path, quantization="quanto-int8")
