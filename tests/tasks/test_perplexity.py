"""A real model's perplexity on real stories, with each of its layers left out in turn."""

from copy import deepcopy
from math import exp
from typing import Any

import pytest
import torch

import impasto
from impasto import Plan
from impasto.tasks import RollingLogLikelihood
from impasto.tasks.answering import answer
from realdata import real_model, real_story

LAYERS = 5
SKIPS = [" ".join(str(i) for i in range(LAYERS) if i != left_out) for left_out in range(LAYERS)]
PLANS = [Plan.parse(line) for line in ("0-4", *SKIPS)]


@pytest.fixture(scope="module")
def stories():
    return impasto.load(str(real_model()))


def perplexities(model, text):
    """Return the perplexity per token under every plan."""
    responses: Any = answer(model, PLANS, [[RollingLogLikelihood(text)]]).responses
    return [exp(-found / len(model.tokens(text))) for [[found]] in responses]


@pytest.mark.parametrize(
    ("name", "characters"), [("tinystories_sample.txt", None), ("Niklas6_tinystories.txt", 6000)]
)
def test_the_first_layer_matters_most_the_second_next_and_the_others_alike(
    name, characters, stories
):
    baseline, *skipped = perplexities(stories, real_story(name)[:characters])
    assert 3 < baseline < 9
    assert skipped[0] > 4 * skipped[1]
    assert skipped[1] > 1.4 * max(skipped[2:])
    assert max(skipped[2:]) < 1.15 * min(skipped[2:])
    assert min(skipped[2:]) > 2 * baseline


def test_a_skipped_layer_is_one_that_is_not_there(stories):
    text = real_story("tinystories_sample.txt")[:900]
    ids = stories.tokens(text)
    read = torch.tensor([[stories.prefix_token, *ids]])[:, : stories.max_positions]
    assert read.shape[1] == len(ids) + 1  # one window
    for left_out, found in enumerate(perplexities(stories, text)[1:]):
        edited = deepcopy(stories.hf)
        del edited.model.layers[left_out]
        with torch.no_grad():
            log_p = edited(input_ids=read, use_cache=False).logits[0, :-1].log_softmax(-1)
        wanted = exp(-log_p.gather(1, read[0, 1:, None]).mean().item())
        assert found == pytest.approx(wanted, rel=1e-4)
