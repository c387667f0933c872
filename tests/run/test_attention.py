"""Attention of few rows is what Hugging Face's ``sdpa`` computes, and leaves no trace."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from impasto.run.attention import FEW_ROWS, Scores, few_row_attention

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
    expected, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](*given, scaling=scaling)
    with torch.no_grad(), few_row_attention(Scores()):
        found, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](*given, scaling=scaling)
        again, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](*given, scaling=scaling)
    assert torch.equal(again, found)
    assert not torch.equal(found, torch.zeros_like(found))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_many_rows_half_precision_and_biases_go_to_sdpa_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[torch.Size] = []

    def stock(module: Any, query: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:
        asked.append(query.shape)
        return query, None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", stock)  # type: ignore[arg-type]
    few = inputs(2, 2, "numbers")
    half = tuple(x.half() if isinstance(x, torch.Tensor) else x for x in few)
    with few_row_attention(Scores()):
        attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
        attend(*few)
        assert not asked
        attend(*inputs(2, FEW_ROWS + 1, "numbers"))
        attend(*half)
        attend(*few, position_bias=torch.zeros(1))
        attend(*few[:4], None)
    assert len(asked) == 4


def test_sdpa_is_itself_again_also_after_an_error() -> None:
    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    with few_row_attention(Scores()):
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not before
    with pytest.raises(RuntimeError, match="stop"), few_row_attention(Scores()):
        raise RuntimeError("stop")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before
