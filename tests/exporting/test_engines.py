"""What serving engines read: Nemotron-NAS folders, and the names and numbers of checkpoints."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from transformers import AutoConfig

import impasto
from impasto.exporting import ExportError
from impasto.plan import Plan
from served import demo, small

# The public configurations' own schema: each key of an entry, and what it may be.
BLOCK = {
    "attention": {
        "n_heads_in_group": (int, type(None)),
        "no_op": bool,
        "num_sink_tokens": type(None),
        "replace_with_linear": bool,
        "sparsify": type(None),
        "unshifted_sink": bool,
        "use_prefill_window_in_sink_attention": bool,
        "window_length": type(None),
    },
    "ffn": {
        "ffn_mult": (float, type(None)),
        "no_op": bool,
        "replace_with_linear": bool,
        "sparsify": type(None),
    },
}
KEYS = {
    "architectures", "attention_bias", "attention_dropout", "auto_map", "block_configs",
    "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "initializer_range",
    "intermediate_size", "max_position_embeddings", "mlp_bias", "model_type",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "pretraining_tp",
    "rms_norm_eps", "rope_scaling", "rope_theta", "tie_word_embeddings", "torch_dtype",
    "use_cache", "vocab_size",
}  # fmt: skip
PLANS = ["0 1.mlp 2.attn 4-5", "0.mlp 1-4 5.attn", "3.attn 1 1", "0-5.mlp", "5-0"]


def export(model: Any, line: str, folder: Path, **options: Any) -> dict[str, Any]:
    impasto.export(model, Plan.parse(line), folder, **options)
    return json.loads((folder / "config.json").read_text())


def stored(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return every weight of a folder's files with its shape."""
    found: dict[str, tuple[int, ...]] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                assert name not in found
                found[name] = tuple(weights.get_slice(name).get_shape())
    return found


def size_by_engines(factor: float, hidden: int) -> int:
    """Return the size of an MLP as engines read it."""
    size = int(2 * factor * hidden / 3)
    return size if size % 256 == 0 else size + 256 - size % 256


@pytest.mark.parametrize("line", PLANS)
def test_a_nas_folder_has_the_public_schema_and_its_weights_and_no_others(line, tmp_path) -> None:
    config = export(small("LlamaForCausalLM"), line, tmp_path / "m", form="nemotron-nas")
    assert config.keys() >= KEYS
    assert config["architectures"] == ["DeciLMForCausalLM"]
    assert config["model_type"] == "nemotron-nas"
    blocks = config["block_configs"]
    assert config["num_hidden_layers"] == len(blocks) == len(Plan.parse(line).steps)
    wanted = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    for place, block in enumerate(blocks):
        assert block.keys() == BLOCK.keys()
        for part, keys in BLOCK.items():
            assert block[part].keys() == keys.keys()
            assert all(isinstance(block[part][name], kind) for name, kind in keys.items())
        begin = f"model.layers.{place}."
        if not block["attention"]["no_op"]:
            assert block["attention"]["n_heads_in_group"] == 2
            wanted |= {f"{begin}self_attn.{name}_proj.weight" for name in "qkvo"}
            wanted.add(f"{begin}input_layernorm.weight")
        if not block["ffn"]["no_op"]:
            assert size_by_engines(block["ffn"]["ffn_mult"], config["hidden_size"]) == 256
            wanted |= {f"{begin}mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
            wanted.add(f"{begin}post_attention_layernorm.weight")
    assert stored(tmp_path / "m").keys() == wanted
    assert not blocks[0]["attention"]["no_op"]  # engines begin the residual stream there


def test_the_program_of_a_nas_folder_is_the_plans(tmp_path) -> None:
    export(demo(), "0 1.mlp 2.attn 3-11", tmp_path / "m", form="nemotron-nas")
    assert str(Plan.read(tmp_path / "m")) == "0 1.mlp 2.attn 3-11"
    card = (tmp_path / "m" / "README.md").read_text()
    assert 'vllm serve "m" --trust-remote-code' in card
    assert "not run in vLLM or SGLang" in card


def test_the_code_of_a_nas_folder_gives_engines_their_blocks(tmp_path) -> None:
    export(small("LlamaForCausalLM"), "0 1.mlp 2.attn", tmp_path / "m", form="nemotron-nas")
    config: Any = AutoConfig.from_pretrained(tmp_path / "m", trust_remote_code=True)
    assert [block.attention.no_op for block in config.block_configs] == [False, True, False]
    assert [block.ffn.no_op for block in config.block_configs] == [False, False, True]
    config.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (
        again["block_configs"]
        == json.loads((tmp_path / "m" / "config.json").read_text())["block_configs"]
    )


def test_weights_are_sharded_with_an_index_of_all(tmp_path) -> None:
    export(demo(), "0-3 6.mlp", tmp_path / "m", form="nemotron-nas", max_shard_size="3MB")
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(files) > 1
    assert sorted(set(index["weight_map"].values())) == files
    assert index["weight_map"].keys() == stored(tmp_path / "m").keys()
    assert all((tmp_path / "m" / file).stat().st_size < 3.1e6 for file in files)


@pytest.mark.parametrize(
    ("name", "special", "line", "says"),
    [
        ("Qwen3ForCausalLM", {"head_dim": 16}, "0 1.mlp", "models of Llama's shape"),
        ("LlamaForCausalLM", {"intermediate_size": 200}, "0", "a multiple of 256 units"),
        ("LlamaForCausalLM", {"hidden_act": "gelu"}, "0", "MLPs of silu"),
        ("LlamaForCausalLM", {}, "0 freeze 1", "freeze cannot be exported as nemotron-nas"),
        ("LlamaForCausalLM", {}, "0 [1|2]", "form='planned' (--as) can hold this plan"),
    ],
)
def test_what_a_nas_folder_cannot_hold_says_which_form_can(
    name, special, line, says, tmp_path
) -> None:
    with pytest.raises(ExportError) as error:
        export(small(name, **special), line, tmp_path / "m", form="nemotron-nas")
    assert says in str(error.value)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ checkpoints


def test_older_names_say_what_the_newer_ones_say(tmp_path) -> None:
    """A reader that knows only the names of before takes no default of its own."""
    linear = {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5}
    config = export(small("LlamaForCausalLM", rope_parameters=linear), "0 2", tmp_path / "a")
    assert config["rope_theta"] == 5e5
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert config["head_dim"] == 16
    read: Any = AutoConfig.from_pretrained(tmp_path / "a")
    assert read.rope_parameters == linear
    config = export(small("Qwen2ForCausalLM"), "0 2", tmp_path / "b")
    assert config["head_dim"] == 16
    ropes = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    }
    gemma = small("Gemma3ForCausalLM", rope_parameters=ropes, head_dim=32, sliding_window=8)
    config = export(gemma, "0 5 2", tmp_path / "c")
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 100.0)
    read = AutoConfig.from_pretrained(tmp_path / "c")
    assert read.rope_parameters == ropes


