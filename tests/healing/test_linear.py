"""Method linear: the fit is least squares, the map is in the weights, and nothing else changes."""

import numpy as np
import pytest
import torch

import impasto
from families import FAMILIES, LAYERS, VOCABULARY, family
from impasto import Plan, UserError
from impasto.mending.copying import shared_copy
from impasto.mending.fitting import fitted
from impasto.mending.gaps import Place, gaps
from impasto.mending.least_squares import NormalEquations, chosen, solved
from impasto.mending.settings import Linear
from impasto.mending.sides import Item, Sides
from impasto.run.opening import opened
from thinning import thinned

DROPS_TWO = "0-1 3 4.mlp 5"
NORMED = ("gemma2", "gemma3", "olmo2")
ROUTED = ("mixtral", "qwen3_moe")


def sides(length: int = 12, seed: int = 0, count: int = 150) -> Sides:
    """Return random tokens on three sides, enough for maps of the small models."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (count, length), generator=draw).tolist()
    items = [Item((tuple(row),)) for row in ids]
    held, fits = count // 6, count - count // 3
    return Sides(tuple(items[:fits]), tuple(items[fits:-held]), tuple(items[-held:]), length)


@torch.no_grad()
def logits(hf, plan: Plan, divided: Sides) -> torch.Tensor:
    ids = torch.tensor([piece for item in divided.measuring for piece in item.pieces])
    with impasto.apply(hf, plan):
        return hf(input_ids=ids, use_cache=False).logits


# ------------------------------------------------------------------ the fit


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_map_is_what_numpy_finds_on_the_same_rows(with_bias):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(300, 7)) + 3, draw.normal(size=(300, 4))
    weights = draw.uniform(0.1, 2, size=300)
    sums = NormalEquations()
    for begin in range(0, 300, 64):
        rows = slice(begin, begin + 64)
        sums.add(*(torch.tensor(each[rows]) for each in (x, y, weights)))
    root = np.sqrt(weights)[:, None]
    columns = np.hstack([x, np.ones((300, 1))]) if with_bias else x
    wanted = np.linalg.lstsq(root * columns, root * y, rcond=None)[0]
    found = solved(sums, 0.0, with_bias)
    np.testing.assert_allclose(found.weight.numpy().T, wanted[:7], atol=1e-10)
    if with_bias:
        np.testing.assert_allclose(found.bias.numpy(), wanted[7], atol=1e-10)


def test_the_ridge_is_the_best_on_held_out_rows_and_no_map_where_none_helps():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 50, generator=draw)
    noise = torch.randn(60, 3, generator=draw)
    fit, held = NormalEquations(), NormalEquations()
    fit.add(x[:55], noise[:55])
    held.add(torch.randn(400, 50, generator=draw), torch.randn(400, 3, generator=draw))
    best = chosen(fit, held, with_bias=False)
    assert best.after <= best.before
    for ridge in (1e-8, 1e-2, 1.0):
        assert best.after <= held.loss(solved(fit, ridge, False)) + 1e-12


def test_the_loss_from_sums_is_the_loss_of_the_rows():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 5, generator=draw).double(), torch.randn(40, 3, generator=draw).double()
    w = torch.rand(40, generator=draw).double()
    sums = NormalEquations()
    sums.add(x, y, w)
    fit = solved(sums, 0.3, with_bias=True)
    rows = ((y - x @ fit.weight.T - fit.bias) ** 2).sum(1)
    assert sums.loss(fit) == pytest.approx(float((w * rows).mean()), rel=1e-9)


# ------------------------------------------------------------------ what a plan leaves out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0-2 4-5", [("3", 2, Place(3, False))]),
        ("0-2 3.mlp 4-5", [("3.attn", 2, Place(3, True))]),
        ("0-2 3.attn 4-5", [("3.mlp", 3, Place(3, False))]),
        ("0-3", [("4-5", 3, Place(5, False))]),
        ("2-5", [("0-1", 0, Place(2, False))]),
        ("1.attn 4-5", [("0 1.mlp 2-3", 0, Place(3, False))]),
        ("0 2 4", [(str(k), k // 2, Place(k, False)) for k in (1, 3, 5)]),
    ],
)
def test_gaps_are_what_is_left_out_and_the_step_before_it(line, expected):
    found = gaps(Plan.parse(line), LAYERS)
    assert [(str(gap.left_out), gap.carrier, gap.target) for gap in found] == expected


def test_where_parts_read_the_same_state_the_one_that_runs_makes_up_for_the_other():
    [gap] = gaps(Plan.parse("0-2 3.mlp 4-5"), LAYERS, parallel=frozenset(range(LAYERS)))
    assert (str(gap.left_out), gap.carrier, gap.target) == ("3.attn", 3, Place(3, False))


@pytest.mark.parametrize(
    "line",
    [
        "0-5 5",
        "1 0 2-5",
        "0-2 [3 | 4] 5",
        "0-2 freeze 4-5",
        "0-5",
        "0-2@0.5 4-5",
        "0-1{last=4} 3-5",
    ],
)
def test_plans_that_do_more_than_leave_out_are_refused(line):
    with pytest.raises(UserError, match=r"method linear makes up|leaves nothing out"):
        gaps(Plan.parse(line), LAYERS)


# ------------------------------------------------------------------ families


@pytest.mark.parametrize("of", ["state", "units"])
@pytest.mark.parametrize("name", thinned(sorted(set(FAMILIES) - {*NORMED, *ROUTED})))
def test_merged_weights_bring_every_family_nearer_to_the_full_model(name, of):
    hf, divided, plan = family(name), sides(), Plan.parse(DROPS_TWO)
    before = {key: value.clone() for key, value in hf.state_dict().items()}
    healed, report = fitted(opened(hf), plan, divided, Linear(map=of, behind=False))
    assert [gap.left_out for gap in report] == ["2", "4.attn"]
    assert all(gap.after < gap.before for gap in report)
    for key, value in hf.state_dict().items():
        assert torch.equal(value, before[key]), key
    changed = {
        key for key, value in healed.state_dict().items() if not torch.equal(value, before[key])
    }
    assert {gap.weight for gap in report} <= changed
    assert len(changed) <= 4, "a weight and a bias for each gap"


@pytest.mark.parametrize("name", thinned(sorted(set(FAMILIES) - {*NORMED, *ROUTED})))
def test_every_later_part_mends_and_no_other_weight_changes(name):
    hf, divided, plan = family(name), sides(), Plan.parse(DROPS_TWO)
    before = {key: value.clone() for key, value in hf.state_dict().items()}
    healed, report = fitted(opened(hf), plan, divided, Linear())
    assert [gap.left_out for gap in report if gap.left_out] == ["2", "4.attn"]
    assert all(gap.after <= gap.before for gap in report)
    assert len(report) >= 4, "layer 3 and layer 5 mend, in two parts where these run in a row"
    assert len({gap.weight for gap in report}) == len(report)
    for key, value in hf.state_dict().items():
        assert torch.equal(value, before[key]), key
    fits = {gap.weight.removesuffix("weight") for gap in report}
    for key, value in healed.state_dict().items():
        is_fitted = key.rpartition(".")[0] + "." in fits
        assert is_fitted or torch.equal(value, before[key]), key
    full = logits(hf, Plan.identity(LAYERS), divided)
    errors = [(logits(each, plan, divided) - full).square().mean() for each in (hf, healed)]
    assert errors[1] < errors[0]


def test_the_state_behind_the_gap_is_what_least_squares_makes_of_it():
    """A gap at the end: the healed plan's final states are fitted to the full model's."""
    hf, divided, plan = family("llama"), sides(), Plan.parse("0-4")
    healed, [gap] = fitted(opened(hf), plan, divided, Linear(map="state", ridge=0.0))
    x, y, w = [], [], []
    ids = torch.tensor([piece for item in divided.fitting for piece in item.pieces])
    with torch.no_grad():
        states = hf(input_ids=ids, output_hidden_states=True).hidden_states
        added: list[torch.Tensor] = []
        hook = hf.model.layers[4].mlp.register_forward_hook(lambda m, a, o: added.append(o))
        hf(input_ids=ids)
        hook.remove()
        final: list[torch.Tensor] = []
        hook = hf.model.layers[5].register_forward_hook(
            lambda m, a, o: final.append(o[0] if isinstance(o, tuple) else o)
        )
        hf(input_ids=ids)
        hook.remove()
    x = added[0].flatten(0, 1).double().numpy()
    y = (final[0] - states[5]).flatten(0, 1).double().numpy()
    w = 1 / final[0].flatten(0, 1).double().square().sum(1).sqrt().numpy()[:, None]
    wanted = np.linalg.lstsq(w * x, w * y, rcond=None)[0].T
    weight = hf.model.layers[4].mlp.down_proj.weight.double()
    merged = weight + torch.tensor(wanted) @ weight
    found = healed.model.layers[4].mlp.down_proj.weight
    assert torch.allclose(found.double(), merged, atol=1e-5)
    assert gap.ridge == 0.0


def test_steps_behind_a_gap_mend_what_it_left():
    hf, divided, plan = family("llama"), sides(), Plan.parse("0-1 3-5")
    full = logits(hf, Plan.identity(LAYERS), divided)
    errors = {}
    for behind in (False, True):
        healed, report = fitted(opened(hf), plan, divided, Linear(behind=behind))
        errors[behind] = float((logits(healed, plan, divided) - full).square().mean())
        assert len(report) == (7 if behind else 1)
    assert errors[True] < errors[False]


def test_texts_that_are_too_few_are_told_with_how_many_are_needed():
    few = sides()
    few = Sides(few.fitting[:4], few.held_out, few.measuring, few.length)
    hf = family("llama")
    with pytest.raises(UserError, match=r"takes 128 tokens .* the texts have 48 .*2\.7 times"):
        fitted(opened(hf), Plan.parse("0-4"), few, Linear())


def test_a_copy_shares_every_weight_but_its_own():
    hf = family("llama")
    name = "model.layers.1.mlp.down_proj.weight"
    copied = shared_copy(hf, {name})
    for key, weight in copied.named_parameters():
        own = dict(hf.named_parameters())[key]
        assert weight is not own
        assert (weight.data_ptr() == own.data_ptr()) == (key != name), key
        assert own.requires_grad
        assert weight.requires_grad == (key == name)
