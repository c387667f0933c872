"""One weight of several layers in the place of one layer's, so that one call runs them all.

A block is called on the rows of n layers, the first layer's batch entries first, while each of its
weights is a :class:`StackedWeight` one. Wherever a weight meets rows, each layer's own meets its own: n
matrix products become one batched product. All else that a block does (attention, rotary tables,
activations, residuals) is done batch entry by batch entry anyway, and runs as it is.

A weight is known to meet rows in the ways that are written down here. Any other is refused, never
guessed at.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class StackedWeight(Tensor):
    """A weight of several layers; to a block it has the shape of one.

    Attributes:
        whole: The weights: layers × the shape of one.
    """

    whole: Tensor

    @classmethod
    def of(cls, whole: Tensor) -> "StackedWeight":
        """Return the weights of ``whole`` as one."""
        weight = whole[0].as_subclass(cls)
        weight.whole = whole
        return weight

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function on each layer's rows with its own weight.

        Raises:
            NotImplementedError: when it is none of those that are known here.
        """
        kwargs = kwargs or {}
        if func in _ASKED:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func == _TRANSPOSED and args[0].ndim == 2:
            return cls.of(args[0].whole.transpose(1, 2))
        if func in _CHANGED:
            return cls.of(func(args[0].whole, *args[1:], **kwargs))
        if func in _MET:
            return _MET[func](*args, **kwargs)
        raise NotImplementedError(f"{func} on the weights of several layers")


def _linear(states: Tensor, weight: StackedWeight, bias: StackedWeight | None = None) -> Tensor:
    return _product(states, weight.whole.transpose(1, 2), bias)


def _matmul(states: Tensor, weight: StackedWeight) -> Tensor:
    return _product(states, weight.whole, None)


def _addmm(bias: StackedWeight, states: Tensor, weight: StackedWeight) -> Tensor:
    return _product(states, weight.whole, bias)


def _product(states: Tensor, weights: Tensor, bias: StackedWeight | None) -> Tensor:
    """Return each layer's rows times its weights (layers × in × out), its bias added."""
    rows = states.reshape(len(weights), -1, states.shape[-1])
    if bias is None:
        found = torch.bmm(rows, weights)
    else:
        found = torch.baddbmm(bias.whole[:, None], rows, weights)
    return found.view(*states.shape[:-1], -1)


def _layer_norm(
    states: Tensor,
    shape: Any,
    weight: StackedWeight | None = None,
    bias: StackedWeight | None = None,
    eps: float = 1e-5,
) -> Tensor:
    normed = functional.layer_norm(states, shape, eps=eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def _rms_norm(
    states: Tensor, shape: Any, weight: StackedWeight | None = None, eps: float | None = None
) -> Tensor:
    normed = functional.rms_norm(states, shape, eps=eps)
    return normed if weight is None else normed * weight


def _elementwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of a weight and rows, in either order, or of a weight and a number."""

    def met(one: Any, other: Any) -> Tensor:
        weights = [each for each in (one, other) if isinstance(each, StackedWeight)]
        rows = [each for each in (one, other) if type(each) is Tensor]
        if not rows:
            values = (
                each.whole if isinstance(each, StackedWeight) else each for each in (one, other)
            )
            return StackedWeight.of(function(*values))
        [weight], [states] = weights, rows
        count = len(weight.whole)
        apart = states.unflatten(0, (count, -1))
        ones = [1] * (apart.ndim - weight.whole.ndim)
        each = weight.whole.reshape(count, *ones, *weight.whole.shape[1:])
        return function(*((apart, each) if one is states else (each, apart))).flatten(0, 1)

    return met


_MUL, _ADD = _elementwise(torch.mul), _elementwise(torch.add)
_MET: dict[Any, Callable[..., Any]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matmul),
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _MUL),
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _ADD),
}
_TRANSPOSED: Any = getattr(Tensor.T, "__get__")  # noqa: B009  (which type checkers know as a value)
_CHANGED = {Tensor.to, Tensor.float, Tensor.type_as}
_ASKED: set[Any] = {Tensor.dim, Tensor.size, Tensor.is_floating_point} | {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad")
}
