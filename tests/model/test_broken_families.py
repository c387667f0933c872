"""Models that break what plans rely on are refused with the reason; merely unusual ones are right.

Each is a tiny Llama that was changed in one way. What is refused says which claim fails; where rows
cannot be packed, for the same reasons, sequences run as they are, and are right as well. What opens
is compared with the naive reference on texts longer than its windows: scores behind a shared
context, generated tokens, frozen prefixes.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama as llama_code

import impasto
import reference
from families import weighted
from impasto import Plan
from impasto.model.structure.anatomy import ModelError
from thinning import thinned

modeling_llama: Any = llama_code
LAYERS = 4
CONFIG: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
PLANS = [
    Plan.parse(line, layers=LAYERS)
    for line in ("0-3", "0 2 1 freeze 2-3", "0 noise(gaussian) 1 [1|2] 3")
]
TEXT = torch.randint(97, (1, 44), generator=torch.Generator().manual_seed(5))[0].tolist()


def llama(kind: Any = LlamaForCausalLM, attention: str = "sdpa", **special: Any) -> Any:
    settings: dict[str, Any] = CONFIG | special | {"attn_implementation": attention}
    return weighted(kind(LlamaConfig(**settings)))


def changed(module: nn.Module, **methods: Any) -> None:
    """Give a module a class of its own, in which some methods are others."""
    own = type(module)
    module.__class__ = type(own.__name__, (own,), methods)


def block_changed(hf: Any, layer: int, after: Callable[[nn.Module, Any, dict], Any]) -> Any:
    """Let a block return what ``after`` makes of its output and of what it was called with."""
    block = hf.model.layers[layer]
    own = type(block).forward

    def forward(self, hidden_states, **arguments):
        given = {"hidden_states": hidden_states} | arguments
        return after(self, own(self, hidden_states, **arguments), given)

    changed(block, forward=forward)
    return hf


def part_changed(hf: Any, layer: int, part: str, before: Callable[[nn.Module, Any], Any]) -> Any:
    """Let a part of a block read what ``before`` makes of the states."""
    module = getattr(hf.model.layers[layer], part)
    own = type(module).forward

    def forward(self, hidden_states, *args, **arguments):
        return own(self, before(self, hidden_states), *args, **arguments)

    changed(module, forward=forward)
    return hf


def attention_changed(hf: Any, layer: int, **other: Any) -> Any:
    """Let an attention be called with other arguments; functions of them are called."""
    module = hf.model.layers[layer].self_attn
    own = type(module).forward

    def forward(self, hidden_states, **arguments):
        for name, value in other.items():
            arguments[name] = value(arguments.get(name)) if callable(value) else value
        return own(self, hidden_states, **arguments)

    changed(module, forward=forward)
    return hf


# --- models that are refused -------------------------------------------------------------------


def counts_its_calls():
    def after(self, output, given):
        self.calls = getattr(self, "calls", 0) + 1
        return output * (1 + 0.1 * self.calls)

    return block_changed(llama(), 2, after)


def draws_at_random():
    return block_changed(llama(), 1, lambda self, output, given: output + torch.rand(()))


def drops_out_in_eval_mode():
    def before(self, states):
        return nn.functional.dropout(states, 0.5, training=True)

    return part_changed(llama(), 1, "mlp", before)


def remembers_the_last_call():
    def after(self, output, given):
        last, self.last = getattr(self, "last", 0.0), output.mean()
        return output + last

    return block_changed(llama(), 2, after)


def mixes_rows_by_place_in_attention():
    return part_changed(llama(), 1, "self_attn", lambda self, x: x + x.roll(1, dims=1))


def convolves_over_tokens_in_the_mlp():
    def before(self, states):
        return states + nn.functional.pad(states, (0, 0, 1, 0))[:, :-1]

    return part_changed(llama(), 1, "mlp", before)


def sums_over_earlier_rows():
    def before(self, states):
        return states + states.cumsum(1) / torch.arange(1, states.shape[1] + 1)[:, None]

    return part_changed(llama(), 3, "mlp", before)


def ignores_its_mask():
    return attention_changed(llama(), 1, attention_mask=None)


def drops_part_of_its_mask():
    def first_row(mask):
        return None if mask is None else mask[:, :, :1].expand_as(mask)

    return attention_changed(llama(), 2, attention_mask=first_row)


def _by_index(width):
    """Return an attention mask with a window that goes by the index of rows and keys."""

    def attend(module, query, key, value, attention_mask, scaling, **kwargs):
        rows, keys = query.shape[2], key.shape[2]
        place = torch.arange(keys - rows, keys)[:, None] - torch.arange(keys)
        hidden = (place < 0) | (place >= width)
        if attention_mask is not None:
            attention_mask = attention_mask.masked_fill(hidden, -1e30)
        else:
            attention_mask = torch.zeros(1, 1, rows, keys).masked_fill(hidden, -1e30)
        return modeling_llama.eager_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling
        )

    return attend


def windows_by_index_inside_attention():
    hf = llama(window_size=34)
    _attending(hf.model.layers[1].self_attn, _by_index(34))
    return hf


def _attending(module, attend):
    """Let an attention attend by a function in the place of Hugging Face's own."""
    own = type(module).forward

    def forward(self, hidden_states, **arguments):
        interface = modeling_llama.ALL_ATTENTION_FUNCTIONS
        modeling_llama.ALL_ATTENTION_FUNCTIONS = _Interface(attend)
        try:
            return own(self, hidden_states, **arguments)
        finally:
            modeling_llama.ALL_ATTENTION_FUNCTIONS = interface

    changed(module, forward=forward)


