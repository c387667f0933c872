"""``HeadlessModel``: a decoder without the head that predicts next tokens.

It has a head that classifies texts or tokens (a reward model's is one), or none. Its states under a
plan are those of any decoder; what the head makes of them is the model's own forward, with the plan
in the place of the layers.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.error import UserError
from impasto.plan import Plan
from impasto.run.apply.handle import applied_alone
from impasto.run.batching.tokenisation import Prompt
from impasto.run.calls import one_call
from impasto.run.decoder import Model
from impasto.run.inputs import checked_plan, checked_prompts
from impasto.run.opening import admit


class HeadlessModel(Model):
    """A decoder that predicts no tokens; it has `hidden_states` and `class_logits`."""

    @one_call
    def class_logits(
        self, plan: Plan, texts: Sequence[Prompt]
    ) -> list[Float[Tensor, "*tokens classes"]]:
        """Return what the model's own head makes of each text under a plan.

        Args:
            plan: The plan.
            texts: Texts, or token ids.

        Returns:
            Per text, the logits of its classes (of a reward model, its score), or, where the head
            classifies tokens, those of each token.

        Raises:
            PlanError: when the plan names a layer that the model lacks.
            UserError: when the model has no head, a text cannot be read, or the plan injects.
        """
        admit(self._opened, checked_plan(plan))
        if plan.tells_prompt:
            raise UserError(
                f"the plan {plan} does something to the prompt alone, and a text that is "
                "classified is all prompt: write freeze or noise(…) without prompt"
            )
        texts = checked_prompts(texts, "texts")
        if self.hf.base_model is self.hf:
            raise UserError(
                f"{self!r} has no head, and so no classes; hidden_states has its states"
            )
        found = []
        for text in texts:
            ids = torch.tensor([self._reader.prompt(text)], device=self._opened.device)
            with torch.no_grad(), applied_alone(self.hf, plan):
                output = self.hf(input_ids=ids, attention_mask=torch.ones_like(ids))
            logits = getattr(output, "logits", None)
            if not isinstance(logits, Tensor):
                raise UserError(
                    f"the head of {self!r} gives {', '.join(output)}, and no logits of classes; "
                    "hidden_states has the states that it reads"
                )
            found.append(logits[0])
        return found

    def next_logits(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is no head that predicts tokens."""
        raise self._refused("next_logits")

    def loglikelihood(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is no head that predicts tokens."""
        raise self._refused("loglikelihood")

    def fidelity(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is no head that predicts tokens."""
        raise self._refused("fidelity")

    def generate(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is no head that predicts tokens."""
        raise self._refused("generate")

    def scoring_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is nothing to score."""
        raise self._refused("scoring_cost")

    def fidelity_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is nothing to predict."""
        raise self._refused("fidelity_cost")

    def generating_cost(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: there is nothing to write."""
        raise self._refused("generating_cost")

    def _refused(self, what: str) -> UserError:
        return UserError(
            f"{what} needs the head that predicts next tokens, and {self!r} "
            f"({type(self.hf).__name__}) has none; hidden_states and class_logits are there, and "
            "a checkpoint with that head answers the rest"
        )
