"""Attention of few rows is what Hugging Face's ``sdpa`` computes, and leaves no trace."""

from functools import partial
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from families import FAMILIES
from impasto.run.attention.choice import attention_modules, chosen_attention
from impasto.run.attention.few_rows import FEW_ROWS, Scores, few_row_attention
from impasto.run.opening import opened

BATCH, HEADS, KEYS, WIDTH = 3, 8, 40, 16


def inputs(groups: int, rows: int, mask: str) -> tuple[Any, ...]:
    torch.manual_seed(rows)
    query = torch.randn(BATCH, HEADS, rows, WIDTH)
    key, value = torch.randn(2, BATCH, groups, KEYS, WIDTH)
    seen = torch.rand(BATCH, 1, rows, KEYS) > 0.3
    seen[..., 0] = True
    if mask == "numbers":
        heads = torch.randn(1, HEADS, 1, KEYS)
        seen = torch.where(seen, heads, torch.finfo(heads.dtype).min)
    module = SimpleNamespace(num_key_value_groups=HEADS // groups, is_causal=True)
    return module, query, key, value, seen


@pytest.mark.parametrize("mask", ["true and false", "numbers"])
@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("groups", [1, 2, HEADS])
@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS])
def test_few_rows_attend_as_under_sdpa(
    groups: int, rows: int, scaling: float | None, mask: str
) -> None:
    given = inputs(groups, rows, mask)
    stock, attend = ALL_ATTENTION_FUNCTIONS["sdpa"], few_row_attention(Scores())
    expected, _ = stock(*given, scaling=scaling)
    with torch.no_grad():
        found, _ = attend(stock, *given, scaling=scaling)
        found = found.clone()
        again, _ = attend(stock, *given, scaling=scaling)
    assert torch.equal(again, found)
    assert not torch.equal(found, torch.zeros_like(found))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_many_rows_half_precision_and_biases_go_to_sdpa_itself() -> None:
    asked: list[torch.Size] = []

    def stock(module: Any, query: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        asked.append(query.shape)
        return query, None

    few = inputs(2, 2, "numbers")
    half = tuple(x.half() if isinstance(x, torch.Tensor) else x for x in few)
    attend = partial(few_row_attention(Scores()), stock)
    attend(*few)
    assert not asked
    attend(*inputs(2, FEW_ROWS + 1, "numbers"))
    attend(*half)
    attend(*few, position_bias=torch.zeros(1))
    attend(*few[:4], None)
    assert len(asked) == 4


def noting(calls: list[Any], stock: Any, *args: Any, **kwargs: Any) -> Any:
    calls.append(args[0])
    return stock(*args, **kwargs)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
def test_attention_is_chosen_for_one_model_and_one_thread(name: str) -> None:
    hf, other = (FAMILIES[name]().eval() for _ in range(2))
    other.config = hf.config
    for module in other.modules():  # models made of one configuration share it
        if "config" in module.__dict__:
            module.__dict__["config"] = hf.config
    ids, calls = torch.tensor([[3, 1, 4, 1, 5]]), []
    registered = dict(ALL_ATTENTION_FUNCTIONS.items())
    with torch.no_grad(), chosen_attention(opened(hf), partial(noting, calls)):
        hf(ids)
        assert len(calls) == len(set(calls)) == hf.config.num_hidden_layers
        other(ids)
        in_thread(hf, ids)
    assert len(calls) == hf.config.num_hidden_layers
    assert dict(ALL_ATTENTION_FUNCTIONS.items()) == registered


def test_attention_is_itself_again_also_after_an_error() -> None:
    hf, calls = FAMILIES["llama"]().eval(), []
    before = [module.__dict__.get("config") for module in hf.modules()]
    with pytest.raises(RuntimeError, match="stop"), chosen_attention(opened(hf), noting):
        raise RuntimeError("stop")
    after = [module.__dict__.get("config") for module in hf.modules()]
    assert all(one is other for one, other in zip(before, after, strict=True))
    hf(torch.tensor([[3, 1, 4]]))
    assert not calls


def test_modules_that_know_their_attention_by_another_way_keep_it() -> None:
    assert not attention_modules(opened(FAMILIES["bloom"]().eval()))


def in_thread(function: Any, *args: Any) -> None:
    thread = Thread(target=function, args=args)
    thread.start()
    thread.join()
