"""Layers that read the keys and values of others: whatever is asked equals the naive reference.

In the reference, all layers of a text share one mapping, which begins empty and which no branch
leaves changed for another one; so a layer reads what the last one before it wrote.
"""

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

import impasto
import reference
from census import look_at
from census_build import build
from impasto import Donor, Plan
from impasto.model.structure.anatomy import ModelError
from spellings import Spelling
from thinning import thinned

LINES = (
    "0-3", "0-1 3 2", "0-1 2 2 3 3", "0 1 1 2 3", "0-1 [2|3]", "0-1 [3|1 3] 3 2",
    "0-1 sum[0 2|3 1]@0.5 2 3", "0-1 freeze 2-3", "0 freeze 1-3", "0-2 freeze 3",
    "0-1 freeze 1 0 3 2", "0-1 noise(gaussian) 2-3", "0-1 noise(shuffle) 0-1 3 2",
    "0-1 2@0.5 3", "0-1 freeze(prompt) 2-3", "0-1 noise(gaussian, prompt) 2 freeze 3 1 3", "0-1",
)  # fmt: skip
FAMILIES = {
    "gemma3n_text": (transformers.Gemma3nForCausalLM, {}),
    "gemma4_text": (transformers.Gemma4ForCausalLM, {"num_kv_shared_layers": 2}),
}
TEXT = [40, 41, 59, 26, 53, 58, 40, 83, 23, 84, 62, 64, 33, 83, 27, 44]
OTHER = [12, 77, 59, 26, 9, 58, 31, 83, 23, 5, 62, 64, 90, 83, 27, 44]


def model_of(name):
    kind, special = FAMILIES[name]
    return impasto.load(build(kind, **special))


@pytest.fixture
def spelt(monkeypatch):
    def put(name):
        streams_first = name == "gemma3n_text"
        spelling = Spelling("model.layers", (), (), streams_first=streams_first)
        monkeypatch.setattr(reference, "spelling", lambda _: spelling)

    return put


@pytest.mark.parametrize("name", thinned(FAMILIES, 2))
def test_plans_equal_the_reference_in_every_way_of_asking(name):
    kind, special = FAMILIES[name]
    found = look_at(name, kind, {line: line for line in LINES[::3]}, **special)
    assert found.verdict == "exact", found
    without_cache = "a call without a cache does not say where it ends"
    assert all("prompt" in line and without_cache in why for line, why in found.refused.items())


@pytest.mark.parametrize("name", thinned(FAMILIES, 2))
def test_many_plans_and_texts_that_begin_alike_equal_the_reference(name, spelt):
    spelt(name)
    model, plans = model_of(name), [Plan.parse(line) for line in LINES]
    requests = [
        (TEXT[:9], TEXT[9:12]), (TEXT[:9], OTHER[:2]), (TEXT[:14], OTHER[:1]), (OTHER[:5], [7, 8]),
        (TEXT[:9], [TEXT[9], 5]),
    ]  # fmt: skip
    for plan, row in zip(plans, model.loglikelihood(plans, requests), strict=True):
        for request, (log_p, _) in zip(requests, row, strict=True):
            wanted, _ = reference.score(model.hf, plan, *request)
            assert log_p == pytest.approx(wanted, rel=1e-5, abs=1e-5), (plan, request)
    prompts = [TEXT[:8], OTHER[:5], OTHER[:8]]
    for plan, row in zip(plans, model.generate(plans, prompts, max_new_tokens=4), strict=True):
        assert row == [reference.generate(model.hf, plan, each, 4) for each in prompts], plan


@pytest.mark.parametrize("name", FAMILIES)
def test_a_donor_has_keys_and_values_of_its_own(name, spelt):
    spelt(name)
    model, plan = model_of(name), Plan.parse("0-1 inject(other) 2-3")
    donor = Donor(OTHER[:9], (4, 6), (3, 5))
    scores = model.loglikelihood([plan], [(TEXT[:9], TEXT[9:12])], donors={"other": donor})
    graft = {"other": reference.Graft(OTHER[:9], [4, 5], [3, 4])}
    wanted, _ = reference.score(model.hf, plan, TEXT[:9], TEXT[9:12], graft)
    assert scores[0][0][0] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_text_goes_on_from_what_another_call_has_left(name):
    model = model_of(name)
    for line in ("0-3", "0-1 3 2 2", "0-1 freeze 2-3"):
        with impasto.apply(model.hf, Plan.parse(line)), torch.no_grad():
            whole = model.hf(torch.tensor([TEXT, OTHER]), use_cache=True).logits
            first = model.hf(torch.tensor([TEXT[:7], OTHER[:7]]), use_cache=True)
            rest = torch.tensor([TEXT[7:], OTHER[7:]])
            behind = model.hf(rest, past_key_values=first.past_key_values, use_cache=True).logits
        torch.testing.assert_close(behind, whole[:, 7:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("line", "reader", "writer"),
    [
        ("3-0", 3, 1), ("0 2-3", 3, 1), ("1-3", 2, 0), ("0 [1|3] 2", 3, 1), ("0 [3|1 2] 3", 3, 1),
        ("2 0-1 3", 2, 0),
    ],
)  # fmt: skip
def test_a_layer_that_runs_before_what_it_reads_is_refused(line, reader, writer):
    model = model_of("gemma3n_text")
    with pytest.raises(ModelError) as refusal:
        model.next_logits(Plan.parse(line), torch.tensor([TEXT]))
    assert f"runs layer {reader} of Gemma3nForCausalLM" in str(refusal.value)
    assert f"keep layer {writer} before it, or leave layer {reader} out" in str(refusal.value)
    assert "plans run the layers 2 only behind layer 0" in " ".join(model.limits)


def test_a_plan_of_layers_that_share_keys_is_exported(tmp_path):
    model, ids = model_of("gemma3n_text"), torch.tensor([TEXT])
    for number, line in enumerate(("0-1 3 2", "0-1 freeze 2-3", "0 [1|1 3] 2 3")):
        plan = Plan.parse(line)
        with pytest.raises(impasto.ImpastoError, match="form='planned'"):
            impasto.export(model, plan, tmp_path / "out", form="checkpoint")
        found = impasto.export(model, plan, tmp_path / str(number), form="planned")
        new = AutoModelForCausalLM.from_pretrained(found.folder, trust_remote_code=True)
        with torch.no_grad():
            logits = new(ids).logits[:, -1]
        torch.testing.assert_close(logits, model.next_logits(plan, ids), atol=1e-4, rtol=1e-4)
    impasto.export(model, Plan.identity(4), tmp_path / "all")
    again = impasto.load(str(tmp_path / "all"))
    own = model.next_logits(Plan.identity(4), ids)
    torch.testing.assert_close(again.next_logits(Plan.identity(4), ids), own)
