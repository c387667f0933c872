"""Which models llama.cpp runs, and how a GGUF file says what their configurations say.

One table: the architecture by the model's class, and what differs in its weights. What llama.cpp
cannot say of a model (another activation, a window where its architecture has none) is refused, or,
where that is exact, put into the file in another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from impasto.exporting.blocks import ServedBlock
from impasto.exporting.error import NotInFormError

SILU, GELU = ("silu",), ("gelu_pytorch_tanh", "gelu_tanh", "gelu_new")


@dataclass(frozen=True)
class Family:
    """How the models of one class are written.

    Attributes:
        arch: The architecture of llama.cpp.
        activations: What ``hidden_act`` may be.
        interleaves: Whether query and key weights are stored with each head's pairs of rotated
            units side by side.
        adds_one: Whether norms scale by one more than their weight.
        has_windows: Whether the architecture knows which layers have a window.
        whole_heads: Whether all heads together must be as wide as a state.
        parts_arch: The architecture whose blocks may lack a part; None where there is none.
    """

    arch: str
    activations: Sequence[str] = SILU
    interleaves: bool = False
    adds_one: bool = False
    has_windows: bool = False
    whole_heads: bool = False
    parts_arch: str | None = None


FAMILIES = {
    "LlamaForCausalLM": Family("llama", interleaves=True, parts_arch="deci"),
    "MistralForCausalLM": Family("llama", interleaves=True, parts_arch="deci"),
    "Qwen2ForCausalLM": Family("qwen2", whole_heads=True),
    "Qwen3ForCausalLM": Family("qwen3"),
    "GemmaForCausalLM": Family("gemma", GELU, adds_one=True),
    "Gemma2ForCausalLM": Family("gemma2", GELU, adds_one=True, has_windows=True),
    "Gemma3ForCausalLM": Family("gemma3", GELU, adds_one=True, has_windows=True),
}


def family_of(hf: Any) -> Family:
    """Return how a model is written; raises ExportError for what llama.cpp does not run."""
    name = type(hf).__name__
    family = FAMILIES.get(name)
    if family is None:
        raise NotInFormError(f"no GGUF file is written for {name}: {', '.join(FAMILIES)} can be")
    config = hf.config
    act = getattr(config, "hidden_activation", None) or config.hidden_act
    if act not in family.activations:
        raise NotInFormError(
            f"the model's activation is {act!r}, and llama.cpp's {family.arch} has "
            f"{family.activations[0]}"
        )
    if family.whole_heads and head_width(config) * config.num_attention_heads != config.hidden_size:
        raise NotInFormError(
            f"llama.cpp's {family.arch} has heads of hidden_size / num_attention_heads units, and "
            f"this model's have {head_width(config)}"
        )
    return family


def arch_of(family: Family, blocks: Sequence[ServedBlock]) -> str:
    """Return the architecture that a plan's blocks take."""
    if family.parts_arch is None or all(block.is_whole for block in blocks):
        return family.arch
    return family.parts_arch


def head_width(config: Any) -> int:
    """Return the units of one head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def query_scale(hf: Any, family: Family, blocks: int) -> float:
    """Return what queries are to be multiplied by, so that llama.cpp's scale is the model's.

    Gemma's scale is a setting of its own. llama.cpp takes 1 / √(head's width), and another one for
    models of as many blocks as the largest of each generation has.
    """
    config, width = hf.config, head_width(hf.config)
    own = getattr(config, "query_pre_attn_scalar", None)
    if own is None or family.arch not in ("gemma2", "gemma3"):
        return 1.0
    largest = {"gemma2": 46, "gemma3": 62}[family.arch]
    if blocks == largest:
        width = config.hidden_size // config.num_attention_heads
    return (width / own) ** 0.5


def rope_of(config: Any, kind: str = "full_attention") -> dict[str, Any]:
    """Return the rotary settings of the layers of one kind."""
    rope = config.rope_parameters
    return (
        dict(rope.get(kind) or {}) if set(rope) & {"full_attention", "sliding_attention"} else rope
    )


def windows_of(config: Any, blocks: Sequence[ServedBlock]) -> list[bool]:
    """Return for each block whether its attention has a window."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    if not window:
        return [False] * len(blocks)
    if kinds is None:
        return [True] * len(blocks)
    return [kinds[block.layer] == "sliding_attention" for block in blocks]


def add_settings(writer: Any, hf: Any, family: Family, blocks: Sequence[ServedBlock]) -> None:
    """Write what the model is into a GGUF file."""
    config, width = hf.config, head_width(hf.config)
    has_window = windows_of(config, blocks)
    context = config.max_position_embeddings
    if any(has_window) and not family.has_windows:
        context = min(context, config.sliding_window)  # up to there, windows hide nothing
    writer.add_block_count(len(blocks))
    writer.add_context_length(context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_vocab_size(hf.get_input_embeddings().weight.shape[0])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    _add_sizes(writer, config, blocks)
    if family.has_windows and getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern(has_window)
    _add_caps(writer, config, family)
    _add_rope(writer, config, family, blocks)


def _add_sizes(writer: Any, config: Any, blocks: Sequence[ServedBlock]) -> None:
    """Write how many heads and units there are: for each block, where some lack a part."""
    heads, keys, units = (
        config.num_attention_heads,
        getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        config.intermediate_size,
    )
    if all(block.is_whole for block in blocks):
        writer.add_head_count(heads)
        writer.add_head_count_kv(keys)
        writer.add_feed_forward_length(units)
        return
    query_heads = [heads if block.attention is not None else 0 for block in blocks]
    key_heads = [keys if block.attention is not None else 0 for block in blocks]
    query_heads[0] = heads  # how wide a head is, is read from the first block
    if not any(key_heads):
        key_heads[0] = keys
    writer.add_head_count(query_heads)
    writer.add_head_count_kv(key_heads)
    writer.add_feed_forward_length([NO_UNITS if b.mlp is None else units for b in blocks])


NO_UNITS = 32  # of an MLP that adds nothing: a block without one is not run by llama.cpp


def _add_caps(writer: Any, config: Any, family: Family) -> None:
    """Write at which value attention scores and logits are capped."""
    for name, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        value = getattr(config, name, None)
        if value is not None and family.arch in ("gemma2", "gemma3"):
            add(value)
        elif value is not None or family.arch == "gemma2":
            raise NotInFormError(f"{name} is {value}, which llama.cpp's {family.arch} cannot have")


def _add_rope(writer: Any, config: Any, family: Family, blocks: Sequence[ServedBlock]) -> None:
    """Write how positions are rotated."""
    import gguf

    rope = rope_of(config)
    if family.arch == "gemma3":
        local = rope_of(config, "sliding_attention")
        if local.get("rope_type", "default") != "default":
            raise _no_rope(local["rope_type"], family)
        writer.add_rope_freq_base_swa(local["rope_theta"])
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope.get("rope_type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _no_rope("partial", family)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(
            rope.get("original_max_position_embeddings") or config.max_position_embeddings
        )
        for key, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(key) is not None:
                add(rope[key])
    elif kind not in ("default", "llama3"):  # llama3's is a table beside the weights
        raise _no_rope(kind, family)


def _no_rope(kind: str, family: Family) -> NotInFormError:
    return NotInFormError(
        f"positions are rotated by the rule {kind!r}, which is not written for llama.cpp's "
        f"{family.arch}"
    )
