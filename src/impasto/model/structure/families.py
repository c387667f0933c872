"""The families on which every kind of plan is compared with the naive reference.

A list to read; nothing runs on it. Whether plans can run on a model is checked when it is opened
(:mod:`impasto.model.checks.decoder`), whatever its family.
"""

from typing import NamedTuple


class Family(NamedTuple):
    """A family, with the traits of it that an engine for plans might get wrong."""

    model_type: str  # as its configuration says
    name: str
    traits: str


FAMILIES = (
    Family("bloom", "BLOOM", "ALiBi; parts add the residual themselves"),
    Family("cohere", "Cohere", "attention and MLP in parallel; query and key norms"),
    Family("falcon", "Falcon", "in parallel or not; rotary or ALiBi; multi-query"),
    Family("gemma2", "Gemma 2", "sliding and full layers; norms on both sides; soft caps"),
    Family("gemma3_text", "Gemma 3", "sliding and full layers with rotary tables of their own"),
    Family("gpt2", "GPT-2", "learned positions"),
    Family("gpt_neox", "GPT-NeoX, Pythia", "attention and MLP in parallel or not"),
    Family("gptj", "GPT-J", "attention and MLP in parallel, one norm for both"),
    Family("granite", "Granite", "multipliers on residual, attention, embeddings and logits"),
    Family("llama", "Llama", "grouped queries; Yi, Llemma, CodeLlama and many more"),
    Family("mistral", "Mistral", "sliding window"),
    Family("mixtral", "Mixtral", "experts"),
    Family("olmo2", "OLMo 2", "norms after the parts"),
    Family("opt", "OPT", "learned positions; the MLP's two layers stand in the block itself"),
    Family("phi", "Phi", "attention and MLP in parallel, one norm for both"),
    Family("phi3", "Phi-3", "fused projections"),
    Family("qwen2", "Qwen2", "sliding window from some layer on"),
    Family("qwen3", "Qwen3", "query and key norms"),
    Family("qwen3_moe", "Qwen3-MoE", "experts, in some layers only"),
    Family("stablelm", "StableLM", "in parallel or not; partly rotary"),
)

ENCODERS = (
    Family("bert", "BERT", "norms after the parts"),
    Family("deberta", "DeBERTa", "relative positions that all layers share"),
    Family("deberta-v2", "DeBERTa-v2, -v3", "the same, in buckets; a convolution in layer 0"),
    Family("distilbert", "DistilBERT", "norms after the parts, which stand in the block itself"),
    Family("electra", "ELECTRA", "embeddings narrower than the states"),
    Family("modernbert", "ModernBERT", "norms before the parts; windows and full layers by turns"),
    Family("roberta", "RoBERTa", "positions counted from the padding token's"),
)