def test_numbers_that_engines_trip_over_are_those_of_the_plan(tmp_path) -> None:
    gemma = small("Gemma3ForCausalLM", head_dim=32, sliding_window=8)
    config = export(gemma, "5 0 0", tmp_path / "a")
    assert config["architectures"] == ["Gemma3ForCausalLM"]
    assert config["num_hidden_layers"] == 3
    assert config["layer_types"] == ["full_attention", "sliding_attention", "sliding_attention"]
    assert config["sliding_window"] == 8
    assert config["head_dim"] == 32
    assert config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in stored(tmp_path / "a")  # tied: stored once
    assert not any("layers.3" in name for name in stored(tmp_path / "a"))
    settings = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}
    config = export(small("Qwen2ForCausalLM", **settings), "2 3 4", tmp_path / "b")
    assert (config["num_hidden_layers"], config["max_window_layers"]) == (3, 1)
    assert config["layer_types"] == ["full_attention", *["sliding_attention"] * 2]
    assert "quantization_config" not in config


def test_a_checkpoints_other_files_are_what_an_engine_reads(tmp_path) -> None:
    model = impasto.load("demo")
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    model.hf.generation_config.eos_token_id = [0, 5]
    export(model, "0-3", tmp_path / "m", max_shard_size="3MB")
    said = json.loads((tmp_path / "m" / "generation_config.json").read_text())
    assert said["eos_token_id"] == [0, 5]
    assert "cache_implementation" not in said
    templates = (tmp_path / "m" / "chat_template.jinja").read_text()
    assert templates == model.tokenizer.chat_template
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == stored(tmp_path / "m").keys()
    assert {path.suffix for path in (tmp_path / "m").iterdir()} <= {
        ".json",
        ".safetensors",
        ".md",
        ".jinja",
    }


PEAK = """
import resource, sys
import torch
from transformers import LlamaConfig, LlamaForCausalLM
import impasto
from impasto.plan import Plan
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
form = sys.argv[3]
impasto.export(sys.argv[1], Plan.parse("0-3"), sys.argv[2] + "/warm", form=form)
before = peak()
impasto.export(sys.argv[1], Plan.parse("0-31"), sys.argv[2] + "/all", form=form)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["checkpoint", "nemotron-nas", "gguf"])
def test_an_export_holds_little_more_than_the_model(form, tmp_path) -> None:
    import subprocess

    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=32, num_attention_heads=8,
        num_key_value_heads=4, vocab_size=1536, max_position_embeddings=256,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "source")
    demo().tokenizer.save_pretrained(tmp_path / "source")
    size = sum(path.stat().st_size for path in (tmp_path / "source").glob("*.safetensors"))
    told = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "source", tmp_path, form],
        capture_output=True,
        text=True,
        check=True,
    )
    # What a small part of it takes is in memory before.
    assert int(told.stdout) < 1.3 * size