class _Interface:
    def __init__(self, attend):
        self._attend = attend

    def get_interface(self, name, default):
        return self._attend


def reads_the_last_keys_only():
    hf = llama(local_window=34)

    def attend(module, query, key, value, attention_mask, scaling, **kwargs):
        rows = query.shape[2]
        if rows == key.shape[2]:
            return _by_index(34)(module, query, key, value, attention_mask, scaling)
        mask = None if attention_mask is None else attention_mask[..., -34:]
        last = (key[:, :, -34:], value[:, :, -34:])
        return modeling_llama.eager_attention_forward(module, query, *last, mask, scaling=scaling)

    _attending(hf.model.layers[2].self_attn, attend)
    return hf


def _counted(states, past):
    begin = 0 if past is None else past.get_seq_length()
    return torch.arange(begin, begin + states.shape[1])[None]


def counts_positions_inside_attention():
    hf = llama()
    attention, rotary = hf.model.layers[1].self_attn, hf.model.rotary_emb
    own = type(attention).forward

    def forward(self, hidden_states, position_embeddings, past_key_values=None, **arguments):
        tables = rotary(hidden_states, _counted(hidden_states, past_key_values))
        return own(self, hidden_states, tables, past_key_values=past_key_values, **arguments)

    changed(attention, forward=forward)
    return hf


def scales_queries_beyond_a_floor_that_it_counts():
    hf = llama(floor_scale=26)
    attention = hf.model.layers[0].self_attn
    own = type(attention).forward

    def forward(self, hidden_states, past_key_values=None, **arguments):
        scale = 1 + (_counted(hidden_states, past_key_values)[0] >= 26)[:, None]
        return own(self, hidden_states * scale, past_key_values=past_key_values, **arguments)

    changed(attention, forward=forward)
    return hf


def treats_the_first_row_of_a_call_apart():
    return part_changed(llama(), 2, "mlp", lambda self, x: torch.cat([3 * x[:, :1], x[:, 1:]], 1))


def looks_at_later_tokens():
    return part_changed(llama(), 1, "mlp", lambda self, x: x + x.mean(1, keepdim=True))


def treats_the_last_row_apart():
    return part_changed(llama(), 1, "mlp", lambda self, x: torch.cat([x[:, :-1], -x[:, -1:]], 1))


def norms_over_the_batch():
    return part_changed(llama(), 1, "mlp", lambda self, x: x - x.mean(0, keepdim=True) / 2)


def has_room_for_so_many_rows():
    def before(self, states):
        room = torch.arange(states.shape[0] * states.shape[1]) < 20
        return states * room.view(*states.shape[:2], 1)

    return part_changed(llama(), 1, "mlp", before)


def scales_by_the_number_of_keys():
    hf = llama()

    def attend(module, query, key, value, attention_mask, scaling, **kwargs):
        scaling = scaling * torch.tensor(key.shape[2]).log().item()
        return modeling_llama.eager_attention_forward(
            module, query, key, value, _causal(query, key, attention_mask), scaling=scaling
        )

    _attending(hf.model.layers[1].self_attn, attend)
    return hf


def _causal(query, key, mask):
    rows, keys = query.shape[2], key.shape[2]
    after = torch.ones(rows, keys, dtype=torch.bool).triu(keys - rows + 1)
    plain = torch.zeros(1, 1, rows, keys).masked_fill(after, -1e30)
    return plain if mask is None else mask


