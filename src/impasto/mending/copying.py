"""A second model of the same weights: its modules are its own, and its weights are shared.

So what is put into it, or trained in it, is never seen by the model that it was made of. A weight
that is to change is copied; all others take no memory a second time, and need no gradients.
"""

import copy
from collections.abc import Collection
from typing import Any

from torch import nn

from impasto.error import UserError


def shared_copy(hf: Any, own: Collection[str] = ()) -> Any:
    """Return a Hugging Face model that shares another's weights, those of some names excepted.

    Args:
        hf: The model. It stays exactly as it is.
        own: The names of the parameters that the new model has copies of.

    Raises:
        UserError: where weights are offloaded, for those are in no memory that could be shared.
    """
    memo: dict[int, Any] = {}
    for name, weight in hf.named_parameters():
        if weight.device.type == "meta" and weight.numel():
            raise UserError(
                f"{name} is offloaded, so the model cannot be healed here; load it without "
                "device_map, or on a device with more memory"
            )
        if type(weight) is not nn.Parameter:  # quantised: a class of its own, never trained
            memo[id(weight)] = weight
        elif name in own:
            memo[id(weight)] = nn.Parameter(weight.detach().clone(), requires_grad=True)
        else:
            memo[id(weight)] = nn.Parameter(weight.detach(), requires_grad=False)
    for buffer in hf.buffers():
        memo[id(buffer)] = buffer
    return copy.deepcopy(hf, memo).eval()
