"""Parallel layers that are alike run in one call where their weights are stacked.

Weights are stacked when that is asked for, and at no other time; what cannot be is refused.
"""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import impasto
import reference
from families import FAMILIES, family, one_of_each
from impasto import Plan, UserError
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.stacked_blocks import StackedBlocks
from impasto.model.structure.stacked_weight import StackedWeight
from impasto.run.apply.stacking import StackedLayers

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
REFUSED = {  # the lines, by number, whose parallel layers are not alike
    "mixtral": range(9),
    "qwen2": (2, 5),  # a window from layer 3 on
    "qwen3_moe": (2, 3, 4, 5, 6, 8),
    "gemma2": (2,),
    "gemma3": (2,),
}
DOWNWARDS = 9  # 4 and 2 lie in memory in the other order


@pytest.fixture
def calls(monkeypatch):
    """Return a list that comes to hold the layers of every wide call, but for those of checks."""
    found = []
    run, check = StackedBlocks.__call__, StackedLayers._why_unequal

    def noted(self, layers, *args, **kwargs):
        found.append(list(layers))
        return run(self, layers, *args, **kwargs)

    def unnoted(self, pair):
        before = len(found)
        reason = check(self, pair)
        del found[before:]
        return reason

    monkeypatch.setattr(StackedBlocks, "__call__", noted)
    monkeypatch.setattr(StackedLayers, "_why_unequal", unnoted)
    return found


def weights_of(hf):
    """Return where every weight lies, and how large the memory is that it lies in."""
    return {
        name: (weight.data_ptr(), weight.untyped_storage().nbytes())
        for name, weight in hf.named_parameters()
    }


def is_stacked(hf, layer):
    """Whether a Llama's layer has its weights in one memory with others'."""
    weight = hf.model.layers[layer].mlp.up_proj.weight
    return weight.untyped_storage().nbytes() > weight.nbytes


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


@pytest.mark.parametrize("name", one_of_each(FAMILIES))
def test_every_family_gives_stacked_what_it_gives_one_after_the_other(name, calls):
    hf, refused = family(name), []
    for line in LINES:
        plan = Plan.parse(line)
        with torch.no_grad(), impasto.apply(hf, plan):
            expected, own = written(hf, 3)
        assert not calls
        try:
            applied = impasto.apply(hf, plan, stack=True)
        except ModelError:
            refused.append(line)
            continue
        with torch.no_grad(), applied:
            found, kept = written(hf, 3)
        assert calls
        if name in MOE:  # experts choose rows, which no one call can do for several layers
            assert all(layers == [1, 4] for layers in calls)
        calls.clear()
        for one, other in zip([*found, *kept], [*expected, *own], strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    assert refused == [LINES[number] for number in (*REFUSED.get(name, ()), DOWNWARDS)]


@pytest.mark.parametrize(
    ("line", "wide"),
    [
        ("0 [1-4] 5", [[1, 2, 3, 4]]),
        ("0 [1-4]*2 5", [[1, 2, 3, 4]] * 2),
        ("[0 1 | 2 3 | 4 5]", [[0, 2, 4], [1, 3, 5]]),
        ("[0 | 1 | 4 5 | 2 | 3 4]", [[0, 1, 2], [4, 5]]),
        ("[0.mlp | 1.mlp | 2 | 3]", [[0, 1], [2, 3]]),
        ("0 [1|1] [3|2] [4|5.mlp] [0-3 | 5] [4|5]", [[4, 5]]),
    ],
)
def test_branches_that_are_alike_run_in_one_call(line, wide, calls):
    hf = family("llama")
    with torch.no_grad(), impasto.apply(hf, Plan.parse(line), stack=True):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    expected = reference.next_logits(hf, Plan.parse(line), IDS)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    if line == "[0 | 1 | 4 5 | 2 | 3 4]":  # 4 5 stands before 3 4, and weights lie upwards
        wide = [[0, 1, 2]]
    assert calls == wide


def test_layers_with_windows_run_beside_their_like(calls):
    hf, plan = family("gemma2"), Plan.parse("[0-5]")
    with torch.no_grad(), impasto.apply(hf, plan, stack=True):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    assert calls == [[0, 2, 4], [1, 3, 5]]
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_many_rows_gradients_and_whoever_watches_get_one_layer_after_the_other(calls):
    hf, seen = copy.deepcopy(family("llama")), []
    with impasto.apply(hf, Plan.parse("0 [1-4] 5"), stack=True):
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
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 [1-4] 5"), stack=True):
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
    with impasto.apply(hf, Plan.parse("0 [1-4] 5"), stack=True):
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


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0-5", "no parallel layers that one call could run"),
        ("0 [1|1] [3|3 4] [4|5.mlp] 5", "no parallel layers that one call could run"),
        ("0 [3|2] 5", "layers 2, 3: none stand beside each other upwards at equal distances"),
    ],
)
def test_a_plan_with_nothing_to_stack_is_refused(line, reason):
    hf = family("llama")
    with pytest.raises(UserError, match=reason):
        impasto.apply(hf, Plan.parse(line), stack=True)
    with impasto.apply(hf, Plan.parse(line)) as applied:  # nothing is left applied by the other
        assert applied.stacked == ()


