"""What is examined on a new machine: right answers are told from wrong ones, on any device."""

import json

import pytest
import torch
from torch.nn.attention import SDPBackend
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

import impasto
from encoders import encoder
from families import FAMILIES, SEQUENTIAL, family, weighted
from foreign import AVAILABLE, foreign_devices, moved, spread
from impasto.cli import app
from impasto.speed.doctor import by_hand, diagnosed, examined
from impasto.speed.doctor import machine as machines
from impasto.speed.doctor.attended import refusal
from thinning import thinned

TRIED = {"identity", "freeze", "skip", "swap", "parallel", "parts"}
on_foreign = pytest.mark.skipif(not AVAILABLE, reason="this torch has no Python backend")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Measure rates by small products, as the machine's own do not matter here."""
    monkeypatch.setattr(machines, "_WIDTHS", (32,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a small model."""
    folder = tmp_path_factory.mktemp("models") / "small"
    family("llama").save_pretrained(folder)
    return folder


def doctor(*words):
    return CliRunner().invoke(app, ["doctor", *map(str, words)])


def wrong(found):
    return [fault for fault in found.faults if fault.is_wrong]


@pytest.mark.parametrize("name", thinned(["llama", "gemma3", "gpt2", "lfm2"], 2))
def test_all_is_well_where_answers_are_those_worked_by_hand(name):
    hf = weighted({**FAMILIES, **SEQUENTIAL}[name]()).requires_grad_(False)
    found = examined(impasto.load(hf), {})
    assert found.is_well, found.faults
    answers = {answer.name: answer for answer in found.answers}
    assert answers.keys() >= TRIED - {"parts"}
    assert answers["identity"].applied == 0
    assert all(answer.is_right and answer.limit == 1e-4 for answer in found.answers)
    assert len({answer.plan for answer in found.answers}) == len(found.answers)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_plans_are_found_for_models_of_few_layers(layers):
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2,
        vocab_size=50, max_position_embeddings=12,
    )  # fmt: skip
    found = examined(impasto.load(LlamaForCausalLM(config).eval()), {})
    assert found.is_well, found.faults
    assert len(found.answers) == (3 if layers == 1 else 6)


def test_an_answer_that_is_wrong_is_told_by_its_plan(monkeypatch, folder):
    def summed(prefix, m):
        states = prefix.run(prefix.entered.states, range(m - 1))
        both = sum(prefix.run(states, [layer]) for layer in (m - 1, m))
        return prefix.run(both - states, range(m + 1, prefix.depth))

    monkeypatch.setattr(by_hand, "_parallel", summed)
    found = diagnosed(str(folder), {})
    assert [answer.name for answer in found.answers if not answer.is_right] == ["parallel"]
    [fault] = wrong(found)
    assert "parallel (0-1 [2-3] 4-5) is off by" in fault.what
    assert fault.mend
    done = doctor(folder)
    assert done.exit_code == 1
    assert "WRONG    parallel" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("something is wrong")


def test_what_is_found_is_printed_and_read_by_other_programs(folder):
    done = doctor(folder)
    assert done.exit_code == 0, done.output
    for word in ("device   cpu", "versions python", "space ", "weights ", "a batch  may take",
                 "there is no accelerator", "identity", "all is well"):  # fmt: skip
        assert word in done.stdout
    read = json.loads(doctor(folder, "--json", "--dtype", "bfloat16").stdout)
    assert read["is_well"] is True
    assert read["model"]["dtype"] == "bfloat16"
    assert read["model"]["dtype_reason"] == "as asked"
    assert {answer["name"] for answer in read["answers"]} == TRIED
    assert read["batch_bytes"] > 0
    assert read["packages"]["torch"] == torch.__version__


def test_a_model_that_does_not_open_is_a_fault_beside_the_rest(tmp_path):
    (tmp_path / "config.json").write_text("{")
    done = doctor(tmp_path)
    assert done.exit_code == 1
    assert "device   cpu" in done.stdout
    assert "does not open" in done.stdout
    assert "Traceback" not in done.output


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    done = doctor("--device", "cuda:7")
    assert done.exit_code == 2
    assert "there is no device 'cuda:7' here" in done.stderr


def test_a_dtype_that_a_device_lacks_is_a_fault_that_names_others(monkeypatch, folder):
    def rate(device, dtype, width):
        if dtype is torch.bfloat16:
            raise RuntimeError("no such kernel")
        return 1e9, 1.0

    monkeypatch.setattr(machines, "product_rate", rate)
    [fault] = wrong(diagnosed(str(folder), {"dtype": "bfloat16"}))
    assert fault.what == "cpu has no products in bfloat16"
    assert fault.mend == "--dtype float32 or float16"


def test_torch_is_asked_whether_it_takes_a_kernel():
    given = [torch.rand(1, 2, 3, 8) for _ in range(3)]
    assert refusal(SDPBackend.MATH, given, {}) == ""
    assert refusal(SDPBackend.EFFICIENT_ATTENTION, given, {})  # which no processor has


@on_foreign
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", thinned([moved, spread], 4))
def test_another_device_is_examined_as_the_processor_is(place, dtype):
    hf = weighted(FAMILIES["llama"]()).requires_grad_(False).to(dtype)
    with foreign_devices():
        found = examined(impasto.load(place(hf)), {})
    assert found.is_well, found.faults
    assert [device.device for device in found.devices] == ["cpu", "foreign:0", "foreign:1"]
    assert found.model is not None
    assert [rate.device for rate in found.rates] == list(found.model.weight_bytes)
    assert {answer.name for answer in found.answers} == TRIED
    kernels = {each.kernel for each in found.attended}
    assert kernels
    if place is moved:
        assert "math" not in kernels
    if dtype is torch.bfloat16:
        assert "flash" in kernels


@on_foreign
def test_weights_that_are_too_large_for_a_device_are_a_fault(monkeypatch, folder):
    with foreign_devices():
        monkeypatch.setattr("impasto.model.loading.placing.free_by_device", lambda kind: {0: 9})
        monkeypatch.setattr(machines, "free_by_device", lambda kind: {0: 9})
        beside = diagnosed(str(folder), {})
        asked = diagnosed(str(folder), {"device_map": "foreign:0"})
    [fault] = wrong(beside)
    assert "is on the processor: the weights want" in fault.what
    assert "--dtype bfloat16" in fault.mend
    assert beside.answers
    [fault] = wrong(asked)
    assert "the weights take" in fault.what
    assert asked.model is None


def test_a_full_disk_and_a_folder_that_is_locked_are_faults(monkeypatch, folder):
    full = machines.Place("models", "/full", 2**20, True)
    locked = machines.Place("temporary", "/locked", 2**40, False)
    monkeypatch.setattr("impasto.speed.doctor.diagnosis.places", lambda: [full, locked])
    space, right = wrong(diagnosed(str(folder), {}))
    assert "/full (models) has 0.0 GiB free" in space.what
    assert "HF_HOME" in space.mend
    assert "/locked (temporary) cannot be written" in right.what


def test_an_encoder_and_a_model_for_one_plan_are_examined_and_not_compared(folder):
    part = examined(impasto.load(folder, plan=impasto.Plan.parse("0-3")), {})
    other = examined(impasto.load(encoder("bert")), {})
    for found, why in ((part, "is there for 0-3 alone"), (other, "predicts no next tokens")):
        assert found.is_well
        assert found.rates
        assert not found.answers
        [hint] = [fault for fault in found.faults if "not compared here" in fault.what]
        assert why in hint.what
