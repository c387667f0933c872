"""Noise is a pure function of seed, marker and the tokens read; it keeps each row's norm."""

import pytest
import torch

from impasto.run.noise import NoiseSource, noise, prefix_keys

GAUSSIAN = NoiseSource("gaussian", seed=0, depth=3, number=0)
SHUFFLE = NoiseSource("shuffle", seed=0, depth=3, number=0)


def keys(ids, is_real=None, seen=0, total=0):
    ids = torch.tensor([ids])
    real = torch.ones_like(ids, dtype=torch.bool) if is_real is None else torch.tensor([is_real])
    found, sums = prefix_keys(ids, real, torch.tensor([seen]), torch.tensor([total]))
    return found[0], sums[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("source", [GAUSSIAN, SHUFFLE])
@pytest.mark.parametrize("width", [64, 65, 4096])
def test_the_norm_of_every_row_is_kept(source, dtype, width):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(9, width, generator=generator) * torch.logspace(-2, 2, 9)[:, None]
    states = states.to(dtype)
    drawn = noise(states, keys(list(range(9)))[0], source)
    assert drawn.dtype == dtype
    few = dtype == torch.bfloat16 and width < 512  # rounding so few numbers to 8 bits shows
    torch.testing.assert_close(
        drawn.float().norm(dim=-1), states.float().norm(dim=-1), rtol=3e-3 if few else 1e-3, atol=0
    )


def test_shuffle_is_a_permutation_that_moves_most_entries():
    states = torch.arange(512.0)[None].repeat(5, 1)
    drawn = noise(states, keys([4, 8, 15, 16, 23])[0], SHUFFLE)
    assert torch.equal(drawn.sort(-1).values, states)
    assert ((drawn == states).sum(-1) < 10).all()
    assert not torch.equal(drawn[0], drawn[1])


def test_gaussian_noise_is_standard_normal_and_independent_between_rows_seeds_and_markers():
    rows, width = 400, 512
    states = torch.ones(rows, width)
    key = keys(torch.randint(1000, (rows,)).tolist())[0]
    variants = [
        noise(states, key, NoiseSource("gaussian", seed, depth, number))
        for seed, depth, number in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    deviation = 1 / (rows * width) ** 0.5
    for drawn in variants:
        assert abs(drawn.mean()) < 5 * deviation
        assert drawn.var().item() == pytest.approx(1, abs=0.01)
        assert (drawn**4).mean().item() == pytest.approx(3, abs=0.1)
        assert abs((drawn[1:] * drawn[:-1]).mean()) < 5 * deviation
        assert abs((drawn[:, 1:] * drawn[:, :-1]).mean()) < 5 * deviation
    for other in variants[1:]:
        assert abs((variants[0] * other).mean()) < 5 * deviation


def test_a_key_depends_on_every_token_up_to_its_row_and_on_none_after():
    base = keys([5, 6, 7, 8])[0]
    changed = keys([5, 9, 7, 8])[0]
    assert changed[0] == base[0]
    assert (changed[1:] != base[1:]).all()
    assert torch.equal(keys([5, 6, 7, 1])[0][:3], base[:3])
    assert len({*base.tolist(), *keys([6, 5, 7, 8])[0].tolist()}) == 8


def test_a_key_is_the_same_with_padding_on_either_side_and_in_pieces():
    whole, _ = keys([5, 6, 7, 8])
    left, _ = keys([0, 0, 5, 6, 7, 8], [False, False, True, True, True, True])
    assert torch.equal(left[2:], whole)
    first, sums = keys([5, 6])
    second, _ = keys([7, 8], seen=2, total=int(sums[-1]))
    assert torch.equal(torch.cat([first, second]), whole)
