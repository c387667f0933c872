"""Weights of alike layers are stacked for a while, and nothing else of a model changes."""

import copy

import pytest
import torch
from torch import nn

from families import family
from impasto.model.decoder import open_model
from impasto.model.structure.stacked_blocks import StackedBlocks, are_alike, are_hooked, why_fixed


def memory(hf):
    """Return the bytes of a model's weights, memory that they share counted once."""
    storages = [weight.untyped_storage() for weight in hf.parameters()]
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_weights_move_into_stacks_and_back_and_are_never_in_memory_twice(name):
    hf = family(name)
    parameters = dict(hf.named_parameters())
    values = {key: each.detach().clone() for key, each in parameters.items()}
    size, blocks = memory(hf), open_model(hf).blocks
    stacked = StackedBlocks({layer: blocks[layer] for layer in (0, 2, 4)})
    assert not stacked.is_stacked
    for _ in range(2):
        stacked.stack()
        assert stacked.is_stacked
        assert memory(hf) == size
        assert all(parameters[key] is each for key, each in hf.named_parameters())
        assert all(torch.equal(values[key], each) for key, each in hf.named_parameters())
        stacked.unstack()
        assert not stacked.is_stacked
    for key, each in hf.named_parameters():
        assert parameters[key] is each
        assert torch.equal(values[key], each)
        assert each.is_contiguous()
        assert each.untyped_storage().nbytes() == each.nbytes


def test_weights_that_somebody_replaced_are_noticed_and_left_alone():
    hf = copy.deepcopy(family("llama"))
    blocks = open_model(hf).blocks
    stacked = StackedBlocks({layer: blocks[layer] for layer in (1, 2)})
    stacked.stack()
    weight = hf.model.layers[2].mlp.up_proj.weight
    weight.data = torch.ones_like(weight)
    assert not stacked.is_stacked
    stacked.unstack()
    assert bool((weight == 1).all())


def test_layers_at_equal_distances_may_run_in_one_call():
    blocks = open_model(family("llama")).blocks
    stacked = StackedBlocks({layer: blocks[layer] for layer in (0, 1, 3, 4, 5)})
    for some in ([0, 1, 3, 4, 5], [1, 4], [0, 3, 5]):
        assert stacked.may_run(some)
    for some in ([0, 3, 4], [3, 1], [1, 1], [3]):
        assert not stacked.may_run(some)


def test_layers_are_alike_if_nothing_but_weights_and_numbers_differ():
    own = list(copy.deepcopy(family("llama")).model.layers)
    assert are_alike({0: own[0], 3: own[3], 5: own[5]})
    own[3].mlp.act_fn = nn.GELU()
    assert not are_alike({0: own[0], 3: own[3], 5: own[5]})
    own[5].self_attn.attention_dropout = 0.1
    assert not are_alike({0: own[0], 5: own[5]})
    own[4].mlp.down_proj.bias = nn.Parameter(torch.ones(32))
    assert not are_alike({0: own[0], 4: own[4]})
    assert are_alike({0: own[0], 1: own[1]})


def test_one_weight_cannot_lie_in_two_places():
    own = list(copy.deepcopy(family("llama")).model.layers)
    assert why_fixed({0: own[0], 1: own[1]}) is None
    own[1].mlp.up_proj = own[0].mlp.up_proj
    assert "share a weight" in str(why_fixed({0: own[0], 1: own[1]}))


def test_copies_are_stacked_where_no_weight_is_to_move():
    hf = family("llama")
    blocks = open_model(hf).blocks
    before = [each.data_ptr() for each in hf.parameters()]
    stacked = StackedBlocks({layer: blocks[layer] for layer in (1, 2)})
    stacked.stack(copies=True)
    assert [each.data_ptr() for each in hf.parameters()] == before
    stacked.unstack()
    assert [each.data_ptr() for each in hf.parameters()] == before


def test_windows_tell_layers_apart():
    own = family("gemma2").model.layers  # every other one has a window
    assert are_alike({0: own[0], 2: own[2], 4: own[4]})
    assert are_alike({1: own[1], 5: own[5]})
    assert not are_alike({0: own[0], 1: own[1]})


def test_hooks_are_noticed_wherever_they_are():
    block = copy.deepcopy(family("llama")).model.layers[0]
    modules = list(block.modules())
    assert not are_hooked(modules)
    for hooked in (block, block.mlp.up_proj):
        for register in (hooked.register_forward_hook, hooked.register_forward_pre_hook):
            handle = register(lambda *_: None)
            assert are_hooked(modules)
            handle.remove()
    assert not are_hooked(modules)
