"""What each family's attention and MLP add to the residual stream, read off its modeling code.

A path is followed from left to right, starting at the block's input x. A name on it is a module of
the block, called with what came before; ``attend``, ``feed`` and ``scaled`` say what a name alone
cannot. The residual is no part of a path: a block is x + attention + MLP, where the MLP's path
starts at x + attention, or at x as well in a parallel family.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Call = dict[str, Any]  # what the model's own forward calls a block with
Move = Callable[[nn.Module, Tensor, Call], Tensor]
Path = tuple[str | Move, ...]


def attend(name: str, *, adds_residual: bool = False) -> Move:
    """Run the attention module with what its block was called with, and no residual to add."""

    def move(block: nn.Module, states: Tensor, call: Call) -> Tensor:
        none = {"residual": torch.zeros_like(states)} if adds_residual else {}
        return getattr(block, name)(states, **none, **call)[0]

    return move


def mix(state: str) -> Move:
    """Run the attention of a hybrid's layer, or else the part of it that carries a state."""

    def move(block: nn.Module, states: Tensor, call: Call) -> Tensor:
        attention: Any = getattr(block, "self_attn", None)
        if attention is not None:
            return attention(states, **call)[0]
        return getattr(block, state)(states, attention_mask=call["attention_mask"])

    return move


def feed(name: str) -> Move:
    """Run an MLP that adds the residual itself, and give it none."""
    return lambda block, states, call: getattr(block, name)(states, torch.zeros_like(states))


def scaled(by: str) -> Move:
    """Multiply with one of the block's numbers."""
    return lambda block, states, call: states * getattr(block, by)


@dataclass(frozen=True)
class Spelling:
    """Where a family keeps its blocks, and what a block's two parts add to its input."""

    blocks: str
    attention: Path
    mlp: Path
    parallel: bool = False
    streams_first: bool = False  # of a token's state, in what blocks take

    def blocks_of(self, hf: nn.Module) -> nn.ModuleList:
        """Return the layers of a model."""
        return hf.get_submodule(self.blocks)  # type: ignore[return-value]


def adds(path: Path, block: nn.Module, x: Tensor, call: Call) -> Tensor:
    """Follow a path from x; return what it adds to the residual stream."""
    for move in path:
        x = block.get_submodule(move)(x) if isinstance(move, str) else move(block, x, call)
    return x


def whole(block: nn.Module, x: Tensor, call: Call) -> Tensor:
    """Run the block itself, which in some families returns more than its states."""
    after = block(x, **call)
    return after[0] if isinstance(after, tuple | list) else after


def spelling(hf: Any) -> Spelling:
    """Return the spelling of a model, of which some families have several."""
    config, name = hf.config, hf.config.model_type
    match name:
        case "gpt_neox" if not config.use_parallel_residual:
            name = "gpt_neox_sequential"
        case "stablelm" if config.use_parallel_residual:
            name = "stablelm_parallel"
        case "falcon" if config.num_ln_in_parallel_attn == 2:
            name = "falcon_two_norms"
        case "falcon" if not (config.parallel_attn or config.new_decoder_architecture):
            name = "falcon_sequential"
    return SPELLINGS[name]


_NORM_FIRST = Spelling(
    "model.layers",
    attention=("input_layernorm", attend("self_attn")),
    mlp=("post_attention_layernorm", "mlp"),
)
_NORM_FIRST_AND_LAST = Spelling(
    "model.layers",
    attention=("input_layernorm", attend("self_attn"), "post_attention_layernorm"),
    mlp=("pre_feedforward_layernorm", "mlp", "post_feedforward_layernorm"),
)
_ONE_NORM_FOR_BOTH = Spelling(
    "model.layers",
    attention=("input_layernorm", attend("self_attn")),
    mlp=("input_layernorm", "mlp"),
    parallel=True,
)

SPELLINGS: dict[str, Spelling] = {
    "llama": _NORM_FIRST,
    "mistral": _NORM_FIRST,
    "mixtral": _NORM_FIRST,
    "qwen2": _NORM_FIRST,
    "qwen3": _NORM_FIRST,
    "qwen3_moe": _NORM_FIRST,
    "phi3": _NORM_FIRST,
    "stablelm": _NORM_FIRST,
    "stablelm_parallel": _ONE_NORM_FOR_BOTH,
    "phi": _ONE_NORM_FOR_BOTH,
    "cohere": _ONE_NORM_FOR_BOTH,
    "gemma2": _NORM_FIRST_AND_LAST,
    "gemma3_text": _NORM_FIRST_AND_LAST,
    "olmo2": Spelling(
        "model.layers",
        attention=(attend("self_attn"), "post_attention_layernorm"),
        mlp=("mlp", "post_feedforward_layernorm"),
    ),
    "granite": Spelling(
        "model.layers",
        attention=("input_layernorm", attend("self_attn"), scaled("residual_multiplier")),
        mlp=("post_attention_layernorm", "mlp", scaled("residual_multiplier")),
    ),
    "gpt_neox": Spelling(
        "gpt_neox.layers",
        attention=("input_layernorm", attend("attention")),
        mlp=("post_attention_layernorm", "mlp"),
        parallel=True,
    ),
    "gpt_neox_sequential": Spelling(
        "gpt_neox.layers",
        attention=("input_layernorm", attend("attention")),
        mlp=("post_attention_layernorm", "mlp"),
    ),
    "gptj": Spelling(
        "transformer.h", attention=("ln_1", attend("attn")), mlp=("ln_1", "mlp"), parallel=True
    ),
    "gpt2": Spelling("transformer.h", attention=("ln_1", attend("attn")), mlp=("ln_2", "mlp")),
    "opt": Spelling(
        "model.decoder.layers",
        attention=("self_attn_layer_norm", attend("self_attn")),
        mlp=("final_layer_norm", "fc1", "activation_fn", "fc2"),
    ),
    "falcon": Spelling(
        "transformer.h",
        attention=("input_layernorm", attend("self_attention")),
        mlp=("input_layernorm", "mlp"),
        parallel=True,
    ),
    "falcon_two_norms": Spelling(
        "transformer.h",
        attention=("ln_attn", attend("self_attention")),
        mlp=("ln_mlp", "mlp"),
        parallel=True,
    ),
    "falcon_sequential": Spelling(
        "transformer.h",
        attention=("input_layernorm", attend("self_attention")),
        mlp=("post_attention_layernorm", "mlp"),
    ),
    "bamba": Spelling(
        "model.layers",
        attention=("input_layernorm", mix("mamba")),
        mlp=("pre_ff_layernorm", "feed_forward"),
    ),
    "granitemoehybrid": Spelling(
        "model.layers",
        attention=("input_layernorm", mix("mamba"), scaled("residual_multiplier")),
        mlp=("post_attention_layernorm", "shared_mlp", scaled("residual_multiplier")),
    ),
    "lfm2": Spelling(
        "model.layers",
        attention=("operator_norm", mix("conv")),
        mlp=("ffn_norm", "feed_forward"),
    ),
    "qwen3_next": Spelling(
        "model.layers",
        attention=("input_layernorm", mix("linear_attn")),
        mlp=("post_attention_layernorm", "mlp"),
    ),
    "mamba": Spelling("backbone.layers", attention=(), mlp=()),
    "mamba2": Spelling("backbone.layers", attention=(), mlp=()),
    "rwkv": Spelling("rwkv.blocks", attention=(), mlp=()),
    "bloom": Spelling(
        "transformer.h",
        attention=("input_layernorm", attend("self_attention", adds_residual=True)),
        mlp=("post_attention_layernorm", feed("mlp")),
    ),
}
