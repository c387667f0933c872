"""A layer's rule is read from single rows of the masks that the model itself makes."""

import pytest
import torch

from families import FAMILIES, LAYERS
from impasto.model.arguments.mask_rules import WHOLE, MaskRows, rules_by_rows, rules_of_whole
from impasto.model.arguments.visibility import Causal, Chunk, MaskTable, Window
from impasto.model.structure.block import Entered
from impasto.run.opening import opened
from thinning import thinned

LONG = 3 * WHOLE + 5
WINDOWS = {
    "mistral": [Window(4)] * LAYERS,
    "qwen2": [Causal()] * 3 + [Window(4)] * 3,
    "gemma2": [Window(4), Causal()] * 3,
    "gemma3": [Window(4), Window(4), Causal()] * 2,
}


class Masked:
    """A model that hands masks of its own making to its blocks.

    Args:
        rules: For each layer, whether a row sees a key, of positions.
    """

    device = torch.device("cpu")

    def __init__(self, *rules):
        self.rules = rules

    def enter(self, ids, positions, present, past=None):
        keys = present.cumsum(1)[0] - 1
        calls = []
        for rule in self.rules:
            visible = rule(positions[0][:, None], keys) & present[0].bool()
            calls.append({"attention_mask": visible[None, None]})
        return Entered(torch.zeros(1, 1, 1), calls)


def rules_of(model, length):
    """Return the rule of each layer for a length, the whole mask being read for fewer positions."""
    ids = torch.zeros(1, WHOLE + 1, dtype=torch.long)
    present = torch.ones_like(ids)
    present[:, 0] = 0
    short = rules_of_whole(model.enter(ids, present.cumsum(1) - 1, present).arguments, ())
    visibility = rules_by_rows(short, MaskRows(model, ()), length)
    return None if visibility is None else [visibility.rules[kind] for kind in visibility.kinds]


def window(size):
    return lambda rows, keys: (keys <= rows) & (keys > rows - size)


def chunk(size):
    return lambda rows, keys: (keys <= rows) & (keys // size == rows // size)


def causal(rows, keys):
    return keys <= rows


def prefix(rows, keys):
    return (keys <= rows) | (keys < 3)


def changing(rows, keys):
    """A window that grows where nobody would look for it."""
    return (keys <= rows) & (keys > rows - torch.where(rows < 200, 20, 21))


@pytest.mark.parametrize("name", thinned(FAMILIES, 2))
def test_every_family_shows_its_rule_in_whole_tables_and_in_single_rows(name):
    hf = FAMILIES[name](max_position_embeddings=512) if "falcon" not in name else FAMILIES[name]()
    model = opened(hf.eval())
    expected = WINDOWS.get(name, [Causal()] * LAYERS)
    for length in (20, LONG):
        visibility = model.visibility(length)
        rules = [visibility.rules[kind] for kind in visibility.kinds]
        if name == "falcon_alibi":  # numbers for each head
            assert all(isinstance(rule, MaskTable) for rule in rules)
        else:
            assert rules == expected
            assert model._mask_reader.shows_rows
        assert visibility.length >= length


@pytest.mark.parametrize("size", [1, 2, WHOLE - 1, WHOLE, WHOLE + 1, 200, LONG - 1])
@pytest.mark.parametrize("kind", [window, chunk])
def test_windows_and_chunks_of_any_size_are_recognised(kind, size):
    rule = {window: Window(size), chunk: Chunk(size)}[kind]
    if kind is chunk and size == 1:
        rule = Window(1)  # the same
    assert rules_of(Masked(kind(size), causal), LONG) == [rule, Causal()]


def test_a_window_longer_than_every_text_is_no_window():
    assert rules_of(Masked(window(LONG), chunk(LONG)), LONG) == [Causal(), Causal()]


@pytest.mark.parametrize("rule", [prefix, changing])
def test_what_is_no_run_of_keys_or_no_rule_is_kept_as_a_table(rule):
    assert rules_of(Masked(causal, rule), LONG) is None


def test_a_model_that_makes_no_single_rows_shows_no_rules_by_rows():
    model = Masked(causal)
    whole = model.enter

    def refusing(ids, positions, present, past=None):
        if past is not None:
            raise AttributeError("what is this?")
        return whole(ids, positions, present)

    model.enter = refusing
    assert rules_of(model, LONG) is None


def test_rules_are_known_for_more_positions_than_were_needed_but_not_for_more_than_there_are():
    hf = FAMILIES["gpt2"](max_position_embeddings=300).eval()
    model = opened(hf)
    assert model.visibility(200).length == 256
    assert model.visibility(257).length == 300


def test_a_number_for_each_key_is_known_at_any_length():
    hf = FAMILIES["bloom"]().eval()
    model = opened(hf)
    short, long = model.visibility(20).by_key["alibi"], model.visibility(LONG).by_key["alibi"]
    assert long.shape[-1] >= LONG
    assert torch.equal(long[..., : short.shape[-1]], short)
