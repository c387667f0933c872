"""What :func:`impasto.load` returns for a decoder: the model and the questions to it.

Every question takes any plan; those that take several run what the plans begin with in common once.
Inputs are checked and turned into token requests here; the answers come from the folders of the
questions (:mod:`impasto.run.queries`, :mod:`impasto.run.generate`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.error import UserError
from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.run.apply.handle import applied_alone
from impasto.run.batching.donors import Donor, Donors, donors_by_request, read_donor
from impasto.run.batching.pieces import Piece, pieces_of
from impasto.run.batching.request import TokenRequest, Transplant
from impasto.run.batching.tokenisation import Prompt, TextOptions, naming_request
from impasto.run.calls import one_call
from impasto.run.estimated import Estimated
from impasto.run.generate.decoding_plan import Stopping, TextEnds, end_tokens
from impasto.run.generate.greedy import generate, predict
from impasto.run.inputs import (
    checked_batch,
    checked_memory,
    checked_pairs,
    checked_plan,
    checked_prompt,
    checked_prompts,
    checked_stops,
    checked_tokens,
)
from impasto.run.opening import admit, admitted, opened
from impasto.run.queries.attention_entropy import attention_entropy
from impasto.run.queries.fidelity import TextFidelity, check_comparable, fidelity
from impasto.run.queries.hidden_states import hidden_states
from impasto.run.queries.loglikelihood import Score, score
from impasto.run.refusals import MasksNoToken

Progress = Callable[[float], None]


class Model(Estimated, MasksNoToken):
    """A Hugging Face decoder on which plans run; its attributes are those of `Loaded`."""

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
        [pair] = checked_pairs([(context, continuation)])
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
        admit(self._opened, checked_plan(plan))
        input_ids, attention_mask = checked_batch(
            input_ids, attention_mask, self._opened.vocabulary
        )
        ids = input_ids.to(self._opened.device)
        mask = torch.ones_like(ids) if attention_mask is None else attention_mask.to(ids.device)
        moves = self._opened.counts_places or not self._opened.packs_rows
        is_moved = moves and not mask[:, 0].all()  # by padding on the left
        if plan.injections or plan.tells_prompt or is_moved:
            prompts = [row[real].tolist() for row, real in zip(ids, mask.bool(), strict=True)]
            return predict(self._opened, plan, self._requests([plan], prompts, prompts, donors))
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
        plans, requests = admitted(self._opened, plans), checked_pairs(requests)
        read = self._read(plans, requests, donors)
        return score(self._opened, plans, read, progress, self.memory)

    @one_call
    def fidelity(
        self,
        plans: Plan | Sequence[Plan],
        texts: Sequence[Prompt],
        *,
        length: int | None = None,
        tokens: int | None = None,
        memory: int | None = None,
        progress: Progress = lambda share: None,
    ) -> list[list[TextFidelity]]:
        """Say how near to the full model's predictions plans stay, token by token of some texts.

        Each token but the first of a piece is predicted as in :meth:`loglikelihood`. A piece of a
        text that begins with the tokenizer's BOS begins with it too.

        Args:
            plans: The plans; one plan alone counts as a list of one.
            texts: Texts, or token ids.
            length: Into pieces of how many tokens texts are cut; None for the model's positions.
            tokens: How many tokens are read of all texts together; None for all.
            memory: The bytes that a batch may take; None for the model's own `memory`.
            progress: Called with the share that is done, 0 to 1.

        Returns:
            Per plan, per text: how many tokens were predicted, the sums of log p and of
            KL(full model || plan) in nats, and for how many both find the same token likeliest.

        Raises:
            PlanError: when a plan names a layer that the model lacks.
            UserError: when a plan injects, a text cannot be read, or a number is none.
        """
        plans, texts = admitted(self._opened, plans), checked_prompts(texts, "texts")
        check_comparable(self._opened, plans)
        pieces, memory = self._pieces(texts, length, tokens), checked_memory(memory) or self.memory
        return fidelity(self._opened, plans, pieces, len(texts), progress, memory)

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
            UserError: when a prompt or a donor cannot be read, or the prompt
                and the new tokens exceed the model's positions.
        """
        plans, prompts, stop = (
            admitted(self._opened, plans),
            checked_prompts(prompts),
            checked_stops(stop),
        )
        max_new_tokens = checked_tokens(max_new_tokens)
        starts = self._begin(plans, prompts, max_new_tokens, donors)
        ends = TextEnds(self._ends(), stop, self._reader.text)
        limits = Stopping(max_new_tokens, ends.are_reached)
        written = generate(self._opened, plans, starts, limits, progress, self.memory)
        return [
            [
                ends.cut(ids) if isinstance(prompt, str) else ids
                for prompt, ids in zip(prompts, row, strict=True)
            ]
            for row in written
        ]

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
        admit(self._opened, checked_plan(plan))
        texts = checked_prompts(texts, "texts")
        self._warn_of_appended(texts)
        ids = map(self._reader.prompt, texts)
        requests = self._requests([plan], texts, ids, donors, scored_from=0)
        return hidden_states(self._opened, plan, requests)

    @one_call
    def attention_entropy(self, text: Prompt) -> Float[Tensor, "layers heads tokens"]:
        """Return the entropy, in nats, of the unchanged model's attention at every token.

        Raises:
            ModelError: when the model's attention does not return its weights.
        """
        text = checked_prompt(text)
        self._warn_of_appended([text])
        return attention_entropy(self._opened, self._reader.prompt(text))

    def _read(
        self, plans: Sequence[Plan], requests: Sequence[tuple[Prompt, Prompt]], donors: Donors
    ) -> list[tuple[TokenRequest, list[int]]]:
        """Return requests to score, each with the tokens of its continuation."""
        read = []
        bound = self._bound_donors(donors, len(requests), plans)
        self._warn_of_appended([context for context, _ in requests])
        for number, (context, continuation) in enumerate(requests):
            with naming_request(number):
                first, second = self._reader.pair(context, continuation)
                ids, rows = self._reader.fitted(first, second)
            end = len(first) + len(second) - 1
            span = range(end - len(ids), end)  # of the whole request, which the model reads
            transplants = self._transplants(plans, bound[number], context, span)
            read.append((TokenRequest(ids, rows, transplants), second))
        return read

    def _pieces(
        self, texts: Sequence[Prompt], length: int | None, tokens: int | None
    ) -> list[Piece]:
        """Return the pieces of texts that are read, with the tokens to predict in each."""
        self._warn_of_appended(texts)
        return pieces_of(self._reader, texts, length, tokens)

    def _begin(
        self, plans: Sequence[Plan], prompts: Sequence[Prompt], new_tokens: int, donors: Donors
    ) -> list[TokenRequest]:
        """Return requests for the token after each prompt, which so many new ones may follow."""
        self._warn_of_appended(prompts)
        ids = (self._fitting(prompt, new_tokens) for prompt in prompts)
        return self._requests(plans, prompts, ids, donors)

    def _requests(
        self,
        plans: Sequence[Plan],
        prompts: Sequence[Prompt],
        ids: Iterable[list[int]],
        donors: Donors,
        scored_from: int = -1,
    ) -> list[TokenRequest]:
        """Return a request for each prompt, given its token ids; by default its last is scored."""
        requests = []
        bound = self._bound_donors(donors, len(prompts), plans)
        for prompt, mapping, tokens in zip(prompts, bound, ids, strict=True):
            rows = range(len(tokens))
            transplants = self._transplants(plans, mapping, prompt, rows)
            requests.append(TokenRequest(tokens, rows[scored_from:], transplants))
        return requests

    def _bound_donors(
        self, donors: Donors, count: int, plans: Sequence[Plan]
    ) -> Sequence[Mapping[str, Donor]]:
        """Return each request's donors by name."""
        if donors is None and not any(plan.injections for plan in plans):
            return [{}] * count
        return donors_by_request(donors, count, plans)

    def _transplants(
        self, plans: Sequence[Plan], mapping: Mapping[str, Donor], prompt: Prompt, read: range
    ) -> dict[str, Transplant]:
        """Return, by name, what plans inject into a prompt, of which the model reads a range."""
        names = {name for plan in plans for name in plan.injections}
        return {name: read_donor(self._reader, mapping[name], prompt, read) for name in names}

    def _warn_of_appended(self, prompts: Sequence[Prompt]) -> None:
        """Warn once of special tokens that the tokenizer appends."""
        if not self.appending_is_known:
            self.appending_is_known = self._reader.warn_of_appended(prompts)

    def _fitting(self, prompt: Prompt, new_tokens: int) -> list[int]:
        """Return a prompt's token ids; raises UserError where they and new ones are too many."""
        ids, limit = self._reader.prompt(prompt), self.max_positions
        if limit is not None and len(ids) + new_tokens - 1 > limit:
            raise UserError(
                f"a prompt of {len(ids)} tokens and {new_tokens} new ones exceed the model's "
                f"{limit} positions; shorten the prompt or ask for fewer tokens"
            )
        return ids

    def _ends(self) -> set[int]:
        """Return the tokens that end a continuation."""
        ends = getattr(self.hf.generation_config, "eos_token_id", None)
        return end_tokens(ends, getattr(self.tokenizer, "eos_token_id", None))
