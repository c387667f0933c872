"""GGUF files: the plan's weights under llama.cpp's names, the tokenizer, and what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import impasto
from impasto.exporting import ExportError
from impasto.exporting.gguf.splits import SAMPLES, split_rule
from impasto.exporting.gguf.vocabulary import vocabulary_of
from impasto.plan import Plan
from served import IDS, SIZES, demo, needs_llama_cpp, plan_logits, small
from thinning import thinned

ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
# Families whose files transformers reads too (it takes a head's width as that of the family's own
# models), so that their weights are checked without llama.cpp.
READ: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 128}),
    "gemma2": ("Gemma2ForCausalLM", {"head_dim": 256, "query_pre_attn_scalar": 256}),
    "gemma3": (
        "Gemma3ForCausalLM",
        {"head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 64},
    ),
}


def export(model: Any, line: str, file: Path, **options: Any) -> GGUFReader:
    impasto.export(model, Plan.parse(line), file, form="gguf", **options)
    return GGUFReader(file)


def field(reader: GGUFReader, name: str) -> Any:
    found = reader.get_field(name)
    return None if found is None else found.contents()


def tensors(reader: GGUFReader) -> dict[str, torch.Tensor]:
    return {
        t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type)))
        for t in reader.tensors
    }


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("line", thinned(["0-5", "4-3 0*2 2"]))
def test_the_weights_of_a_file_give_the_plans_logits(name, line, tmp_path) -> None:
    kind, special = READ[name]
    model = small(kind, **special)
    export(model, line, tmp_path / "m.gguf")
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf")
    with torch.no_grad():
        found = loaded.eval()(torch.tensor([IDS]), use_cache=False).logits[0]
    wanted = plan_logits(model, line)
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def _llama_of(reader: GGUFReader, config: LlamaConfig) -> torch.Tensor:
    """Return the logits of a file of the architecture deci, by a Llama with nothing for no part."""
    heads = field(reader, "deci.attention.head_count")
    keys = field(reader, "deci.attention.head_count_kv")
    names = {
        "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    config = LlamaConfig(**{**config.to_dict(), "num_hidden_layers": len(heads)})
    hf = LlamaForCausalLM(config).eval()
    state = {name: torch.zeros_like(weight) for name, weight in hf.state_dict().items()}
    for name, weight in tensors(reader).items():
        if not name.startswith("blk."):
            continue
        _, place, kind, _ = name.split(".")
        if kind.startswith("attn") and keys[int(place)] == 0:
            assert kind == "attn_norm" or not weight.any()  # a linear attention that adds nothing
            continue
        if kind in ("attn_q", "attn_k"):
            count = (heads if kind == "attn_q" else keys)[int(place)]
            pairs = weight.reshape(count, -1, 2, weight.shape[-1])
            weight = pairs.transpose(1, 2).reshape(weight.shape)
        own = f"model.layers.{place}.{names[kind]}.weight"
        if weight.shape != state[own].shape:
            assert kind.startswith("ffn")
            assert not weight.any()  # an MLP that adds nothing
            continue
        state[own] = weight
    own = tensors(reader)
    state["model.embed_tokens.weight"] = own["token_embd.weight"]
    state["model.norm.weight"] = own["output_norm.weight"]
    state["lm_head.weight"] = own.get("output.weight", own["token_embd.weight"])
    hf.load_state_dict(state)
    with torch.no_grad():
        return hf(torch.tensor([IDS]), use_cache=False).logits[0]


PARTS = ["0.mlp 1-5", "0-4 5.attn", "0-1 2-4.mlp 5", "0.mlp 1.attn 2 2 3.mlp 4-5.attn", "0-5.mlp"]


@pytest.mark.parametrize("line", PARTS)
def test_dropped_parts_are_blocks_that_add_nothing_in_their_place(line, tmp_path) -> None:
    model = small("LlamaForCausalLM")
    reader = export(model, line, tmp_path / "m.gguf")
    assert field(reader, "general.architecture") == "deci"
    heads, keys, units = (
        field(reader, f"deci.{name}")
        for name in ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
    )
    assert heads[0] == 4  # a head's width is read from the first block
    assert any(keys)  # no memory for keys can be made where none has any
    assert all(units)  # a block without an MLP is not run
    wanted = plan_logits(model, line)
    assert (_llama_of(reader, model.hf.config) - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@needs_llama_cpp
@pytest.mark.parametrize(
    ("name", "special", "line"),
    [
        ("LlamaForCausalLM", {"rope_parameters": LLAMA3, "attention_bias": True}, "5-3 0*2 2"),
        *[("LlamaForCausalLM", {}, line) for line in PARTS],
        ("MistralForCausalLM", {"sliding_window": 64}, "0-2 4.mlp"),
        ("Qwen2ForCausalLM", {}, "1-4 1"),
        ("Qwen3ForCausalLM", {"head_dim": 32}, "1-4 1"),
        ("GemmaForCausalLM", {"head_dim": 32}, "1-4 1"),
        ("Gemma2ForCausalLM", {"sliding_window": 8, "query_pre_attn_scalar": 24}, "1 0 3 3"),
        (
            "Gemma3ForCausalLM",
            {"sliding_window": 8, "query_pre_attn_scalar": 24, "rope_parameters": ROPES},
            "5 1 2",
        ),
    ],
)
def test_llama_cpp_gives_the_plans_logits(name, special, line, tmp_path) -> None:
    done = impasto.export(small(name, **special), Plan.parse(line), tmp_path / "m", form="gguf")
    assert done.checked.startswith("run by llama.cpp (llama-cpp-python), its logits are the plan's")


def test_what_llama_cpp_reads_is_in_the_file(tmp_path) -> None:
    model = small("LlamaForCausalLM", rope_parameters=LLAMA3)
    reader = export(model, "0 5 5", tmp_path / "m.gguf")
    said = {
        "general.architecture": "llama", "llama.block_count": 3, "llama.context_length": 128,
        "llama.embedding_length": 64, "llama.feed_forward_length": 256, "llama.vocab_size": 1536,
        "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16, "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 1e4, "impasto.plan": "0 5*2",
        "impasto.digest": Plan.parse("0 5 5").digest, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.eos_token_id": 0,
    }  # fmt: skip
    assert {name: field(reader, name) for name in said} == said
    names = [t.name for t in reader.tensors]
    assert len(names) == len(set(names)) == 3 + 1 + 3 * 9  # no block twice, nothing unused
    assert "rope_freqs.weight" in names
    found = tensors(reader)
    assert torch.equal(found["blk.1.ffn_up.weight"], found["blk.2.ffn_up.weight"])
    assert torch.equal(found["blk.1.ffn_up.weight"], model.hf.model.layers[5].mlp.up_proj.weight)


def test_windows_are_said_by_layer_or_bound_the_context(tmp_path) -> None:
    gemma = small("Gemma3ForCausalLM", sliding_window=8, head_dim=16)
    reader = export(gemma, "5 0", tmp_path / "g")
    assert field(reader, "gemma3.attention.sliding_window_pattern") == [False, True]
    assert field(reader, "gemma3.attention.sliding_window") == 8
    assert field(reader, "gemma3.context_length") == 128
    mistral = small("MistralForCausalLM", sliding_window=50)
    assert field(export(mistral, "5 0", tmp_path / "m"), "llama.context_length") == 50
    settings = {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 3}
    qwen = small("Qwen2ForCausalLM", **settings)
    assert field(export(qwen, "5 0", tmp_path / "q"), "qwen2.context_length") == 40
    assert field(export(qwen, "0-2", tmp_path / "r"), "qwen2.context_length") == 128


@pytest.mark.parametrize(
    ("kind", "number", "worst"), [("f16", 1, 1e-3), ("bf16", 32, 1e-2), ("q8_0", 7, 1e-2)]
)
def test_weights_are_of_the_type_that_is_asked(kind, number, worst, tmp_path) -> None:
    model = small("LlamaForCausalLM")
    reader = export(model, "0-1", tmp_path / "m.gguf", gguf_type=kind)
    assert field(reader, "general.file_type") == number
    for tensor in reader.tensors:
        assert tensor.tensor_type.name == ("F32" if len(tensor.shape) == 1 else kind.upper())
    own = model.hf.model.layers[1].mlp.down_proj.weight
    found = tensors(reader)["blk.1.ffn_down.weight"]
    assert 0 < (found - own).abs().max() <= worst * own.abs().max()


def test_the_tokenizer_goes_along(tmp_path) -> None:
    reader = export(demo(), "0-1", tmp_path / "m.gguf")
    written = json.loads(demo().tokenizer.backend_tokenizer.to_str())
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert {token: number for number, token in enumerate(tokens)} == written["model"]["vocab"]
    assert field(reader, "tokenizer.ggml.token_type")[:2] == [3, 1]  # control, normal
    assert field(reader, "tokenizer.ggml.merges") == [
        " ".join(p) for p in written["model"]["merges"]
    ]
    assert field(reader, "tokenizer.ggml.pre") == "poro-chat"


def _characters(**options: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer as SentencePiece's are converted to: characters, then bytes."""
    from tokenizers import normalizers

    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)]]
    pieces += ["▁", "a", "b", "▁a", "ab", "▁ab"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b"), ("▁", "ab")]
    made = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>",
            byte_fallback=True, fuse_unk=True,
        )
    )  # fmt: skip
    made.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **options
    )


