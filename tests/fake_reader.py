"""A model that predicts the tokens of texts at no cost, and a study of some texts."""

import math
from dataclasses import dataclass, field

from characters import Characters
from impasto import Study

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "that", "it", "was", "good")
LINES = [" ".join(WORDS[at % 7 : at % 7 + 2 + at % 5]) for at in range(40)]


@dataclass
class FakeReader(Characters):
    """A model of characters, whose fidelity follows from the plan and the text alone."""

    num_layers: int = 4
    name: str = "fake"
    tokenizer: None = None
    calls: list[tuple[int, int, int | None]] = field(default_factory=list)
    left: float = math.inf

    @property
    def identity(self):
        return {"weights": "as they were made"}

    def fidelity(self, plans, texts, *, length=None, progress=None):
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the power went")
        self.calls.append((len(plans), len(texts), length))
        return [[self._near(plan, ids) for ids in texts] for plan in plans]

    def _near(self, plan, ids):
        lost = self.num_layers - len(plan.layers)
        tokens = len(ids) - 1
        return tokens, -tokens * math.log(7 + lost), tokens * lost / 3, tokens - min(lost, tokens)


def study_of(folder):
    """Return a study of three plans and so many lines as 500 tokens take."""
    path = folder / "lines.txt"
    path.write_text("\n".join(LINES))
    task = f"{{name: texts, file: {path}, tokens: 500, length: 64}}"
    return Study.from_text(f"model: m\ntasks: [{task}]\nplans: [0-2, 0 2-3]\n", name="mine")
