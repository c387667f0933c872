"""Who decodes and who waits: many plans together, within a number of texts and of bytes.

Plans that have read their prompts (:mod:`impasto.run.generate.decoding_plan`) wait until more texts
at once would be no faster, or would take too much memory. Then they decode together
(:mod:`impasto.run.generate.decode_batch`). As texts are done, waiting plans take their place.
"""

from impasto.model.decoder import OpenedModel
from impasto.run.attention.choice import chosen_attention
from impasto.run.attention.few_rows import Scores, few_row_attention
from impasto.run.batching.batches import texts_at_once
from impasto.run.generate.decode_batch import DecodeBatch
from impasto.run.generate.decoding_plan import DecodingPlan, Stopping
from impasto.run.kv.buffers import trim_heap
from impasto.run.tuning import THIN_SHARE


class Scheduler:
    """The plans that decode together, and those that wait.

    Args:
        model: The model.
        stopping: When a text is done.
        memory: The bytes that keys and values may take. A plan that takes more decodes alone.
    """

    def __init__(self, model: OpenedModel, stopping: Stopping, memory: int) -> None:
        self._model, self._stopping, self._memory = model, stopping, memory
        self._max_texts = texts_at_once(model)
        self._attention = few_row_attention(Scores())
        self._waiting: list[DecodingPlan] = []
        self._batch: DecodeBatch | None = None

    def decode_until_free(self, texts: int, size: int) -> None:
        """Decode until there is capacity for a plan with so many texts and bytes at the most.

        A plan that takes more than all of it has it to itself.
        """
        if self._load(texts) > 1:
            while self._load() > THIN_SHARE or (self._load() and self._load(texts) > 1):
                self._step()
        while self._load() and self._load(texts, size) > 1:
            self._step()

    def add(self, plan: DecodingPlan) -> None:
        """Let a plan wait for the next step."""
        self._waiting.append(plan)

    def finish(self) -> None:
        """Decode until every text is done."""
        while self._load():
            self._step()

    def _load(self, texts: int = 0, size: int = 0) -> float:
        """Return the load with so many more texts and bytes: 1 is as many of either as may be.

        A text counts with the bytes of its greatest possible length.
        """
        plans = [*self._waiting, *(self._batch.plans if self._batch else [])]
        longest = self._stopping.max_new_tokens
        in_common = {id(pair): pair for plan in plans for pair in plan.common.values()}
        size += sum(pair.nbytes for pair in in_common.values()) + sum(
            plan.bytes_of(text.prompt_length + longest)
            for plan in plans
            for text in plan.texts
            if not text.is_done
        )
        texts += sum(plan.num_unfinished for plan in plans)
        return max(texts / self._max_texts, size / self._memory)

    def _step(self) -> None:
        """Run a decode step of the decode batch, which is made anew where that pays."""
        if self._batch is None or self._waiting or self._batch.is_full:
            self._rebatch()
        assert self._batch is not None, "there are texts that are not done"
        with chosen_attention(self._model, self._attention):
            self._batch.step()
        if self._batch.unfinished_share <= THIN_SHARE:
            self._rebatch()

    def _rebatch(self) -> None:
        """Make a decode batch of unfinished and waiting plans; texts that are done are dropped."""
        plans, self._waiting = self._waiting, []
        if self._batch is not None:
            plans += self._batch.unfinished_plans()
            self._batch = None  # so that plans alone hold its buffers, and release them
        if plans:
            trim_heap()  # before buffers are added to what prompts left free
            self._batch = DecodeBatch(self._model, self._stopping, plans)
