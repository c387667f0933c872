"""A model that costs nothing: what it says follows from the plan and the question alone."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from characters import Characters
from impasto.plan import Freeze, Noise
from impasto.tasks import arithmetic, capitals


@dataclass
class FakeModel(Characters):
    """Answers rightly under any plan that leaves earlier tokens alone below depth `needs`.

    A plan that injects below `needs` brings out the donor's answer.
    """

    num_layers: int = 4
    name: str = "fake"
    needs: int = 2
    tokenizer: None = None
    weights: str = "as they were made"
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def identity(self):
        return {"weights": self.weights, "layers": str(self.num_layers), "needs": str(self.needs)}

    def generate(self, plans, prompts, max_new_tokens=16, stop=(), donors=None, progress=None):
        prompts = self.texts(prompts)
        self.calls.append(
            {"plans": list(plans), "prompts": list(prompts), "stop": list(stop), "donors": donors}
        )
        progress = progress or (lambda share: None)
        for plan in plans:
            plan.check(self.num_layers)
        said = []
        for i, plan in enumerate(plans):
            said.append([self._says(plan, p, j, donors) for j, p in enumerate(prompts)])
            progress((i + 1) / len(plans))
        return said

    def _says(self, plan, prompt, index, donors):
        depth = min((depth for depth, _ in plan.markers), default=self.num_layers)
        if depth >= self.needs:
            return f" {ANSWERS[prompt]}"
        if plan.injections:
            return f" {ANSWERS[donors[index]['donor'].prompt]}"
        assert any(isinstance(step, Freeze | Noise) for step in plan.steps)
        return " I do not know"


def _answers():
    tasks = [capitals(), arithmetic(2), arithmetic(3)]
    return {question.prompt: question.answer for task in tasks for question in task.items}


ANSWERS = _answers()


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def line_of():
    """Return the line that an error names."""
    return lambda error: int(re.findall(r"line (\d+)", str(error))[0])


@dataclass
class Wavering:
    """The test's model, but under one plan it is wrong about every third question."""

    model: Any
    plan: str = "0-1 freeze 2-3"
    crash_at: int = 10**9
    act: Any = None
    calls: int = 0
    asked: int = 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def generate(self, plans, prompts, *given, **more):
        self.calls += 1
        if self.calls == self.crash_at:
            self.act()
        self.asked += len(plans) * len(prompts)
        said = self.model.generate(plans, prompts, *given, **more)
        return [
            [self._said(plan, prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
            for plan, texts in zip(plans, said, strict=True)
        ]

    def _said(self, plan, prompt, text):
        wrong = str(plan) == self.plan and sum(map(ord, prompt)) % 3 == 0
        return " no idea" if wrong else text


@pytest.fixture
def wavering(model):
    return lambda *given, **more: Wavering(model, *given, **more)
