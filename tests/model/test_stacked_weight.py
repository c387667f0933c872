"""A stacked weight meets each layer's rows with that layer's own weight, or refuses."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from impasto.model.structure.stacked_weight import StackedWeight

ROWS = torch.randn(6, 5, 4)  # of three layers, two batch entries each
SQUARE, BIAS, NORM = torch.randn(3, 7, 4), torch.randn(3, 7), torch.randn(3, 4)

MEETINGS = {
    "linear": (functional.linear, (SQUARE,)),
    "linear with a bias": (functional.linear, (SQUARE, BIAS)),
    "Conv1D": (
        lambda x, w, b: torch.addmm(b, x.view(-1, 4), w).view(*x.shape[:-1], 7),
        (SQUARE.transpose(1, 2).contiguous(), BIAS),
    ),
    "product with the transpose": (lambda x, w: x @ w.T, (SQUARE,)),
    "layer norm": (lambda x, w, b: functional.layer_norm(x, (4,), w, b, 1e-3), (NORM, NORM + 1)),
    "layer norm without weights": (lambda x: functional.layer_norm(x, (4,)), ()),
    "RMS norm": (lambda x, w: functional.rms_norm(x, (4,), w, 1e-3), (NORM,)),
    "a factor": (lambda x, w: w * x, (NORM,)),
    "a factor behind": (lambda x, w: x * w, (NORM,)),
    "a summand": (lambda x, w: x + w, (NORM,)),
    "Gemma's factor": (lambda x, w: x * (1.0 + w.float()), (NORM,)),
    "a factor for each head": (lambda x, w: x.view(6, 5, 2, 2) * w, (torch.randn(3, 2, 2),)),
    "two weights": (lambda x, w, b: x * (w * b), (NORM, NORM + 1)),
    "its shape and kind": (lambda x, w: x.to(w.dtype) * w.shape[0] + w.dim() + w.size(0), (NORM,)),
}


@pytest.mark.parametrize("name", list(MEETINGS))
def test_each_layers_rows_meet_its_own_weight(name):
    function, weights = MEETINGS[name]
    result = function(ROWS, *(StackedWeight.of(each) for each in weights))
    own = [
        function(rows, *(each[place] for each in weights))
        if name != "a factor for each head"
        else rows.view(2, 5, 2, 2) * weights[0][place]
        for place, rows in enumerate(ROWS.chunk(3))
    ]
    torch.testing.assert_close(result, torch.cat(own))
    assert type(result) is torch.Tensor


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: torch.einsum("brh,oh->bro", x, w),
        lambda x, w: w[0],
        lambda x, w: w.sum(),
        lambda x, w: x.add_(w),
        lambda x, w: w.data,
        lambda x, w: functional.embedding(torch.tensor([1]), w),
    ],
)
def test_what_is_not_known_is_refused(function):
    with pytest.raises(NotImplementedError, match="several layers"):
        function(ROWS.clone(), StackedWeight.of(SQUARE))


def test_a_module_finds_it_in_the_place_of_its_parameter():
    module = nn.Linear(4, 7)
    before = module.weight
    module.__dict__ |= {"weight": StackedWeight.of(SQUARE), "bias": StackedWeight.of(BIAS)}
    torch.testing.assert_close(
        module(ROWS), functional.linear(ROWS, *map(StackedWeight.of, (SQUARE, BIAS)))
    )
    del module.__dict__["weight"], module.__dict__["bias"]
    assert module.weight is before