def _share(hf):
    hf.model.layers[3].mlp.up_proj.weight = hf.model.layers[2].mlp.up_proj.weight


def _share_memory(hf):
    hf.model.layers[3].mlp.up_proj.weight = nn.Parameter(hf.model.layers[2].mlp.up_proj.weight.data)


def _differ(hf):
    for layer, module in enumerate((nn.GELU(), nn.ReLU(), nn.Tanh(), nn.SiLU())):
        hf.model.layers[layer + 1].mlp.act_fn = module.eval()


def _turn(hf):
    for layer in hf.model.layers:
        layer.mlp.up_proj.weight.data = layer.mlp.up_proj.weight.data.T.contiguous().T


def _train(hf):
    hf.train()


def _learn(hf):
    hf(torch.tensor([IDS])).logits.sum().backward()


def _hook(hf):
    hf.model.layers[2].mlp.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_share, "layers 1, 2, 3, 4: two of them share a weight"),
        (_share_memory, "layers 1, 2, 3, 4: two of them share a weight"),
        (_differ, "layers 1, 2, 3, 4: no other is alike in all but its weights"),
        (_turn, "weights that cannot be moved"),
        (_train, "the model is being trained"),
        (_learn, "the model is being trained"),
        (_hook, "hooks are registered on layers 1, 2, 3, 4"),
    ],
)
def test_a_model_with_nothing_to_stack_is_refused_before_anything_moves(change, reason):
    hf, plan = copy.deepcopy(family("llama")), Plan.parse("0 [1-4] 5")
    change(hf)
    before = weights_of(hf)
    with pytest.raises(UserError, match=reason):
        impasto.apply(hf, plan, stack=True)
    assert weights_of(hf) == before
    with torch.no_grad(), impasto.apply(hf.eval(), plan):
        found = hf(torch.tensor([IDS])).logits[0, -1]
    assert weights_of(hf) == before
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_a_model_made_in_inference_mode_is_refused():
    twin, plan = family("llama"), Plan.parse("0 [1-4] 5")
    with torch.inference_mode():
        hf = type(twin)(copy.deepcopy(twin.config)).eval()
        hf.load_state_dict(twin.state_dict())
        with pytest.raises(ModelError, match="made in inference mode"):
            impasto.apply(hf, plan, stack=True)


def test_encoders_are_refused():
    from transformers import BertConfig, BertForMaskedLM

    small: Any = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64}
    hf = BertForMaskedLM(BertConfig(**small, num_hidden_layers=3, num_attention_heads=4)).eval()
    with pytest.raises(ModelError, match="of an encoder run one after the other"):
        impasto.apply(hf, Plan.parse("[0-2]"), stack=True)


def test_layers_that_give_other_numbers_in_one_call_are_refused(monkeypatch):
    """As a block would that does with a weight what looks known and is not."""
    hf, made = family("llama"), StackedWeight.of
    monkeypatch.setattr(StackedWeight, "of", classmethod(lambda cls, whole: made(whole * 1.01)))
    before = weights_of(hf)
    with pytest.raises(ModelError, match="gives other numbers than each of them alone"):
        impasto.apply(hf, Plan.parse("0 [1-4] 5"), stack=True)
    assert weights_of(hf) == before


