"""Greedy generation where rows are not packed: a plan that has read its prompts writes its texts.

Texts that have read equally many tokens take a step together. Each step goes on from the states
that every occurrence of the plan has left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from impasto.model.decoder import OpenedModel
from impasto.plan.program import InjectDonor, Program
from impasto.run.batching.stretches import TokenTree
from impasto.run.execute.logits import likeliest
from impasto.run.execute.sequential import SequentialExecutor, TreeState
from impasto.run.execute.stretch_calls import Read
from impasto.run.generate.decoding_plan import GeneratedText, Stopping


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes the texts of a plan.

    Attributes:
        model: The model.
        program: The plan, lowered.
        stopping: When a text is done.
    """

    model: OpenedModel
    program: Program
    stopping: Stopping

    def write(
        self, executor: SequentialExecutor, state: TreeState, texts: Sequence[GeneratedText]
    ) -> None:
        """Write texts to their ends behind the prompts that an executor has read."""
        groups = list(executor.read_at_ends(state))
        tokens = likeliest(self.model, executor.finish(state)).tolist()
        for text, token in zip(texts, tokens, strict=True):
            text.write(token, self.stopping)
        for requests, read in groups:
            self._write_on([texts[request] for request in requests], read)

    def _write_on(self, texts: list[GeneratedText], read: Read) -> None:
        """Write texts that have read equally many tokens to their ends."""
        while True:
            rows = [row for row, text in enumerate(texts) if not text.is_done]
            if not rows:
                return
            if len(rows) < len(texts):
                texts, read = [texts[row] for row in rows], read.select(torch.tensor(rows))
            tree = TokenTree.of_next([text.written[-1] for text in texts])
            executor = SequentialExecutor(self.model, tree, records=True, past=read)
            state = executor.start()
            for instruction in self.program.instructions:
                if not isinstance(instruction, InjectDonor):  # it lies in the prompt
                    state = executor.step(instruction, state)
            [(_, read)] = executor.read_at_ends(state)
            tokens = likeliest(self.model, executor.finish(state)).tolist()
            for text, token in zip(texts, tokens, strict=True):
                text.write(token, self.stopping)
