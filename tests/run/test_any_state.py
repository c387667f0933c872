"""Whatever state a model is in when it is asked: in training, changed since, under a plan."""

import copy
from typing import Any

import pytest
import torch
import transformers as hf_models
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

import impasto
import reference
from encoders import ENCODERS
from families import FAMILIES, weighted
from impasto import Plan
from impasto.exporting.roundtrip import expected
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import StandIn
from impasto.run import Model, load_decoder

IDS = [3, 1, 4, 1, 5, 9]
ROW = torch.tensor([IDS])
PLANS = [Plan.identity(4), Plan.parse("0-1 freeze 2-3"), Plan.parse("0 [1|2] 3.mlp")]


def dropping() -> Any:
    """Return a model with dropout everywhere, as training leaves it."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=97, n_embd=32, n_layer=4, n_head=4, n_positions=64, initializer_range=0.3,
        embd_pdrop=0.5, attn_pdrop=0.5, resid_pdrop=0.5, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train()


QUESTIONS = {
    "loglikelihood": lambda model, plan: model.loglikelihood(plan, [(IDS, [2, 6]), (IDS, [7])]),
    "generate": lambda model, plan: model.generate(plan, [IDS], max_new_tokens=5),
    "next_logits": lambda model, plan: model.next_logits(plan, ROW).tolist(),
    "hidden_states": lambda model, plan: model.hidden_states(plan, [IDS])[0].tolist(),
    "attention_entropy": lambda model, plan: model.attention_entropy(IDS).tolist(),
    "export's check": lambda model, plan: expected(model, plan).logits.tolist(),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_model_in_training_answers_as_in_evaluation_and_stays_in_training(question, plan):
    hf = dropping()
    hf.transformer.h[1].mlp.eval()  # a part that is held fixed while the rest trains
    modes = [module.training for module in hf.modules()]
    found = QUESTIONS[question](load_decoder(hf), plan)
    assert [module.training for module in hf.modules()] == modes
    assert found == QUESTIONS[question](load_decoder(hf.eval()), plan)


@pytest.mark.parametrize("question", ["masked_scores", "token_logits", "hidden_states"])
def test_an_encoder_in_training_answers_as_in_evaluation(question):
    model: Any = impasto.load(weighted(ENCODERS["bert"]()).train())
    model.mask_token = 3
    plan = Plan.parse("0 2-3")

    def ask() -> Any:
        if question == "token_logits":
            return model.token_logits(plan, ROW).tolist()
        if question == "hidden_states":
            return model.hidden_states(plan, [IDS])[0].tolist()
        return model.masked_scores(plan, [IDS])

    found = ask()
    assert model.hf.training
    model.hf.eval()
    assert found == ask()


def test_apply_keeps_the_mode_so_that_training_under_a_plan_trains():
    hf, plan = dropping(), Plan.parse("0-1 3")
    with impasto.apply(hf, plan):
        assert hf.training
        one, other = hf(ROW).logits, hf(ROW).logits
        assert not torch.allclose(one, other)
        hf(ROW, labels=ROW).loss.backward()
        assert hf.transformer.h[0].mlp.c_fc.weight.grad.abs().max() > 0
        assert hf.transformer.h[2].mlp.c_fc.weight.grad is None
    assert hf.training


def llama(layers: int = 5, **more: Any) -> Any:
    return weighted(FAMILIES["llama"](num_hidden_layers=layers, **more))


def prune(hf: Any) -> None:
    hf.model.layers = nn.ModuleList([hf.model.layers[i] for i in (0, 1, 3)])
    layers: Any = hf.model.layers
    for place, layer in enumerate(layers):
        layer.self_attn.layer_idx = place
    hf.config.num_hidden_layers = 3


def prune_in_place(hf: Any) -> None:
    del hf.model.layers[3:]
    hf.config.num_hidden_layers = 3


def replace_a_block(hf: Any) -> None:
    hf.model.layers[1] = copy.deepcopy(hf.model.layers[2])
    hf.model.layers[1].self_attn.layer_idx = 1


def swap_a_part(hf: Any) -> None:
    hf.model.layers[1].mlp = hf.model.layers[2].mlp


def swap_inside_a_part(hf: Any) -> None:
    hf.model.layers[1].self_attn.q_proj = nn.Linear(32, 32)


def prune_units(hf: Any) -> None:
    """As structured pruning does: fewer units between the matrices of an MLP."""
    mlp = hf.model.layers[1].mlp
    for name in ("gate_proj", "up_proj"):
        getattr(mlp, name).weight = nn.Parameter(getattr(mlp, name).weight[:40].detach().clone())
    mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight[:, :40].detach().clone())


def edit_weights(hf: Any) -> None:
    with torch.no_grad():
        for weight in hf.model.layers[2].parameters():
            weight.mul_(-0.5)


def eager(hf: Any) -> None:
    hf.set_attn_implementation("eager")


CHANGES = [
    prune, prune_in_place, replace_a_block, swap_a_part, swap_inside_a_part, prune_units,
    edit_weights, eager,
]  # fmt: skip


def used(hf: Any) -> Model:
    """Return a model that has been asked everything, so that whatever is remembered is there."""
    model = load_decoder(hf)
    for question in QUESTIONS.values():
        question(model, Plan.parse("0-1 freeze 2 [3|4]"))
    return model


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_was_changed_is_run_as_it_is_now(change):
    hf = llama()
    model = used(hf)
    change(hf)
    layers = len(hf.model.layers)
    for plan in (
        Plan.identity(layers),
        Plan.parse(f"0 freeze 1-{layers - 1}"),
        Plan.parse("2 [0|1]"),
    ):
        wanted = reference.next_logits(hf, plan, IDS)
        torch.testing.assert_close(model.next_logits(plan, ROW)[0], wanted, atol=1e-4, rtol=0)
        [[(log_p, _)]] = model.loglikelihood(plan, [(IDS, [2, 6])])
        assert log_p == pytest.approx(reference.score(hf, plan, IDS, [2, 6])[0], abs=1e-4)
        assert model.generate(plan, [IDS], max_new_tokens=3)[0][0] == reference.generate(
            hf, plan, IDS, 3
        )
        with torch.no_grad(), impasto.apply(hf, plan):
            found = hf(ROW).logits[0, -1]
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert model.num_layers == layers == len(model.shape.layers)


def test_a_plan_of_layers_that_were_pruned_is_refused():
    hf = llama()
    model = used(hf)
    prune(hf)
    with pytest.raises(ValueError, match="layer 4"):
        model.loglikelihood(Plan.parse("0-4"), [(IDS, [2])])


def test_a_window_that_was_edited_in_the_configuration_is_the_models_window():
    hf = weighted(FAMILIES["mistral"]())
    model, plan = load_decoder(hf), Plan.parse("0-2 freeze 3-5")
    before = model.next_logits(plan, ROW)
    hf.config.sliding_window = 2
    wanted = reference.next_logits(hf, plan, IDS)
    torch.testing.assert_close(model.next_logits(plan, ROW)[0], wanted, atol=1e-4, rtol=0)
    [[(log_p, _)]] = model.loglikelihood(plan, [(IDS, [2, 6])])
    assert log_p == pytest.approx(reference.score(hf, plan, IDS, [2, 6])[0], abs=1e-4)
    assert not torch.allclose(before[0], wanted, atol=1e-2)


def test_numbers_of_another_precision_are_those_that_the_model_has_now():
    hf = llama()
    model = used(hf)
    hf.to(torch.float64)
    logits = model.next_logits(Plan.parse("0-1 freeze 2-4"), ROW)
    assert logits.dtype == torch.float64
    wanted = reference.next_logits(hf, Plan.parse("0-1 freeze 2-4"), IDS)
    torch.testing.assert_close(logits[0], wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("change", [prune, prune_in_place, replace_a_block])
def test_layers_that_change_while_a_plan_is_applied_are_noticed(change):
    hf = llama()
    with impasto.apply(hf, Plan.parse("0-1 3-4")):
        change(hf)
        with pytest.raises(ModelError, match="it has been changed since"):
            hf(ROW)
    assert not any(isinstance(module.forward, StandIn) for module in hf.modules())
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 2")):
        found = hf(ROW).logits[0, -1]
    wanted = reference.next_logits(hf, Plan.parse("0 2"), IDS)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_a_model_that_trains_between_questions_answers_with_its_new_weights():
    hf = llama()
    model, plan = used(hf), Plan.parse("0-1 freeze 2-4")
    optimizer = torch.optim.SGD(hf.parameters(), lr=0.5)
    with impasto.apply(hf.train(), plan):
        hf(ROW, labels=ROW).loss.backward()
        optimizer.step()
    hf.eval()
    wanted = reference.next_logits(hf, plan, IDS)
    torch.testing.assert_close(model.next_logits(plan, ROW)[0], wanted, atol=1e-4, rtol=0)


def test_models_made_of_one_configuration_do_not_see_each_other():
    first = llama()
    other = hf_models.LlamaForCausalLM(first.config).eval()
    before = other(ROW).logits
    model = used(first)
    with impasto.apply(first, Plan.parse("0 freeze 1-4")):
        assert torch.equal(other(ROW).logits, before)
    model.generate(Plan.parse("0-2"), [IDS], max_new_tokens=2, progress=lambda _: other(ROW))
    assert torch.equal(other(ROW).logits, before)


def test_a_copy_that_is_made_under_a_plan_is_the_bare_model():
    hf = llama()
    before = hf(ROW).logits
    with impasto.apply(hf, Plan.parse("0 freeze 1-4")):
        twin = copy.deepcopy(hf)
        assert torch.equal(twin(ROW).logits, before)
        assert not torch.equal(hf(ROW).logits, before)
        with impasto.apply(twin, Plan.parse("0-2")):
            found = twin(ROW).logits[0, -1]
    wanted = reference.next_logits(hf, Plan.parse("0-2"), IDS)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(twin(ROW).logits, before)
    assert torch.equal(hf(ROW).logits, before)
