"""A model that runs its plan: what lies beside the weights of an exported folder.

It is copied with the caches beside it: together they need torch and transformers, nothing else.
The family's own forward embeds, prepares masks and positions, and applies its norm and head; the
blocks only record their call arguments. The last one then runs the plan on the family's own blocks,
each with its own call arguments. Layers that the plan does not name are absent.

Part of impasto, Apache-2.0. The rules are impasto's: every prediction sees its own token as the
current one and all others as earlier ones, with or without a cache.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from transformers import Cache

from impasto.exporting.caches import BlockCache, KeysAndValuesReady, ReadTokens
from impasto.exporting.calls import leave_out, named, silent, wrapped

KEY_ARGUMENTS = ("alibi",)  # call arguments of blocks that have an entry for every key


class Planned:
    """Comes before a family's own class: ``class PlannedForCausalLM(Planned, Family)``.

    ``config.impasto`` says where the blocks are, what their parts return, and what runs: the plan's
    program (:mod:`impasto.plan.program`), in which nothing is left to decide.
    """

    _supports_flash_attn = _can_compile_fullgraph = False
    draws: Any = None  # the functions that draw noise, where the plan has any
    put_maps: Any = None  # what puts maps behind modules, where healing added some
    config: Any
    training: Any
    get_submodule: Any
    base_model: Any

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        planned, config.__class__ = type(config), type(config).__mro__[1]  # which Auto classes know
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        config.__class__ = planned
        self._spec = config.impasto
        if self.put_maps is not None:
            self.put_maps(self, config.impasto_maps)
        path = self._spec["blocks"]
        self._blocks = list(self.get_submodule(path))
        held = set(self._spec["held"])
        leave_out(self, path, held)
        self._block_arguments: list[dict[str, Any]] = []
        self._before: list[Any] = []
        owner = self.get_submodule(path.rpartition(".")[0])
        if hasattr(owner, "_init_weights"):
            owner.__dict__["_init_weights"] = self._draw_present
        # A composite model reads the tokens, and makes the masks, outside of its decoder.
        self._outer: list[tuple[Any, dict[str, Any]]] = []
        around: list[Any] = [self, self.base_model]
        for module in dict.fromkeys(around):
            if module is not owner:
                module.register_forward_pre_hook(self._enter, with_kwargs=True)
                module.register_forward_hook(self._leave, always_call=True)
        self._attach(owner)

    def _attach(self, owner: Any) -> None:
        """Let the module that calls the blocks run the plan."""
        owner.register_forward_pre_hook(self._begin, with_kwargs=True)
        owner.register_forward_hook(self._end, always_call=True)

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return False: what is not stored is drawn as the family's own code does it."""
        return False

    def _draw_present(self, module: Any) -> None:
        """Draw a module's weights as the family does, whose code may go through all layers."""
        path = self._spec["blocks"]
        owner, blocks = self.get_submodule(path.rpartition(".")[0]), self.get_submodule(path)
        every = blocks._modules
        present = [block for block in self._blocks if block._modules]
        blocks._modules = {str(place): block for place, block in enumerate(present)}
        try:
            type(owner)._init_weights(owner, module)
        finally:
            blocks._modules = every

    def _enter(self, outer: Any, args: Any, kwargs: Any) -> None:
        """Note what a module around the decoder is called with."""
        self._outer.append((outer, named(outer, args, kwargs)))

    def _leave(self, outer: Any, *_: Any) -> None:
        while self._outer and self._outer.pop()[0] is not outer:
            pass

    def _begin(self, owner: Any, args: Any, kwargs: Any) -> None:
        """Let every block record its call arguments, for the length of one forward."""
        self._call = self._checked(named(owner, args, kwargs))
        self._record()

    def _checked(self, call: Any) -> dict[str, Any]:
        """Return a call's arguments, with the tokens and the mask that a module around was given.

        Raises ValueError for what a plan cannot give.
        """
        if self._outer:
            outer = self._outer[0][1]
            call = call | {name: outer.get(name) for name in ("input_ids", "attention_mask")}
        for name in ("output_hidden_states", "output_attentions"):
            given = call.get(name)
            if getattr(self.config, name, None) if given is None else given:
                raise ValueError(
                    f"{name}: this model runs the plan {self._spec['plan']!r} and does not tell "
                    "what is inside; impasto.load of this folder does"
                )
        if self.training and any(getattr(b, "gradient_checkpointing", 0) for b in self._blocks):
            raise ValueError("gradient checkpointing runs blocks again without the plan")
        return call

    def _record(self) -> None:
        """Let every block record its call arguments, and the last one run the plan."""
        self._block_arguments = []
        self._before = [block.__dict__.get("forward") for block in self._blocks]
        for block in self._blocks:
            block.__dict__["forward"] = self._recording(block)

    def _end(self, *_: Any) -> None:
        """Give the blocks back as they were."""
        for block, forward in zip(self._blocks, self._before, strict=False):
            block.__dict__.pop("forward")
            if forward is not None:
                block.__dict__["forward"] = forward
        self._before = []

    def _recording(self, block: Any) -> Any:
        """Return a forward that records a block's call arguments; the last one runs the plan."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            call = named(block, args, kwargs)
            if "hidden_states" not in call:  # some call it otherwise, but all have it first
                call = {"hidden_states": call.pop(next(iter(call)))} | call
            self._block_arguments.append(call)
            states = call["hidden_states"]
            if len(self._block_arguments) == len(self._blocks):
                self._end()
                states = self._run(states)
            return wrapped(states, self._spec["outputs"])

        return forward

    def _run(self, states: Any) -> Any:
        """Return the states that the final norm reads."""
        return Run(self, self._call, self._block_arguments, states).states()


class Run:
    """One forward of a plan.

    Rows are the new tokens. Before the first freeze or noise each has one state; from there on it
    has one as an earlier token and one as the current one, which runs after it in a call of its
    own and sees the earlier tokens before it and itself.
    """

    def __init__(self, model: Any, call: Any, block_arguments: list[Any], states: Any) -> None:
        self.blocks, self.spec, self.draws = model._blocks, model._spec, model.draws
        self.block_arguments, self.embedded = block_arguments, states
        first = block_arguments[0].values()
        self.cache: Any = next((value for value in first if isinstance(value, Cache)), None)
        self.program = self.spec["program"]
        self.tokens_read = None if self.cache is None else ReadTokens.of(self.cache)
        self.past = iter([] if self.cache is None else self.cache.layers[1:])
        self.recorded: list[Any] = []  # one for each attention that has run
        self._read(call)

    def _read(self, call: Any) -> None:
        """Read the tokens, which the cache and the noise need, and where they are no padding."""
        ids, size, new = call.get("input_ids"), *self.embedded.shape[:2]
        if ids is None:
            if any("noise" in each for each in self.program):
                raise ValueError("noise depends on the tokens read: call the model with input_ids")
            ids = torch.zeros(size, new, dtype=torch.long, device=self.embedded.device)
        read = None if self.tokens_read is None else self.tokens_read.ids
        self.ids, self.new = ids if read is None else torch.cat([read, ids], 1), new
        mask = call.get("attention_mask")
        if mask is None:
            mask = torch.ones_like(self.ids)
        if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
            raise ValueError("under a plan, attention_mask is of shape batch × tokens, or left out")
        self.is_real = mask[:, -self.ids.shape[1] :].bool().to(self.ids.device)

    def states(self) -> Any:
        """Return the states that the final norm reads."""
        earlier, current = self.embedded, None
        for each in self.program:
            if "split" in each:
                current = earlier
            elif "noise" in each:
                earlier = self._noised(each, earlier)
            else:
                earlier, current = self._step(each, earlier, current)
        if self.tokens_read is not None:
            self.tokens_read.record(self.cache, self.ids[:, -self.new :], self.recorded)
        return earlier if current is None else current

    def _step(self, run: Any, earlier: Any, current: Any) -> Any:
        scale = run.get("scale", 1)
        if "run" in run:
            ends = self._layer(run, earlier, current)
            return _scaled(scale, earlier, ends[0]), _scaled(scale, current, ends[1])
        is_mean, count = run["combine"] == "mean", len(run["branches"])
        merged: list[Any] = [torch.zeros_like(earlier) if is_mean else earlier]
        merged.append(current if current is None or not is_mean else torch.zeros_like(current))
        for branch in run["branches"]:
            ends = self._branch(branch, earlier, current)
            begins: Any = (earlier, current)
            for k, (end, begin) in enumerate(zip(ends, begins, strict=True)):
                if end is not None:
                    end = end.to(begin.device)
                    merged[k] = merged[k] + (end if is_mean else scale * (end - begin))
        if is_mean:
            merged = [None if each is None else each / count for each in merged]
        return (earlier if run["rows"] == "kv-only" else merged[0]), merged[1]

    def _branch(self, branch: Any, earlier: Any, current: Any) -> Any:
        ends = (earlier, current)
        for inner in branch:
            ends = self._step(inner, *ends)
        return ends

    def _layer(self, run: Any, earlier: Any, current: Any) -> Any:
        """Run a layer: on the rows as earlier tokens, then as current ones."""
        index, part, is_kv_only = run["run"], run["part"], run["rows"] == "kv-only"
        attends = part != "mlp"
        cache = None
        if attends and (self.tokens_read is not None or current is not None):
            cache = BlockCache(next(self.past, None), kv_only=is_kv_only)
        call = self.block_arguments[index]
        if "reach" in run:
            call = self._within(call, *run["reach"])
        if not is_kv_only:
            earlier = self._block(index, part, earlier, call, cache)
        elif attends:
            with suppress(KeysAndValuesReady):
                self._block(index, part, earlier, call, cache)
        if current is not None:
            of_earlier = BlockCache(cache) if attends else None
            call = self._as_current(call) if attends else call
            current = self._block(index, part, current, call, of_earlier)
        if attends and self.tokens_read is not None:
            self.recorded.append(cache)
        return earlier, current

    def _block(self, index: int, part: str, states: Any, call: Any, cache: Any) -> Any:
        """Call a block as its family does, without one of its parts or with both."""
        block, call = self.blocks[index], dict(call)
        del call["hidden_states"]
        if self.spec["cache_argument"]:
            call[self.spec["cache_argument"]] = cache
        if "use_cache" in call:
            call["use_cache"] = cache is not None
        dropped = self._dropped(index, part)
        parts = [(block.get_submodule(name), outputs) for name, outputs in dropped.items()]
        before = [module.__dict__.get("forward") for module, _ in parts]
        for module, outputs in parts:
            module.__dict__["forward"] = silent(module, outputs)
        try:
            output = block(states, **call)
        finally:
            for (module, _), forward in zip(parts, before, strict=True):
                module.__dict__.pop("forward")
                if forward is not None:
                    module.__dict__["forward"] = forward
        return output[0] if isinstance(output, (tuple, list)) else output

    def _dropped(self, index: int, part: str) -> Any:
        """Return the modules that add nothing, with the arities of their outputs."""
        return {"attention": self.spec["mlp"], "mlp": self.spec["attention"]}.get(part, {})

    def _within(self, call: Any, first: int, last: int) -> Any:
        """Return a block's call arguments, under which rows see no more than a reach lets them.

        A row that would see nothing, for a window of its own begins behind the first positions,
        sees itself alone.
        """
        mask, rows, total = _mask_of(call), self.new, self.ids.shape[1]
        device = self.is_real.device if mask is None else mask.device
        columns = torch.arange(total, device=device)
        own = columns == columns[total - rows :, None]
        if mask is None:
            mask = (columns <= columns[total - rows :, None])[None, None]
        positions = (self.is_real.cumsum(1) - 1).to(device)
        near = positions[:, -rows:, None] - last
        seen = ((positions < first)[:, None] | (positions[:, None] > near))[:, None]
        low = None if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        hidden = ~(mask if low is None else mask > low) | ~seen
        hidden = hidden & ~(own & hidden.all(-1, keepdim=True))
        return call | {"attention_mask": ~hidden if low is None else mask.masked_fill(hidden, low)}

    def _as_current(self, call: Any) -> Any:
        """Return a block's call arguments for current rows, which do not see each other."""
        mask, rows, device = _mask_of(call), self.new, self.embedded.device
        device = device if mask is None else mask.device
        total = self.ids.shape[1]
        own = torch.eye(rows, dtype=torch.bool, device=device)
        first = torch.arange(total - rows, total, device=device)[:, None]
        before = torch.arange(total, device=device) < first
        if mask is None:
            visible = torch.cat([before, own], 1)[None, None]
        elif mask.dtype == torch.bool:
            itself = own & (mask[..., -rows:] | ~mask.any(-1, keepdim=True))  # padding sees itself
            visible = torch.cat([mask & before, itself], 3)
        else:
            low = torch.finfo(mask.dtype).min
            behind = mask[..., total - rows : total].masked_fill(~own, low)
            visible = torch.cat([mask.masked_fill(~before, low), behind], 3)
        call = call | {"attention_mask": visible}
        for name in KEY_ARGUMENTS:
            if isinstance(call.get(name), torch.Tensor):
                call[name] = torch.cat([call[name], call[name][..., -rows:]], -1)
        return call

    def _noised(self, marker: Any, states: Any) -> Any:
        """Return noise in the place of earlier tokens' states."""
        start = self.ids.new_zeros(len(self.ids))
        prefix_keys, source_of, noise = self.draws
        keys, _ = prefix_keys(self.ids, self.is_real, start, start)
        source = source_of(marker["noise"], marker["seed"], marker["depth"], marker["number"])
        drawn = noise(states, keys[:, -self.new :].to(states.device), source)
        spared = (self.is_real.cumsum(1) - 1 < marker["keep"])[:, -self.new :, None]
        return torch.where(spared.to(states.device), states, drawn)


def _mask_of(call: Any) -> Any:
    """Return a block's mask, with a row for each token; None where the family makes none."""
    mask = call.get("attention_mask")
    if mask is not None and not (isinstance(mask, torch.Tensor) and mask.ndim == 4):
        raise ValueError("freeze, noise and a reach need attn_implementation='sdpa' or 'eager'")
    return mask


def _scaled(scale: float, before: Any, after: Any) -> Any:
    """Return x + scale · (f(x) − x), given x and f(x)."""
    return after if scale == 1 or after is None else before + scale * (after - before)
