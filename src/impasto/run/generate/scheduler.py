"""Decoding many plans together: who writes now, and who waits for room.

Plans that have read their prompts (:mod:`impasto.run.generate.decoding_plan`) are taken in until more at once would
be no faster, or would take too much memory. They write in lockstep (:mod:`impasto.run.generate.decode_batch`).
As texts are done, plans that wait take their place.
"""

from impasto.model.decoder import OpenedModel
from impasto.run.attention.choice import Scores, chosen_attention, few_row_attention
from impasto.run.batching.batches import rows_per_call
from impasto.run.generate.decode_batch import DecodeBatch
from impasto.run.generate.decoding_plan import DecodingPlan
from impasto.run.generate.stopping import Stopping
from impasto.run.kv.pages import give_back
from impasto.run.tuning import LEAST_TEXTS, THIN_SHARE


class Scheduler:
    """Plans that write together, and those that wait.

    Args:
        model: The model.
        limits: When a text is done.
        memory: How many bytes keys and values may take. A plan that takes more writes alone.
    """

    def __init__(self, model: OpenedModel, limits: Stopping, memory: int) -> None:
        self._model, self._limits, self._memory = model, limits, memory
        self._most = max(LEAST_TEXTS, rows_per_call(model))
        self._attention = few_row_attention(Scores())
        self._waiting: list[DecodingPlan] = []
        self._together: DecodeBatch | None = None

    def wait(self, texts: int) -> None:
        """Where a plan that writes so many texts has no room, go on until it has."""
        if self._load(texts) > 1:
            while self._load() > THIN_SHARE or (self._load() and self._load(texts) > 1):
                self._step()

    def add(self, decoding: DecodingPlan) -> None:
        """Take in a plan; where its keys and values have no room, the others go on until then."""
        while self._load() and self._load(0, decoding) > 1:
            self._step()
        self._waiting.append(decoding)

    def finish(self) -> None:
        """Go on until everything is written."""
        while self._load():
            self._step()

    def _load(self, texts: int = 0, *more: DecodingPlan) -> float:
        """Return how full it is, in texts or in bytes; 1 is full."""
        plans = [*self._waiting, *(self._together.plans if self._together else []), *more]
        longest = self._limits.max_new_tokens
        size = sum(
            plan.slot_bytes * (text.prompt + longest)
            for plan in plans
            for text in plan.texts
            if not text.is_done
        )
        texts += sum(plan.unfinished for plan in plans)
        return max(texts / self._most, size / self._memory)

    def _step(self) -> None:
        if self._together is None or self._waiting or self._together.is_full:
            self._move()
        assert self._together is not None, "plans go on"
        with chosen_attention(self._model, self._attention):
            self._together.step()
        if self._together.share <= THIN_SHARE:
            self._move()

    def _move(self) -> None:
        """Let what goes on and what waits write side by side; what is done leaves its memory."""
        plans, self._waiting = self._waiting, []
        if self._together is not None:
            plans += self._together.left()
            self._together = None  # so that what it kept moves
        if plans:
            give_back()  # before rooms are added to what prompts left free
            self._together = DecodeBatch(self._model, self._limits, plans)
