"""How long the texts are that a model is checked on, and what is told of what they cannot show."""

from typing import Any

import pytest
import torch
from test_broken_families import windows_by_index_inside_attention
from transformers import LlamaConfig, MistralForCausalLM

import impasto
from families import FAMILIES, small, weighted
from impasto.model.arguments.lengths import length_limit, named_lengths
from impasto.model.decoder import open_model
from impasto.run.checks import texts
from impasto.run.checks.texts import draw, lengths_of


def mistral(window):
    return weighted(small(MistralForCausalLM, num_key_value_heads=2, sliding_window=window))


def bounded(monkeypatch, tokens, hf):
    """Let the check read so many tokens of a model at the most."""
    weights = sum(weight.numel() for weight in hf.parameters())
    monkeypatch.setitem(texts.CHECK_PRODUCTS, "cpu", float(tokens * weights))
    monkeypatch.setattr(texts, "LEAST", 6)
    return hf


def test_lengths_are_found_by_what_their_names_speak_of():
    settings: dict[str, Any] = {
        "sliding_window": 9, "sparse": {"block_size": 12, "index_topk": [3, 7]},
        "max_window_layers": 5, "num_local_experts": 8, "chunk_scale": True,
        "vision": {"window": 3}, "local_window": 4096,
    }  # fmt: skip
    layer: Any = torch.nn.Linear(2, 2)
    layer.attention_span = 5
    found = named_lengths(LlamaConfig(**settings), [layer], most=2048)
    assert found == {"attention_span": 5, "index_topk": 7, "sliding_window": 9, "block_size": 12}


def test_a_text_is_longer_than_every_length_that_is_named():
    assert lengths_of(open_model(FAMILIES["mistral"]())).tokens == texts.USUAL
    assert lengths_of(open_model(mistral(70))).tokens == 78
    assert lengths_of(open_model(mistral(124))).tokens == 128, "it reads no more than that"


def test_a_text_has_many_tokens_and_none_that_is_special():
    hf = FAMILIES["llama"]()
    hf.config.eos_token_id, hf.config.pad_token_id = [1, 2], 5
    model = open_model(hf)
    drawn = draw(model, 400)
    assert drawn == draw(model, 400)
    assert not {1, 2, 5} & set(drawn)
    assert len(set(drawn[:40])) > 20
    assert len(set(drawn[:40])) < 40, "some are repeated"


def test_what_is_too_long_for_the_whole_model_is_checked_layer_by_layer(monkeypatch):
    model = impasto.load(bounded(monkeypatch, 20, mistral(40)))
    assert any("(20 tokens)" in claim for claim, _ in model.checked)
    assert all(found is not None for _, found in model.checked)
    hf = bounded(monkeypatch, 20, windows_by_index_inside_attention())
    assert "layer 1 gives in a text of 42 tokens" in (impasto.load(hf).runs_sequences or "")


def test_what_is_too_long_for_that_too_is_told(monkeypatch):
    model = impasto.load(bounded(monkeypatch, 10, mistral(100)))
    assert model.checked[-1] == ("the sliding window of 100 (the check reads 10 tokens)", None)


@pytest.mark.parametrize(
    ("rope", "limit"),
    [
        ({"rope_type": "default", "rope_theta": 1e4}, None),
        ({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}, None),
        ({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}, (128, "dynamic")),
    ],
)
def test_rotary_tables_that_change_end_what_plans_read(rope, limit):
    config = LlamaConfig(max_position_embeddings=128, rope_parameters=rope)
    assert length_limit(config) == limit
