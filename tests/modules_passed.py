"""Which modules of the engine a question passes: ``python tests/modules_passed.py`` prints them.

A module is passed where one of its functions is called while the question is answered, by a model
that has answered it before (so that opening and checking it are over).
"""

import sys
from collections.abc import Callable
from typing import Any

import impasto
from impasto import Plan

PLANS = [Plan.parse(line) for line in ("0-7", "0-3 freeze 4-7", "0-3 noise(shuffle) 4-7")]
TEXTS = ["The capital of France is", "The capital of Italy is"]


def passed(ask: Callable[[], Any]) -> list[str]:
    """Return the modules of the engine that a question passes."""
    ask()
    modules: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("impasto."):
            modules.add(name)

    sys.setprofile(note)
    try:
        ask()
    finally:
        sys.setprofile(None)
    return sorted(modules)


def questions() -> dict[str, Callable[[], Any]]:
    """Return the two questions that most of the engine answers."""
    model = impasto.load("demo")
    pairs = [(text, choice) for text in TEXTS for choice in (" Paris", " Rome")]
    return {
        "loglikelihood": lambda: model.loglikelihood(PLANS, pairs),
        "generate": lambda: model.generate(PLANS, TEXTS, max_new_tokens=4),
    }


if __name__ == "__main__":
    for name, ask in questions().items():
        modules = passed(ask)
        print(f"{name} passes {len(modules)} modules:", *modules, sep="\n  ")
