"""Under apply, the Hugging Face model itself runs the plan, and comes back as it was."""

import copy
import gc
from importlib import import_module
from weakref import ref

import pytest
import torch
from transformers import DynamicCache

import impasto
import reference
from families import FAMILIES, VOCABULARY, family, one_of_each
from impasto import Plan, UserError
from plans import CORE, PLANS, spread

engine = import_module("impasto.run.apply.forward")
NAMES = list(FAMILIES)
IDS = [5, 17, 3, 88, 41, 2, 60, 9]
SOME = PLANS[3::6]
THIRTY = PLANS[:9] + PLANS[12:21] + PLANS[22:28] + PLANS[30:32] + PLANS[37:41]


@pytest.mark.parametrize(
    ("name", "plan"), [(n, p) for n in NAMES for p in spread(n, NAMES, 4, 16)], ids=str
)
def test_the_logits_at_every_position_are_the_plans_after_that_prefix(name, plan):
    hf = family(name)
    with torch.no_grad(), impasto.apply(hf, plan):
        found = hf(input_ids=torch.tensor([IDS, IDS[::-1]])).logits
    for row, ids in zip(found, (IDS, IDS[::-1]), strict=True):
        for j in range(1, len(ids) + 1):
            expected = reference.next_logits(hf, plan, ids[:j])
            torch.testing.assert_close(row[j - 1], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", one_of_each(NAMES))
def test_hugging_faces_generate_gives_the_references_tokens_with_left_padding(name):
    plans = SOME[::2] if name in CORE else SOME[NAMES.index(name) % 4 :: 4]
    for use_cache in (True, False):
        check_generate(name, plans, 4, use_cache)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "gemma2", "bloom", "qwen3_moe"])
def test_thirty_plans_write_the_references_twenty_four_tokens(name):
    assert len(THIRTY) == 30
    check_generate(name, THIRTY, 24, use_cache=True)


