"""Where a Hugging Face model keeps its blocks, and where a block keeps its two parts.

This is the only module that knows names. Its result is a claim, not yet a fact: the opening check
(:mod:`impasto.model.checks.decoder`) proves it on the model at hand before any plan runs.
"""

from dataclasses import dataclass

from torch import nn

from impasto.error import UserError
from impasto.model.structure.absent import first_present

ATTENTION_NAMES = ("self_attn", "attn", "attention", "self_attention")
QUERY_NAMES = ("q_proj",)  # modules that make queries alone: keys and values do without them
KEY_ARGUMENTS = ("alibi",)  # arguments of blocks that have an entry for every key
MLP_NAMES = (
    ("mlp",),
    ("block_sparse_moe", "shared_mlp"),
    *((name,) for name in ("block_sparse_moe", "shared_mlp", "feed_forward", "ffn")),
    ("fc1", "fc2"),
)
# In encoders a part may hold its own residual and norm: then the modules are those before these.
ENCODER_ATTENTION = (
    ("attention.self", "attention.output.dense"),
    *((name,) for name in ("attention", "attn", "self_attn")),
)
ENCODER_MLP = (("intermediate", "output.dense"), ("ffn",), ("mlp",))
CONVOLUTION = "conv"  # DeBERTa's, beside the blocks: a part of its first layer


Names = tuple[tuple[str, ...], ...]


class ModelError(UserError):
    """A model that cannot be opened, with the reason."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Where a model's blocks and their parts are.

    Attributes:
        path: The name of the list of blocks in the model.
        blocks: The list.
        attention: The names, within a block, of the modules of its attention.
        mlp: Those of its MLP.
    """

    path: str
    blocks: nn.ModuleList
    attention: tuple[str, ...]
    mlp: tuple[str, ...]


def find_anatomy(hf: nn.Module) -> Anatomy:
    """Find the blocks of a decoder and their parts.

    Raises:
        ModelError: when no list of ``num_hidden_layers`` blocks is there, or its blocks do not
            have an attention and an MLP under names known here.
    """
    return _anatomy(hf, tuple((name,) for name in ATTENTION_NAMES), MLP_NAMES)


def find_encoder_anatomy(hf: nn.Module) -> Anatomy:
    """Find the blocks of an encoder and their parts.

    Raises:
        ModelError: as :func:`find_anatomy` does.
    """
    return _anatomy(hf, ENCODER_ATTENTION, ENCODER_MLP)


def find_convolution(hf: nn.Module, anatomy: Anatomy) -> nn.Module | None:
    """Return the convolution beside an encoder's blocks; None where there is none."""
    beside = hf.get_submodule(anatomy.path.rpartition(".")[0])
    return getattr(beside, CONVOLUTION, None)


def _anatomy(hf: nn.Module, attentions: Names, mlps: Names) -> Anatomy:
    path, blocks = find_blocks(hf)
    if first_present(blocks) is None:
        raise ModelError(f"{type(hf).__name__} was loaded without any of its layers")
    modules = {name for block in blocks for name, _ in block.named_modules()}
    attention = next((names for names in attentions if modules.issuperset(names)), None)
    mlp = next((names for names in mlps if modules.issuperset(names)), None)
    if attention is None or mlp is None:
        lacking = "attention" if attention is None else "MLP"
        parts = sorted({name.partition(".")[0] for name in modules} - {""})
        raise ModelError(
            f"{type(hf).__name__}: no {lacking} found in a block with the parts "
            f"{', '.join(parts)}; known names are "
            f"{', '.join('+'.join(n) for n in attentions)} and "
            f"{', '.join('+'.join(n) for n in mlps)}"
        )
    return Anatomy(path, blocks, attention, mlp)


def find_blocks(hf: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of a model's blocks.

    Of several such lists (an image encoder's beside a language model's, say), it is one of blocks
    with attention where there is any, and the decoder's.

    Raises:
        ModelError: when no list of ``num_hidden_layers`` blocks is there.
    """
    depth = hf.config.get_text_config(decoder=True).num_hidden_layers  # type: ignore[union-attr]
    every = [
        (path, module)
        for path, module in hf.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth > 0
    ]
    lists = [pair for pair in every if _attend(pair[1])] or every
    if len(lists) > 1:
        decoder = {id(module) for module in hf.get_decoder().modules()}  # type: ignore[operator]
        lists.sort(key=lambda pair: id(pair[1]) not in decoder)
    if lists:
        return lists[0]
    raise ModelError(
        f"{type(hf).__name__}: no list of {depth} transformer blocks was found, so there are no "
        "layers for a plan to name"
    )


def _attend(blocks: nn.ModuleList) -> bool:
    """Whether any of the blocks has an attention."""
    children = {name for block in blocks for name, _ in block.named_children()}
    return not children.isdisjoint(ATTENTION_NAMES)


def find_queries(block: nn.Module, anatomy: Anatomy) -> tuple[nn.Module, ...]:
    """Return the modules that make a block's queries and nothing else."""
    attention = dict(block.named_modules()).get(anatomy.attention[0])
    children = dict(attention.named_children()) if attention is not None else {}
    return tuple(children[n] for n in QUERY_NAMES if hasattr(children.get(n), "out_features"))
