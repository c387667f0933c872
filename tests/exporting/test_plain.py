"""Quantised models and models with adapters: refused before anything is written, or exported plain.

What a quantiser leaves behind differs, so each shape of it is tried: what transformers notes of it,
weights of a class of their own, and modules put in the place of the family's.
"""

import copy
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, QuantoConfig

import impasto
from adapters import LORA, adapter_folder, base_folder
from families import family
from impasto import Plan
from impasto.exporting import ExportError
from impasto.run import load_decoder
from impasto.study.work.identity import weights_digest
from thinning import thinned

IDS = torch.tensor([[5, 17, 3, 88, 41, 2, 60, 9]])
WHOLE, PARTS = Plan.parse("0 2-4"), Plan.parse("0 2-3.mlp freeze 4")
FORMS = [(WHOLE, None), (WHOLE, "planned"), (PARTS, None)]


class Rounded(nn.Module):
    """A linear map with whole numbers, and their scales beside them: as GPTQ and AWQ have it."""

    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scales = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.register_buffer("scales", scales)
        self.register_buffer("qweight", (linear.weight.detach() / scales).round().to(torch.int8))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        qweight: Any = self.qweight
        return states @ (qweight * self.scales).T


class Own(nn.Parameter):
    """A parameter of a class of its own, as bitsandbytes has them."""


def noted(**on_model: Any) -> Any:
    def note(hf: Any) -> None:
        for name, value in on_model.items():
            setattr(hf, name, value)

    return note


def configured(config: Any) -> Any:
    return lambda hf: setattr(hf.config, "quantization_config", config)


def replaced(hf: Any) -> None:
    attention = hf.model.layers[3].self_attn
    attention.q_proj = Rounded(attention.q_proj)


def own_class(hf: Any) -> None:
    mlp = hf.model.layers[3].mlp
    mlp.up_proj.weight = Own(mlp.up_proj.weight.detach())


def of_two(hf: Any) -> None:
    mlp = hf.model.layers[3].mlp
    weight = mlp.up_proj.weight.detach()
    mlp.up_proj.weight = nn.Parameter(TwoTensor(weight, weight.clone()))


def whole_numbers(hf: Any) -> None:
    linear = hf.model.layers[3].mlp.up_proj
    rounded: Any = Rounded(linear)
    linear.weight = nn.Parameter(rounded.qweight, requires_grad=False)
    linear.forward = rounded.forward


def dynamic(hf: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.ao.quantization.quantize_dynamic(hf, {nn.Linear}, dtype=torch.qint8, inplace=True)


GPTQ = SimpleNamespace(quant_method=SimpleNamespace(value="gptq"))
SHAPES: dict[str, tuple[Any, str]] = {
    "a quantiser that made it": (
        noted(hf_quantizer=SimpleNamespace(quantization_config=GPTQ, pre_quantized=False)),
        r"quantised \(gptq\).*the same checkpoint without quantisation.* quantise the exported",
    ),
    "a quantiser that read it": (
        noted(hf_quantizer=SimpleNamespace(quantization_config=GPTQ, pre_quantized=True)),
        r"quantised \(gptq\).*weights that it was quantised from",
    ),
    "a quantiser without settings": (noted(hf_quantizer=Rounded), r"quantised \(type\)"),
    "a flag": (noted(is_quantized=True, quantization_method="hqq"), r"quantised \(hqq\)"),
    "a mapping": (configured({"quant_method": "awq", "bits": 4}), r"quantised \(awq\)"),
    "quanto's settings": (configured(QuantoConfig(weights="int8")), r"quantised \(quanto\)"),
    "bitsandbytes' settings": (
        configured(BitsAndBytesConfig(load_in_8bit=True)), r"quantised \(bitsandbytes\)",
    ),
    "another module": (replaced, r"layers\.3\.self_attn\.q_proj is to be a Linear, .*Rounded"),
    "a weight of a class of its own": (own_class, r"layers\.3\.mlp\.up_proj\.weight .*Own"),
    "a weight of several": (of_two, r"layers\.3\.mlp\.up_proj\.weight .*TwoTensor"),
    "whole numbers": (whole_numbers, r"up_proj has weight as .* whole numbers"),
    "torch's own": (dynamic, r"q_proj is to be a Linear, .*torch\.ao\.nn\.quantized"),
}  # fmt: skip


def forbid_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: Any) -> None:
        pytest.fail("a folder was begun")

    monkeypatch.setattr("impasto.exporting.writing.whole_folder", begun)


