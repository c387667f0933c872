"""Attention entropy against the weights that Hugging Face returns."""

from typing import Any

import numpy as np
import pytest
import torch

from families import FAMILIES, VOCABULARY, family
from impasto.analysis.inside.entropy import attention_entropy
from impasto.model.structure.anatomy import ModelError
from impasto.run import load_decoder
from thinning import thinned

FIXED = ("falcon", "falcon_new", "falcon_alibi")  # attention is chosen once, on loading


@pytest.mark.parametrize("name", thinned(list(FAMILIES)))
def test_entropy_is_that_of_hugging_faces_weights_and_the_model_stays_as_it_was(name):
    model = load_decoder(family(name, attention="eager" if name in FIXED else "sdpa"))
    ids = torch.randint(VOCABULARY, (9,), generator=torch.Generator().manual_seed(1)).tolist()
    before = model.hf.config._attn_implementation
    found = model.attention_entropy(ids)
    assert model.hf.config._attn_implementation == before
    assert not any(module._forward_hooks for module in model.hf.modules())
    eager = family(name, attention="eager")
    with torch.no_grad():
        weights = eager(torch.tensor([ids]), output_attentions=True).attentions
    for layer, own in enumerate(weights):
        entropy = -(own[0] * own[0].clamp(min=1e-30).log()).sum(-1)
        torch.testing.assert_close(found[layer], entropy, atol=1e-5, rtol=1e-4)


class Evenly:
    """A model whose heads spread evenly, so that the entropy at token n is log n."""

    max_positions: int | None = 6

    def tokens(self, text):
        return list(range(len(text)))

    def attention_entropy(self, ids: Any) -> Any:
        return torch.log(torch.arange(1, len(ids) + 1)).expand(2, 3, -1)


def test_the_mean_is_over_the_tokens_that_have_a_choice():
    found = attention_entropy(Evenly(), ["abc", "a", "abcdefghij"])
    expected = np.log([2, 3, 2, 3, 4, 5, 6]).mean()
    assert found.mean.shape == (2, 3)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-6)
    assert found.even == pytest.approx(expected)
    assert (found.texts, found.tokens) == (2, 7)
    with pytest.raises(ValueError, match="two tokens"):
        attention_entropy(Evenly(), ["a"])


def test_attention_that_cannot_change_must_be_eager_from_the_start():
    with pytest.raises(ModelError, match='load it with attn_implementation="eager"'):
        load_decoder(family("falcon")).attention_entropy([1, 2, 3])


def test_attention_that_does_not_tell_is_refused(monkeypatch):
    model = load_decoder(family("llama", attention="eager"))
    attention = model.hf.model.layers[2].self_attn
    plain = type(attention).forward

    def silent(*args, **given):
        return plain(*args, **given)[0], None

    monkeypatch.setattr(type(attention), "forward", silent)
    with pytest.raises(ModelError, match="does not tell"):
        model.attention_entropy([1, 2, 3])
