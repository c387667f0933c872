"""Every family of the installed transformers, built small from its own configuration.

No family is listed: the classes come from the mappings of transformers' Auto classes, and a small
configuration is the class's own default with its sizes made small, by their names. A few families
whose sizes depend on one another in their own way have exceptions (:data:`SPECIAL`).
"""

from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from families import VOCABULARY, weighted

LAYERS = 4

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    # GPT-2, BART, T5, XLM and MPT have other names for these.
    "n_positions": 256, "n_ctx": 256, "max_seq_len": 256, "max_target_positions": 256,
    "max_source_positions": 32, "ffn_dim": 48, "decoder_ffn_dim": 48, "encoder_ffn_dim": 48,
    "d_ff": 48, "d_kv": 8, "d_model": 32, "encoder_layers": LAYERS, "decoder_layers": LAYERS,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_decoder_layers": LAYERS,
    "word_embed_proj_dim": 32, "embedding_size": 32, "ffn_hidden_size": 48,
}  # fmt: skip
_HEADS: dict[str, Any] = {
    "num_key_value_heads": 2, "num_kv_heads": 2, "num_key_value_groups": 2, "head_dim": 16,
    "global_head_dim": 16, "num_global_key_value_heads": 2, "attention_head_dim": 8,
    "swa_head_dim": 16, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2,
    "swa_v_head_dim": 16,
    "rotary_dim": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 16, "qk_head_dim": 16, "index_n_heads": 16,
    "index_head_dim": 16, "index_topk": 4, "o_lora_rank": 16, "kv_channels": 8,
    "sliding_window": 8, "attention_chunk_size": 8, "local_attention": 8, "window_size": 8,
    "query_pre_attn_scalar": 16, "index_block_size": 4, "index_topk_blocks": 2,
    "index_local_blocks": 1,
}  # fmt: skip
_EXPERTS: dict[str, Any] = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "top_k_experts": 2, "moe_k": 2,
    "moe_top_k": 2, "moe_topk": 2, "num_selected_experts": 2, "n_shared_experts": 1,
    "num_shared_experts": 1, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32,
    "shared_intermediate_size": 32, "shared_expert_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32, "intermediate_size_mlp": 48,
    "dense_intermediate_size": 48, "expert_ffn_hidden_size": 32, "zero_expert_num": 1,
    "moe_num_shared_experts": 1, "first_k_dense_replace": 1, "moe_latent_size": None,
    "num_null_experts": 1, "input_jitter_noise": 0.0, "router_jitter_noise": 0.0,
    "prefix_dense_intermediate_size": 48, "adapter_rank": 8, "router_hidden_size": 16,
    "moe_dense_intermediate_size": 48, "num_dense_layers": 1,
}  # fmt: skip
_STATES: dict[str, Any] = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "linear_head_dim": 8, "linear_num_heads": 4,
    "mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8,
    "mamba_head_dim": 8, "mamba_num_heads": 8, "mamba_n_groups": 1, "n_groups": 1,
    "mamba_chunk_size": 8, "chunk_size": 8, "state_size": 8, "ssm_state_size": 8,
    "mamba_d_ssm": 64, "mamba_expand": 2, "expand": 2, "conv_kernel": 4, "time_step_rank": 4,
    "mamba_dt_rank": 4, "lru_width": 32, "attention_hidden_size": 32,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 8, "activation_sparsity_pattern": 0.0,
    "altup_num_inputs": 2, "mem_rank": 8,
}  # fmt: skip
_OTHER_PARTS: dict[str, Any] = {
    "image_size": 28, "patch_size": 14, "depth": 2, "num_heads": 4, "embed_dim": 32,
    "out_hidden_size": 32, "projection_dim": 32, "output_dim": 32, "mlp_dim": 48,
    "vision_feature_layer": -1, "num_position_embeddings": 16, "projector_hidden_size": 32,
    "projection_hidden_size": 32, "downsample_hidden_size": 32, "vision_output_dim": 32,
    "hidden_dim": 32, "num_mel_bins": 16, "codebook_size": 32, "codebook_dim": 16,
    "audio_vocab_size": 32, "num_queries": 4, "num_query_tokens": 4, "num_layers": LAYERS,
    "fullatt_block_indexes": [1], "deepstack_visual_indexes": [0],
    "adapter_out_dim": 32, "encoder_hidden_size": 32, "visual_embed_dim": 32,
    "text_hidden_size": 32, "qformer_hidden_size": 32, "vq_embed_dim": 32,
    "cross_attention_hidden_size": 32,
}  # fmt: skip
_SMALL = _SIZES | _HEADS | _EXPERTS | _STATES | _OTHER_PARTS
_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_NO_TOKENS = (
    *_TOKENS, "decoder_start_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
    "unk_token_id",
)  # fmt: skip