@pytest.mark.parametrize(("plan", "form"), FORMS, ids=["plain", "planned", "parts"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_quantised_model_is_refused_before_anything_is_written(
    shape, plan, form, tmp_path, monkeypatch
):
    forbid_writing(monkeypatch)
    quantise, says = SHAPES[shape]
    hf = copy.deepcopy(family("llama"))
    quantise(hf)
    with pytest.raises(ExportError, match=says) as refused:
        impasto.export(hf, plan, tmp_path / "out", form=form)
    assert "form=" not in str(refused.value)  # no form holds it, so none is named
    assert not list(tmp_path.iterdir())


def test_a_change_that_no_configuration_says_is_refused_without_promising_a_form(tmp_path):
    hf = copy.deepcopy(family("llama"))
    hf.model.layers[2].self_attn.scaling *= 2
    with pytest.raises(ExportError, match="layer 2 was changed after the model was built") as no:
        impasto.export(hf, WHOLE, tmp_path / "out")
    assert "form=" not in str(no.value)


def test_a_model_whose_modules_were_left_in_training_mode_is_exported(tmp_path):
    hf = copy.deepcopy(family("llama"))
    hf.model.layers[2].mlp.up_proj.train()  # as those are that dequantize() makes
    done = impasto.export(hf, WHOLE, tmp_path / "out")
    assert done.found is not None
    assert done.found.plain <= done.found.limit


def test_weights_made_of_several_tensors_are_told_apart_by_each():
    hf = copy.deepcopy(family("llama"))
    of_two(hf)
    own = weights_digest(hf)
    assert weights_digest(hf) == own
    hf.model.layers[3].mlp.up_proj.weight.b.data[0] += 1
    assert weights_digest(hf) != own


def planned_logits(hf: Any, plan: Plan) -> torch.Tensor:
    with torch.no_grad(), impasto.apply(hf, plan):
        return hf(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize(("plan", "form"), FORMS, ids=["plain", "planned", "parts"])
@pytest.mark.parametrize("name", thinned(["llama", "gpt2", "qwen3_moe"]))
def test_an_adapter_folder_is_exported_with_its_weights_merged(name, plan, form, tmp_path):
    base = base_folder(tmp_path / "base", name)
    config = LORA(target_modules="all-linear", modules_to_save=["lm_head"])
    adapted = adapter_folder(tmp_path / "a", base, config)
    done = impasto.export(tmp_path / "a", plan, tmp_path / "out", form=form)
    again: Any = AutoModelForCausalLM.from_pretrained(done.folder, trust_remote_code=True)
    with torch.no_grad():
        found = again.eval()(input_ids=IDS, use_cache=False).logits
    torch.testing.assert_close(found, planned_logits(adapted, plan), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", [None, "planned"])
def test_adapters_in_place_are_refused_with_what_to_do(form, tmp_path, monkeypatch):
    adapter_folder(tmp_path / "a", base_folder(tmp_path / "base"), LORA(target_modules=["q_proj"]))
    forbid_writing(monkeypatch)
    kept = load_decoder(tmp_path / "a")
    says = r"holds adapters.*merge_adapter=True"
    unmerged: dict[str, Any] = {"merge_adapter": False}
    for model, options in ((kept, {}), (kept.hf, {}), (tmp_path / "a", unmerged)):
        with pytest.raises(ExportError, match=says):
            impasto.export(model, WHOLE, tmp_path / "out", form=form, **options)


REAL = ["torchao", "quanto", "bitsandbytes"]


def quantised(by: str, folder: Any) -> Any:
    """Load a folder quantised; skip the test where the package is not here."""
    import transformers as hf

    if by == "torchao":
        kinds: Any = pytest.importorskip("torchao.quantization")
        config: Any = hf.TorchAoConfig(kinds.Int8WeightOnlyConfig())
    elif by == "quanto":
        pytest.importorskip("optimum.quanto")
        config = QuantoConfig(weights="int8")
    else:
        pytest.importorskip("bitsandbytes")
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    how: Any = {"quantization_config": config, "device_map": "cpu", "dtype": torch.bfloat16}
    return AutoModelForCausalLM.from_pretrained(folder, **how).eval()


@pytest.mark.slow
@pytest.mark.parametrize("by", REAL)
def test_a_real_quantiser_is_named_its_plans_run_and_its_weights_are_told(by, tmp_path):
    hf = quantised(by, base_folder(tmp_path / "base"))
    for plan, form in FORMS:
        with pytest.raises(ExportError, match=rf"quantised \({by}\)"):
            impasto.export(hf, plan, tmp_path / "out", form=form)
    model = impasto.load(hf)
    for plan in (WHOLE, PARTS):
        wanted = planned_logits(hf, plan)[:, -1]
        torch.testing.assert_close(model.next_logits(plan, IDS), wanted, rtol=5e-2, atol=5e-2)
    assert weights_digest(hf) == weights_digest(hf)


@pytest.mark.slow
def test_what_a_quantiser_gives_back_is_exported(tmp_path):
    hf = quantised("bitsandbytes", base_folder(tmp_path / "base"))
    with pytest.raises(ExportError, match=r"What model\.dequantize\(model\.dtype\) gives"):
        impasto.export(hf, WHOLE, tmp_path / "out")
    done = impasto.export(hf.dequantize(hf.dtype), WHOLE, tmp_path / "out")
    assert done.found is not None
    assert done.found.plain <= done.found.limit
