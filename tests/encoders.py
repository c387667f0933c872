"""Small random models of each family of encoders, with weights large enough that every edit shows.

As in :mod:`families`, each is listed with what makes it special: relative positions that all layers
share, windows shorter than the texts, a convolution beside the first layer.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import transformers as hf

from families import LAYERS, VOCABULARY, small, weighted

_RELATIVE = {
    "relative_attention": True, "position_biased_input": False, "max_relative_positions": 16,
    "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0, "pad_token_id": 1,
    "pooler_hidden_size": 32,
}  # fmt: skip
_BUCKETS = {
    "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True, "legacy": True,
}  # fmt: skip
_ALTERNATING = {
    "local_attention": 4, "global_attn_every_n_layers": 3, "pad_token_id": 1, "cls_token_id": 0,
    "sep_token_id": 2, "decoder_bias": True,
}  # fmt: skip

ENCODERS: dict[str, Callable[..., Any]] = {
    "bert": partial(small, hf.BertForMaskedLM, pad_token_id=1),
    "roberta": partial(small, hf.RobertaForMaskedLM, pad_token_id=1),
    "distilbert": partial(
        small, hf.DistilBertForMaskedLM, dim=32, n_layers=LAYERS, n_heads=4, hidden_dim=64,
        pad_token_id=1,
    ),
    "electra": partial(small, hf.ElectraForMaskedLM, embedding_size=16, pad_token_id=1),
    "deberta": partial(small, hf.DebertaForMaskedLM, **_RELATIVE),
    "deberta_v2": partial(small, hf.DebertaV2ForMaskedLM, **_RELATIVE | _BUCKETS),
    "deberta_v2_conv": partial(
        small, hf.DebertaV2ForMaskedLM, **_RELATIVE | _BUCKETS, conv_kernel_size=3, conv_act="gelu",
    ),
    "modernbert": partial(small, hf.ModernBertForMaskedLM, **_ALTERNATING),
}  # fmt: skip

__all__ = ["ENCODERS", "LAYERS", "VOCABULARY", "encoder"]


@cache
def encoder(name: str, attention: str = "sdpa") -> Any:
    """Return the fp32 model of a family; the same one at each call."""
    return weighted(ENCODERS[name](attention))
