"""Models that cost nothing, loaded by name: how many layers each has, and of which kind it is."""

import weakref
from collections.abc import Callable
from typing import Any

from impasto.model.loading.load import Outline

LAYERS = {"small": 3, "large": 5, "other": 4}
TEXT = """\
models: [small, large]
tasks: [{name: capitals, limit: 10}, {name: arithmetic, terms: 2, limit: 10}]
plans: [freeze: {k: all}, "0-2"]
"""


class Loads:
    """Stands in for loading: makes a fake by its name, and keeps none of them alive.

    Attributes:
        names: What was loaded, in turn.
        kept: Whether the model before was still there, for every one that was loaded.
        asked: For every call of a model its name and its plans.
        act: Called with a model's name before each of its answers.
    """

    def __init__(self, kind: Callable[..., Any]) -> None:
        self.names: list[str] = []
        self.kept: list[bool] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.act: Callable[[str], object] = lambda name: None
        self._kind = kind
        self._last: Any = lambda: None

    def load(self, name: str, **options: Any) -> Any:
        """Return a fake of this name."""
        self.kept.append(self._last() is not None)
        self.names.append(name)
        model = self._kind(num_layers=LAYERS[name], name=name, needs=1, weights=name)
        answer, loads = type(model).generate, self

        class Told(type(model)):
            def generate(self, plans: Any, *given: Any, **more: Any) -> Any:
                loads.asked.append((name, [str(plan) for plan in plans]))
                loads.act(name)
                return answer(self, plans, *given, **more)

        model.__class__ = Told
        self._last = weakref.ref(model)
        return model

    def outline(self, name: str, **options: Any) -> Outline:
        """Return what the fake's configuration would say."""
        return Outline(LAYERS[name], is_encoder=False)

    def forget(self) -> list[tuple[str, list[str]]]:
        """Return what was asked, and forget it and what was loaded."""
        asked, self.asked, self.names = self.asked, [], []
        return asked
