"""Decoders that count positions from behind the padding token's are exported as others are."""

from typing import Any

import pytest
import torch
import transformers

import impasto
from census import OF_DECODERS
from census_build import build
from impasto import Plan

TEXT = [40, 41, 59, 26, 53, 58, 40, 83, 23, 84]


@pytest.mark.parametrize(("line", "form"), [("0 2-3", "checkpoint"), ("0 freeze 2-3", "planned")])
def test_a_folder_gives_the_plan_and_is_written_on_as_the_model_itself_is(tmp_path, line, form):
    """Its own generate tells it other positions than its forward counts, before as after."""
    hf = build(transformers.RobertaForCausalLM, "sdpa", **OF_DECODERS)
    model, plan = impasto.load(hf), Plan.parse(line)
    impasto.export(model, plan, tmp_path / "out", form=form)
    again = impasto.load(tmp_path / "out")
    own = plan if form == "planned" else Plan.identity(3)
    ids = torch.tensor([TEXT])
    torch.testing.assert_close(again.next_logits(own, ids), model.next_logits(plan, ids))
    assert again.generate(own, [TEXT], 5) == model.generate(plan, [TEXT], 5)
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", trust_remote_code=form == "planned"
    )
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    hf.generation_config = loaded.generation_config = transformers.GenerationConfig()
    written = loaded.generate(ids, attention_mask=torch.ones_like(ids), **options)
    with impasto.apply(hf, plan):
        wanted = hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert torch.equal(written, wanted)