# By the type of a configuration: sizes that depend on one another in the family's own way.
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2}
_AS_MANY = {"num_key_value_heads": 4}  # heads of keys and values as of queries


def _rotary(sections: list[int], **more: Any) -> dict[str, Any]:
    own = {"rope_type": "default", "mrope_section": sections}
    return {"rope_parameters": {"rope_theta": 1e4} | own | more}


def _sections(first: int, second: int, **more: Any) -> dict[str, Any]:
    return _rotary([first, second, second], **more)


_GEMMA_4 = _ALTERNATING | {"num_kv_shared_layers": 0, "per_layer_config": None}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
_VOCABULARY_MAP = {"vocabulary_map": {"<image>": 90}}
_DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_OF_TIMM = ("TimmWrapperConfig", "Gemma3nVisionConfig")  # made by a package that is not here
_LACKING_SDPA = ("vibevoice_asr",)  # one of its parts does
SPECIAL: dict[str, dict[str, Any]] = {
    "axk1": _AS_MANY,
    "axk2": _AS_MANY,
    "bailing_hybrid": _LINEAR | _AS_MANY,
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 100},
    "chameleon": _VOCABULARY_MAP,
    "cohere_compass_text": {"rope_parameters": {"full_attention": _DEFAULT_ROPE}},
    "cosmos3_edge_text": _sections(4, 2),
    "deepseek_ocr2_text": {
        "mlp_layer_types": ["dense"] + ["sparse"] * 3, "num_experts_per_tok": 2,
    },
    "deepseek_v2": _AS_MANY | {"topk_method": "greedy", "num_experts_per_tok": 2},
    "deepseek_v3": _AS_MANY,
    "deepseek_v32": _AS_MANY,
    "diffusion_gemma_text": _ALTERNATING | {
        "per_layer_config": None, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32,
    },
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "dots3_note_text": _AS_MANY | {
        "per_layer_config": {}, "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    },
    "dots3_note_audio_encoder": {"per_layer_config": {}, "adapter_input_size": 32},
    "dots3_note_vision_encoder": {"per_layer_config": {}, "adapter_in_dim": 32},
    "emu3": _VOCABULARY_MAP,
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [32, 32]} | _rotary([1, 1, 2]),
    "esm": {"vocab_size": VOCABULARY, "mask_token_id": 3},
    "esmc": _AS_MANY | {"intermediate_size": 48, "head_dim": 8},
    "fun_asr_nano": {"adaptor_config": {"intermediate_size": 8}},
    "gemma3_text": _ALTERNATING,
    "gemma3n_text": _ALTERNATING | {"num_kv_shared_layers": 2},
    "gemma4_text": _GEMMA_4,
    "gemma4_unified_text": _GEMMA_4,
    "glm46v_text": _sections(2, 1),
    "glm4_moe_lite": _AS_MANY,
    "glm4v_moe_text": _sections(2, 1, partial_rotary_factor=1.0),
    "glm4v_text": _sections(2, 1),
    "glm5_next_text": _AS_MANY | {"index_kpool": 2, "index_topk": 8, "qk_rope_head_dim": 0},
    "glm_moe_dsa": _AS_MANY,
    "glm_ocr_text": _sections(2, 1),
    "glmga_text": _sections(2, 1),
    "granite4_vision": {
        "vision_config": {"hidden_size": 64}, "downsample_rate": "1/2",
        "deepstack_layer_map": [[-1, 1]], "spatial_target_layers": [2],
    },
    "gpt_neo": {"num_layers": LAYERS, "attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "num_local_experts": 4},
    "helium": _AS_MANY | {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "hunyuan_vl_text": {"head_dim": 16} | _rotary([2, 2, 2, 2]),
    "inkling_text": {"layer_types": ["hybrid_sliding", "hybrid"] * 2},
    "inkling2_text": {"layer_types": ["hybrid_sliding", "hybrid"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "kimi_linear": _LINEAR | _AS_MANY,
    "kolibri1": _ALTERNATING,
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm3": {"layer_types": ["conv", "sliding_attention", "full_attention", "conv"]},
    "longcat_flash": _AS_MANY | {"qk_head_dim": None, "head_dim": 8},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 20, "entity_emb_size": 16},
    "minicpm3": _AS_MANY,
    "mimi": {"upsample_groups": 32},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention"] + ["minimax_m3_sparse"] * 3, "index_n_heads": 2,
    },
    "ministral": {"head_dim": 16},
    "mistral4": _AS_MANY,
    "mistral_large4_text": _AS_MANY,
    "molmo2_adapter": {"vision_feature_layer": [1, 0]},
    "mvp": {"decoder_start_token_id": 2},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "nemotron3_diarization": {"head_config": {"audio_hidden_size": 32}},
    "paddleocr_vl_text": _sections(4, 2),
    "qwen2_5_omni_thinker": {"vision_start_token_id": VOCABULARY - 9},
    "qwen3_omni_moe": {"talker_config": {"spatial_merge_size": 2}},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 32},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": VOCABULARY - 9},
    "qwen2_5_omni_text": _sections(2, 1),
    "qwen2_5_vl_text": _sections(2, 1),
    "qwen2_vl_text": _sections(2, 1),
    "qwen4_exp_text": {
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 8,
        "indexer_compress_ratio": 2, "hc_count": 2, "hc_lowrank": 8, "ple_embed_dim": 16,
        "ngram_vocab_size_base": 64, "split_ngram_parts": 2,
    },
    "reformer": {"axial_pos_embds_dim": [8, 24], "axial_pos_shape": [16, 16]},
    "step3p5": {"sliding_window": 8, "num_sliding_attention_heads": 4},
    "vision-encoder-decoder": {"decoder": {"is_decoder": True, "add_cross_attention": True}},
    "xlm": {"causal": True, "emb_dim": 32},
    "xlnet": {"d_head": 8},
    "xlstm": {"num_heads": 4, "num_blocks": LAYERS},
    "xmod": {"default_language": "en_XX"},
    "youtu": _AS_MANY,
    "zamba": {"layer_types": ["linear_attention", "hybrid"] * 2, "attention_head_dim": 16,
              "attention_hidden_size": 64},
    "zamba2": {
        "layer_types": ["mamba", "hybrid"] * 2, "num_mem_blocks": 1, "hybrid_layer_ids": [1, 3],
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


def entries(mapping: str) -> Iterator[tuple[str, Any]]:
    """Yield the model types and classes of one of transformers' mappings, e.g. ``CAUSAL_LM``."""
    names = getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES")
    for model_type, classes in names.items():
        name = classes[0] if isinstance(classes, tuple) else classes
        kind = getattr(transformers, name, None)
        if kind is not None:
            yield model_type, kind


def small_config(kind: Any, outer: dict[str, Any] | None = None) -> Any:
    """Return a small configuration of a class of configurations."""
    default = kind()
    special = SPECIAL.get(kind.model_type, {})
    given: dict[str, Any] = {}
    fields = kind.__dataclass_fields__
    known = {*kind.__dataclass_fields__, *kind.attribute_map}
    for name, value in (_SMALL | special | (outer or {})).items():
        is_said = name in special or name in (outer or {})
        is_mapped = kind.attribute_map.get(name) in (*_SMALL, *special)
        if is_mapped or not (is_said or name in known):
            continue
        mapped = kind.attribute_map.get(name, name)
        before = vars(default).get(mapped, getattr(fields.get(mapped), "default", None))
        if (is_said or _is_like(before, value)) and not isinstance(value, type):
            given[name] = value
    for name in _NO_TOKENS:
        if name in known:
            may_be_none = "None" in str(fields[name].type) if name in fields else True
            given[name] = special.get(name, None if may_be_none else _TOKENS.get(name, 2))
    if "pad_token_id" in known:
        own = vars(default).get("pad_token_id")
        given["pad_token_id"] = own if own in (0, 1) else 0
    tokens = [
        n for n in fields if n.endswith(("_token_id", "_token_index")) and n not in _NO_TOKENS
    ]
    for place, name in enumerate(tokens):
        if isinstance(getattr(default, name, None), int):
            given[name] = special.get(name, VOCABULARY - 1 - place)
    for name in kind.sub_configs:
        inner = getattr(default, name, None)
        if inner is not None and isinstance(special.get(name, {}), dict):
            given[name] = small_config(type(inner), special.get(name))
    return kind(**given)


def _is_like(before: Any, value: Any) -> bool:
    """Whether a size may stand in the place of a default one."""
    if before is None:
        return False
    return isinstance(before, type(value)) or isinstance(value, type(None))


def build(kind: Any, attention: str = "sdpa", **special: Any) -> Any:
    """Build a small random model of a class, in fp32, in evaluation mode."""
    config = small_config(kind.config_class, special)
    if type(getattr(config, "vision_config", None)).__name__ in _OF_TIMM:
        vision: Any = small_config(transformers.SiglipVisionConfig)
        vision.model_args = {"embed_dim": 32}
        for name in ("rms_norm_eps", "vocab_offset", "vocab_size"):
            setattr(vision, name, getattr(config.vision_config, name, None))
        config.__dict__["vision_config"] = vision
    lacks_sdpa = config.model_type in _LACKING_SDPA or not kind._supports_sdpa
    config._attn_implementation = "eager" if lacks_sdpa else attention
    torch.manual_seed(0)
    return weighted(kind(config))
