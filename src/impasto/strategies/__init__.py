"""Families of plans: each a function of the model's number of layers ``T`` and a few choices.

Those of the three papers, A *Attend First, Consolidate Later*, B *Transformer Layers as Painters*
and C *Attention Is All You Need But You Don't Need All Of It*, are in ``papers``, those of others
in ``beyond``. Each is one entry, its function and what stands above that: the figure that shows it,
its title and look, what it does, what ``all`` means. Figures, findings and study files read them in
``STRATEGIES``, and ``expand`` turns a name with its choices into plans. An argument out of range is
a ``ValueError`` that says the range.

Where a choice is a number of layers, or a depth, it can be a share of T: ``25%`` is round(0.25·T).

Within one figure no two families share a colour, a dash or a marker. Over all there are more
families than colours that everyone can tell apart: then the marker tells them.
"""

from impasto.strategies.choices import BY_LAYERS, expand, is_share
from impasto.strategies.papers import (
    baseline,
    drop_attention_from,
    drop_last,
    freeze,
    gaussian,
    inject,
    looped_parallel,
    middle_repeat,
    parallel,
    random_order,
    reverse,
    shuffle,
    skip,
    skip_one,
    switch,
)

from impasto.strategies.beyond import (  # isort: skip: figures list them behind the papers'
    block_influence,
    freeze_prompt,
    half_step,
    one_shot,
    pairs_parallel,
    reach,
    repeat_block,
)
from impasto.strategies.registry import ORDER, STRATEGIES, Strategy

__all__ = [
    "BY_LAYERS",
    "ORDER",
    "STRATEGIES",
    "Strategy",
    "baseline",
    "block_influence",
    "drop_attention_from",
    "drop_last",
    "expand",
    "freeze",
    "freeze_prompt",
    "gaussian",
    "half_step",
    "inject",
    "is_share",
    "looped_parallel",
    "middle_repeat",
    "one_shot",
    "pairs_parallel",
    "parallel",
    "random_order",
    "reach",
    "repeat_block",
    "reverse",
    "shuffle",
    "skip",
    "skip_one",
    "switch",
]
