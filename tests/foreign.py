"""Devices that are none: ``foreign:0`` and ``foreign:1`` obey a GPU's rules on a processor.

A :class:`ForeignTensor` says that it is on such a device and holds a tensor of the processor, on
which every operation runs, so results are the processor's to the last bit. What a GPU refuses is
refused: an operation on tensors of several devices. What makes the host wait for a GPU is counted:
reading numbers, copying to the processor, or from it unless ``non_blocking``, and operations whose
result's shape is to be known first.

It rests on torch's Python backend for PrivateUse1, which older versions of torch lack; then
``AVAILABLE`` is False.
"""

import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from accelerate import dispatch_model
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from impasto.model.structure.anatomy import find_blocks

try:
    from torch.utils import backend_registration as registration

    _BACKEND: Any = registration._DummyBackendModule
    _register = registration._setup_privateuseone_for_python_backend
    AVAILABLE = True
except (ImportError, AttributeError):
    _BACKEND, _register, AVAILABLE = object, None, False

DEVICES = ("foreign:0", "foreign:1")
_PROCESSOR = torch.device("cpu")

# Operations whose result has a shape that only the device knows.
_OF_UNKNOWN_SHAPE = {
    "aten::nonzero", "aten::masked_select", "aten::bincount", "aten::_unique2",
    "aten::unique_consecutive", "aten::unique_dim",
}  # fmt: skip
_READ_BY_HOST = {"aten::equal", "aten::is_nonzero", "aten::_local_scalar_dense"}
_INDEXED = {
    "aten::index", "aten::_unsafe_index", "aten::index_put", "aten::index_put_",
    "aten::_index_put_impl_",
}  # fmt: skip
# Operations that take not even a number of the processor beside a device's tensor.
_TAKE_NO_NUMBERS = {
    "aten::gather", "aten::scatter", "aten::scatter_", "aten::index_select", "aten::embedding",
    "aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::cat",
}  # fmt: skip


OWN = "in the model's own forward"


def _is_in_transformers() -> bool:
    """Whether the code that waits is that of transformers, rather than the project's."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/transformers/" in name or "/impasto/" in name:
            return "/transformers/" in name
        frame = frame.f_back
    return False


class Waits(Counter[str]):
    """How often the host waited for a device, by what it waited for; and where, if asked."""

    def __init__(self) -> None:
        super().__init__()
        self.where: Counter[str] = Counter()
        self.tells_where = False

    def note(self, reason: str) -> None:
        """Count one, those apart that a model's own forward waits for."""
        if _is_in_transformers():
            reason = OWN
        self[reason] += 1
        if self.tells_where:
            frames = [f for f in traceback.extract_stack() if "/impasto/" in f.filename]
            last = [f"{f.filename.rpartition('/impasto/')[2]}:{f.lineno}" for f in frames[-3:]]
            self.where[f"{reason} at {' < '.join(reversed(last))}"] += 1

    def start(self) -> None:
        """Begin anew."""
        self.clear()
        self.where.clear()


_waits = Waits()
attended: deque[list[torch.Tensor]] = deque(maxlen=1000)
"""What torch's own attention was given of late: query, key, value, and a mask if there was one."""


class _Backend(_BACKEND):
    """What torch asks of a device's module; elsewhere in this process the device is not there."""

    is_there = False

    def is_available(self) -> bool:
        return self.is_there

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return len(DEVICES)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def _is_in_bad_fork(self) -> bool:
        return False


_backend = _Backend()
if _register is not None:
    _register("foreign", backend_module=_backend)


class ForeignTensor(torch.Tensor):
    """A tensor of a foreign device; ``held`` is the processor's tensor with its numbers."""

    held: torch.Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> "ForeignTensor":
        """Wrap a tensor of the processor."""
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, device=device, **layout
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _Call(func, args, kwargs or {}).run()

    def data_ptr(self) -> int:
        """Return where its numbers lie."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """Return its numbers, which the host waits for."""
        _waits.note("tolist")
        return self.held.tolist()


def _held(value: Any) -> Any:
    return value.held if isinstance(value, ForeignTensor) else value


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with every one in its lists, tuples and dictionaries replaced."""
    if type(value) in (list, tuple):
        return type(value)([_mapped(function, each) for each in value])
    if type(value) is dict:
        return {name: _mapped(function, each) for name, each in value.items()}
    return function(value)


