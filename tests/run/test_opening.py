"""A model is opened once, and what was opened of it goes when it goes."""

import gc
from contextlib import nullcontext
from weakref import ref

import pytest
import torch

import impasto
from families import FAMILIES
from impasto import Plan, UserError
from impasto.run.opening import opening
from plans import CORE

PLANS = [Plan.parse("0-2 noise(gaussian) 3-5"), Plan.parse("0 freeze [1|2] 3-5.mlp")]


def test_a_model_is_opened_once():
    hf = FAMILIES["llama"]().eval()
    assert opening(hf) is opening(hf)
    assert impasto.load(hf)._opened is opening(hf).model


@pytest.mark.parametrize("name", CORE)
def test_a_model_that_was_used_and_is_let_go_is_gone(name):
    model = impasto.load(FAMILIES[name]().eval())
    model.generate(PLANS, [[1, 2, 3], [4, 5]], max_new_tokens=3)
    model.loglikelihood(PLANS, [([1, 2], [3])])
    with impasto.apply(model.hf, PLANS[0]):
        model.hf.generate(model.hf.dummy_inputs["input_ids"], max_new_tokens=2)
    gone = ref(model.hf)
    del model
    gc.collect()
    assert gone() is None


def test_a_model_is_held_by_the_plan_that_is_applied_to_it():
    handle = impasto.apply(FAMILIES["llama"]().eval(), PLANS[0])
    gc.collect()
    handle.remove()


def precisions():
    """Return all that torch says of the precision of products of single precision."""
    said = [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32]
    for name in ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv"):
        library, _, part = name.partition(".")
        backend = getattr(getattr(torch.backends, library), part, None)
        said.append(getattr(backend, "fp32_precision", None))
    return said


@pytest.fixture
def in_less():
    """Let products of single precision be in less, as many scripts for GPUs do."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("fails", [False, True])
def test_the_check_computes_in_full_precision_and_leaves_the_users_as_it_was(in_less, fails):
    during, hf = [], FAMILIES["llama"]().eval()

    def note(*_):
        during.append(precisions())
        if fails and len(during) > 9:
            raise ValueError("no more")

    for block in hf.model.layers:
        block.register_forward_pre_hook(note)
    before = precisions()
    with pytest.raises(UserError, match="no more") if fails else nullcontext():
        opening(hf)
    assert before[0] == "medium"
    assert {(said[0], said[1]) for said in during} == {("highest", False)}
    assert {word for said in during for word in said[2:]} <= {"ieee", None}
    assert precisions() == before


def test_settings_of_torchs_newer_interface_are_put_back_too():
    backend = torch.backends.cuda.matmul
    if not hasattr(backend, "fp32_precision"):
        pytest.skip("this torch has the older interface alone")
    before = backend.fp32_precision
    try:
        backend.fp32_precision = "tf32"
        opening(FAMILIES["gpt2"]().eval())
        assert backend.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
        backend.fp32_precision = before
