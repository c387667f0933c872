"""A model is opened once, and what was opened of it goes when it goes."""

import gc
from weakref import ref

import pytest

import impasto
from families import FAMILIES
from impasto import Plan
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