def check_generate(name, plans, count, use_cache):
    hf = family(name)
    prompts = [IDS[:4], IDS]
    ids = torch.tensor([[0] * (8 - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (8 - len(p)) + [1] * len(p) for p in prompts])
    for plan in plans:
        with impasto.apply(hf, plan):
            out = hf.generate(
                ids, attention_mask=mask, max_new_tokens=count, do_sample=False,
                use_cache=use_cache, pad_token_id=0,
            )  # fmt: skip
        expected = [reference.generate(hf, plan, prompt, count) for prompt in prompts]
        assert out[:, 8:].tolist() == expected, plan


def test_beams_are_reordered_with_their_keys_and_tokens():
    hf, plan = family("llama"), Plan.parse("0-1 noise(gaussian) [2|3] 4-5")
    beams = {"num_beams": 3, "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    with impasto.apply(hf, plan):
        cached, plain = (
            hf.generate(torch.tensor([IDS]), use_cache=use_cache, **beams)
            for use_cache in (True, False)
        )
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("name", NAMES)
def test_the_identity_plan_is_the_model_bit_for_bit(name):
    hf = family(name)
    ids = torch.randint(VOCABULARY, (3, 11))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    with torch.no_grad():
        own = hf(input_ids=ids, attention_mask=mask, use_cache=False).logits
        with impasto.apply(hf, PLANS[0]):
            applied = hf(input_ids=ids, attention_mask=mask, use_cache=False).logits
    assert torch.equal(own[mask.bool()], applied[mask.bool()])


def test_the_model_comes_back_as_it_was_also_after_an_exception():
    hf = family("llama")
    with torch.no_grad():
        before = hf(input_ids=torch.tensor([IDS])).logits
        with pytest.raises(UserError, match="input_ids"), impasto.apply(hf, Plan.parse("noise(shuffle) 0-5")):  # fmt: skip  # noqa: E501
            hf(inputs_embeds=torch.zeros(1, 3, 32))
        handle = impasto.apply(hf, Plan.parse("0 5"))
        assert not torch.equal(hf(input_ids=torch.tensor([IDS])).logits, before)
        handle.remove()
        handle.remove()
        after = hf(input_ids=torch.tensor([IDS])).logits
    assert torch.equal(before, after)
    assert all("forward" not in module.__dict__ for module in hf.modules())


@pytest.mark.parametrize("line", ["0-5", "0 freeze 1 [2|3] 4-5"])
def test_what_a_call_brought_is_let_go_of_when_it_ends(line):
    hf, ids = family("llama"), torch.tensor([IDS])
    gc.disable()  # nobody should have to look for what is no longer held
    try:
        with torch.no_grad(), impasto.apply(hf, Plan.parse(line)):
            cache = DynamicCache(config=hf.config)
            hf(ids, past_key_values=cache, use_cache=True)
            hf(ids, past_key_values=cache, use_cache=True)
            held = ref(cache)
            del cache
            assert held() is None
            states = torch.zeros(1, 3, 32)
            held = ref(states)
            hf.model(inputs_embeds=states)
            del states
            assert held() is None
    finally:
        gc.enable()


def test_plans_do_not_nest_and_injection_needs_a_donor():
    hf = family("gpt2")
    with impasto.apply(hf, PLANS[0]), pytest.raises(UserError, match="do not nest"):
        impasto.apply(hf, PLANS[1])
    with pytest.raises(UserError, match="donor"):
        impasto.apply(hf, Plan.parse("inject(a) 0-5"))
    with pytest.raises(UserError, match="layer 6 does not exist"):
        impasto.apply(hf, Plan.parse("0-6"))


def test_a_cache_remembers_which_plan_filled_it():
    hf = family("llama")
    ids = torch.tensor([IDS])
    cache = DynamicCache(config=hf.config)
    with torch.no_grad():
        with impasto.apply(hf, Plan.parse("0-2 freeze 3-5")):
            hf(input_ids=ids, past_key_values=cache, use_cache=True)
        with impasto.apply(hf, PLANS[0]), pytest.raises(UserError, match="was filled under"):
            hf(input_ids=ids, past_key_values=cache, use_cache=True)
        own = DynamicCache(config=hf.config)
        hf(input_ids=ids, past_key_values=own, use_cache=True)
        with impasto.apply(hf, PLANS[1]), pytest.raises(UserError, match="without the plan"):
            hf(input_ids=ids, past_key_values=own, use_cache=True)


@pytest.mark.parametrize(
    ("name", "plan"), [(n, p) for n in NAMES for p in spread(n, NAMES, 12, 24)], ids=str
)
def test_a_call_for_the_last_logits_gives_them_and_leaves_the_same_keys(name, plan, monkeypatch):
    hf = family(name)
    ids = torch.tensor([IDS, IDS[::-1]])
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    given = {"attention_mask": mask, "position_ids": positions}
    if "position_ids" not in hf.forward.__code__.co_varnames:
        del given["position_ids"]
    new = torch.tensor([[7], [8]])
    longer = {"attention_mask": torch.cat([mask, torch.ones_like(new)], 1)}
    if "position_ids" in given:
        longer["position_ids"] = positions[:, -1:] + 1
    with torch.no_grad(), impasto.apply(hf, plan):
        every = hf(ids, **given, use_cache=True)
        monkeypatch.setattr(engine, "rows_per_call", lambda model: 0)  # frozen rows run apart
        last = hf(ids, **given, use_cache=True, logits_to_keep=2)
        torch.testing.assert_close(last.logits, every.logits[:, -2:], atol=1e-5, rtol=0)
        one, other = (
            hf(new, past_key_values=out.past_key_values, **longer).logits for out in (every, last)
        )
        torch.testing.assert_close(other, one, atol=1e-5, rtol=0)
        base = hf.base_model(ids, **given).last_hidden_state  # which no call for logits concerns
        assert base.shape[:2] == ids.shape


@pytest.mark.parametrize(
    ("line", "expected"),
    [("0-5", {8}), ("0-2 freeze 3-5", {8, 2}), ("0-3 5.mlp", {8, 2}), ("0-5.mlp", {2})],
)
def test_a_call_for_the_last_logits_runs_no_row_that_cannot_reach_them(line, expected, monkeypatch):
    monkeypatch.setattr(engine, "rows_per_call", lambda model: 0)
    hf, rows = family("llama"), []
    hooks = [
        block.mlp.register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[1]))
        for block in hf.model.layers
    ]
    try:
        with torch.no_grad(), impasto.apply(hf, Plan.parse(line)):
            rows.clear()
            hf(torch.tensor([IDS]), logits_to_keep=2)
            assert set(rows) == expected
            rows.clear()
            hf(torch.tensor([IDS]), logits_to_keep=2, output_hidden_states=True)
            assert min(rows) == 8
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("line", ["0-5", "0-2 freeze 3-5", "0-1 noise(gaussian) 2-5"])
def test_a_cache_grows_in_place_and_goes_on_after_it_was_cropped_or_copied(line):
    hf, plan = family("llama"), Plan.parse(line)
    with torch.no_grad(), impasto.apply(hf, plan):
        cache = hf(torch.tensor([IDS]), use_cache=True).past_key_values

        def read(token, cache):
            return hf(torch.tensor([[token]]), past_key_values=cache, use_cache=True).logits[0, -1]

        read(1, cache)
        place = cache.layers[1].keys.data_ptr()
        read(2, cache)
        assert cache.layers[1].keys.data_ptr() == place
        assert cache.layers[1].keys.shape[2] == len(IDS) + 2
        twin = copy.deepcopy(cache)
        cache.crop(-1)
        found = [read(3, cache), read(4, twin), read(5, cache)]
    for logits, read_since in zip(found, ([1, 3], [1, 2, 4], [1, 3, 5]), strict=True):
        expected = reference.next_logits(hf, plan, [*IDS, *read_since])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("line", "attended"),
    [("0-5", 6), ("0-2 3-5.mlp", 3), ("0-5.mlp", 0), ("0 [1-4]*2 5", 10), ("0-2 freeze 3-5", 6)],
)
def test_a_token_leaves_keys_and_values_once_for_each_attention_that_runs(line, attended):
    hf = family("llama")

    def held(length):
        ids = torch.arange(length)[None]
        cache = hf(ids, use_cache=True, logits_to_keep=1).past_key_values
        parts = [each for layer in cache.layers[1:] for each in (layer.keys, layer.values)]
        memory = [part.untyped_storage() for part in parts]
        return sum({each.data_ptr(): each.nbytes() for each in memory}.values())

    heads, width = hf.config.num_key_value_heads, hf.config.hidden_size // 4
    with torch.no_grad(), impasto.apply(hf, Plan.parse(line)):
        assert (held(40) - held(20)) / 20 == attended * 2 * heads * width * 4