def behaves_otherwise_with_a_cache():
    def after(self, output, given):
        return output if given.get("past_key_values") is None else output * 1.5

    return block_changed(llama(), 2, after)


def writes_to_its_cache_twice():
    hf = llama()
    attention = hf.model.layers[1].self_attn
    own = type(attention).forward

    def forward(self, hidden_states, past_key_values=None, **arguments):
        if past_key_values is not None:
            nothing = hidden_states.new_zeros(len(hidden_states), 2, hidden_states.shape[1], 8)
            past_key_values.update(nothing, nothing, 7)
        return own(self, hidden_states, past_key_values=past_key_values, **arguments)

    changed(attention, forward=forward)
    return hf


def reads_another_layers_cache():
    hf = llama()
    attention = hf.model.layers[2].self_attn
    own = type(attention).forward

    def forward(self, hidden_states, past_key_values=None, **arguments):
        if past_key_values is not None:
            hidden_states = hidden_states + past_key_values.layers[1].keys.mean()
        return own(self, hidden_states, past_key_values=past_key_values, **arguments)

    changed(attention, forward=forward)
    return hf


def takes_values_from_another_layers_last_call():
    hf, shared = llama(), {}

    def keep(self, states):
        shared["first"] = states
        return states

    part_changed(hf, 0, "self_attn", keep)
    return part_changed(hf, 2, "self_attn", lambda self, x: x + 0.5 * shared["first"])