def test_a_tokenizer_of_characters_has_scores_in_the_order_of_its_merges() -> None:
    tokenizer = _characters(chat_template="{{ messages }}")
    found = vocabulary_of(tokenizer, 270, None)
    assert (found.kind, found.template) == ("llama", "{{ messages }}")
    ids = {token: number for number, token in enumerate(found.tokens)}
    assert found.scores[ids["▁a"]] > found.scores[ids["ab"]] > found.scores[ids["▁ab"]]
    assert found.types[:4] == [2, 3, 3, 6]  # unknown, control, control, byte
    assert found.tokens[265:] == [f"[PAD{i}]" for i in range(265, 270)]
    assert set(found.types[265:]) == {5}
    assert found.special == {"bos": 1, "eos": 2, "unk": 0}
    assert found.adds == {"bos": False, "eos": False, "space": True}


def test_what_ends_a_turn_beside_the_text_is_told() -> None:
    class Generation:
        eos_token_id = [2, 1]  # noqa: RUF012

    assert vocabulary_of(_characters(), 265, Generation).special["eot"] == 1


def test_a_rule_for_words_is_known_by_what_it_does() -> None:
    letters = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
    rest = r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Every pair of bytes merges, so that what is cut and what is not shows in the tokens.
    pairs = [(a, b) for a in alphabet for b in alphabet]
    tokens = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in pairs)])}
    for pattern, name in (
        (letters + rest, "qwen2"),
        (letters.replace("p{N}|", "p{N}{1,3}|") + rest, "llama-bpe"),
    ):
        made = Tokenizer(models.BPE(tokens, pairs))
        from tokenizers import Regex

        made.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        rule = split_rule(made)
        assert (rule.name, rule.same) == (name, len(SAMPLES))
    made.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex("."), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    with pytest.raises(ExportError, match="no name for"):
        split_rule(made)


