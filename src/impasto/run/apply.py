"""A Hugging Face model that runs a plan: its own forward, with the plan in place of its blocks.

While a plan is applied, each block only notes what it is called with and passes its input on; the
last block runs the whole plan on the noted arguments and returns the final states, to which the
model applies its own norm and head. The logits at every position j are the plan's after t₁…tⱼ.

Generation goes through Hugging Face's own cache object (:mod:`impasto.run.ledger`).

A call that asks for the last logits only (``logits_to_keep``, as Hugging Face's ``generate`` does)
runs no other row where no logits can tell: frozen rows give keys and values, and above the last
attention only the rows asked for go on. Under the identity plan every row runs as it always does.
"""

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from transformers import PreTrainedModel

from impasto.error import UserError
from impasto.model.block import Arguments
from impasto.model.encoder import OpenedEncoder, Prepared
from impasto.model.forwards import Forward, Forwards, as_output, parameters
from impasto.model.opened import Entered, Opened, OpenedModel, replayable
from impasto.plan import Layer, Noise, Parallel, Plan, Step
from impasto.plan.attending import attends, is_last_attention
from impasto.run.abreast import Abreast
from impasto.run.asked import asked_model, asked_plan
from impasto.run.bundle import rows_per_call
from impasto.run.encoder.applied import run_applied
from impasto.run.gathered import Gathered
from impasto.run.ledger import CachePast, Ledger
from impasto.run.noise import prefix_keys
from impasto.run.opening import admit, opening
from impasto.run.rows import Batch
from impasto.run.walk import Walker
from impasto.run.watch import Watch

_applied: WeakKeyDictionary[nn.Module, Plan] = WeakKeyDictionary()


def apply(hf: nn.Module, plan: Plan) -> "Applied":
    """Make a Hugging Face model run a plan, until the handle is removed.

    ``with impasto.apply(hf, plan): hf.generate(...)``, or ``handle = impasto.apply(hf, plan)`` and
    later ``handle.remove()``.

    Raises:
        PlanError: when the plan names a layer that the model lacks.
        UserError: when a plan is applied to this model already, or the plan injects (which needs
            donors: :meth:`impasto.Model.next_logits` and its like take them).
        ModelError: when the model cannot be opened, or was loaded without a layer that is named.
    """
    hf, plan = _unwrapped(asked_model(hf)), asked_plan(plan)
    if hf in _applied:
        raise UserError(
            f"the plan {_applied[hf]} is applied to this model already; remove it first "
            "(plans do not nest: write one plan that says it all)"
        )
    if plan.injections:
        raise UserError(
            f"inject({plan.injections[0]}) needs a donor prompt, which a Hugging Face call cannot "
            "carry; use the methods of impasto's model with donors="
        )
    model = opening(hf).model
    admit(model, plan)
    return Applied(model, plan)