class _Model(modeling_llama.LlamaModel):
    """A Llama whose own forward goes through its layers in another way."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **arguments: Any):
        arguments |= {"attention_mask": attention_mask, "position_ids": position_ids}
        layers: Any = self.layers
        way: Any = self.way
        self.layers = _Sliced(way(list(layers)))
        try:
            return super().forward(input_ids=input_ids, **arguments)
        finally:
            self.layers = layers


class _Sliced(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self._each = layers

    def __getitem__(self, index):
        return self._each


def _going(way):
    hf = llama()
    hf.model.__class__ = type("LlamaModel", (_Model,), {"way": staticmethod(way)})
    return hf


def skips_a_layer():
    return _going(lambda layers: [layers[0], layers[1], layers[3]])


def runs_a_layer_twice():
    return _going(lambda layers: [*layers[:3], layers[2], layers[3]])


def runs_its_layers_in_another_order():
    return _going(lambda layers: [layers[0], layers[2], layers[1], layers[3]])


def changes_states_between_layers():
    def way(layers):
        def changing(states, **arguments):
            return layers[2](states * 1.5, **arguments)

        return [layers[0], layers[1], changing, layers[3]]

    return _going(way)


def adds_the_tokens_to_the_logits():
    hf = llama()
    own = type(hf).forward

    def forward(self, input_ids: Any = None, **arguments):
        found = own(self, input_ids=input_ids, **arguments)
        found.logits = found.logits + nn.functional.one_hot(input_ids, 97)
        return found

    changed(hf, forward=forward)
    return hf


def doubles_what_a_block_gives():
    return block_changed(llama(), 2, lambda self, output, given: 2 * output)


def multiplies_its_parts():
    hf = llama()

    def forward(self, hidden_states, **arguments):
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), **arguments)
        fed = self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states + attended + fed + attended * fed

    changed(hf.model.layers[1], forward=forward)
    return hf


def takes_one_text_at_a_time():
    def before(self, states):
        if len(states) > 1:
            raise NotImplementedError("one text at a time")
        return states

    return part_changed(llama(), 1, "mlp", before)


def takes_no_mask():
    def refusing(mask):
        if mask is not None and mask.shape[2] != 3:
            raise ValueError("no masks, please\nsecond line")
        return mask

    return attention_changed(llama(), 1, attention_mask=refusing)


def shifts_tokens_in_its_embedding():
    hf = llama()

    def forward(self, input_ids):
        states = nn.Embedding.forward(self, input_ids)
        return states + nn.functional.pad(states, (0, 0, 1, 0))[:, :-1]

    changed(hf.model.embed_tokens, forward=forward)
    return hf


def turns_by_the_place_of_a_row():
    hf = llama()
    own = type(hf.model.rotary_emb).forward

    def forward(self, x, position_ids):
        place = torch.arange(position_ids.shape[1]).expand_as(position_ids)
        return own(self, x, position_ids=place)

    changed(hf.model.rotary_emb, forward=forward)
    return hf


def gives_nan():
    return block_changed(llama(), 0, lambda self, output, given: output * float("nan"))


AGAIN = "reads the same text again"
REFUSED = [
    (counts_its_calls, AGAIN),
    (draws_at_random, AGAIN),
    (drops_out_in_eval_mode, AGAIN),
    (remembers_the_last_call, AGAIN),
    (mixes_rows_by_place_in_attention, "tokens behind it|split rows"),
    (looks_at_later_tokens, "depend on the tokens behind it"),
    (treats_the_last_row_apart, "depend on the tokens behind it"),
    (norms_over_the_batch, "depend on the texts beside it"),
    (scales_by_the_number_of_keys, "tokens behind it"),
    (takes_values_from_another_layers_last_call, "hand it more than its states"),
    (runs_a_layer_twice, "calls layer 2 twice"),
    (runs_its_layers_in_another_order, "calls its layers as 0, 2, 1, 3"),
    (changes_states_between_layers, "changes the states between layers 1 and 2"),
    (adds_the_tokens_to_the_logits, "identity plan does not give"),
    (takes_one_text_at_a_time, "NotImplementedError: one text at a time"),
    (gives_nan, "cannot be opened"),
]


@pytest.mark.parametrize(
    ("build", "reason"), REFUSED, ids=lambda value: getattr(value, "__name__", "")
)
def test_it_is_refused_with_the_reason(build, reason):
    hf = build()
    with pytest.raises(ModelError, match=reason) as refused:
        impasto.load(hf)
    assert "\n" not in str(refused.value)


def test_a_layer_that_is_never_called_does_nothing():
    hf = skips_a_layer()
    model, ids = impasto.load(hf), torch.tensor([[5, 17, 3, 11]])
    assert "the layers 2 do nothing in plans" in " ".join(model.limits)
    with torch.no_grad():
        own = hf(ids, use_cache=False).logits[0, -1]
    for line in ("0-3", "0-1 3"):
        torch.testing.assert_close(model.next_logits(Plan.parse(line), ids)[0], own)


# --- models whose rows cannot be packed: their sequences run as they are --------------------------

SEQUENTIAL = [
    (convolves_over_tokens_in_the_mlp, "split rows"),
    (sums_over_earlier_rows, "split rows"),
    (ignores_its_mask, "split rows"),
    (drops_part_of_its_mask, "split rows"),
    (windows_by_index_inside_attention, "by the place of a row.*window_size=34"),
    (reads_the_last_keys_only, "by the place of a row.*local_window=34"),
    (counts_positions_inside_attention, "split rows"),
    (scales_queries_beyond_a_floor_that_it_counts, "by the place of a row.*floor_scale=26"),
    (treats_the_first_row_of_a_call_apart, "shared beginning|KV-only"),
    (has_room_for_so_many_rows, "by the place of a row|texts beside it"),
    (behaves_otherwise_with_a_cache, "behind|KV-only"),
    (writes_to_its_cache_twice, "layer 1 writes keys and values twice"),
    (reads_another_layers_cache, "uses its cache for other things than one pair of keys"),
    (takes_no_mask, "ValueError: no masks, please$"),
    (shifts_tokens_in_its_embedding, "more than the token and its position"),
    (turns_by_the_place_of_a_row, "position_embeddings.* by the place of a row"),
]


@pytest.mark.parametrize(
    ("build", "reason"), thinned(SEQUENTIAL, 4), ids=lambda value: getattr(value, "__name__", "")
)
def test_where_rows_cannot_be_packed_sequences_run_as_they_are(build, reason):
    model = impasto.load(build())
    assert re.search(reason, model.runs_sequences or "")
    with_cache = build is not writes_to_its_cache_twice  # which its own generate cannot, either
    is_right(build(), PLANS, with_cache)
    assert model._opened.sequential is not None
    if getattr(model._opened, "undivided", {}):
        with pytest.raises(ModelError, match="can only run whole: layer"):
            model.next_logits(Plan.parse("0-2 3.mlp"), torch.tensor([TEXT]))


# --- models that are only unusual -----------------------------------------------------------------


def writes_under_another_layers_number():
    hf = llama()
    for block in hf.model.layers:
        block.self_attn.layer_idx = 11
    return hf


def was_pruned_by_hand():
    hf = llama(num_hidden_layers=6)
    return _with_layers(hf, [hf.model.layers[i] for i in (0, 2, 4, 5)])


def has_one_layer_at_two_places():
    hf = llama()
    return _with_layers(hf, [hf.model.layers[i] for i in (0, 1, 1, 3)])


def _with_layers(hf, layers):
    hf.model.layers = nn.ModuleList(layers)
    hf.config.num_hidden_layers = len(layers)
    return hf


class NoAttention(nn.Module):
    def forward(self, hidden_states, **_):
        return torch.zeros_like(hidden_states), None


class PassedOn(nn.Module):
    def forward(self, hidden_states, **_):
        return 0.5 * hidden_states, None


class Zeros(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def lacks_an_attention():
    hf = llama()
    hf.model.layers[2].self_attn = NoAttention()
    return hf


def lacks_the_first_attention():
    hf = llama()
    hf.model.layers[0].self_attn = NoAttention()
    return hf


def lacks_the_last_attentions():
    hf = llama()
    for layer in (2, 3):
        hf.model.layers[layer].self_attn = NoAttention()
    return hf


def passes_on_in_the_place_of_an_attention():
    hf = llama()
    hf.model.layers[1].self_attn = PassedOn()
    return hf


def has_no_attention_in_a_block():
    hf = llama()
    block = hf.model.layers[1]
    block.self_attn = None

    def forward(self, hidden_states, **_):
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

    changed(block, forward=forward)
    return hf


def lacks_an_mlp():
    hf = llama()
    hf.model.layers[1].mlp = Zeros()
    return hf


def has_fewer_heads_in_a_layer():
    hf = llama(num_key_value_heads=4)
    attention = hf.model.layers[2].self_attn
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight = nn.Parameter(projection.weight[:16].clone())
        projection.out_features = 16
    attention.o_proj.weight = nn.Parameter(attention.o_proj.weight[:, :16].clone())
    attention.o_proj.in_features = 16
    return hf


def counts_positions_by_place_in_its_embedding():
    hf = llama()
    table = torch.randn(128, 32, generator=torch.Generator().manual_seed(1))
    own: Any = type(hf.model).forward
    rotary = type(hf.model.rotary_emb).forward

    def forward(self, input_ids: Any = None, past_key_values: Any = None, **arguments):
        for name in ("position_ids", "inputs_embeds"):
            arguments.pop(name, None)
        begin = 0 if past_key_values is None else past_key_values.get_seq_length()
        states = self.embed_tokens(input_ids) + table[begin : begin + input_ids.shape[1]]
        return own(self, inputs_embeds=states, past_key_values=past_key_values, **arguments)

    def unturned(self, x, position_ids):
        cos, sin = rotary(self, x, torch.zeros(1, 1, dtype=torch.long))
        return cos, sin

    changed(hf.model, forward=forward)
    changed(hf.model.rotary_emb, forward=unturned)
    return hf


def hands_layers_something_of_each_token():
    hf = llama()
    own = type(hf.model).forward
    table = torch.randn(97, 32, generator=torch.Generator().manual_seed(2))

    def forward(self, input_ids=None, **arguments):
        return own(self, input_ids=input_ids, of_token=table[input_ids], **arguments)

    changed(hf.model, forward=forward)
    block = hf.model.layers[1]
    attends = type(block.self_attn).forward

    def attend(self, hidden_states, of_token, **arguments):
        return attends(self, hidden_states + of_token, **arguments)

    changed(block.self_attn, forward=attend)
    return hf


def has_a_bias_in_its_masks():
    hf = llama(attention="eager")

    def biased(module, query, key, value, attention_mask, scaling, **kwargs):
        return modeling_llama.eager_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling * 2
        )

    _attending(hf.model.layers[1].self_attn, biased)
    own = modeling_llama.LlamaModel.forward

    def forward(self, **arguments):
        make = modeling_llama.create_causal_mask
        modeling_llama.create_causal_mask = partial(_sloping, make)
        try:
            return own(self, **arguments)
        finally:
            modeling_llama.create_causal_mask = make

    changed(hf.model, forward=forward)
    return hf


def _sloping(make, **arguments):
    mask = make(**arguments)
    if mask is None:
        return None
    keys = torch.arange(mask.shape[3])
    rows = torch.arange(mask.shape[3] - mask.shape[2], mask.shape[3])
    return mask - 0.1 * (rows[:, None] - keys).clamp(min=0)


def sees_the_likeliest_keys_only():
    hf = llama(index_topk=9)

    def attend(module, query, key, value, attention_mask, scaling, **kwargs):
        mask = _causal(query, key, attention_mask)
        keys = modeling_llama.repeat_kv(key, module.num_key_value_groups)
        scores = query @ keys.transpose(2, 3) * scaling + mask
        least = scores.topk(min(9, scores.shape[3]), 3).values[..., -1:]
        mask = mask.expand_as(scores).masked_fill(scores < least, -1e30)
        return modeling_llama.eager_attention_forward(
            module, query, key, value, mask, scaling=scaling
        )

    _attending(hf.model.layers[1].self_attn, attend)
    return hf


def runs_its_parts_side_by_side():
    hf = llama()

    def forward(self, hidden_states, **arguments):
        attended, _ = self.self_attn(self.input_layernorm(hidden_states), **arguments)
        return hidden_states + attended + self.mlp(self.post_attention_layernorm(hidden_states))

    for block in hf.model.layers:
        changed(block, forward=forward)
    return hf


UNDIVIDED = [
    (doubles_what_a_block_gives, 2, "without attention and MLP it still changes its input"),
    (multiplies_its_parts, 1, r"it is not its input \+ attention \+ MLP"),
]

UNUSUAL = [
    doubles_what_a_block_gives,
    multiplies_its_parts,
    writes_under_another_layers_number,
    was_pruned_by_hand,
    has_one_layer_at_two_places,
    lacks_an_attention,
    lacks_the_first_attention,
    lacks_the_last_attentions,
    passes_on_in_the_place_of_an_attention,
    has_no_attention_in_a_block,
    lacks_an_mlp,
    has_fewer_heads_in_a_layer,
    counts_positions_by_place_in_its_embedding,
    hands_layers_something_of_each_token,
    has_a_bias_in_its_masks,
    sees_the_likeliest_keys_only,
    runs_its_parts_side_by_side,
]


@pytest.mark.parametrize("build", thinned(UNUSUAL), ids=lambda build: build.__name__)
def test_it_opens_and_is_right(build):
    model = is_right(build(), PLANS)
    assert model.runs_sequences is None
    assert len(model.shape.layers) == LAYERS
    assert model.generating_cost(PLANS, [TEXT], max_new_tokens=4).rows > 0


def is_right(hf, plans, with_cache=True):
    """Compare what a model gives under plans with the reference; return it."""
    model = impasto.load(hf)
    requests = [(TEXT[:40], [7, 8]), (TEXT[:40], [7, 9, 11]), (TEXT[:30], [3])]
    scores = model.loglikelihood(plans, requests)
    texts = model.generate(plans, [TEXT[:40], TEXT[:33]], max_new_tokens=4)
    for plan, found, written in zip(plans, scores, texts, strict=True):
        logits = model.next_logits(plan, torch.tensor([TEXT]))[0]
        torch.testing.assert_close(
            logits, reference.next_logits(hf, plan, TEXT), atol=1e-3, rtol=1e-4
        )
        for request, (log_p, greedy) in zip(requests, found, strict=True):
            wanted, is_greedy = reference.score(hf, plan, *request)
            assert log_p == pytest.approx(wanted, abs=1e-3)
            assert greedy == is_greedy
        for length, new in zip((40, 33), written, strict=True):
            assert new == reference.generate(hf, plan, TEXT[:length], 4)
        with impasto.apply(hf, plan):
            ids = torch.tensor([TEXT[:40]])
            by_hf = hf.generate(ids, max_new_tokens=4, do_sample=False, use_cache=with_cache)[
                0, 40:
            ].tolist()
        assert by_hf == written[0]
    return model


@pytest.mark.parametrize(("build", "layer", "reason"), UNDIVIDED)
def test_parts_of_a_layer_that_is_more_than_they_are_refused(build, layer, reason):
    hf = build()
    model = impasto.load(hf)
    for part in ("attn", "mlp"):
        plan = Plan.parse(f"0-2 [{layer}.{part} | 3]", layers=LAYERS)
        for ask in (
            lambda plan=plan: model.next_logits(plan, torch.tensor([TEXT])),
            lambda plan=plan: model.loglikelihood([PLANS[0], plan], [(TEXT, [7])]),
            lambda plan=plan: impasto.apply(hf, plan),
        ):
            with pytest.raises(ModelError, match=f"a part of layer {layer} .*: {reason}"):
                ask()
    other = (layer + 1) % LAYERS
    plan = Plan.parse(f"0-2 {other}.mlp 3", layers=LAYERS)
    logits = model.next_logits(plan, torch.tensor([TEXT]))[0]
    wanted = reference.next_logits(hf, plan, TEXT)
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)
