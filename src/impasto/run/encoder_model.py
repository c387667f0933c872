"""What :func:`impasto.load` returns for an encoder: the model and the questions to it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.error import UserError
from impasto.model.encoder import OpenedEncoder
from impasto.plan import Plan
from impasto.run.apply.handle import applied_alone
from impasto.run.batching.donors import Donors, donors_by_request, read_donor
from impasto.run.batching.tokenisation import Prompt
from impasto.run.calls import one_call
from impasto.run.encoder.batches import Sentence
from impasto.run.encoder.calibration import seconds_per_layer_row
from impasto.run.encoder.masked_lm import MaskedScore, fill, masked_scores
from impasto.run.encoder.sweep import hidden_states, sweep
from impasto.run.inputs import (
    checked_batch,
    checked_mask_token,
    checked_plan,
    checked_prompts,
)
from impasto.run.loaded_model import Loaded
from impasto.run.opening import admit, admitted, opened_encoder
from impasto.run.queries.cost import Cost
from impasto.run.queries.pace import Pace
from impasto.run.refusals import PredictsNoNextToken

Progress = Callable[[float], None]


class Encoder(Loaded[OpenedEncoder], PredictsNoNextToken):
    """A Hugging Face encoder on which plans run: every token sees all others.

    It has the attributes of :class:`Loaded`, and one more.

    Attributes:
        mask_token: The token that masks another: the tokenizer's; without one, set it.
    """

    _keeps_appended = True  # an encoder reads whole sentences, both special tokens with them

    def __init__(self, hf: Any, tokenizer: Any, name: str, plan: Plan | None = None) -> None:
        super().__init__(hf, tokenizer, name, plan)
        self.mask_token: int | None = getattr(tokenizer, "mask_token_id", None)

    @property
    def _opened(self) -> OpenedEncoder:
        return opened_encoder(self.hf)

    @property
    @one_call
    def seconds_per_layer_row(self) -> float:
        """How long a row takes through a layer on this machine, measured now."""
        return seconds_per_layer_row(self._opened)

    def pace(self, cost: Cost) -> Pace:
        """Return how fast this machine is at what a cost counts, measured now."""
        return Pace(self.seconds_per_layer_row)

    @one_call
    @torch.no_grad()
    def token_logits(
        self,
        plan: Plan,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"] | None = None,
        donors: Donors = None,
    ) -> Float[Tensor, "batch tokens vocab"]:
        """Return the logits of the head that predicts masked tokens, at every token.

        For the identity plan they are bit for bit those of the Hugging Face model on the same
        batch. Where the mask is 0 they mean nothing. For a plan that injects, padding must be on
        the right.

        Raises:
            PlanError: when the plan names a layer that the model lacks.
            UserError: when a donor is missing, or the model was loaded without that head.
        """
        admit(self._opened, checked_plan(plan))
        self._need_head()
        input_ids, attention_mask = checked_batch(
            input_ids, attention_mask, self._opened.vocabulary
        )
        ids = input_ids.to(self._opened.device)
        if not plan.injections:
            moved = None if attention_mask is None else attention_mask.to(ids.device)
            given = {} if moved is None else {"attention_mask": moved}
            with applied_alone(self.hf, plan):
                return self.hf(input_ids=ids, **given).logits
        real = torch.ones_like(ids) if attention_mask is None else attention_mask.to(ids.device)
        counts = real.sum(1).tolist()
        texts = [row[:count].tolist() for row, count in zip(ids, counts, strict=True)]
        sentences = self._read(texts, [plan], donors, lambda ids: range(len(ids)))
        logits = torch.zeros(*ids.shape, self._opened.vocabulary, device=ids.device)

        def read(
            chosen: Sequence[int], states: Float[Tensor, "predictions hidden"]
        ) -> list[Float[Tensor, "_ vocab"]]:
            return list(self._opened.leave(states).float().split([counts[i] for i in chosen]))

        for _, chosen, parts in sweep(self._opened, [plan], sentences, read, memory=self.memory):
            for index, rows in zip(chosen, parts, strict=True):
                logits[index, : counts[index]] = rows
        return logits

    @one_call
    def masked_scores(
        self,
        plans: Plan | Sequence[Plan],
        texts: Sequence[Prompt],
        donors: Donors = None,
        progress: Progress = lambda share: None,
    ) -> list[list[MaskedScore]]:
        """Score texts token by token, each masked alone (Salazar et al. 2020, arXiv 1910.14659).

        The tokenizer's special tokens are not masked.

        Args:
            plans: The plans; one plan alone counts as a list of one.
            texts: Texts, or token ids.
            donors: ``{name: Donor(...)}`` for plans that inject: one mapping for all texts, or one
                for each. Spans are found in the text.
            progress: Called with the share that is done, 0 to 1.

        Returns:
            Per plan, per text: the pseudo-log-likelihood in nats, how many tokens were the
            likeliest in their place, and how many were masked.

        Raises:
            PlanError: when a plan names a layer that the model lacks.
            UserError: when a text or a donor cannot be read, or the model was loaded without the
                head that predicts masked tokens.
        """
        plans, mask, texts = (
            admitted(self._opened, plans),
            self._mask(),
            checked_prompts(texts, "texts"),
        )
        special = set(getattr(self.tokenizer, "all_special_ids", ()))

        def wanted(ids: Sequence[int]) -> Sequence[int]:
            return [row for row, token in enumerate(ids) if token not in special]

        sentences = self._read(texts, plans, donors, wanted)
        return masked_scores(self._opened, plans, sentences, mask, progress, self.memory)

    @one_call
    def fill(
        self,
        plans: Plan | Sequence[Plan],
        texts: Sequence[Prompt],
        donors: Donors = None,
        progress: Progress = lambda share: None,
    ) -> list[list[list[Any]]]:
        """Return the likeliest token at each mask of each text.

        Takes what :meth:`masked_scores` takes; every text has at least one mask token.

        Returns:
            Per plan, per text, per mask: the token as text; its id where the text is token ids.
        """
        plans, mask, texts = (
            admitted(self._opened, plans),
            self._mask(),
            checked_prompts(texts, "texts"),
        )
        for text in texts:
            if mask not in self._reader.prompt(text):
                name = getattr(self.tokenizer, "mask_token", None) or f"token {mask}"
                raise UserError(f"{text!r} has no {name}: there is nothing to fill in")
        sentences = self._read(
            texts,
            plans,
            donors,
            lambda ids: [row for row, token in enumerate(ids) if token == mask],
        )
        filled = fill(self._opened, plans, sentences, progress, self.memory)
        return [
            [
                [self._reader.text([token]).strip() for token in tokens]
                if isinstance(text, str)
                else tokens
                for text, tokens in zip(texts, row, strict=True)
            ]
            for row in filled
        ]

    @one_call
    def hidden_states(
        self, plan: Plan, texts: Sequence[Prompt], donors: Donors = None
    ) -> list[Float[Tensor, "depths tokens hidden"]]:
        """Return the state of every token at every depth of a plan.

        Returns:
            Per text, a tensor whose first index is the depth: 0 for the embeddings, then one for
            each layer or parallel group of the plan. The last is what a final norm would read.
        """
        admit(self._opened, checked_plan(plan))
        texts = checked_prompts(texts, "texts")
        sentences = self._read(texts, [plan], donors, lambda ids: range(len(ids)))
        return hidden_states(self._opened, plan, sentences)

    def _mask(self) -> int:
        self._need_head()
        if self.mask_token is None:
            raise UserError(
                f"masking needs a mask token, and {self!r} has no tokenizer that names one; set "
                "model.mask_token"
            )
        return checked_mask_token(self.mask_token, self._opened.vocabulary)

    def _need_head(self) -> None:
        if not self._opened.predicts_tokens:
            raise UserError(
                f"{self!r} was loaded without the head that predicts masked tokens (its checkpoint "
                f"is a {type(self.hf).__name__}); load a checkpoint that has one"
            )

    def _read(
        self,
        texts: Sequence[Prompt],
        plans: Sequence[Plan],
        donors: Donors,
        wanted: Callable[[Sequence[int]], Sequence[int]],
    ) -> list[Sentence]:
        """Return sentences of texts, each with the tokens (by index) that ``wanted`` picks."""
        names = {name for plan in plans for name in plan.injections}
        read = []
        for text, bound in zip(texts, donors_by_request(donors, len(texts), plans), strict=True):
            ids = self._reader.prompt(text)
            transplants = {
                name: read_donor(self._reader, bound[name], text, range(len(ids))) for name in names
            }
            read.append(Sentence(ids, wanted(ids), transplants=transplants))
        return read
