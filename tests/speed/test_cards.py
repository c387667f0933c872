"""Cards by name: what drivers call them, and what is said of names that are none."""

import pytest

from impasto.error import UserError
from impasto.speed.cards import CARDS, card_behind, card_named

CALLED = {
    "NVIDIA H200": "h200",
    "NVIDIA H100 80GB HBM3": "h100-sxm",
    "NVIDIA H100 PCIe": "h100-pcie",
    "NVIDIA A100-SXM4-80GB": "a100-80",
    "NVIDIA A100 80GB PCIe": "a100-80",
    "NVIDIA A100-PCIE-40GB": "a100-40",
    "NVIDIA L40S": "l40s",
    "NVIDIA L4": "l4",
    "NVIDIA A10": "a10",
    "NVIDIA GeForce RTX 4090": "rtx-4090",
    "NVIDIA GeForce RTX 3090": "rtx-3090",
    "Tesla V100-SXM2-32GB": "v100",
    "Tesla T4": "t4",
}
OTHERS = (
    "NVIDIA A10G", "NVIDIA L40", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA H200 NVL", "NVIDIA H100 NVL", "AMD Instinct MI300X", "",
)  # fmt: skip


def test_every_card_is_known_by_what_its_driver_calls_it():
    assert set(CALLED.values()) == set(CARDS)
    for called, name in CALLED.items():
        card = card_behind(called)
        assert card is not None, called
        assert card.name == name


@pytest.mark.parametrize("called", OTHERS)
def test_a_card_with_other_rates_is_taken_for_none(called):
    assert card_behind(called) is None


def test_an_unknown_name_gets_all_that_are_known():
    with pytest.raises(UserError, match="h100-sxm") as told:
        card_named("h100")
    assert all(name in str(told.value) for name in CARDS)


def test_a_dtype_that_a_card_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(UserError, match="a t4 has no bfloat16; --dtype float16 or float32"):
        card_named("t4").rate("bfloat16")
    assert card_named("h200").rate("bfloat16") == 989.5e12


def test_half_precision_is_faster_than_single_and_memory_is_in_bytes():
    for card in CARDS.values():
        assert card.rate("float16") > card.rate("float32") > 1e12
        assert 1e10 < card.memory < 2e11
        assert 1e11 < card.bandwidth < 1e13