def test_of_a_plan_that_can_be_stacked_in_part_that_part_is():
    hf, plan = copy.deepcopy(family("llama")), Plan.parse("0 [1|2] [3|4] 5")
    hf.model.layers[3].mlp.act_fn = nn.GELU().eval()
    with torch.no_grad(), impasto.apply(hf, plan, stack=True) as applied:
        assert applied.stacked == (1, 2, 4)
        found = hf(torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_weights_that_are_replaced_meanwhile_are_used(calls):
    hf, plan = copy.deepcopy(family("llama")), Plan.parse("0 [1-4] 5")
    with torch.no_grad(), impasto.apply(hf, plan, stack=True):
        hf(torch.tensor([IDS]))
        weight = hf.model.layers[3].mlp.up_proj.weight
        weight.data = weight.data * 2
        found = hf(torch.tensor([IDS])).logits[0, -1]
        assert calls == [[1, 2, 3, 4]] * 2
    torch.testing.assert_close(found, reference.next_logits(hf, plan, IDS), atol=1e-4, rtol=0)


def test_modules_that_are_replaced_meanwhile_are_used(calls):
    hf, plan = copy.deepcopy(family("llama")), Plan.parse("0 [1-4] 5")
    with torch.no_grad(), impasto.apply(hf, plan, stack=True) as applied:
        for layer in hf.model.layers:
            layer.mlp.up_proj = nn.Linear(32, 64, bias=False).eval()
        found = hf(torch.tensor([IDS])).logits[0, -1]
        assert calls == [[1, 2, 3, 4]]
        for layer in hf.model.layers[:3]:
            layer.mlp.act_fn = nn.Tanh().eval()
        other = hf(torch.tensor([IDS])).logits[0, -1]
        assert applied.stacked == (1, 2, 3, 4)
        assert calls[1:] == [[1, 2], [3, 4]]
        expected = reference.next_logits(hf, plan, IDS)
    torch.testing.assert_close(other, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(found, other)
    assert not is_stacked(hf, 1)


def test_weights_move_when_that_is_asked_for_and_never_else():
    hf, plan = family("llama"), Plan.parse("0 [1-4] 5")
    before = weights_of(hf)
    with torch.no_grad(), impasto.apply(hf, plan):
        for _ in range(40):
            hf(torch.tensor([IDS]))
            assert weights_of(hf) == before
    with torch.no_grad(), impasto.apply(hf, plan, stack=True) as applied:
        assert applied.stacked == (1, 2, 3, 4)
        assert [is_stacked(hf, layer) for layer in range(6)] == [False, *[True] * 4, False]
        hf(torch.tensor([IDS]))
    assert not is_stacked(hf, 1)


def test_keys_of_branches_grow_in_place_in_one_room(calls):
    hf = family("llama")
    with torch.no_grad(), impasto.apply(hf, Plan.parse("0 [1-4] 5"), stack=True):
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


@pytest.mark.parametrize("fails_at", [0, 1, 5, 12])
def test_without_room_for_the_weights_none_has_moved(fails_at, monkeypatch):
    """Whether it is lacking for the check, for the first weights or for later ones."""
    hf, count = family("llama"), [0]
    values = {key: each.clone() for key, each in hf.state_dict().items()}
    make = torch.Tensor.new_empty

    def made(self, *shape):
        count[0] += 1
        if count[0] > fails_at:
            raise torch.OutOfMemoryError("out of memory")
        return make(self, *shape)

    monkeypatch.setattr(torch.Tensor, "new_empty", made)
    with pytest.raises(ModelError, match="out of memory for stacking"):
        impasto.apply(hf, Plan.parse("0 [1-4] 5"), stack=True)
    monkeypatch.undo()
    for key, each in hf.named_parameters():
        assert torch.equal(values[key], each)
        assert each.untyped_storage().nbytes() == each.nbytes
    with impasto.apply(hf, Plan.parse("0-5")):
        pass
