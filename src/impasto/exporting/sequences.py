"""A model that runs its plan where rows cannot be packed: what lies beside such weights as well.

Blocks that carry a state read tokens in their order. So a text is read in pieces, each by one
forward of the family's own: where no earlier token was changed, what is new of it at once; where
earlier tokens were, token by token, the current row stepping from a copy of the state that the
earlier ones left. Every occurrence of a layer has a state of its own. Where blocks do not go on
from what they wrote to a cache, all tokens run again with every new one.

Padding would leave its trace in a state: padded texts are read as they are without it.

Part of impasto, Apache-2.0.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicIndexedLayer

from impasto.exporting.caches import ReadBefore, ReadTokens
from impasto.exporting.calls import named, takes_positions
from impasto.exporting.modeling import Planned, Run
from impasto.run.kv.states import CarriedState, StateLayer, joined_states

TEXTS = ("input_ids", "inputs_embeds", "per_layer_inputs", "ple_input_ids", "token_type_ids")
MADE_ANEW = ("attention_mask", "cache_position")


class PlannedSequences(Planned):
    """Comes before a family's own class, as :class:`Planned` does."""

    def _attach(self, owner: Any) -> None:
        self._owner = [owner]  # in a list, lest it counts as a module of this one
        owner.__dict__["forward"] = self._read

    def _run(self, states: Any) -> Any:
        return self._piece.run(self._block_arguments, states)

    def _read(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the forward of the module that calls the blocks."""
        owner = self._owner[0]
        own = named(owner, args, kwargs)
        call, spec = self._checked(own), self._spec
        cache, name = own.get(spec["takes_cache"]), spec["takes_cache"]
        uses_cache = own.get("use_cache")
        uses_cache = getattr(owner.config, "use_cache", False) if uses_cache is None else uses_cache
        if name and uses_cache and cache is None:
            cache = DynamicCache()
        tokens: Any = None if cache is None else ReadTokens.of(cache)
        texts = Texts(own, call, tokens, spec)
        kept: list[Any] = []
        output: Any = None
        hidden: Any = None
        for rows, start in texts.groups():
            piece = SequenceRun(self, cache is not None, texts.states(cache, rows, start))
            output, part = self._read_group(texts, rows, start, piece)
            hidden = part.new_zeros(texts.shape + part.shape[2:]) if hidden is None else hidden
            hidden = hidden.index_put(texts.places(rows, start), part.flatten(0, 1))
            kept.append((rows, piece.after))
        if tokens is not None:
            texts.record(cache, kept, len(self._blocks))
        fields: dict[str, Any] = dict(output) | {"last_hidden_state": hidden}
        output = type(output)(**(fields | ({name: cache} if name else {})))
        return output.to_tuple() if own.get("return_dict") is False else output

    def _read_group(self, texts: Texts, rows: Any, start: int, piece: SequenceRun) -> Any:
        """Read the new tokens of some sequences in pieces; return the last output, and states."""
        past, end = max(texts.past, start), texts.past + texts.shape[1]
        goes_on, is_split = self._spec["goes_on"], any("split" in e for e in self._spec["program"])
        by_token = is_split or (goes_on == "tokens" and texts.past > start)
        owner = self._owner[0]
        found: list[Any] = []
        output = None
        for at in range(past, end) if by_token else [past]:
            until = at + 1 if by_token else end
            piece.begin(texts.ids[rows, start:until], until - at)
            first = at if goes_on else start
            given = texts.given(rows, first, until)
            if takes_positions(owner) and given.get("position_ids") is None:
                counted = torch.arange(first - start, until - start, device=rows.device)
                given["position_ids"] = counted.expand(len(rows), -1)
            if goes_on and at > start:
                given[self._spec["takes_cache"]] = ReadBefore(at - start, len(rows), rows.device)
            self._piece = piece
            self._record()
            try:
                output = type(owner).forward(owner, **given)
            finally:
                self._end()
            found.append(output.last_hidden_state[:, at - until :])
        return output, torch.cat(found, 1)


class Texts:
    """The tokens of a call, behind those that its cache has read."""

    def __init__(self, own: Any, call: Any, tokens: Any, spec: Any) -> None:
        self._own, self._may_keep = own, bool(spec["takes_cache"])
        is_noisy = any("noise" in each for each in spec["program"])
        ids, embedded = call.get("input_ids"), own.get("inputs_embeds")
        if ids is None:
            if is_noisy:
                raise ValueError("noise depends on the tokens read: call the model with input_ids")
            ids = torch.zeros(embedded.shape[:2], dtype=torch.long, device=embedded.device)
        self.shape, self.new, self._embedded = ids.shape, ids, embedded
        read = None if tokens is None else tokens.ids
        self.ids = ids if read is None else torch.cat([read, ids], 1)
        if tokens is not None and read is not None and embedded is not None:
            self._embedded = torch.cat([tokens.values[:, 0], embedded], 1)
        self.past = self.ids.shape[1] - ids.shape[1]
        mask = call.get("attention_mask")
        if mask is None:  # some pass it but once
            mask = torch.ones_like(ids)
            mask = (
                mask
                if tokens is None or read is None
                else torch.cat([tokens.keys[:, 1, :, 0], mask], 1)
            )
        if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
            raise ValueError("under a plan, attention_mask is of shape batch × tokens, or left out")
        is_real = self._is_real = mask[:, -self.ids.shape[1] :].bool().to(ids.device)
        self._starts = is_real.long().argmax(1)
        ends = is_real.shape[1] - is_real.flip(1).long().argmax(1)
        if bool((is_real.sum(1) != ends - self._starts).any()):
            raise ValueError(
                "padding between tokens: a model whose layers carry a state reads texts as they "
                "are; pad on one side, and prompts of unlike lengths on the left"
            )

    def groups(self) -> Any:
        """Yield the sequences that begin at the same place, and the place."""
        for start in self._starts.unique().tolist():
            yield (self._starts == start).nonzero()[:, 0], start

    def places(self, rows: Any, start: int) -> Any:
        """Return which rows of the call the tokens of some sequences are."""
        columns = torch.arange(max(0, start - self.past), self.shape[1], device=rows.device)
        return rows.repeat_interleave(len(columns)), columns.repeat(len(rows))

    def given(self, rows: Any, begin: int, end: int) -> dict[str, Any]:
        """Return what the family's own forward is called with for some tokens of sequences."""
        own = self._own
        given = {name: each for name, each in own.items() if name not in MADE_ANEW}
        given |= {name: None for name, each in own.items() if isinstance(each, Cache)}
        given |= {"use_cache": False} if self._may_keep else {}
        given |= {"return_dict": True} if "return_dict" in own else {}
        for name, each in given.items():
            if not isinstance(each, torch.Tensor):
                continue
            whole = {"input_ids": self.ids, "inputs_embeds": self._embedded}.get(name)
            if whole is not None:
                given[name] = whole[rows, begin:end]
            elif begin < self.past or name not in (*TEXTS, "position_ids"):
                given[name] = self._other(name, each, rows, begin, end)
            elif name == "position_ids":
                size = each.shape[-2] if each.ndim > 1 else 0
                some = each[..., rows, :] if size == self.shape[0] else each
                given[name] = some[..., begin - self.past : end - self.past]
            else:
                given[name] = each[rows, begin - self.past : end - self.past]
        return given

    def _other(self, name: str, each: Any, rows: Any, begin: int, end: int) -> None:
        """Return None for positions that count the tokens; else raise ValueError."""
        if name == "position_ids":
            counted = torch.arange(self.past, self.past + self.shape[1], device=each.device)
            own = each[..., rows, :] if each.ndim > 1 and each.shape[-2] == len(self.ids) else each
            if bool((own == counted - begin).all()):
                return
        raise ValueError(f"{name}: this model runs its plan on texts alone; leave it out")

    def states(self, cache: Any, rows: Any, start: int) -> list[Any]:
        """Return the states that a cache holds of some sequences, without padding."""
        if cache is None or self.past <= start:
            return []
        layers = [layer for layer in cache.layers[1:] if isinstance(layer, StateLayer)]
        if start == 0 and len(rows) == self.shape[0]:
            return [CarriedState(layer) for layer in layers]
        pick = [layer.mapped(lambda each: each[rows.to(each.device)]) for layer in layers]
        return [CarriedState(layer.without_first(start)) for layer in pick]

    def record(self, cache: Any, kept: list[Any], layers: int) -> None:
        """Let a cache hold the tokens of a call, and the state of every occurrence."""
        real = self._is_real[:, self.past :].long()
        new, embedded = torch.stack([self.new, real], 1)[..., None], self._own.get("inputs_embeds")
        cache.layers[0].update(new, new if embedded is None else embedded[:, None])
        states = [each for _, each in kept]
        order = torch.cat([rows for rows, _ in kept])
        recorded: list[Any] = []
        for each in zip(*states, strict=True):
            one: Any = each[0] if len(each) == 1 else joined_states(list(each), self.ids.shape[1])
            if len(kept) > 1:
                one.layer.reorder_cache(order.argsort())
            recorded.append(one.layer)
        others = range(len(recorded) + 1, layers)  # a forward may ask for any layer
        cache.layers[1:] = [*recorded, *(DynamicIndexedLayer() for _ in others)]


class SequenceRun(Run):
    """What a plan does with some sequences, piece by piece."""

    past: Any
    block_arguments: Any

    def __init__(self, model: Any, keeps: bool, states: list[Any]) -> None:
        self.blocks, self.spec, self.draws = model._blocks, model._spec, model.draws
        self.program, self.after = self.spec["program"], states
        self._keeps = bool(self.spec["goes_on"]) and (
            keeps or any("split" in each for each in self.program)
        )
        self._config = model.config.get_text_config(decoder=True)

    def begin(self, ids: Any, new: int) -> None:
        """Go on with the next tokens; ``ids`` are all so far."""
        self.ids, self.is_real, self.new = ids, torch.ones_like(ids, dtype=torch.bool), new
        self.past, self.after = iter(self.after), []
        self._shared: list[dict[Any, Any]] = [{}, {}]  # by earlier rows, by current ones
        self._ended: list[Any] = []

    def run(self, block_arguments: Any, embedded: Any) -> Any:
        """Return the states that the final norm reads, in the form of the blocks."""
        self.block_arguments = block_arguments
        streams, axis = self.spec["form"]
        earlier = embedded.movedim(axis, 2).flatten(2) if streams else embedded
        self.new, current = earlier.shape[1], None
        for each in self.program:
            if "split" in each:
                current, self._shared[1] = earlier[:, -1:], dict(self._shared[0])
            elif "noise" in each:
                earlier = self._noised(each, earlier)
            else:
                earlier, current = self._step(each, earlier, current)
        rows = earlier if current is None else torch.cat([earlier[:, :-1], current], 1)
        return self._full(rows)

    def _full(self, states: Any) -> Any:
        streams, axis = self.spec["form"]
        return states.unflatten(2, (streams, -1)).movedim(2, axis) if streams else states

    def _step(self, run: Any, earlier: Any, current: Any) -> Any:
        if "run" in run:
            return super()._step(run, earlier, current)
        before, outer, self._ended = self._shared, self._ended, []
        ends = super()._step(run, earlier, current)
        merged = [dict(each) for each in before]
        for written in self._ended:
            for mine, new, old in zip(merged, written, before, strict=True):
                mine.update({name: each for name, each in new.items() if each is not old.get(name)})
        self._shared, self._ended = merged, outer
        return ends

    def _branch(self, branch: Any, earlier: Any, current: Any) -> Any:
        before = self._shared
        self._shared = [dict(each) for each in before]
        ends = super()._branch(branch, earlier, current)
        self._ended.append(self._shared)
        self._shared = before
        return ends

    def _layer(self, run: Any, earlier: Any, current: Any) -> Any:
        """Run a layer on the current row from a copy of the state, and on the others."""
        index, part, is_kv_only = run["run"], run["part"], run["rows"] == "kv-only"
        attends, state = part != "mlp", None
        if attends and self._keeps:
            past = next(self.past, None)
            state = CarriedState.empty(self._config) if past is None else _copied(past)
            self.after.append(state)
        if current is not None:
            own = None if state is None else _copied(state)
            rows = torch.cat([earlier[:, :-1], current], 1)
            current = self._through(index, part, rows, own, 1)[:, -1:]
        if not is_kv_only or state is not None:
            after = self._through(index, part, earlier, state, 0)
            earlier = earlier if is_kv_only else after
        return earlier, current

    def _through(self, index: int, part: str, rows: Any, state: Any, whose: int) -> Any:
        """Run a block on rows, which leaves its state behind them."""
        call, shares = self.block_arguments[index], self.spec["shares"]
        shared = None
        if shares and part != "mlp":
            shared = type(call[shares])()
            shared.update(self._shared[whose])
            call = call | {shares: shared}
        count = rows.shape[1]
        after = self._block(index, part, self._full(rows), call, state)
        if shared is not None:
            self._shared[whose] = dict(shared)
        if state is not None:
            state.layer.length += count
        streams, axis = self.spec["form"]
        return after.movedim(axis, 2).flatten(2) if streams else after

    def _dropped(self, index: int, part: str) -> Any:
        other = {"attention": "mlp", "mlp": "attention"}.get(part)
        return self.spec["parts"][index][other] if other else {}


def _copied(state: Any) -> Any:
    """Return a copy of a state: families write to all in place but keys and values."""
    layer = copy(state.layer)
    for name, value in vars(layer).items():
        if isinstance(value, dict):
            vars(layer)[name] = {key: _clone(each) for key, each in value.items()}
        elif name not in ("keys", "values", "indexer"):
            vars(layer)[name] = _clone(value)
    return CarriedState(layer)


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value
