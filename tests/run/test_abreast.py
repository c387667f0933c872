"""Branches that are alike run in one call, where that pays and where nothing can tell."""

import copy
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
import torch

import impasto
import reference
from families import FAMILIES, family
from impasto import Plan, UserError
from impasto.model.wide import WideBlocks

gathered = import_module("impasto.run.gathered")
IDS = [5, 17, 3, 88, 41, 2, 60, 9]
MOE = ("mixtral", "qwen3_moe")  # the latter has two layers without experts
LINES = [
    "0 [1-4] 5",
    "[0-5]*2",
    "0 sum[1 2 | 3 4] 5",
    "[0.attn | 2.attn | 4.attn] [1.mlp | 3.mlp] 5",
    "0 [1 | 2 | 4 4 | 5 3 | 3] 5",
    "0 [[1|3] 2 | 5] 4",
    "0 [1-3] freeze [2-5] 5",
    "[0 2 | 2 4] noise(gaussian) [1-4]*2",
    "noise(shuffle, keep=2) [0-3] [2|4] freeze 5",
    "0-2 [3|3] [4|2] 5",
]


@pytest.fixture
def calls(monkeypatch):
    """Return a list that comes to hold the layers of every wide call, but for those of proofs.

    Layers are gathered at once.
    """
    monkeypatch.setattr(gathered, "_PAYS", 0)
    found = []
    run, proved = WideBlocks.__call__, gathered.Gathered._is_proved

    def noted(self, layers, *args, **kwargs):
        found.append(list(layers))
        return run(self, layers, *args, **kwargs)

    def unnoted(self, pair):
        before = len(found)
        is_proved = proved(self, pair)
        del found[before:]
        return is_proved

    monkeypatch.setattr(WideBlocks, "__call__", noted)
    monkeypatch.setattr(gathered.Gathered, "_is_proved", unnoted)
    return found