def _tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in a value's lists, tuples and dictionaries."""
    found: list[torch.Tensor] = []
    _mapped(lambda each: found.append(each) if isinstance(each, torch.Tensor) else None, value)
    return found


class _Call:
    """One operation, of which a tensor or the wanted device is foreign."""

    def __init__(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._func, self._args, self._kwargs = func, args, kwargs
        self._name: str = func._schema.name
        self._tensors = _tensors((args, kwargs))
        wanted = kwargs.get("device")
        self._wanted = None if wanted is None else torch.device(wanted)
        if self._wanted is not None and self._wanted.type == "foreign":
            self._wanted = torch.device("foreign", self._wanted.index or 0)

    def run(self) -> Any:
        """Run the operation on the processor; refuse or count it as a GPU would have it."""
        is_foreign = any(isinstance(tensor, ForeignTensor) for tensor in self._tensors)
        if not is_foreign and (self._wanted is None or self._wanted.type != "foreign"):
            return self._func(*self._args, **self._kwargs)
        if self._wanted is not None and self._wanted.type == "meta":
            return self._on_processor(self._kwargs)
        device = self._device()
        self._count()
        given = dict(self._kwargs)
        if self._wanted is not None:
            given["device"] = _PROCESSOR
        return _mapped(self._wrapping(device), self._on_processor(given))

    def _on_processor(self, kwargs: dict[str, Any]) -> Any:
        args, kwargs = _mapped(_held, (self._args, kwargs))
        if self._name == "aten::histc":  # of whole numbers, which a processor does not count so
            args = (args[0].float(), *args[1:])
        return self._func(*args, **kwargs)

    def _wrapping(self, device: torch.device) -> Callable[[Any], Any]:
        """Return what makes results of the processor's; a tensor that came in stays itself."""
        known = {id(_held(tensor)): tensor for tensor in self._tensors}

        def wrapped(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if id(value) in known:
                return known[id(value)]
            return value if device.type == "cpu" else ForeignTensor(value, device)

        return wrapped

    def _device(self) -> torch.device:
        """Return where the result is; raise where a GPU would."""
        if self._name == "aten::copy_":
            return self._args[0].device
        if self._wanted is not None:
            return self._wanted
        if self._name in _INDEXED:
            return self._indexed()
        strict = self._name in _TAKE_NO_NUMBERS
        devices = [t.device for t in self._tensors if strict or t.dim() or t.device.type != "cpu"]
        self._refuse_several(devices)
        return devices[0]

    def _indexed(self) -> torch.device:
        """Return the device of a tensor that is read or written at an index.

        An index may be the processor's; what is written may be only if it is one number.
        """
        own, indices, *values = self._args
        devices = [own.device]
        devices += [i.device for i in indices if i is not None and i.device.type != "cpu"]
        devices += [v.device for v in values if isinstance(v, torch.Tensor) and v.dim()]
        self._refuse_several(devices)
        return own.device

    def _refuse_several(self, devices: list[torch.device]) -> None:
        if len(set(devices)) > 1:
            names = " and ".join(sorted(map(str, set(devices))))
            raise RuntimeError(f"{self._name} is given tensors on {names}")

    def _count(self) -> None:
        counts_first = self._name == "aten::repeat_interleave" and (
            self._kwargs.get("output_size") is None
        )
        if counts_first or self._name in _OF_UNKNOWN_SHAPE | _READ_BY_HOST:
            _waits.note(self._name)
        elif self._name in _INDEXED:
            self._count_indexing()
        elif self._name in ("aten::copy_", "aten::_to_copy"):
            self._count_copy()

    def _count_indexing(self) -> None:
        for index in self._args[1]:
            if index is not None and index.dtype in (torch.bool, torch.uint8):
                _waits.note("index by a mask")
            elif index is not None and index.device.type == "cpu":
                _waits.note("index of the processor")

    def _count_copy(self) -> None:
        if self._name == "aten::copy_":
            source, target = self._args[1].device, self._args[0].device
            flags = (*self._args[2:], self._kwargs.get("non_blocking"))
        else:
            source, target = self._args[0].device, self._wanted or self._args[0].device
            flags = (self._kwargs.get("non_blocking"),)
        if target.type == "cpu" and source.type != "cpu":
            _waits.note("copy to the processor")
        elif source.type == "cpu" and target.type != "cpu" and True not in flags:
            _waits.note("copy from the processor")


class _Operations(TorchDispatchMode):
    """Catches what is made on a foreign device, and what is copied there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _Call(func, args, kwargs or {}).run()


class _Functions(TorchFunctionMode):
    """Does what torch does before any operation is dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is scaled_dot_product_attention and isinstance(args[0], ForeignTensor):
            return _attention(args, kwargs)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is torch.Tensor.__getitem__ and isinstance(args[0], ForeignTensor):
            return func(args[0], _without_lists(args[1]))
        return func(*args, **kwargs)


def _without_lists(index: Any) -> Any:
    """Return an index whose lists of whole numbers are tensors."""
    if isinstance(index, tuple):
        return tuple(map(_without_lists, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _attention(args: Any, kwargs: dict[str, Any]) -> ForeignTensor:
    """Attend by the processor's own kernel, once all tensors are of one device."""
    given = _tensors((args, kwargs))
    attended.append(given)
    if len({tensor.device for tensor in given}) > 1:
        raise RuntimeError(f"attention is given tensors on {[str(t.device) for t in given]}")
    args, kwargs = _mapped(_held, (args, kwargs))
    return ForeignTensor(scaled_dot_product_attention(*args, **kwargs), given[0].device)


@contextmanager
def foreign_devices(tells_where: bool = False) -> Iterator[Waits]:
    """Return a context in which foreign devices exist; it yields what the host waited for.

    No gradients are taken there. With ``tells_where`` the lines that waited are noted, too.
    """
    _waits.start()
    _waits.tells_where = tells_where
    _backend.is_there = True
    synchronized = patch("torch.accelerator.synchronize", lambda _: _waits.note("synchronize"))
    try:
        with torch.no_grad(), _Operations(), _Functions(), synchronized:
            yield _waits
    finally:
        _backend.is_there = False


def moved(hf: Any, device: str = DEVICES[0]) -> Any:
    """Move a model's weights and buffers to a foreign device in place; tied ones stay tied."""
    place, known = torch.device(device), dict[int, nn.Parameter]()
    for module in hf.modules():
        for name, weight in module._parameters.items():
            if weight is not None and id(weight) not in known:
                copied = ForeignTensor(weight.detach().clone(), place)
                known[id(weight)] = nn.Parameter(copied, requires_grad=False)
            if weight is not None:
                module._parameters[name] = known[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = ForeignTensor(buffer.clone(), place)
    return hf


def spread(hf: Any) -> Any:
    """Put the first half of a model's blocks on one device and the rest on another.

    As ``device_map="auto"`` does it: what comes before the blocks lies with the first, what comes
    after them with the last, and a head that shares the embeddings' weights stays with those.
    """
    path, _ = find_blocks(hf)
    places: dict[str, Any] = {}
    _place(hf, "", path, places)
    if _is_tied(hf):
        heads = [name for name, _ in hf.named_children() if not path.startswith(f"{name}.")]
        places |= dict.fromkeys(heads, DEVICES[0])
    return dispatch_model(
        hf,
        places,
        main_device=torch.device(DEVICES[0]),
        skip_keys="past_key_values",
        force_hooks=True,
    )


def _place(module: nn.Module, name: str, path: str, places: dict[str, Any]) -> None:
    """Note where the modules within one lie that contains the blocks, in their order."""
    place = DEVICES[0]
    for child, inner in module.named_children():
        full = f"{name}.{child}" if name else child
        if full == path:
            count = len(list(inner.children()))
            places |= {f"{path}.{i}": DEVICES[2 * i >= count] for i in range(count)}
            place = DEVICES[1]
        elif path.startswith(f"{full}."):
            _place(inner, full, path, places)
            place = DEVICES[1]
        else:
            places[full] = place


def _is_tied(hf: Any) -> bool:
    head = hf.get_output_embeddings()
    return head is not None and head.weight is hf.get_input_embeddings().weight
