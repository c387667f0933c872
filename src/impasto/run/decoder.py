"""What :func:`impasto.load` returns for a decoder: the model and the questions to it.

All of them take any plan; those that take several share what the plans begin with in common.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.error import UserError
from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.run.apply.handle import applied_alone
from impasto.run.batching.donors import Donors, Transplant, donors_by_request, read_donor
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.tokenisation import AS_GIVEN, Prompt, TextOptions, naming_request
from impasto.run.calls import one_call
from impasto.run.generate.decoding_plan import Stopping
from impasto.run.generate.greedy import generate, predict
from impasto.run.inputs import (
    asked_batch,
    asked_pairs,
    asked_plan,
    asked_plans,
    asked_prompt,
    asked_prompts,
    asked_stops,
    asked_tokens,
)
from impasto.run.loaded_model import Loaded
from impasto.run.opening import admit, opened
from impasto.run.queries.attention_entropy import attention_entropy
from impasto.run.queries.cost import Cost, cost, seconds_per_layer_row
from impasto.run.queries.hidden_states import hidden_states
from impasto.run.queries.loglikelihood import Score, score
from impasto.run.refusals import MasksNoToken

Progress = Callable[[float], None]


class Model(Loaded[OpenedModel], MasksNoToken):
    """A Hugging Face decoder on which plans run.

    Attributes:
        hf: The Hugging Face model itself, unchanged.
        tokenizer: Its Hugging Face tokenizer, or None.
        name: What it was loaded as.
        plan: The plan that it was loaded for, or that an exported folder holds; only plans of its
            layers run. None: all layers are there.
        memory: The most bytes that a batch may take; None for half of what is free.
    """

    def __init__(
        self,
        hf: Any,
        tokenizer: Any,
        name: str,
        plan: Plan | None = None,
        text_options: TextOptions = AS_GIVEN,
    ) -> None:
        super().__init__(hf, tokenizer, name, plan, text_options)

    @property
    def _opened(self) -> OpenedModel:
        return opened(self.hf)

    @property
    def prefix_token(self) -> int:
        """The token that stands in for an empty context: BOS, else end of sequence."""
        return self._reader.prefix_token()

    def token_pair(
        self, context: str, continuation: str, as_lm_eval: bool = False
    ) -> tuple[list[int], list[int]]:
        """Return the token ids of a context and of its continuation, as lm-eval splits them.

        What the tokenizer appends to whole texts is left out, unless `as_lm_eval`.
        """
        [pair] = asked_pairs([(context, continuation)])
        return self._reader.pair(*pair, as_lm_eval)

    def with_text_options(self, options: TextOptions) -> "Model":
        """Return the same model, weights and all, that reads texts by other options.

        Raises UserError for a `max_length` beyond the model's positions.
        """
        other = copy(self)
        other._read_texts(options)
        return other

    def scored_tokens(self, text: str) -> list[int]:
        """Return a text's token ids as lm-eval reads a text that is scored; none for an empty one.

        What the tokenizer appends to whole texts is a part of it.
        """
        return self._reader.scored(text)

    @one_call
    def next_logits(
        self,
        plan: Plan,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"] | None = None,
        donors: Donors = None,
    ) -> Float[Tensor, "batch vocab"]:
        """Return the logits after each row's last real token.

        Padding may be on either side. For the identity plan they are bit for bit those of the
        Hugging Face model on the same batch (positions counted from the first real token).

        Raises:
            PlanError: when the plan names a layer that the model lacks.
            UserError: when a donor is missing, or a row has no real token.
        """
        self._check(asked_plan(plan))
        input_ids, attention_mask = asked_batch(input_ids, attention_mask, self._opened.vocabulary)
        ids = input_ids.to(self._opened.device)
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(ids.device)
        is_moved = self._opened.counts_places and not mask[:, 0].all()  # by padding on the left
        if plan.injections or is_moved:
            return self._next_logits_apart(plan, ids, mask.bool(), donors)
        given = {} if attention_mask is None else {"attention_mask": mask}
        if not mask[:, 0].all() and self._opened.takes_positions:
            given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad(), applied_alone(self.hf, plan):
            logits = self.hf(input_ids=ids, use_cache=False, **given).logits
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return logits[torch.arange(len(ids), device=logits.device), last.to(logits.device)]

    @one_call
    def loglikelihood(
        self,
        plans: Plan | Sequence[Plan],
        requests: Sequence[tuple[Prompt, Prompt]],
        donors: Donors = None,
        progress: Progress = lambda share: None,
    ) -> list[list[Score]]:
        """Score continuations, as lm-evaluation-harness defines it.

        Args:
            plans: The plans; one plan alone counts as a list of one.
            requests: (context, continuation), each text or token ids.
            donors: ``{name: Donor(...)}`` for plans that inject: one mapping for all requests, or
                one for each. Spans are found in the context.
            progress: Called with the share that is done, 0 to 1.

        Returns:
            Per plan, per request: (sum of log p in nats, whether every token was the likeliest).

        Raises:
            PlanError: when a plan names a layer that the model lacks.
            UserError: when a request or a donor cannot be read.
        """
        plans, requests = self._check(plans), asked_pairs(requests)
        read = self._read(plans, requests, donors)
        return score(self._opened, plans, read, progress, self.memory)

    @one_call
    def generate(
        self,
        plans: Plan | Sequence[Plan],
        prompts: Sequence[Prompt],
        max_new_tokens: int = 16,
        stop: Sequence[str] = (),
        donors: Donors = None,
        progress: Progress = lambda share: None,
    ) -> list[list[Any]]:
        """Continue prompts greedily.

        Args:
            plans: The plans; one plan alone counts as a list of one.
            prompts: Text, or token ids.
            max_new_tokens: Where to end at the latest. The tokenizer's end of sequence ends too.
            stop: Texts that end a continuation; they are not part of it.
            donors: As in :meth:`loglikelihood`; spans are found in the prompt.
            progress: Called with the share that is done, 0 to 1.

        Returns:
            Per plan, per prompt, the new text; the new token ids where the prompt is token ids.

        Raises:
            PlanError: when a plan names a layer that the model lacks.
            UserError: when a prompt or a donor cannot be read, or a prompt leaves no room.
        """
        plans, prompts, stop = self._check(plans), asked_prompts(prompts), asked_stops(stop)
        max_new_tokens = asked_tokens(max_new_tokens)
        starts = self._begin(plans, prompts, max_new_tokens, donors)
        ends = self._ends()

        def is_finished(ids: list[int]) -> bool:
            return ids[-1] in ends or (
                bool(stop) and _cut(self._reader.text(ids), stop) is not None
            )

        limits = Stopping(max_new_tokens, is_finished)
        written = generate(self._opened, plans, starts, limits, progress, self.memory)
        return [
            [
                self._told(ids, stop) if isinstance(prompt, str) else ids
                for prompt, ids in zip(prompts, row, strict=True)
            ]
            for row in written
        ]

    @one_call
    def scoring_cost(
        self,
        plans: Plan | Sequence[Plan],
        requests: Sequence[tuple[Prompt, Prompt]],
        donors: Donors = None,
    ) -> Cost:
        """Return what :meth:`loglikelihood` would cost; donors' own runs are not counted."""
        plans, requests = self._check(plans), asked_pairs(requests)
        passages = [passage for passage, _ in self._read(plans, requests, donors)]
        return cost(self._opened, plans, passages, self.memory)

    @one_call
    def generating_cost(
        self,
        plans: Plan | Sequence[Plan],
        prompts: Sequence[Prompt],
        max_new_tokens: int = 16,
        donors: Donors = None,
    ) -> Cost:
        """Return what :meth:`generate` would cost at the most, as if nothing ended early."""
        plans, prompts = self._check(plans), asked_prompts(prompts)
        max_new_tokens = asked_tokens(max_new_tokens)
        starts = self._begin(plans, prompts, max_new_tokens, donors)
        return cost(self._opened, plans, starts, self.memory, new_tokens=max_new_tokens)

    @property
    @one_call
    def seconds_per_layer_row(self) -> float:
        """How long a row takes through a layer on this machine, measured now."""
        return seconds_per_layer_row(self._opened)

    @one_call
    def hidden_states(
        self, plan: Plan, texts: Sequence[Prompt], donors: Donors = None
    ) -> list[Float[Tensor, "depths tokens hidden"]]:
        """Return the state of every token, as the current one, at every depth of a plan.

        Args:
            plan: The plan.
            texts: Texts, or token ids.
            donors: As in :meth:`loglikelihood`; spans are found in the text.

        Returns:
            Per text, a tensor whose first index is the depth: 0 for the embeddings, then one for
            each layer or parallel group of the plan. The last is what the final norm reads.
        """
        self._check(asked_plan(plan))
        texts = asked_prompts(texts, "texts")
        bound = donors_by_request(donors, len(texts), [plan])
        self._tell_appending(*texts)
        passages = []
        for text, mapping in zip(texts, bound, strict=True):
            ids = self._reader.prompt(text)
            transplants = self._read_donors([plan], mapping, text, range(len(ids)))
            passages.append(TokenRequest(ids, range(len(ids)), transplants))
        return hidden_states(self._opened, plan, passages)

    @one_call
    def attention_entropy(self, text: Prompt) -> Float[Tensor, "layers heads tokens"]:
        """Return how widely the unchanged model's heads look: the entropy of attention, in nats.

        Raises:
            ModelError: when the model's attention does not tell its weights.
        """
        text = asked_prompt(text)
        self._tell_appending(text)
        return attention_entropy(self._opened, self._reader.prompt(text))

    def _check(self, plans: Plan | Sequence[Plan]) -> list[Plan]:
        plans = asked_plans(plans)
        for plan in plans:
            admit(self._opened, plan)
        return plans

    def _read(
        self, plans: Sequence[Plan], requests: Sequence[tuple[Prompt, Prompt]], donors: Donors
    ) -> list[tuple[TokenRequest, list[int]]]:
        """Read requests to score: each a passage, and the tokens that it should predict."""
        read = []
        bound = donors_by_request(donors, len(requests), plans)
        self._tell_appending(*(context for context, _ in requests))
        for number, ((context, continuation), mapping) in enumerate(
            zip(requests, bound, strict=True)
        ):
            with naming_request(number):
                first, second = self._reader.pair(context, continuation)
                ids, rows = self._reader.fitted(first, second)
            end = len(first) + len(second) - 1
            transplants = self._read_donors(plans, mapping, context, range(end - len(ids), end))
            read.append((TokenRequest(ids, rows, transplants), second))
        return read

    def _begin(
        self, plans: Sequence[Plan], prompts: Sequence[Prompt], room: int, donors: Donors
    ) -> list[TokenRequest]:
        """Read prompts to go on with."""
        bound = donors_by_request(donors, len(prompts), plans)
        self._tell_appending(*prompts)
        return [
            self._prompt(plans, self._fitting(prompt, room), mapping, prompt)
            for prompt, mapping in zip(prompts, bound, strict=True)
        ]

    def _next_logits_apart(
        self, plan: Plan, ids: Tensor, is_real: Tensor, donors: Donors
    ) -> Float[Tensor, "batch vocab"]:
        prompts = [row[real].tolist() for row, real in zip(ids, is_real, strict=True)]
        bound = donors_by_request(donors, len(prompts), [plan])
        starts = [
            self._prompt([plan], prompt, mapping, prompt)
            for prompt, mapping in zip(prompts, bound, strict=True)
        ]
        return predict(self._opened, plan, starts)

    def _prompt(
        self, plans: Sequence[Plan], ids: list[int], mapping: Any, prompt: Prompt
    ) -> TokenRequest:
        transplants = self._read_donors(plans, mapping, prompt, range(len(ids)))
        return TokenRequest(ids, range(len(ids) - 1, len(ids)), transplants)

    def _read_donors(
        self, plans: Sequence[Plan], mapping: Any, prompt: Prompt, read: range
    ) -> dict[str, Transplant]:
        names = {name for plan in plans for name in plan.injections}
        return {name: read_donor(self._reader, mapping[name], prompt, read) for name in names}

    def _fitting(self, prompt: Prompt, room: int) -> list[int]:
        ids, limit = self._reader.prompt(prompt), self.max_positions
        if limit is not None and len(ids) + room - 1 > limit:
            raise UserError(
                f"a prompt of {len(ids)} tokens and {room} new ones exceed the model's "
                f"{limit} positions; shorten the prompt or ask for fewer tokens"
            )
        return ids

    def _ends(self) -> set[int]:
        ends = getattr(self.hf.generation_config, "eos_token_id", None)
        listed = ends if isinstance(ends, list) else [ends]
        return {*listed, getattr(self.tokenizer, "eos_token_id", None)} - {None}

    def _told(self, ids: list[int], stop: Sequence[str]) -> str:
        text = self._reader.text(ids)
        cut = _cut(text, stop)
        return text if cut is None else text[:cut]


def _cut(text: str, stop: Sequence[str]) -> int | None:
    """Return where the first of the stop texts begins."""
    return min((at for at in map(text.find, stop) if at >= 0), default=None)
