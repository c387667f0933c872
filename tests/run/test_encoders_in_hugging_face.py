"""Under apply, encoders with any head run a plan, and train under it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import encoder_reference
import impasto
from encoders import ENCODERS, encoder
from families import weighted
from impasto import Plan

NAMES = list(ENCODERS)
IDS = [5, 17, 3, 88, 41, 2, 60, 9]
PLANS = [
    Plan.parse(line) for line in ("0 [1-3]*2 5", "5-0", "0-2 3.attn 4.mlp 5", "0 sum[1|2.mlp] 3 5")
]


def classifier(name, kind: Any = AutoModelForSequenceClassification):
    config = encoder(name).config.__class__.from_dict(encoder(name).config.to_dict())
    config.num_labels = 3
    return weighted(kind.from_config(config))


@pytest.mark.parametrize("name", NAMES)
def test_a_classifier_runs_the_plan_and_its_gradients_are_the_references(name):
    hf, label = classifier(name), torch.tensor([2])
    for plan in PLANS:
        hf.zero_grad()
        rows = encoder_reference.states_of(hf, plan.steps, IDS, {})
        expected = encoder_reference.through_head(hf, rows, IDS, labels=label)
        expected.loss.backward()
        gradients = gradients_of(hf)
        hf.zero_grad()
        with impasto.apply(hf, plan):
            found = hf(input_ids=torch.tensor([IDS]), labels=label)
        found.loss.backward()
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=0)
        assert gradients.keys() == gradients_of(hf).keys()
        for key, gradient in gradients_of(hf).items():
            torch.testing.assert_close(gradient, gradients[key], atol=2e-4, rtol=1e-3, msg=key)


def gradients_of(hf):
    """Gradients by name; weights that a plan does not reach have none or zeros."""
    weights = {name: weight.grad for name, weight in hf.named_parameters()}
    return {name: g.clone() for name, g in weights.items() if g is not None and g.abs().max() > 0}


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_and_attentions_are_the_plans(name):
    hf, plan = classifier(name, AutoModelForTokenClassification), Plan.parse("0 [1|2] 3.attn 5.mlp")
    hf.set_attn_implementation("eager")
    with torch.no_grad(), impasto.apply(hf, plan):
        out = hf(input_ids=torch.tensor([IDS]), output_hidden_states=True, output_attentions=True)
    assert out.logits.shape == (1, len(IDS), 3)
    assert len(out.hidden_states) == 5
    assert len(out.attentions) == 4
    for end, states in list(enumerate(out.hidden_states))[:-1]:
        expected = encoder_reference.states_of(hf, plan.steps[:end], IDS, {})
        torch.testing.assert_close(states[0], expected, atol=1e-4, rtol=0)


def test_trainer_trains_only_what_the_plan_runs(tmp_path: Path):
    torch.manual_seed(0)
    hf, plan = BertForSequenceClassification(encoder("bert").config), Plan.parse("0-2 4.mlp 5")
    before = {name: weight.clone() for name, weight in hf.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(4, 97, (32, 8), generator=generator)
    data = [{"input_ids": row, "labels": int(row[0]) % 2} for row in rows]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=60, learning_rate=3e-3, report_to=[], save_strategy="no",
        disable_tqdm=True, per_device_train_batch_size=8, seed=0, use_cpu=True,
    )  # fmt: skip
    with impasto.apply(hf, plan):
        trained = Trainer(hf, arguments, train_dataset=data)  # type: ignore[arg-type]
        first = trained.evaluate(data)["eval_loss"]  # type: ignore[arg-type]
        trained.train()
        last = trained.evaluate(data)["eval_loss"]  # type: ignore[arg-type]
    assert last < first / 2
    changed = {name for name, weight in hf.state_dict().items() if not weight.equal(before[name])}
    assert not any("layer.3." in name for name in changed), "a skipped layer was trained"
    assert not any("layer.4.attention.self" in name for name in changed)
    assert any("layer.4.intermediate" in name for name in changed)
