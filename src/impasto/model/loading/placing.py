"""On which device a model's weights go: where the caller says, else on an accelerator they fit on.

Where nobody says, the accelerator with most free memory takes the model if its weights leave room
to work in; several take it together if they do; else the processor does. ``mps`` is used where it
is asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch

from impasto.error import UserError, shown

ROOM = 1.2  # the memory that a model needs, as a multiple of its weights
_ASKED_FOR = ("mps",)  # accelerators that are used where they are asked for
_SMALLER = "dtype: bfloat16 or quantization: 4bit makes the weights smaller"


def placed(options: Mapping[str, Any], size: Callable[[], int | None]) -> dict[str, Any]:
    """Return options of ``from_pretrained``, with the device where they name none.

    Args:
        options: The options.
        size: Returns the bytes that the weights take; None where that is not known.

    Raises:
        UserError: when the device that they name is not there, or has no room for the weights.
    """
    asked = options.get("device_map")
    if isinstance(asked, (str, torch.device)) and asked not in _SPREADING:
        return {**options, "device_map": {"": _checked(asked, size)}}
    device = accelerator()
    if asked is not None or device is None or device.type in _ASKED_FOR:
        return dict(options)
    free = free_by_device(device.type)
    wanted = ROOM * (size() or 0)
    best = max(free, key=lambda index: free[index])
    if wanted <= free[best]:
        return {**options, "device_map": {"": torch.device(device.type, best)}}
    return {**options, "device_map": "auto"} if wanted <= sum(free.values()) else dict(options)


def check_room(options: Mapping[str, Any], size: int | None) -> None:
    """Raise UserError where weights of so many bytes go to the processor, and never fit there.

    Args:
        options: Options of ``from_pretrained``, once :func:`placed`.
        size: The bytes that the weights take; None where that is not known.
    """
    place = options.get("device_map", {"": "cpu"})
    stays = isinstance(place, Mapping) and str(place.get("")) == "cpu"
    total = psutil.virtual_memory().total + psutil.swap_memory().total
    if not stays or size is None or size <= total:
        return
    memory = f"the processor has {total / 2**30:.2f} GiB"
    device = accelerator()
    if device is not None:
        free = free_by_device(device.type).items()
        memory += "".join(f", {device.type}:{i} {room / 2**30:.2f} GiB free" for i, room in free)
    raise UserError(f"the weights take {size / 2**30:.2f} GiB, and {memory}; {_SMALLER}")


_SPREADING = ("auto", "balanced", "balanced_low_0", "sequential")


def accelerator() -> torch.device | None:
    """Return the kind of accelerator that this machine has; None without one."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def free_by_device(kind: str) -> dict[int, int]:
    """Return the bytes that are free on each accelerator of a kind."""
    module = torch.get_device_module(kind)
    indices = range(torch.accelerator.device_count())
    if not hasattr(module, "mem_get_info"):
        return dict.fromkeys(indices, 0)
    return {index: module.mem_get_info(index)[0] for index in indices}


def told(model: torch.nn.Module | None) -> str | None:
    """Return where a model's weights are, as what, and why not on an accelerator that is there.

    None on a machine without accelerators, where there is nothing to choose, and of a model without
    weights of its own.
    """
    device = accelerator()
    if device is None or model is None:
        return None
    sizes: dict[str, int] = {}
    for weight in model.parameters():
        sizes[str(weight.device)] = sizes.get(str(weight.device), 0) + weight.nbytes
    dtype = str(getattr(model, "dtype", "")).removeprefix("torch.")
    where = ", ".join(f"{size / 2**30:.2f} GiB on {place}" for place, size in sizes.items())
    if any(torch.device(place).type == device.type for place in sizes):
        return f"weights  {where}, {dtype}"
    return f"weights  {where}, {dtype}; {_why_not(device, sum(sizes.values()))}"


def _why_not(device: torch.device, size: int) -> str:
    """Return why an accelerator that is there has not taken weights of so many bytes."""
    if device.type in _ASKED_FOR:
        return f"--device {device.type} uses the accelerator"
    free = max(free_by_device(device.type).values(), default=0)
    if ROOM * size > free:
        return f"{device.type} has {free / 2**30:.2f} GiB free, which is too little; {_SMALLER}"
    return f"--device {device.type} uses the accelerator"


def _checked(name: str | torch.device, size: Callable[[], int | None]) -> torch.device:
    """Return a device that is there, and that has room for so many bytes."""
    device = device_of(name)
    if device.type in ("cpu", "meta") or device.type in _ASKED_FOR:
        return device
    index = device.index if device.index is not None else torch.accelerator.current_device_index()
    free, wanted = free_by_device(device.type).get(index, 0), size()
    if wanted is not None and free and wanted > free:
        raise UserError(
            f"the weights take {wanted / 2**30:.2f} GiB, and {device.type}:{index} has "
            f"{free / 2**30:.2f} GiB free; {_SMALLER}, device_map: auto spreads them over all "
            "devices, cpu has the memory of the machine"
        )
    return torch.device(device.type, index)


def device_of(name: str | torch.device) -> torch.device:
    """Return the device of this name; raises UserError where there is none."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"there is no device {shown(str(name), 80)} here ({reason}); there is {_there()}"
        ) from None
    return device


def _there() -> str:
    device = accelerator()
    if device is None:
        return "cpu"
    count = torch.accelerator.device_count()
    return ", ".join(["cpu", *(f"{device.type}:{index}" for index in range(count))])
