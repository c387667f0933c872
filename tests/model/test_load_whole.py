"""A checkpoint whose weights are not all there is refused: random ones would stand in for them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import impasto
from encoders import ENCODERS
from families import FAMILIES
from impasto import Plan
from impasto.model.structure.anatomy import ModelError


def written(folder: Path, made: object, **settings: object) -> Path:
    """Write a model, and then other settings into its configuration."""
    made.save_pretrained(folder)  # type: ignore[attr-defined]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def test_layers_that_are_not_stored_are_not_drawn_at_random(tmp_path):
    folder = written(tmp_path / "m", FAMILIES["llama"](), num_hidden_layers=8)
    with pytest.raises(ModelError, match=r"not all there: .* not stored \(model\.layers\.6\."):
        impasto.load(folder)
    assert impasto.load(folder, plan=Plan.parse("0-5")).plan == Plan.parse("0-5")
    with pytest.raises(ModelError, match="not stored"):
        impasto.load(folder, plan=Plan.parse("0-6"))


def test_weights_of_another_shape_are_refused(tmp_path):
    folder = written(tmp_path / "m", FAMILIES["llama"](), intermediate_size=96)
    with pytest.raises(ModelError, match=r"cannot be loaded|in other shapes"):
        impasto.load(folder)


def test_one_weight_that_is_missing_is_named(tmp_path):
    folder = written(tmp_path / "m", FAMILIES["llama"]())
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.3.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.layers\.3\.mlp\.up_proj\.weight"):
        impasto.load(folder)


def test_an_encoder_without_pooler_or_head_opens_and_one_without_a_layer_does_not(tmp_path):
    hf = ENCODERS["bert"]()
    hf.base_model.save_pretrained(tmp_path / "base")
    assert impasto.load(tmp_path / "base").num_layers == hf.config.num_hidden_layers
    folder = written(tmp_path / "more", hf, num_hidden_layers=9)
    with pytest.raises(ModelError, match="not stored"):
        impasto.load(folder)


def test_what_is_whole_opens(tmp_path):
    hf = FAMILIES["gpt2"]().eval()
    ids = torch.tensor([[1, 2, 3]])
    opened = impasto.load(written(tmp_path / "m", hf))
    with torch.no_grad():
        assert torch.equal(opened.hf(ids).logits, hf(ids).logits)
