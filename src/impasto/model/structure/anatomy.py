"""Where a Hugging Face model keeps its blocks, and where a block keeps its two parts.

This is the only module that knows names. Its result is a claim, not yet a fact: the opening check
(:mod:`impasto.model.checks.decoder`) proves it on the model at hand before any plan runs.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from impasto.error import UserError
from impasto.model.structure.absent import first_present, is_absent

ATTENTION_NAMES = ("self_attn", "attn", "attention", "self_attention")
QUERY_NAMES = ("q_proj",)  # modules that make queries alone: keys and values do without them
KEY_ARGUMENTS = ("alibi",)  # arguments of blocks that have an entry for every key
MLP_NAMES = (
    ("mlp",),
    ("block_sparse_moe", "shared_mlp"),
    *((name,) for name in ("block_sparse_moe", "shared_mlp", "feed_forward", "ffn")),
    ("fc1", "fc2"),
)
# BERT's parts hold their own residual and norm: then the modules are those before these.
_BERTS_ATTENTION, _BERTS_MLP = (
    ("attention.self", "attention.output.dense"),
    ("intermediate", "output.dense"),
)
ENCODER_ATTENTION = (
    _BERTS_ATTENTION,
    *((name,) for name in ("attention.attn", "attention", "attn", "self_attn")),
)
ENCODER_MLP = (_BERTS_MLP, ("ffn",), ("mlp",))
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
        attention: The names, within a block, of the modules of its attention; empty where it has
            none under a known name.
        mlp: Those of its MLP.
    """

    path: str
    blocks: nn.ModuleList
    attention: tuple[str, ...]
    mlp: tuple[str, ...]


def find_anatomy(hf: nn.Module) -> Anatomy:
    """Find the blocks of a decoder and their parts, where those have names known here.

    Raises:
        ModelError: when no list of ``num_hidden_layers`` blocks is there.
    """
    attentions = (_BERTS_ATTENTION, *((name,) for name in ATTENTION_NAMES))
    return _anatomy(hf, attentions, (_BERTS_MLP, *MLP_NAMES))


def find_encoder_anatomy(hf: nn.Module) -> Anatomy:
    """Find the blocks of an encoder and their parts, where those have names known here.

    Raises:
        ModelError: when no list of ``num_hidden_layers`` blocks is there.
    """
    return _anatomy(hf, ENCODER_ATTENTION, ENCODER_MLP)


def unnamed(anatomy: Anatomy) -> str:
    """Say which of its two parts no block of a model has under a known name."""
    modules = {name for block in anatomy.blocks for name, _ in block.named_children()}
    lacking = [
        n for n, part in (("attention", anatomy.attention), ("MLP", anatomy.mlp)) if not part
    ]
    return (
        f"no module of a block ({', '.join(sorted(modules))}) is known by its name as its "
        f"{' or its '.join(lacking)}"
    )


def of_encoder_decoder(name: str, config: PreTrainedConfig) -> ModelError:
    """Return the error for an encoder-decoder, with what its decoder alone is, where it is one."""
    alone = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    more = f", here a {alone}, which AutoModelForCausalLM loads" if alone else ""
    return ModelError(
        f"{name} is an encoder-decoder: its decoder reads an encoder's states beside the text; "
        f"plans run on encoders and on decoders alone{more}"
    )


def find_convolution(hf: nn.Module, anatomy: Anatomy) -> nn.Module | None:
    """Return the convolution beside an encoder's blocks; None where there is none."""
    beside = hf.get_submodule(anatomy.path.rpartition(".")[0])
    return getattr(beside, CONVOLUTION, None)


def _anatomy(hf: nn.Module, attentions: Names, mlps: Names) -> Anatomy:
    path, blocks = find_blocks(hf)
    if first_present(blocks) is None:
        raise ModelError(f"{type(hf).__name__} was loaded without any of its layers")
    modules = {name for block in blocks for name, _ in block.named_modules()}
    attention = next((names for names in attentions if modules.issuperset(names)), ())
    mlp = next((names for names in mlps if modules.issuperset(names)), ())
    return Anatomy(path, blocks, attention, mlp)


def find_blocks(hf: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of a model's blocks.

    Of several such lists (an image encoder's beside a language model's, say), it is the decoder's;
    of a decoder's, the one with an attention in it, or else the largest.

    Raises:
        ModelError: when no list of ``num_hidden_layers`` modules with weights is there.
    """
    depth = text_config(hf).num_hidden_layers
    lists = [
        (path, module)
        for path, module in hf.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth > 0 and _are_blocks(module)
    ]
    if len(lists) > 1:
        kind = type(text_config(hf))
        own = [pair for pair in lists if type(_config_around(hf, pair[0])) is kind] or lists
        decoder = {id(module) for module in hf.get_decoder().modules()}  # type: ignore[operator]
        inside = [pair for pair in own if id(pair[1]) in decoder] or own
        attending = [pair for pair in inside if _attend(pair[1])]
        lists = attending or [max(inside, key=lambda pair: _size(pair[1]))]
    if lists:
        return lists[0]
    sizes = [
        f"{path} has {len(module)}"
        for path, module in hf.named_modules()
        if isinstance(module, nn.ModuleList)
    ]
    found = f"{', '.join(sizes[:3])}{', …' if len(sizes) > 3 else ''}" if sizes else "it has none"
    raise ModelError(
        f"{type(hf).__name__}: plans name the {depth} layers of its configuration "
        f"(num_hidden_layers), and no ModuleList of it holds as many blocks ({found})"
    )


def text_config(hf: nn.Module) -> Any:
    """Return the configuration of a model's decoder, which a composite model has within its own.

    Raises:
        ModelError: when it has none, or one without layers.
    """
    config: Any = hf.config
    found = config.get_text_config(decoder=True)
    if isinstance(getattr(found, "num_hidden_layers", None), int):
        return found
    raise ModelError(
        f"{type(hf).__name__} has no decoder of texts: its configuration, a "
        f"{type(config).__name__}, names no number of layers for one (num_hidden_layers)"
    )


def _config_around(hf: nn.Module, path: str) -> Any:
    """Return the configuration of the innermost module around a list that has one."""
    while path:
        path = path.rpartition(".")[0]
        config = getattr(hf.get_submodule(path), "config", None)
        if config is not None:
            return config
    return None


def _are_blocks(modules: nn.ModuleList) -> bool:
    """Whether modules may be blocks: each has others within it, unless it is absent."""
    return all(is_absent(module) or any(True for _ in module.children()) for module in modules)


def _attend(blocks: nn.ModuleList) -> bool:
    """Whether any of the blocks has an attention under a known name."""
    children = {name for block in blocks for name, _ in block.named_children()}
    return not children.isdisjoint(ATTENTION_NAMES)


def _size(modules: nn.ModuleList) -> int:
    return sum(weight.numel() for weight in modules.parameters())


def find_queries(block: nn.Module, anatomy: Anatomy) -> tuple[nn.Module, ...]:
    """Return the modules that make a block's queries and nothing else."""
    name = next(iter(anatomy.attention), None)
    attention = None if name is None else dict(block.named_modules()).get(name)
    children = dict(attention.named_children()) if attention is not None else {}
    return tuple(children[n] for n in QUERY_NAMES if hasattr(children.get(n), "out_features"))
