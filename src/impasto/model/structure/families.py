"""The families on which plans are compared with the naive reference.

Lists to read; nothing runs on them. Whether plans can run on a model is checked when it is opened
(:mod:`impasto.model.checks.decoder`), whatever its family. Of some families the parts are spelt out
by hand, and every kind of plan is compared; of all others that transformers has, a small model with
random weights is compared on a spread of plans, and what came of it is in a table beside this file.
"""

import csv
from pathlib import Path
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

TABLE = Path(__file__).with_name("families.csv")


class Counted(NamedTuple):
    """What works on a family, as a small model of it showed; each is ``yes``, ``no`` or a word."""

    model_type: str
    kind: str  # decoder, encoder
    layers: str
    parts: str
    history: str  # edits of earlier tokens: freeze, noise
    rows: str  # packed, sequential; of encoders, sentences
    export: str  # the forms of export that hold it
    refused: str  # why it does not open


def counted() -> list[Counted]:
    """Return what works on each family of the transformers that the table was made with."""
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return [Counted(**row) for row in csv.DictReader(lines)]