class Applied:
    """The handle of an applied plan, and a context manager that removes it at its end."""

    def __init__(self, model: Opened, plan: Plan) -> None:
        self._model, self._hf, self._plan = model, model.hf, plan
        self._call: Arguments = {}
        self._noted: list[Arguments] = []
        self._outside: Arguments = {}
        self._asked: Any = None
        self._watch = Watch(model)
        attending = [at for at, step in enumerate(plan.steps) if attends(step)]
        self._last_attention = attending[-1] if attending else 0
        self._gathered = Gathered(model, plan.steps) if isinstance(model, OpenedModel) else None
        self._is_identity = plan == Plan.identity(model.num_layers)
        # The outer model is what users call; some call the inner one, and some families skip it.
        self._hooks = []
        for module in {model.hf, model.hf.base_model}:
            begin = partial(self._begin, parameters(type(module)))
            self._hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._watch.told))
        self._hooks.append(model.hf.register_forward_hook(self._end, always_call=True))
        stand_ins = [(block.module, self._noting(block.module)) for block in model.blocks]
        stand_ins += model.outside(self._outside)
        self._originals = Forwards([(module, module.forward) for module, _ in stand_ins])
        self._stand_ins = Forwards(stand_ins)
        self._stand_ins.__enter__()
        _applied[model.hf] = plan

    def remove(self) -> None:
        """Give the model back exactly as it was; a second call does nothing."""
        if _applied.pop(self._hf, None) is not None:
            self._stand_ins.__exit__()
            for hook in self._hooks:
                hook.remove()
            if self._gathered is not None:
                self._gathered.scatter()

    def settle(self) -> None:
        """Begin at once with what else is done when many tokens were read one by one.

        Parallel layers come to lie side by side in memory, so that one call runs them; that takes a
        while, and pays over some dozen calls.
        """
        if self._gathered is not None:
            with self._originals, self._watch:
                self._gathered.gather()

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _begin(
        self, names: list[str], module: nn.Module, args: tuple[Any, ...], kwargs: Arguments
    ) -> None:
        if self._watch.running:
            return
        self._call = dict(zip(names, args, strict=False)) | kwargs
        if module is self._model.hf:
            self._asked = self._call.get("logits_to_keep")
        self._noted = []
        self._watch.begin(self._call, self._plan)
        blocks = [block.module for block in self._model.blocks]
        if module.training and any(getattr(block, "gradient_checkpointing", 0) for block in blocks):
            raise UserError(
                "gradient (activation) checkpointing runs blocks again after the forward, when no "
                "plan is there any more; switch it off on this model"
            )

    def _end(self, *_: Any) -> None:
        if not self._watch.running:
            self._asked = None
            self._forget()

    def _forget(self) -> None:
        """Let go of what a call brought, its cache among it."""
        self._call, self._noted = {}, []

    def _noting(self, block: nn.Module) -> Forward:
        names = parameters(type(block))

        def forward(*args: Any, **kwargs: Any) -> Any:
            call = dict(zip(names, args, strict=False)) | kwargs
            self._noted.append(call)
            states = call["hidden_states"]
            if len(self._noted) == self._model.num_layers:
                with self._originals:
                    states = self._run(states)
                self._forget()
            return as_output(states, self._model.habits.block_outputs)

        return forward

    def _run(self, states: Tensor) -> Tensor:
        """Run the plan on what the model's own forward prepared."""
        if isinstance(self._model, OpenedEncoder):
            arguments = [replayable(call) for call in self._noted]
            prepared = Prepared(states, arguments, self._outside.pop("input_mask", None))
            self._outside.clear()
            return run_applied(self._model, self._plan, prepared, self._watch)
        assert isinstance(self._model, OpenedModel)
        return self._run_decoder(self._model, states)

    def _run_decoder(self, model: OpenedModel, states: Tensor) -> Tensor:
        name = model.habits.cache_argument
        cache = self._noted[0].get(name)
        ledger = Ledger.of(cache, self._plan)
        new, scored = states.shape[1], self._scored(states.shape[1])
        batch = _batch(self._call, self._noted[0], states, scored, ledger, self._plan)
        arguments = [replayable(call) | {name: None} for call in self._noted]
        past = None if ledger is None else CachePast(cache, 2 * new)
        with self._watch as watch:
            walker = Walker(
                model,
                batch,
                past=past or (),
                records=ledger is not None,
                given=Entered(states, arguments),
                packs_held=states.shape[0] * new <= rows_per_call(model),
                abreast=self._abreast(states),
            )
            state = walker.start()
            watch.passed(state.latest)
            for at, step in enumerate(self._plan.steps):
                if scored < new and self._can_retire(at, step):
                    state = walker.retire(state)
                before, state = state, walker.step(step, state)
                if isinstance(step, (Layer, Parallel)):
                    watch.passed(state.latest)
                if past is not None:
                    past.record(state.kept, since=before.occurrences)
        if ledger is not None:
            ledger.read(batch)
        if state.current is None or scored == new:
            return state.latest
        return torch.cat([state.earlier[:, : new - scored], state.current], 1)

    def _abreast(self, states: Tensor) -> Abreast | None:
        """Return which branches run side by side on so many rows, while nobody watches them."""
        if self._gathered is None or self._watch.wants_attentions:
            return None
        return self._gathered.for_rows(states.shape[0] * states.shape[1])

    def _scored(self, new: int) -> int:
        """Return how many of the last rows are asked for."""
        is_told = type(self._asked) is int and self._asked > 0
        return min(self._asked, new) if is_told and not self._watch.wants_every_row else new

    def _can_retire(self, at: int, step: Step) -> bool:
        return not self._is_identity and at >= self._last_attention and is_last_attention(step)


def _unwrapped(hf: Any) -> PreTrainedModel:
    """Return the Hugging Face model itself, out of PEFT's wrapping where it has one."""
    return hf.get_base_model() if hasattr(hf, "get_base_model") else hf


def _batch(
    call: Arguments,
    first: Arguments,
    states: Tensor,
    scored: int,
    ledger: Ledger | None,
    plan: Plan,
) -> Batch:
    """Return the batch that a Hugging Face call describes; its last rows are scored."""
    size, new = states.shape[:2]
    ids = call.get("input_ids")
    noisy = any(isinstance(step, Noise) for step in plan.steps)
    if ids is None and noisy:
        raise UserError("noise depends on the tokens read: call the model with input_ids")
    if ids is None:
        ids = torch.zeros(size, new, dtype=torch.long, device=states.device)
    before = None if ledger is None else ledger.ids
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
    if length and noisy:
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