REFUSED = [
    ("LlamaForCausalLM", {}, "0-3 freeze 4", {}, "freeze cannot be exported as gguf"),
    ("LlamaForCausalLM", {}, "0 [1|2]", {}, "form='planned'"),
    ("Qwen3ForCausalLM", {}, "0 1.mlp", {}, "1.mlp cannot be exported as gguf (qwen3)"),
    ("GPTNeoXForCausalLM", {}, "0-5", {}, "no GGUF file is written for GPTNeoXForCausalLM"),
    ("LlamaForCausalLM", {"hidden_act": "gelu"}, "0", {}, "activation is 'gelu'"),
    ("Qwen2ForCausalLM", {"head_dim": 32}, "0", {}, "units, and this model's have 32"),
    ("LlamaForCausalLM", {}, "0", {"gguf_type": "q4_k"}, "gguf_type is f32 or f16"),
    ("LlamaForCausalLM", {"vocab_size": 1000}, "0", {}, "the model's embedding 1000 rows"),
    (
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        "0", {}, "rule 'dynamic'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "special", "line", "options", "says"), REFUSED)
def test_what_has_no_such_file_is_refused_and_nothing_is_written(
    name, special, line, options, says, tmp_path
) -> None:
    known = {k: v for k, v in SIZES.items() if name != "GPTNeoXForCausalLM" or "key_value" not in k}
    assert known
    with pytest.raises(ExportError) as error:
        export(small(name, **special), line, tmp_path / "m.gguf", **options)
    assert says in str(error.value)
    assert not list(tmp_path.iterdir())


def test_values_that_f16_cannot_hold_are_refused(tmp_path) -> None:
    model = small("LlamaForCausalLM")
    with torch.no_grad():
        model.hf.model.layers[1].mlp.gate_proj.weight[0, 0] = 1e5
    with pytest.raises(ExportError, match=r"blk\.1\.ffn_gate\.weight has values that f16 cannot"):
        export(model, "0-1", tmp_path / "m.gguf", gguf_type="f16")
    assert not list(tmp_path.iterdir())


def test_without_a_tokenizer_or_the_package_or_with_a_file_there_is_no_file(
    tmp_path, monkeypatch
) -> None:
    bare = impasto.load(small("LlamaForCausalLM").hf)
    with pytest.raises(ExportError, match="the model has none"):
        export(bare, "0", tmp_path / "m.gguf")
    (tmp_path / "there").write_text("mine")
    with pytest.raises(ExportError, match="not overwritten"):
        export(demo(), "0", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(ExportError, match="gguf_type is for form='gguf'"):
        impasto.export(demo(), Plan.parse("0"), tmp_path / "x", gguf_type="f16")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ExportError, match=r"pip install 'impasto\[gguf\]'"):
        impasto.export(demo(), Plan.parse("0"), tmp_path / "x", form="gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
