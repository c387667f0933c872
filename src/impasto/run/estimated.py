"""What the questions to a decoder would cost, counted without asking them."""

from abc import abstractmethod
from collections.abc import Sequence

from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.run.batching.donors import Donors
from impasto.run.batching.memory import allowed_bytes
from impasto.run.batching.pieces import Piece
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.tokenisation import Prompt
from impasto.run.calls import one_call
from impasto.run.generate.expected import decoding, seconds_of_writing
from impasto.run.generate.sets import plan_sets
from impasto.run.inputs import checked_pairs, checked_prompts, checked_tokens
from impasto.run.loaded_model import Loaded
from impasto.run.opening import admitted
from impasto.run.queries.cost import Cost, cost, reading_cost
from impasto.run.queries.fidelity import check_comparable, fidelity_cost
from impasto.run.queries.pace import Pace, seconds_per_layer_row, seconds_per_pair


class Estimated(Loaded[OpenedModel]):
    """A decoder that says what its answers would cost."""

    @one_call
    def scoring_cost(
        self,
        plans: Plan | Sequence[Plan],
        requests: Sequence[tuple[Prompt, Prompt]],
        donors: Donors = None,
    ) -> Cost:
        """Return what :meth:`loglikelihood` would cost; donors' own runs are not counted."""
        plans, requests = admitted(self._opened, plans), checked_pairs(requests)
        read = [request for request, _ in self._read(plans, requests, donors)]
        return cost(self._opened, plans, read, self.memory)

    @one_call
    def generating_cost(
        self,
        plans: Plan | Sequence[Plan],
        prompts: Sequence[Prompt],
        max_new_tokens: int = 16,
        donors: Donors = None,
    ) -> Cost:
        """Return what :meth:`generate` would cost at the most, as if nothing ended early."""
        plans, prompts = admitted(self._opened, plans), checked_prompts(prompts)
        max_new_tokens = checked_tokens(max_new_tokens)
        starts = self._begin(plans, prompts, max_new_tokens, donors)
        return generating_cost(self._opened, plans, starts, max_new_tokens, self.memory)

    @one_call
    def fidelity_cost(
        self,
        plans: Plan | Sequence[Plan],
        texts: Sequence[Prompt],
        *,
        length: int | None = None,
        tokens: int | None = None,
    ) -> Cost:
        """Return what :meth:`fidelity` would cost, the full model's own run included."""
        plans, texts = admitted(self._opened, plans), checked_prompts(texts, "texts")
        check_comparable(self._opened, plans)
        return fidelity_cost(self._opened, plans, self._pieces(texts, length, tokens), self.memory)

    @property
    @one_call
    def seconds_per_layer_row(self) -> float:
        """How long a row takes through a layer on this machine, measured now."""
        return seconds_per_layer_row(self._opened)

    @one_call
    def pace(self, cost: Cost) -> Pace:
        """Return how fast this machine is at what a cost counts, measured now.

        What writing takes is measured where anything is written.
        """
        row, pair = seconds_per_layer_row(self._opened), seconds_per_pair(self._opened)
        call, text = seconds_of_writing(self._opened) if cost.calls else (0.0, 0.0)
        return Pace(row, pair, call, text)

    @abstractmethod
    def _read(
        self, plans: Sequence[Plan], requests: Sequence[tuple[Prompt, Prompt]], donors: Donors
    ) -> list[tuple[TokenRequest, list[int]]]:
        """Return requests to score, each with the tokens of its continuation."""

    @abstractmethod
    def _pieces(
        self, texts: Sequence[Prompt], length: int | None, tokens: int | None
    ) -> list[Piece]:
        """Return the pieces of texts that are read, with the tokens to predict in each."""

    @abstractmethod
    def _begin(
        self, plans: Sequence[Plan], prompts: Sequence[Prompt], new_tokens: int, donors: Donors
    ) -> list[TokenRequest]:
        """Return requests for the token after each prompt, which so many new ones may follow."""


def generating_cost(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[TokenRequest],
    new_tokens: int,
    memory: int | None,
) -> Cost:
    """Return what it costs to read prompts and to write so many tokens behind each."""
    lowered = [lower(plan) for plan in plans]
    total = Cost()
    for each in plan_sets(model, lowered, prompts, new_tokens, allowed_bytes(memory, model)):
        known = set(each.programs)
        own = [program for program in lowered if program in known]
        groups = list(each.queue)
        writing = decoding(each.asked, own, groups)
        rows = writing.rows
        written = Cost(rows, rows, rows, rows, written=rows, calls=writing.calls)
        instructions = [program.instructions for program in own]
        total += reading_cost(each.asked, instructions, prompts, groups) + written
    return total
