"""Scaled parts as ordinary checkpoints: the weights hold the scales."""

import pytest
import torch

import impasto
from families import family
from impasto import Plan
from impasto.exporting import ExportError

IDS = torch.tensor([[5, 17, 3, 88, 41, 2]])


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "granite", "bloom"])
@pytest.mark.parametrize(
    "line", ["0-1 2.attn@0.5 2.mlp@0.25 3-5", "0 1.attn 1.mlp 2.attn@0 2.mlp 5 5.attn@2 5.mlp"]
)
def test_parts_of_one_layer_that_are_scaled_are_that_layer(name, line, tmp_path):
    hf, plan = family(name), Plan.parse(line)
    done = impasto.export(hf, plan, tmp_path / "out")
    assert done.form == "checkpoint"
    assert done.found is not None
    assert done.found.worst <= done.found.limit


@pytest.mark.parametrize("name", ["gpt_neox", "gptj", "falcon"])
def test_where_both_parts_read_the_same_a_scaled_layer_is_both_scaled(name, tmp_path):
    done = impasto.export(family(name), Plan.parse("0-1 2@0.5 3@-0.25 4-5"), tmp_path / "out")
    assert done.form == "checkpoint"
    assert done.found is not None
    assert done.found.worst <= done.found.limit


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("llama", "0-1 2@0.5 3-5"),
        ("gpt_neox", "0-1 2.attn@0.5 2.mlp 3-5"),
        ("gemma2", "0-1 2.attn@0.5 2.mlp 3-5"),
        ("llama", "0-1 (2 3)@0.5 4-5"),
    ],
)
def test_what_no_weight_holds_is_a_planned_folder_and_no_checkpoint(name, line, tmp_path):
    hf, plan = family(name), Plan.parse(line)
    with pytest.raises(ExportError, match="form='planned'"):
        impasto.export(hf, plan, tmp_path / "out", form="checkpoint")
    done = impasto.export(hf, plan, tmp_path / "out")
    assert done.form == "planned"
    assert done.found is not None
    assert done.found.worst <= done.found.limit