@contextmanager
def one_after_the_other(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(gathered.Gathered, "for_rows", lambda self, count: None)
        yield


def written(hf, count):
    """Return the logits of a padded batch, and of tokens read behind it, one or two at a time."""
    ids = torch.tensor([[0, 0, *IDS[:6]], IDS])
    mask = torch.tensor([[0, 0, *[1] * 6], [1] * 8])
    found: list[torch.Tensor] = []
    cache: Any = None
    for new in (ids, *torch.tensor(IDS * 2).view(2, -1)[:, :count].split(1, 1), ids[:, -2:]):
        mask = mask if cache is None else torch.cat([mask, torch.ones_like(new)], 1)
        out = hf(new, attention_mask=mask, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        found.append(out.logits if new is not ids else out.logits[:, 2:])
    kept = [each for layer in cache.layers[1:] for each in (layer.keys, layer.values)]
    return found, [each[1] for each in kept]


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_gives_side_by_side_what_it_gives_one_after_the_other(
    name, calls, monkeypatch
):
    hf = family(name)
    for line in LINES:
        with torch.no_grad(), impasto.apply(hf, Plan.parse(line)):
            found, kept = written(hf, 3)
        with one_after_the_other(monkeypatch), torch.no_grad(), impasto.apply(hf, Plan.parse(line)):
            expected, own = written(hf, 3)
        for one, other in zip([*found, *kept], [*expected, *own], strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    if name in MOE:  # experts choose rows, which no one call can do for several layers
        assert all(layers == [1, 4] for layers in calls)
    else:
        assert calls


@pytest.mark.parametrize(
    ("line", "wide"),
    [
        ("0 [1-4] 5", [[1, 2, 3, 4]]),
        ("0 [1-4]*2 5", [[1, 2, 3, 4]] * 2),
        ("[0 1 | 2 3 | 4 5]", [[0, 2, 4], [1, 3, 5]]),
        ("[0 | 1 | 4 5 | 2 | 3 4]", [[0, 1, 2], [4, 5]]),
        ("[0.mlp | 1.mlp | 2 | 3]", [[0, 1], [2, 3]]),
        ("0 [1|1] [3|2] [4|5.mlp] [0-3 | 5] 5", []),
        ("0-5", []),
    ],
)
def test_branches_that_are_alike_run_in_one_call(line, wide, calls):
    hf = family("llama")
    with torch.no_grad(), impasto.apply(hf, Plan.parse(line)):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    expected = reference.next_logits(hf, Plan.parse(line), IDS)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    if line == "[0 | 1 | 4 5 | 2 | 3 4]":  # 4 5 stands before 3 4, and weights lie upwards
        wide = [[0, 1, 2]]
    assert calls == wide


def test_layers_with_windows_run_beside_their_like(calls):
    hf, plan = family("gemma2"), Plan.parse("[0-5]")
    with torch.no_grad(), impasto.apply(hf, plan):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    assert calls == [[0, 2, 4], [1, 3, 5]]
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_many_rows_gradients_and_whoever_watches_get_one_layer_after_the_other(calls):
    hf, seen = copy.deepcopy(family("llama")), []
    with impasto.apply(hf, Plan.parse("0 [1-4] 5")):
        hf(torch.tensor([IDS])).logits.sum().backward()
        assert hf.model.layers[3].mlp.up_proj.weight.grad.abs().sum() > 0
        with torch.no_grad():
            hf(torch.tensor([IDS] * 100))
            handle = hf.model.layers[2].mlp.register_forward_hook(lambda *args: seen.append(args))
            hf(torch.tensor([IDS]))
            handle.remove()
            assert not calls
            assert len(seen) == 1
            assert seen[0][1][0].shape == (1, 8, 32)
            hf(torch.tensor([IDS]))
            assert calls == [[1, 2, 3, 4]]


def test_the_model_comes_back_with_memory_of_its_own_for_every_weight(calls):
    hf = family("llama")
    values = {key: each.clone() for key, each in hf.state_dict().items()}
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 [1-4] 5")):
        hf(torch.tensor([IDS]))
        held = hf.model.layers[1].mlp.up_proj.weight
        assert held.untyped_storage().nbytes() == 4 * held.nbytes
        with pytest.raises(UserError, match="attention_mask"):
            hf(torch.tensor([IDS]), attention_mask=torch.zeros(1, 1, 8, 8))
    assert calls
    for key, each in hf.named_parameters():
        assert torch.equal(values[key], each)
        assert each.untyped_storage().nbytes() == each.nbytes


def test_a_model_can_be_trained_after_layers_ran_side_by_side_in_inference_mode(calls):
    hf = copy.deepcopy(family("llama"))
    with impasto.apply(hf, Plan.parse("0 [1-4] 5")):
        with torch.inference_mode():
            hf(torch.tensor([IDS]))
        assert calls
        optimizer = torch.optim.SGD(hf.parameters(), lr=0.1)
        hf(torch.tensor([IDS])).logits.sum().backward()
        optimizer.step()
        with torch.no_grad():
            found = hf(torch.tensor([IDS])).logits[0, -1]  # with what was learned
    expected = reference.next_logits(hf, Plan.parse("0 [1-4] 5"), IDS)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_model_made_in_inference_mode_keeps_its_weights_where_they_are(calls):
    twin, plan = family("llama"), Plan.parse("0 [1-4] 5")
    with torch.inference_mode():
        hf = type(twin)(copy.deepcopy(twin.config)).eval()
        hf.load_state_dict(twin.state_dict())
        with impasto.apply(hf, plan):
            found = hf(torch.tensor([IDS])).logits[0, -1]
    assert not calls
    torch.testing.assert_close(found, reference.next_logits(twin, plan, IDS), atol=1e-4, rtol=0)


def test_layers_of_which_two_share_a_weight_run_one_after_the_other(calls):
    hf, plan = copy.deepcopy(family("llama")), Plan.parse("0 [1-4] 5")
    layers = hf.model.layers
    layers[3].mlp.up_proj.weight = layers[2].mlp.up_proj.weight
    with torch.no_grad(), impasto.apply(hf, plan):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    assert not calls
    assert layers[3].mlp.up_proj.weight is layers[2].mlp.up_proj.weight
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_weights_that_are_replaced_meanwhile_are_used(calls):
    hf, plan = copy.deepcopy(family("llama")), Plan.parse("0 [1-4] 5")
    with torch.no_grad(), impasto.apply(hf, plan):
        hf(torch.tensor([IDS]))
        weight = hf.model.layers[3].mlp.up_proj.weight
        weight.data = weight.data * 2
        found = hf(torch.tensor([IDS])).logits[0, -1]
        assert calls == [[1, 2, 3, 4]] * 2
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_weights_are_moved_when_that_pays_or_when_it_is_asked_for(monkeypatch):
    hf = family("llama")
    weight = hf.model.layers[3].mlp.up_proj.weight

    def moved(count):
        places = []
        for _ in range(count):
            hf(torch.tensor([IDS]))
            places.append(weight.untyped_storage().nbytes() > weight.nbytes)
        return places

    monkeypatch.setattr(gathered, "_PAYS", 3)
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 [1-4] 5")) as applied:
        assert moved(5) == [False, False, False, True, True]
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 [1-4] 5")) as applied:
        applied.settle()
        assert moved(2) == [True, True]
    assert not weight.untyped_storage().nbytes() > weight.nbytes


def test_keys_of_branches_grow_in_place_in_one_room(calls):
    hf = family("llama")
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 [1-4] 5")):
        cache = hf(torch.tensor([IDS]), use_cache=True).past_key_values
        places = []
        for token in IDS[:4]:
            hf(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            places.append([layer.keys.data_ptr() for layer in cache.layers[2:6]])
            assert (
                len({layer.keys.untyped_storage().data_ptr() for layer in cache.layers[2:6]}) == 1
            )
    assert places[0] == places[-1]
    assert len(calls) == 5


def test_without_room_for_the_weights_branches_run_one_after_the_other(calls, monkeypatch):
    def full(self):
        raise torch.OutOfMemoryError("out of memory")

    hf, plan = family("llama"), Plan.parse("0 [1-4] 5")
    monkeypatch.setattr(WideBlocks, "gather", full)
    with torch.no_grad(), impasto.apply(hf, plan), pytest.warns(UserWarning, match="side by side"):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    assert not calls
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)
