"""A Hugging Face model that runs a plan: its own forward, with the plan in place of its blocks.

While a plan is applied, each block only records its call arguments and passes its input on; the
last block runs the whole plan with them (:mod:`impasto.run.apply.forward`) and returns the final
states, to which the model applies its own norm and head. The logits at every position j are the
plan's after t₁…tⱼ. Generation uses Hugging Face's own cache (:mod:`impasto.run.apply.cache`).

A call that wants the last logits only (``logits_to_keep``, as Hugging Face's ``generate`` does)
does not run rows that these logits do not depend on: frozen rows are KV-only, and above the last
attention only the last rows run. Under the identity plan every row runs as it always does.

Forwards of several threads on one model may overlap until they run the plan, which they do one
after the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident, local
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from impasto.error import UserError, shown
from impasto.model.decoder import OpenedModel
from impasto.model.loading.wrapped import unwrapped
from impasto.model.opened import Opened
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import (
    Arguments,
    Forward,
    Forwards,
    as_output,
    named_call,
    parameters,
)
from impasto.plan import Plan
from impasto.run.apply.checkpointing import Checkpointing
from impasto.run.apply.forward import ForwardCall, PlanInForward
from impasto.run.apply.outputs import OutputCollector
from impasto.run.apply.stacking import StackedLayers
from impasto.run.calls import turns_of
from impasto.run.inputs import checked_model, checked_plan
from impasto.run.opening import admit, opening


def apply(hf: nn.Module, plan: Plan, stack: bool = False, prompt: int | None = None) -> "Applied":
    """Make a Hugging Face model run a plan, until the handle is removed.

    ``with impasto.apply(hf, plan): hf.generate(...)``, or ``handle = impasto.apply(hf, plan)`` and
    later ``handle.remove()``. Whichever thread calls the model meanwhile, it runs the plan; methods
    of an :class:`impasto.Model` or :class:`impasto.Encoder` run the plan that they are given.
    Where another thread has applied a plan, this waits a while for it to be removed.

    With ``stack``, the weights of parallel layers that are alike move into one memory at once, and
    back when the plan is removed; without, no weight ever moves. Branches of such layers then run
    in one call, which is faster where tokens are read one by one. Where only some of a plan's
    parallel layers can be stacked, those are, and :attr:`Applied.stacked` names them. With many
    rows, gradients, hooks or ``output_attentions`` they run one after the other all the same.

    What ``freeze(prompt)`` and ``noise(…, prompt)`` are about are the tokens of the first call with
    a cache, or the first ``prompt`` tokens of each sequence, padding not counted. The logits of the
    prompt's tokens before its last one are then those of the states that they are held in.

    Raises:
        PlanError: when the plan names a layer that the model lacks.
        UserError: when a plan is applied to this model already, or a call on it is under way, or
            the plan injects (which needs donors: :meth:`impasto.Model.next_logits` and its like
            take them), or ``prompt`` is no number of tokens or the plan is not about the prompt, or
            with ``stack``, when the plan has no parallel layers that one call could
            run, the model is being trained, or hooks are registered on these layers.
        ModelError: when the model cannot be opened, or was loaded without a layer that is named, or
            with ``stack``, when none of the plan's layers can be stacked, or memory does not
            suffice.
    """
    hf, plan = unwrapped(checked_model(hf)), checked_plan(plan)
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
        model = _open_for(plan, hf)
        _check_prompt(plan, prompt)
        stacked = _stacked(model, plan) if stack else None
        turns.applied = applied = Applied(model, plan, stacked=stacked, prompt=prompt)
    return applied


def _check_prompt(plan: Plan, prompt: object) -> None:
    """Raise UserError unless a number of tokens is one, and the plan is about the prompt."""
    if prompt is None:
        return
    if type(prompt) is not int or prompt < 1:
        raise UserError(f"prompt is a number of tokens from 1, not {shown(prompt, 80)}")
    if not plan.tells_prompt:
        raise UserError(
            f"prompt={prompt}: the plan {plan} does nothing to the prompt alone, as "
            "freeze(prompt) or noise(gaussian, prompt) would; leave prompt out"
        )


def _stacked(model: Opened, plan: Plan) -> StackedLayers:
    """Stack what parallel layers of a plan can be; raise ModelError for an encoder."""
    if not isinstance(model, OpenedModel):
        raise ModelError(
            "stack=True: parallel layers of an encoder run one after the other; leave stack out"
        )
    return StackedLayers(model, plan)


def applied_alone(hf: PreTrainedModel, plan: Plan) -> "Applied":
    """Apply a plan for this thread's calls only, within a call of impasto's that it makes."""
    return Applied(_open_for(plan, hf), plan, in_every_thread=False)


def _open_for(plan: Plan, hf: PreTrainedModel) -> Opened:
    """Return a model, opened, on which a plan can run without a donor; else raise UserError."""
    if plan.injections:
        raise UserError(
            f"inject({plan.injections[0]}) needs a donor prompt, which a Hugging Face call cannot "
            "carry; use the methods of impasto's model with donors="
        )
    model = opening(hf).model
    admit(model, plan)
    return model


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
        prompt: int | None = None,
    ) -> None:
        self.plan, self._in_forward = plan, PlanInForward(model, plan, stacked, prompt)
        self._model, self._hf = model, model.hf
        self._checkpointing = Checkpointing(model)
        self._owner = None if in_every_thread else get_ident()
        self._own = local()  # each thread's call, and whether it is to run without the plan
        # The outer model is what users call; some call the inner one, and some families skip it.
        self._hooks = []
        self._called = {model.hf, model.hf.base_model}
        for module in self._called:
            begin = partial(self._begin, parameters(type(module)))
            self._hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._complete_output))
            self._hooks.append(module.register_forward_hook(self._end, always_call=True))
        self._before = [(block.module, block.module.forward) for block in model.blocks]
        self._before += [(module, module.forward) for module, _ in model.outside({})]
        stand_ins = [(block.module, self._stand_in(block.module)) for block in model.blocks]
        stand_ins += [
            (module, self._stand_in_outside(place))
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
            if self._in_forward.stacked is not None:
                self._in_forward.stacked.unstack()

    @property
    def stacked(self) -> tuple[int, ...]:
        """The layers whose weights are stacked, upwards; none without ``stack=True``."""
        return () if self._in_forward.stacked is None else self._in_forward.stacked.layers

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
        """Whether this thread's forwards run without the plan."""
        is_others = self._owner is not None and self._owner != get_ident()
        return is_others or getattr(self._own, "is_aside", False)

    @property
    def _call(self) -> ForwardCall:
        """This thread's call of the model."""
        if not hasattr(self._own, "call"):
            self._own.call = ForwardCall(OutputCollector(self._model))
        return self._own.call

    def _begin(
        self, names: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: Arguments
    ) -> tuple[tuple[Any, ...], Arguments] | None:
        """Begin a call of the model, before its own forward; return it if it is to be another one.

        Raises:
            ModelError: when the model has other blocks than when the plan was applied.
            UserError: when the call wants what a plan does not have, or runs a replica of the
                model.
        """
        if getattr(module, "_is_replica", False):
            raise UserError(
                f"the plan {self.plan} does not run in the replicas that nn.DataParallel makes of "
                "a model, as transformers' Trainer does where it sees several GPUs: let it see one "
                "(CUDA_VISIBLE_DEVICES=0), or start a process for each GPU by torchrun"
            )
        if self._is_aside or module not in self._called:
            return None
        if not self._model.has_its_blocks:
            raise self._changed()
        arguments = dict(zip(names, args, strict=False)) | kwargs
        outputs, keep = self._call.outputs, self._call.logits_to_keep
        runs_again = self._call.runs_again
        if not self._model.packs_rows and arguments.get("attention_mask") is None:
            # Some families do not hand it on, for nothing of theirs reads it.
            arguments["attention_mask"] = self._call.arguments.get("attention_mask")
        if module is self._hf:
            keep = arguments.get("logits_to_keep")
        call = self._own.call = ForwardCall(outputs, arguments, logits_to_keep=keep)
        call.outputs.begin(call.arguments, self.plan)
        call.runs_again = runs_again
        if module.training and self._checkpointing.is_on:
            call.runs_again = self._checkpointing.begin(module, self._running)
        if module is self._hf or "logits_to_keep" not in kwargs:
            return None
        return args, kwargs | {"logits_to_keep": 0}  # else some families' last layers get few rows

    def _complete_output(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Return a model's output with the plan's hidden states and attentions.

        Raises:
            ModelError: when the plan has not run, for not all of its layers were called.
        """
        if self._is_aside or module not in self._called:
            return output
        call = self._call
        if not call.has_run:
            raise self._changed()
        return call.outputs.complete(module, output)

    def _changed(self) -> ModelError:
        """Return the error for a model whose blocks are no longer those that were opened."""
        return ModelError(
            f"{type(self._hf).__name__} no longer calls the {self._model.num_layers} layers that "
            f"it had when the plan {self.plan} was applied: it has been changed since; remove the "
            "plan and apply it again"
        )

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Return a context in which only this thread runs the model, without the plan."""
        with turns_of(self._hf).taken(), self.set_aside():
            yield

    def _end(self, module: nn.Module, *_: Any) -> None:
        """Forget a call of the model after its own forward."""
        if self._checkpointing.end(module):
            self._call.runs_again = None
        if not self._is_aside and module is self._hf and hasattr(self._own, "call"):
            del self._own.call  # it holds the caller's arguments, a cache among them

    def _stand_in(self, block: nn.Module) -> Forward:
        """Return a forward that records a block's call arguments; the last one runs the plan.

        That of a block that is passed over records nothing: with a cache that holds something,
        some families call it all the same.
        """
        passed = {id(b.module) for b in self._model.blocks if b.is_passed_over}

        def passing(*args: Any, **kwargs: Any) -> Any:
            states = named_call(block, args, kwargs)["hidden_states"]
            return as_output(states, self._model.habits.block_outputs)

        def forward(*args: Any, **kwargs: Any) -> Any:
            arguments, call = named_call(block, args, kwargs), self._call
            call.block_arguments.append(arguments)
            states = arguments["hidden_states"]
            if len(call.block_arguments) == self._model.num_layers - len(self._model.passed_over):
                call.block_arguments = self._model.by_layer(call.block_arguments)
                form = self._model.habits.form
                with self._running():
                    states = form.full(self._in_forward.run(call, form.flat(states)))
                call.arguments, call.block_arguments, call.has_run = {}, [], True
            return as_output(states, self._model.habits.block_outputs)

        return passing if id(block) in passed else forward

    def _stand_in_outside(self, place: int) -> Forward:
        """Return a forward for a module outside of the blocks that records its call arguments."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            [*_, (_, record)] = self._model.outside(self._call.outside)[: place + 1]
            return record(*args, **kwargs)

        return forward
