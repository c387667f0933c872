"""An encoder without some of its layers is exported as an ordinary checkpoint of its family."""

from typing import Any

import pytest
import torch
import transformers as hf

import impasto
from encoders import ENCODERS, encoder
from impasto import Plan
from impasto.exporting import ExportError

IDS = torch.randint(3, 90, (1, 12), generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", list(ENCODERS))
def test_a_pruned_encoder_is_a_checkpoint_of_its_family(name, tmp_path):
    plan, source = Plan.parse("0-2 5", layers=6), impasto.load(encoder(name))
    if name == "modernbert":  # its configuration says which layers see a window
        plan = Plan.parse("0-2 4-5", layers=6)
    done = impasto.export(source, plan, tmp_path / "exported")
    assert (done.form, done.opens_by) == ("checkpoint", "AutoModelForMaskedLM")
    plain = hf.AutoModelForMaskedLM.from_pretrained(done.folder).eval()
    assert plain.config.num_hidden_layers == len(plan.steps)
    with torch.no_grad():
        found = plain(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    torch.testing.assert_close(found, source.token_logits(plan, IDS), atol=1e-4, rtol=1e-4)


def test_an_encoder_with_a_head_of_classes_keeps_it(tmp_path):
    kind: Any = hf.BertConfig
    config = kind(
        vocab_size=97, hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=48, num_labels=3,
    )  # fmt: skip
    made = hf.BertForSequenceClassification(config).eval()
    done = impasto.export(made, Plan.parse("0 2-3"), tmp_path / "exported")
    plain = hf.AutoModelForSequenceClassification.from_pretrained(done.folder).eval()
    with torch.no_grad(), impasto.apply(made, Plan.parse("0 2-3")):
        wanted = made(input_ids=IDS).logits
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=IDS).logits, wanted)


def test_an_encoder_without_parts_is_refused(tmp_path):
    with pytest.raises(ExportError, match="written for decoders, and this is an encoder"):
        impasto.export(encoder("bert"), Plan.parse("0-2 3.mlp", layers=6), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
