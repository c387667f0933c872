"""Counting the bytes of the tensors that are alive while some work runs, and the most there were.

Every operation's results are seen, whatever their device, and so is when they go. Weights, and what
else there was before, count nothing. What a kernel takes for itself while it runs is not seen.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """A context that counts.

    Args:
        before: Tensors that count nothing, nor do their views.

    Attributes:
        alive: The bytes that are alive now.
        most: The most that were alive at once.
        course: The bytes that were alive after each operation.
    """

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.alive = self.most = 0
        self.course: list[int] = []
        self._before = [tensor.untyped_storage() for tensor in before]
        self._known = {storage._cdata for storage in self._before}
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self._note(each.untyped_storage())
        self.course.append(self.alive)
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.alive += size
        self.most = max(self.most, self.alive)
        self._watched[key] = weakref.ref(storage, lambda _: self._gone(key, size))

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._watched.pop(key, None)
        self.alive -= size
