"""What answers would cost: work put to a model that counts instead of answering."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from impasto.plan import Plan
from impasto.plan.healed import HealedPlan
from impasto.run import Cost, Model
from impasto.study.work.asking import put
from impasto.tasks import Request


def cost_of(
    model: Model,
    plans: Sequence[Plan],
    requests: Sequence[Sequence[Request]],
    donors: Sequence[Mapping[str, Any]] | None,
) -> Cost:
    """Count what some items' requests cost under some plans; a healed one costs what it runs."""
    counting: Any = Counting(model)
    plans = [plan.plain if isinstance(plan, HealedPlan) else plan for plan in plans]
    put(counting, plans, requests, donors)
    return counting.total


class Counting:
    """A model that answers nothing, and adds up what answers would cost."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.total = Cost()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def loglikelihood(
        self,
        plans: Sequence[Any],
        requests: Sequence[Any],
        donors: Any = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[list[tuple[float, bool]]]:
        """Count; every answer is a zero."""
        self.total += self._model.scoring_cost(plans, requests, donors)
        return [[(0.0, False)] * len(requests) for _ in plans]

    def generate(
        self,
        plans: Sequence[Any],
        prompts: Sequence[Any],
        max_new_tokens: int = 16,
        stop: Sequence[str] = (),
        donors: Any = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[list[Any]]:
        """Count; every answer is empty."""
        self.total += self._model.generating_cost(plans, prompts, max_new_tokens, donors)
        return [["" if isinstance(prompt, str) else [] for prompt in prompts] for _ in plans]

    def fidelity(
        self,
        plans: Sequence[Any],
        texts: Sequence[Any],
        *,
        length: int | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[list[tuple[int, float, float, int]]]:
        """Count; every answer is of no tokens."""
        self.total += self._model.fidelity_cost(plans, texts, length=length)
        return [[(0, 0.0, 0.0, 0)] * len(texts) for _ in plans]
