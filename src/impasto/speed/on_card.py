"""What layers take on a card that is not there: by its data sheet, and the shares assumed of it.

A row among many is bound by products, a layer's call for few rows by reading its weights, and by
launching its kernels.
"""

from impasto.error import UserError
from impasto.plan.cost import Shape, Work, seconds
from impasto.run import Pace
from impasto.run.batching.memory import share_of_free
from impasto.speed.cards import OF_BANDWIDTH, OF_PRODUCTS, Card

LAUNCHING = 1e-4
"""Seconds in which a layer's kernels are launched one by one (chosen: about twenty kernels)."""


def pace_on(card: Card, dtype: str, shape: Shape, layer: int = 0) -> Pace:
    """Return how fast a card is expected to be at a layer of a shape; raises UserError if never."""
    rate, bandwidth = card.rate(dtype) * OF_PRODUCTS, card.bandwidth * OF_BANDWIDTH
    own = shape.layers[layer]
    weights = own.attention + own.mlp_per_row
    row = 2 * weights / rate
    reading = weights * shape.itemsize / bandwidth
    return Pace(row, 2 * own.pair / rate, max(reading, LAUNCHING), row)


def batch_bytes(card: Card, weight_bytes: int) -> int:
    """Return what a batch may take of a card's memory beside weights; raises UserError if nothing.

    As where nobody says: a share of what is free.
    """
    if weight_bytes >= card.memory:
        raise UserError(
            f"the weights take {weight_bytes / 2**30:.2f} GiB, and a {card.name} has "
            f"{card.memory / 2**30:.2f} GiB; --dtype bfloat16 or a quantised model takes less"
        )
    return int((card.memory - weight_bytes) * share_of_free("cuda"))


def seconds_on(card: Card, dtype: str, work: Work) -> float:
    """Return how long one call's work takes on a card."""
    rates = card.rate(dtype) * OF_PRODUCTS, card.bandwidth * OF_BANDWIDTH
    return seconds([work], *rates)


def assumed(card: Card) -> str:
    """Return in words what is assumed of a card."""
    return (
        f"{OF_PRODUCTS:.0%} of a {card.name}'s nominal products, {OF_BANDWIDTH:.0%} of its "
        "bandwidth"
    )
