"""One forward of a Hugging Face model under a plan: from what it was called with to final states.

The model's own forward has prepared embeddings, masks and positions; here they become a batch, the
plan runs on it, and the call's cache and outputs get what they are to have.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.error import UserError
from impasto.model.decoder import Opened, OpenedModel, replayable
from impasto.model.encoder import OpenedEncoder, Prepared, Sentences
from impasto.model.structure.block import Arguments, Entered
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import Instruction, Program, runs_layers
from impasto.run.apply.cache import HuggingFacePast, ReadTokens, of_texts
from impasto.run.apply.checkpointing import RunsAgain
from impasto.run.apply.outputs import OutputCollector
from impasto.run.apply.sequential import SequentialForward
from impasto.run.apply.stacking import StackedLayers
from impasto.run.batching.batches import rows_per_call
from impasto.run.encoder.executor import EncoderExecutor
from impasto.run.execute.executor import Executor
from impasto.run.execute.rows import Batch
from impasto.run.noise import prefix_keys


@dataclass
class ForwardCall:
    """One call of a Hugging Face model's forward, as far as it has come.

    Attributes:
        outputs: What the call is to return beside logits.
        arguments: The model's call arguments.
        block_arguments: The call arguments of each block that was called, in order.
        outside: The call arguments of what stands outside of the blocks.
        logits_to_keep: The last rows whose logits the caller wants, as it says it.
        has_run: Whether the plan has run.
        runs_again: Makes of a step one that runs again in the backward pass; None where all that
            it computes is kept.
    """

    outputs: OutputCollector
    arguments: Arguments = field(default_factory=dict)
    block_arguments: list[Arguments] = field(default_factory=list)
    outside: Arguments = field(default_factory=dict)
    logits_to_keep: Any = None
    has_run: bool = False
    runs_again: RunsAgain | None = None

    def num_scored(self, new: int) -> int:
        """Return how many of the last of ``new`` rows are predictions that the caller wants."""
        keep = self.logits_to_keep
        is_count = type(keep) is int and keep > 0
        return min(keep, new) if is_count and not self.outputs.wants_every_row else new


class PlanInForward:
    """A plan that runs in the place of a model's blocks.

    Args:
        model: The model, opened.
        plan: The plan.
        stacked: The layers whose weights are stacked, if any are.
        prompt: How many tokens of each sequence are the prompt; None for those of the first call
            with a cache.
    """

    def __init__(
        self, model: Opened, plan: Plan, stacked: StackedLayers | None, prompt: int | None = None
    ) -> None:
        self.stacked, self._prompt = stacked, prompt
        self._model, self._plan = model, plan
        self._program = lower(plan)
        self._behind_prompt = self._program.behind_prompt
        self._is_identity = plan == Plan.identity(model.num_layers)

    def run(
        self, call: ForwardCall, states: Float[Tensor, "batch new hidden"]
    ) -> Float[Tensor, "batch new hidden"]:
        """Return the final states, to which the model applies its own norm and head.

        Args:
            call: The call, which has come to the model's last block.
            states: The embeddings.
        """
        if isinstance(self._model, OpenedEncoder):
            arguments = [replayable(each) for each in call.block_arguments]
            prepared = Prepared(states, arguments, call.outside.pop("input_mask", None))
            call.outside.clear()
            return run_applied(self._model, self._program, prepared, call.outputs, call.runs_again)
        assert isinstance(self._model, OpenedModel)
        return self._run_decoder(self._model, call, states)

    def _run_decoder(
        self, model: OpenedModel, call: ForwardCall, states: Float[Tensor, "batch new hidden"]
    ) -> Float[Tensor, "batch new hidden"]:
        name = model.habits.cache_argument
        cache = of_texts(call.block_arguments[0].get(name))
        tokens = ReadTokens.of(cache, self._plan)
        size, new = states.shape[:2]
        scored = call.num_scored(new)
        batch = self._batch(call, states, scored, tokens)
        none = {name: None} if name else {}
        arguments = [replayable(each) | none for each in call.block_arguments]
        if model.sequential is not None:
            return self._run_sequential(model, call, batch, Entered(states, arguments))
        past = None
        if tokens is not None:
            past = HuggingFacePast(cache, self._program, 2 * new)
        with call.outputs as outputs:
            stacked = None if outputs.wants_attentions else self.stacked
            executor = Executor(
                model,
                batch,
                past=past or {},
                records=tokens is not None,
                given=Entered(states, arguments),
                runs_kv_only_along=size * new <= rows_per_call(model),
                side_by_side=None if stacked is None else stacked.for_rows(size * new),
            )
            state = executor.start()
            outputs.add_depth(state.latest)
            step = executor.step if call.runs_again is None else call.runs_again(executor.step)
            for instruction in self._instructions(batch, scored < new):
                state = step(instruction, state)
                if runs_layers(instruction):
                    outputs.add_depth(state.latest)
                if past is not None:
                    past.record(state.keys_values)
                    state = state._replace(keys_values={})
        if tokens is not None:
            tokens.append(batch)
        if state.current is None or scored == new:
            return state.latest
        earlier = state.earlier[:, : new - scored].to(state.current.device)
        return torch.cat([earlier, state.current], 1)

    def _instructions(self, batch: Batch, few_are_scored: bool) -> tuple[Instruction, ...]:
        """Return what runs on a batch, of which the last rows alone may be scored."""
        program = self._behind_prompt if batch.prompt is None else self._program
        if few_are_scored and not self._is_identity:  # which runs as the model itself does
            program = program.released()
        return program.instructions

    def _run_sequential(
        self, model: OpenedModel, call: ForwardCall, batch: Batch, prepared: Entered
    ) -> Float[Tensor, "batch new hidden"]:
        """Return the final states where rows are not packed.

        Raises:
            UserError: when the call wants to go on later from a state that is no cache.
        """
        if call.arguments.get("use_cache") and not model.habits.cache_argument:
            raise UserError(
                f"{type(model.hf).__name__} keeps what it has read in a form that has no place for "
                "what a plan's layers have read; call it, or its generate, with use_cache=False"
            )
        cache = of_texts(call.block_arguments[0].get(model.habits.cache_argument))
        tokens = ReadTokens.of(cache, self._plan)
        before = None if tokens is None else tokens.ids
        before = batch.ids[:, :0] if before is None else before
        program = self._behind_prompt if batch.prompt is None else self._program
        forward = SequentialForward(model, program, self._is_identity, cache)
        with call.outputs as outputs:
            states = forward.run(batch, before, prepared, outputs)
        if tokens is not None:
            tokens.append(batch)
        return states

    def _batch(
        self,
        call: ForwardCall,
        states: Float[Tensor, "batch new hidden"],
        scored: int,
        tokens: ReadTokens | None,
    ) -> Batch:
        """Return the batch that a call describes, of which the last rows are scored.

        Raises:
            UserError: when noise is to be drawn without ``input_ids``, the attention mask is not
                of shape batch × tokens, or nothing says where the prompt ends.
        """
        size, new = states.shape[:2]
        ids = call.arguments.get("input_ids")
        if ids is None and self._program.is_noisy:
            raise UserError("noise depends on the tokens read: call the model with input_ids")
        if ids is None:
            ids = torch.zeros(size, new, dtype=torch.long, device=states.device)
        before = None if tokens is None else tokens.ids
        before = ids[:, :0] if before is None else before
        length = before.shape[1]
        mask = call.arguments.get("attention_mask")
        is_real = _is_real(mask, size, length + new, ids.device)
        if mask is None and length and tokens is not None and not self._model.packs_rows:
            is_real = torch.cat([tokens.are_real, is_real[:, length:]], 1)  # some pass it but once
        positions = call.block_arguments[0].get("position_ids")
        if positions is None or positions.numel() not in (new, size * new):  # or of several axes
            positions = (is_real.cumsum(1) - 1).clamp(min=0)[:, length:]
        if positions.ndim == 3:  # several axes (images): of a text, all count its tokens
            positions = positions[0]
        positions = positions.reshape(-1, new).expand(size, -1).long()  # some count in floats
        past = positions[:, :1] + torch.arange(-length, 0, device=ids.device)
        has_past = is_real[:, :length]
        total = zero = before.new_zeros(size)
        if length and self._program.is_noisy:
            total = prefix_keys(before, has_past, zero, zero)[1][:, -1]
        last = torch.arange(new - scored, new, device=ids.device).expand(size, -1)
        return Batch(
            ids=ids,
            positions=positions,
            is_real=is_real[:, length:],
            scored=last,
            is_scored=torch.ones_like(last, dtype=torch.bool),
            past=past.clamp(min=0),
            has_past=has_past,
            total=total,
            prompt=self._leading_prompt(is_real, length, tokens),
        )

    def _leading_prompt(
        self, is_real: Bool[Tensor, "batch tokens"], past: int, tokens: ReadTokens | None
    ) -> Int[Tensor, "batch"] | None:
        """Return how many leading new tokens are the prompt's, its last one and all later not.

        None where that makes no difference, or all of them stand behind the prompt.
        """
        if not self._program.tells_prompt:
            return None
        if self._prompt is None and past:
            return None
        if self._prompt is None and tokens is None:
            raise UserError(
                f"the plan {self._plan} does something to the prompt alone, and a call without a "
                "cache does not say where it ends: call the model with use_cache=True, whose first "
                "call is the prompt, or use impasto.apply(model, plan, prompt=n)"
            )
        counted = is_real.cumsum(1)
        length = counted[:, -1:] if self._prompt is None else self._prompt
        return (counted[:, past:] < length).sum(1)


def _is_real(
    mask: Any, size: int, length: int, device: torch.device
) -> Bool[Tensor, "batch tokens"]:
    """Return where tokens are no padding, by the caller's attention mask."""
    if mask is None:
        return torch.ones(size, length, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise UserError("under a plan, attention_mask is of shape batch × tokens, or left out")
    return mask[:, -length:].bool()


def run_applied(
    model: OpenedEncoder,
    program: Program,
    prepared: Prepared,
    outputs: OutputCollector,
    runs_again: RunsAgain | None = None,
) -> Float[Tensor, "batch tokens hidden"]:
    """Return the states of depth T of all rows, from what the model's own forward prepared.

    The states of every depth are handed to ``outputs``, which collects those that the caller wants.
    """
    blank = torch.zeros(prepared.states.shape[:2], dtype=torch.long, device=prepared.states.device)
    none = blank[:, :0]
    executor = EncoderExecutor(model, Sentences(blank, blank == 0), none, none.bool(), prepared)
    state = executor.start()
    step = executor.step if runs_again is None else runs_again(executor.step)
    with outputs:
        outputs.add_depth(state.latest)
        for instruction in program.instructions:
            state = step(instruction, state)
            outputs.add_depth(state.latest)
    return state.latest
