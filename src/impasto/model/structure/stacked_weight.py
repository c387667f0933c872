"""The weights of several layers in the place of one layer's, so that one call runs them all.

A block of layer a is called on the hidden states of n layers in one batch, layer a's sequences
first, while each of its weights is a :class:`StackedWeight`. Wherever the block multiplies or adds
a weight, each layer's sequences get that layer's own weight: n matrix products become one batched
product. Everything else in a block (attention, rotary tables, activations, residuals) treats
sequences one by one anyway, and runs as it is.

The operations with weights that this works for are listed at the end of the module. Any other
raises NotImplementedError, and stacking the layers is refused (:mod:`impasto.run.apply.stacking`).
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional


class StackedWeight(Tensor):
    """A weight of several layers; to a block it has the shape of one.

    Attributes:
        stack: The weights of all layers.
    """

    stack: Shaped[Tensor, "layers *shape"]

    @classmethod
    def of(cls, stack: Shaped[Tensor, "layers *shape"]) -> "StackedWeight":
        """Return the weights of all layers as one."""
        weight = stack[0].as_subclass(cls)
        weight.stack = stack
        return weight

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Apply a function to each layer's sequences with that layer's weight.

        Raises:
            NotImplementedError: when the function is none of those below.
        """
        kwargs = kwargs or {}
        if func in _QUERIES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func == _TRANSPOSE and args[0].ndim == 2:
            return cls.of(args[0].stack.transpose(1, 2))
        if func in _CONVERSIONS:
            return cls.of(func(args[0].stack, *args[1:], **kwargs))
        if func in _OPERATIONS:
            return _OPERATIONS[func](*args, **kwargs)
        raise NotImplementedError(f"{func} on the weights of several layers")


def _linear(
    states: Float[Tensor, "*rows inputs"], weight: StackedWeight, bias: StackedWeight | None = None
) -> Float[Tensor, "*rows outputs"]:
    return _product(states, weight.stack.transpose(1, 2), bias)


def _matmul(
    states: Float[Tensor, "*rows inputs"], weight: StackedWeight
) -> Float[Tensor, "*rows outputs"]:
    return _product(states, weight.stack, None)


def _addmm(
    bias: StackedWeight, states: Float[Tensor, "rows inputs"], weight: StackedWeight
) -> Float[Tensor, "rows outputs"]:
    return _product(states, weight.stack, bias)


def _product(
    states: Float[Tensor, "*rows inputs"],
    weights: Float[Tensor, "layers inputs outputs"],
    bias: StackedWeight | None,
) -> Float[Tensor, "*rows outputs"]:
    """Return each layer's sequences times its weights, its bias added."""
    rows = states.reshape(len(weights), -1, states.shape[-1])
    if bias is None:
        product = torch.bmm(rows, weights)
    else:
        product = torch.baddbmm(bias.stack[:, None], rows, weights)
    return product.view(*states.shape[:-1], -1)


def _layer_norm(
    states: Float[Tensor, "*rows hidden"],
    shape: Any,
    weight: StackedWeight | None = None,
    bias: StackedWeight | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*rows hidden"]:
    normed = functional.layer_norm(states, shape, eps=eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def _rms_norm(
    states: Float[Tensor, "*rows hidden"],
    shape: Any,
    weight: StackedWeight | None = None,
    eps: float | None = None,
) -> Float[Tensor, "*rows hidden"]:
    normed = functional.rms_norm(states, shape, eps=eps)
    return normed if weight is None else normed * weight


def _elementwise(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of a weight and states, in either order, or of a weight and a number."""

    def operation(one: Any, other: Any) -> Tensor:
        weights = [each for each in (one, other) if isinstance(each, StackedWeight)]
        rows = [each for each in (one, other) if type(each) is Tensor]
        if not rows:
            values = (
                each.stack if isinstance(each, StackedWeight) else each for each in (one, other)
            )
            return StackedWeight.of(function(*values))
        [weight], [states] = weights, rows
        count = len(weight.stack)
        by_layer = states.unflatten(0, (count, -1))
        ones = [1] * (by_layer.ndim - weight.stack.ndim)
        own = weight.stack.reshape(count, *ones, *weight.stack.shape[1:])
        return function(*((by_layer, own) if one is states else (own, by_layer))).flatten(0, 1)

    return operation


_MUL, _ADD = _elementwise(torch.mul), _elementwise(torch.add)
_OPERATIONS: dict[Any, Callable[..., Any]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matmul),
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _MUL),
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _ADD),
}
_TRANSPOSE: Any = getattr(Tensor.T, "__get__")  # noqa: B009  (which type checkers know as a value)
_CONVERSIONS = {Tensor.to, Tensor.float, Tensor.type_as}
_QUERIES: set[Any] = {Tensor.dim, Tensor.size, Tensor.is_floating_point} | {
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad")
}
