"""A Hugging Face model that runs a plan: its own forward, with the plan in place of its blocks.

While a plan is applied, each block only notes what it is called with and passes its input on; the
last block runs the whole plan on the noted arguments and returns the final states, to which the
model applies its own norm and head. The logits at every position j are the plan's after t₁…tⱼ.

Generation goes through Hugging Face's own cache object. Its first layer becomes a ledger of the
tokens read (noise depends on them, and lengths are read from there); each attention occurrence of
the plan has a layer of its own after that. So beams reorder it and cropping crops it as ever.
"""

import inspect
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from impasto.error import UserError
from impasto.model.block import Arguments
from impasto.model.encoder import OpenedEncoder, Prepared
from impasto.model.forwards import Forward, Forwards, as_output
from impasto.model.opened import Entered, Opened, OpenedModel, replayable
from impasto.plan import Layer, Noise, Parallel, Plan
from impasto.run.encoder.applied import run_applied
from impasto.run.noise import prefix_keys
from impasto.run.opening import admit, opening
from impasto.run.rows import Batch
from impasto.run.slot import KeysValues
from impasto.run.walk import State, Walker
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
    hf = _unwrapped(hf)
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
        self._watch = Watch(model)
        # The outer model is what users call; some call the inner one, and some families skip it.
        self._hooks = []
        for module in {model.hf, model.hf.base_model}:
            begin = partial(
                self._begin, list(inspect.signature(type(module).forward).parameters)[1:]
            )
            self._hooks.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._watch.told))
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
        self._noted = []
        self._watch.begin(self._call, self._plan)
        blocks = [block.module for block in self._model.blocks]
        if module.training and any(getattr(block, "gradient_checkpointing", 0) for block in blocks):
            raise UserError(
                "gradient (activation) checkpointing runs blocks again after the forward, when no "
                "plan is there any more; switch it off on this model"
            )

    def _noting(self, block: nn.Module) -> Forward:
        names = list(inspect.signature(type(block).forward).parameters)[1:]

        def forward(*args: Any, **kwargs: Any) -> Any:
            call = dict(zip(names, args, strict=False)) | kwargs
            self._noted.append(call)
            states = call["hidden_states"]
            if len(self._noted) == self._model.num_layers:
                with self._originals:
                    states = self._run(states)
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
        batch = _batch(self._call, self._noted[0], states, ledger, self._plan)
        arguments = [replayable(call) | {name: None} for call in self._noted]
        walker = Walker(
            model,
            batch,
            past=[] if ledger is None else ledger.past(cache),
            records=ledger is not None,
            given=Entered(states, arguments),
        )
        state = walker.start()
        with self._watch as watch:
            watch.passed(state.latest)
            for step in self._plan.steps:
                state = walker.step(step, state)
                if isinstance(step, (Layer, Parallel)):
                    watch.passed(state.latest)
        if ledger is not None:
            ledger.record(cache, batch, state)
        return state.latest


class Ledger(DynamicLayer):
    """The first layer of a cache under a plan: which tokens were read, and under which plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    @staticmethod
    def of(cache: Any, plan: Plan) -> "Ledger | None":
        """Return a cache's ledger; an empty cache gets one.

        Raises:
            UserError: when the cache is of a kind that cannot hold a plan's keys and values, or was
                filled without this plan.
        """
        if cache is None:
            return None
        if not isinstance(cache, DynamicCache):
            raise UserError(f"a plan runs with a DynamicCache or none, not {type(cache).__name__}")
        first = cache.layers[0] if cache.layers else None
        if isinstance(first, Ledger):
            if first.plan != plan:
                raise UserError(f"this cache was filled under the plan {first.plan}, not {plan}")
            return first
        if cache.get_seq_length():
            raise UserError(f"this cache was filled without the plan {plan}; begin with a new one")
        ledger = Ledger(plan)
        cache.__dict__["layers"] = [ledger]
        return ledger

    @property
    def ids(self) -> Int[Tensor, "batch past"] | None:
        """The tokens read so far."""
        return None if self.keys is None else self.keys[:, 0, :, 0]

    def past(self, cache: Any) -> list[KeysValues]:
        """Return what earlier tokens left at each attention occurrence."""
        return [KeysValues(layer.keys, layer.values) for layer in cache.layers[1:]]

    def record(self, cache: Any, batch: Batch, state: State) -> None:
        """Write down the tokens just read and what they left."""
        self.update(batch.ids[:, None, :, None], batch.ids[:, None, :, None])
        while len(cache.layers) <= len(state.kept):
            cache.layers.append(DynamicLayer())
        for layer, kept in zip(cache.layers[1:], state.kept, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(*kept)
            layer.keys, layer.values = kept

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with no tokens (an empty tensor of integers, for they are joined to it)."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]


def _unwrapped(hf: Any) -> PreTrainedModel:
    """Return the Hugging Face model itself, out of PEFT's wrapping where it has one."""
    return hf.get_base_model() if hasattr(hf, "get_base_model") else hf


def _batch(
    call: Arguments, first: Arguments, states: Tensor, ledger: Ledger | None, plan: Plan
) -> Batch:
    """Return the batch that a Hugging Face call describes; every position is asked for."""
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
    every = torch.arange(new, device=ids.device).expand(size, -1)
    return Batch(
        ids=ids,
        positions=positions,
        is_real=real[:, length:],
        scored=every,
        is_scored=torch.ones_like(every, dtype=torch.bool),
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
