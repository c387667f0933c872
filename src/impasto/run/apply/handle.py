"""A Hugging Face model that runs a plan: its own forward, with the plan in place of its blocks.

While a plan is applied, each block only notes what it is called with and passes its input on; the
last block runs the whole plan on the noted arguments and returns the final states, to which the
model applies its own norm and head. The logits at every position j are the plan's after t₁…tⱼ.

Generation goes through Hugging Face's own cache object (:mod:`impasto.run.apply.cache`).

A call that asks for the last logits only (``logits_to_keep``, as Hugging Face's ``generate`` does)
runs no other row where no logits can tell: frozen rows give keys and values, and above the last
attention only the rows asked for go on. Under the identity plan every row runs as it always does.

Forwards of several threads on one model are under way at the same time until they run the plan,
which they do one after the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import get_ident, local
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.error import UserError
from impasto.model.decoder import OpenedModel
from impasto.model.encoder import OpenedEncoder, Prepared
from impasto.model.opened import Entered, Opened, replayable
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import Arguments, Forward, Forwards, as_output, parameters
from impasto.plan import Plan
from impasto.plan.program import Program, lower, runs_layers
from impasto.run.apply.cache import HuggingFacePast, ReadTokens
from impasto.run.apply.outputs import OutputCollector
from impasto.run.apply.stacking import StackedLayers
from impasto.run.batching.batches import rows_per_call
from impasto.run.calls import turns_of
from impasto.run.encoder.applied import run_applied
from impasto.run.execute.branches import SideBySide
from impasto.run.execute.executor import Executor
from impasto.run.execute.noise import prefix_keys
from impasto.run.execute.rows import Batch
from impasto.run.inputs import checked_model, checked_plan
from impasto.run.opening import admit, opening


def apply(hf: nn.Module, plan: Plan, stack: bool = False) -> "Applied":
    """Make a Hugging Face model run a plan, until the handle is removed.

    ``with impasto.apply(hf, plan): hf.generate(...)``, or ``handle = impasto.apply(hf, plan)`` and
    later ``handle.remove()``. Whichever thread calls the model meanwhile, it runs the plan; what is
    asked of an :class:`impasto.Model` or :class:`impasto.Encoder` runs the plan that is asked for.
    Where another thread has applied a plan, this waits a while for it to be removed.

    With ``stack``, the weights of parallel layers that are alike move into one memory at once, and
    back when the plan is removed; without, no weight ever moves. Branches of such layers then run
    in one call, which is faster where tokens are read one by one. Where only some of a plan's
    parallel layers can be stacked, those are, and :attr:`Applied.stacked` names them. With many
    rows, gradients, hooks or ``output_attentions`` they run one after the other all the same.

    Raises:
        PlanError: when the plan names a layer that the model lacks.
        UserError: when a plan is applied to this model already, or a call on it is under way, or
            the plan injects (which needs donors: :meth:`impasto.Model.next_logits` and its like
            take them), or with ``stack``, when the plan has no parallel layers that one call could
            run, the model is being trained, or hooks are registered on these layers.
        ModelError: when the model cannot be opened, or was loaded without a layer that is named, or
            with ``stack``, when none of the plan's layers can be stacked, or memory does not
            suffice.
    """
    hf, plan = _unwrapped(checked_model(hf)), checked_plan(plan)
    turns = turns_of(hf)
    with turns.lock:
        turns.refuse_within_a_call("a plan cannot be applied")
        turns.wait_until_none_is_applied()
        already = turns.applied
        if isinstance(already, Applied):
            raise UserError(
                f"the plan {already.plan} is applied to this model already; remove it first "
                "(plans do not nest: write one plan that says it all)"
            )
        model = _admitting(hf, plan)
        stacked = _stacked(model, plan) if stack else None
        turns.applied = applied = Applied(model, plan, stacked=stacked)
    return applied


def _stacked(model: Opened, plan: Plan) -> StackedLayers:
    if not isinstance(model, OpenedModel):
        raise ModelError(
            "stack=True: parallel layers of an encoder run one after the other; leave stack out"
        )
    return StackedLayers(model, plan)


def applied_alone(hf: PreTrainedModel, plan: Plan) -> "Applied":
    """Return the same within a call of this thread's own, for nobody else's calls."""
    return Applied(_admitting(hf, plan), plan, in_every_thread=False)


def _admitting(hf: PreTrainedModel, plan: Plan) -> Opened:
    """Return a model on which a plan can run without a donor."""
    if plan.injections:
        raise UserError(
            f"inject({plan.injections[0]}) needs a donor prompt, which a Hugging Face call cannot "
            "carry; use the methods of impasto's model with donors="
        )
    model = opening(hf).model
    admit(model, plan)
    return model


@dataclass
class _Call:
    """A forward of the Hugging Face model under a plan.

    Attributes:
        outputs: What it is to tell beside logits.
        given: What the model was called with.
        noted: What each of its blocks was called with.
        outside: What stands outside of the blocks was called with.
        asked: Of how many last rows logits are asked for, as the caller says it.
        has_run: Whether the plan has run.
    """

    outputs: OutputCollector
    given: Arguments = field(default_factory=dict)
    noted: list[Arguments] = field(default_factory=list)
    outside: Arguments = field(default_factory=dict)
    asked: Any = None
    has_run: bool = False


class Applied:
    """The handle of an applied plan, and a context manager that removes it at its end.

    Attributes:
        plan: The plan.
    """

    def __init__(
        self,
        model: Opened,
        plan: Plan,
        in_every_thread: bool = True,
        stacked: StackedLayers | None = None,
    ) -> None:
        self.plan = plan
        self._model, self._hf = model, model.hf
        self._owner = None if in_every_thread else get_ident()
        self._own = local()  # each thread's call, and whether it is to run without the plan
        self._program = self._of_last_rows = lower(plan)
        if plan != Plan.identity(model.num_layers):  # which runs as the model itself does
            self._of_last_rows = self._program.released()
        self._stacked = stacked
        # The outer model is what users call; some call the inner one, and some families skip it.
        self._hooks = []
        self._called = {model.hf, model.hf.base_model}
        for module in self._called:
            begin = partial(self._begin, parameters(type(module)))
            self._hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._told))
        self._hooks.append(model.hf.register_forward_hook(self._end, always_call=True))
        self._before = [(block.module, block.module.forward) for block in model.blocks]
        self._before += [(module, module.forward) for module, _ in model.outside({})]
        stand_ins = [(block.module, self._noting(block.module)) for block in model.blocks]
        stand_ins += [
            (module, self._noting_outside(place))
            for place, (module, _) in enumerate(model.outside({}))
        ]
        self._stand_ins: Forwards | None = Forwards(stand_ins, in_every_thread)
        self._stand_ins.__enter__()

    def remove(self) -> None:
        """Give the model back exactly as it was; a second call does nothing.

        Raises:
            UserError: in the middle of a call on the model.
        """
        turns = turns_of(self._hf)
        with turns.lock:
            if self._stand_ins is None:
                return
            if self._owner is None:
                turns.refuse_within_a_call("a plan cannot be removed")
                turns.applied = None
            self._stand_ins.__exit__()
            self._stand_ins = None
            for hook in self._hooks:
                hook.remove()
            if self._stacked is not None:
                self._stacked.unstack()

    @property
    def stacked(self) -> tuple[int, ...]:
        """The layers whose weights are stacked, upwards; none without ``stack=True``."""
        return () if self._stacked is None else self._stacked.layers

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Return a context in which this thread's calls run the model without the plan.

        Whoever enters it holds the model's lock.
        """
        before, self._own.is_aside = self._is_aside, True
        try:
            with Forwards(self._before):
                yield
        finally:
            self._own.is_aside = before

    def __deepcopy__(self, memo: Any) -> "Applied":
        """Return the handle itself: the plan is not applied to a copy of the model."""
        return self

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def _is_aside(self) -> bool:
        """Whether a forward of this thread is none that the plan is for."""
        is_others = self._owner is not None and self._owner != get_ident()
        return is_others or getattr(self._own, "is_aside", False)

    @property
    def _call(self) -> "_Call":
        """This thread's forward."""
        if not hasattr(self._own, "call"):
            self._own.call = _Call(OutputCollector(self._model))
        return self._own.call

    def _begin(
        self, names: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: Arguments
    ) -> None:
        if self._is_aside or module not in self._called:
            return
        if not self._model.has_its_blocks:
            raise self._changed()
        before = self._call
        call = self._own.call = _Call(before.outputs, dict(zip(names, args, strict=False)) | kwargs)
        call.asked = call.given.get("logits_to_keep") if module is self._hf else before.asked
        call.outputs.begin(call.given, self.plan)
        blocks = [block.module for block in self._model.blocks]
        if module.training and any(getattr(block, "gradient_checkpointing", 0) for block in blocks):
            raise UserError(
                "gradient (activation) checkpointing runs blocks again after the forward, when no "
                "plan is there any more; switch it off on this model"
            )

    def _told(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Return a model's output with what the plan has to tell in it.

        Raises:
            ModelError: when the plan has not run, for not all of its layers were called.
        """
        if self._is_aside or module not in self._called:
            return output
        call = self._call
        if not call.has_run:
            raise self._changed()
        return call.outputs.told(module, output)

    def _changed(self) -> ModelError:
        return ModelError(
            f"{type(self._hf).__name__} no longer calls the {self._model.num_layers} layers that "
            f"it had when the plan {self.plan} was applied: it has been changed since; remove the "
            "plan and apply it again"
        )

    def _end(self, module: nn.Module, *_: Any) -> None:
        if not self._is_aside and module is self._hf and hasattr(self._own, "call"):
            del self._own.call  # what it brought, its cache among it

    def _noting(self, block: nn.Module) -> Forward:
        names = parameters(type(block))

        def forward(*args: Any, **kwargs: Any) -> Any:
            given, call = dict(zip(names, args, strict=False)) | kwargs, self._call
            call.noted.append(given)
            states = given["hidden_states"]
            if len(call.noted) == self._model.num_layers:
                with turns_of(self._hf).taken(), self.set_aside():
                    states = self._run(call, states)
                call.given, call.noted, call.has_run = {}, [], True
            return as_output(states, self._model.habits.block_outputs)

        return forward

    def _noting_outside(self, place: int) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            [*_, (_, note)] = self._model.outside(self._call.outside)[: place + 1]
            return note(*args, **kwargs)

        return forward

    def _run(self, call: "_Call", states: Tensor) -> Tensor:
        """Run the plan on what the model's own forward prepared."""
        if isinstance(self._model, OpenedEncoder):
            arguments = [replayable(each) for each in call.noted]
            prepared = Prepared(states, arguments, call.outside.pop("input_mask", None))
            call.outside.clear()
            return run_applied(self._model, self._program, prepared, call.outputs)
        assert isinstance(self._model, OpenedModel)
        return self._run_decoder(self._model, call, states)

    def _run_decoder(self, model: OpenedModel, call: "_Call", states: Tensor) -> Tensor:
        name, first = model.habits.cache_argument, call.noted[0]
        cache = first.get(name)
        tokens = ReadTokens.of(cache, self.plan)
        new, scored = states.shape[1], _scored(call, states.shape[1])
        batch = _batch(call.given, first, states, scored, tokens, self._program)
        arguments = [replayable(each) | {name: None} for each in call.noted]
        past = None
        if tokens is not None:
            past = HuggingFacePast(cache, self._program.occurrences, 2 * new)
        with call.outputs as outputs:
            executor = Executor(
                model,
                batch,
                past=past or {},
                records=tokens is not None,
                given=Entered(states, arguments),
                runs_kv_only_along=states.shape[0] * new <= rows_per_call(model),
                side_by_side=self._abreast(outputs, states),
            )
            state = executor.start()
            outputs.passed(state.latest)
            program = self._of_last_rows if scored < new else self._program
            for instruction in program.instructions:
                state = executor.step(instruction, state)
                if runs_layers(instruction):
                    outputs.passed(state.latest)
                if past is not None:
                    past.record(state.kept)
                    state = state._replace(kept={})
        if tokens is not None:
            tokens.read(batch)
        if state.current is None or scored == new:
            return state.latest
        return torch.cat([state.earlier[:, : new - scored], state.current], 1)

    def _abreast(self, outputs: OutputCollector, states: Tensor) -> SideBySide | None:
        """Return which branches run side by side on so many rows, while nobody watches them."""
        if self._stacked is None or outputs.wants_attentions:
            return None
        return self._stacked.for_rows(states.shape[0] * states.shape[1])


def _scored(call: "_Call", new: int) -> int:
    """Return how many of the last rows are asked for."""
    is_told = type(call.asked) is int and call.asked > 0
    return min(call.asked, new) if is_told and not call.outputs.wants_every_row else new


def _unwrapped(hf: Any) -> PreTrainedModel:
    """Return the Hugging Face model itself, out of PEFT's wrapping where it has one."""
    return hf.get_base_model() if hasattr(hf, "get_base_model") else hf


def _batch(
    call: Arguments,
    first: Arguments,
    states: Tensor,
    scored: int,
    tokens: ReadTokens | None,
    program: Program,
) -> Batch:
    """Return the batch that a Hugging Face call describes; its last rows are scored."""
    size, new = states.shape[:2]
    ids = call.get("input_ids")
    if ids is None and program.is_noisy:
        raise UserError("noise depends on the tokens read: call the model with input_ids")
    if ids is None:
        ids = torch.zeros(size, new, dtype=torch.long, device=states.device)
    before = None if tokens is None else tokens.ids
    before = ids[:, :0] if before is None else before
    length = before.shape[1]
    mask = call.get("attention_mask")
    real = _is_real(mask, size, length + new, ids.device)
    positions = first.get("position_ids")
    if positions is None:  # a family whose blocks need none
        positions = (real.cumsum(1) - 1).clamp(min=0)[:, length:]
    positions = positions.reshape(-1, new).expand(size, -1)
    past = positions[:, :1] + torch.arange(-length, 0, device=ids.device)
    has_past = real[:, :length]
    nothing = before.new_zeros(size)
    total = nothing
    if length and program.is_noisy:
        total = prefix_keys(before, has_past, nothing, nothing)[1][:, -1]
    last = torch.arange(new - scored, new, device=ids.device).expand(size, -1)
    return Batch(
        ids=ids,
        positions=positions,
        is_real=real[:, length:],
        scored=last,
        is_scored=torch.ones_like(last, dtype=torch.bool),
        past=past.clamp(min=0),
        has_past=has_past,
        total=total,
    )


def _is_real(
    mask: Any, size: int, length: int, device: torch.device
) -> Bool[Tensor, "batch tokens"]:
    if mask is None:
        return torch.ones(size, length, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise UserError("under a plan, attention_mask is of shape batch × tokens, or left out")
    return mask[:, -length:].bool()
