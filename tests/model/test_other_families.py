"""Families beside the listed ones: what opens is right, the others are refused with the reason."""

import re
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

import impasto
import reference
import spellings
from census_build import build
from families import FAMILIES, small, weighted
from impasto import Plan
from impasto.model.structure.anatomy import ModelError
from spellings import Spelling, attend, scaled
from thinning import thinned

TEXT = torch.randint(3, 90, (1, 44), generator=torch.Generator().manual_seed(3))[0].tolist()
LINES = ("0-3", "0-1 freeze 2-3", "0 2.mlp 1 noise(gaussian) 3", "0-1 freeze [2|3.attn] 1")
_HALF = {"num_key_value_heads": 2}
_BART = {
    "d_model": 32, "encoder_layers": 4, "decoder_layers": 4, "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48, "is_decoder": True, "is_encoder_decoder": False,
}  # fmt: skip


def made(kind: Any, **special: Any) -> Any:
    settings: dict[str, Any] = {"num_hidden_layers": 4} | special
    return weighted(small(kind, **settings))


def mbart():
    found = made(hf.MBartForCausalLM, **_BART, num_hidden_layers=4)
    found.generation_config = hf.GenerationConfig()
    return found


def bart():
    found = made(hf.BartForCausalLM, **_BART, num_hidden_layers=4)
    found.generation_config = hf.GenerationConfig()
    return found


def xglm():
    return made(
        hf.XGLMForCausalLM, d_model=32, num_layers=4, attention_heads=4, ffn_dim=48,
        scale_embedding=False,
    )  # fmt: skip


def biogpt():
    return made(hf.BioGptForCausalLM)


def dense_granite_4():
    return made(
        hf.GraniteMoeHybridForCausalLM, **_HALF, shared_intermediate_size=48,
        layer_types=["attention"] * 4, num_local_experts=0, num_experts_per_tok=0,
        mamba_n_heads=8, mamba_d_head=8, residual_multiplier=0.7,
    )  # fmt: skip


def granite_4_with_experts():
    return made(
        hf.GraniteMoeHybridForCausalLM, **_HALF, shared_intermediate_size=48,
        layer_types=["attention"] * 4, num_local_experts=4, num_experts_per_tok=2,
        mamba_n_heads=8, mamba_d_head=8,
    )  # fmt: skip


def llama_4_in_chunks():
    return made(
        hf.Llama4ForCausalLM, **_HALF, head_dim=8, intermediate_size_mlp=48, num_local_experts=2,
        attention_chunk_size=8, attn_temperature_tuning=False, pad_token_id=0,
    )  # fmt: skip


def phi_3_with_long_tables():
    return made(
        hf.Phi3ForCausalLM, **_HALF, original_max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4,
            "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
        },
    )  # fmt: skip


def llama_with_dynamic_tables():
    return made(
        hf.LlamaForCausalLM, max_position_embeddings=64,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    )  # fmt: skip


_OF_BART = Spelling(
    "model.decoder.layers",
    attention=("self_attn_layer_norm", attend("self_attn")),
    mlp=("final_layer_norm", "fc1", "activation_fn", "fc2"),
)


def _fed_to_experts(block: Any, states: torch.Tensor, call: spellings.Call) -> torch.Tensor:
    return block.feed_forward(states)[0].view(states.shape)


_SPELLINGS = {
    "bart": _OF_BART,
    "mbart": _OF_BART,
    "xglm": Spelling("model.layers", _OF_BART.attention, _OF_BART.mlp),
    "biogpt": Spelling("biogpt.layers", _OF_BART.attention, _OF_BART.mlp),
    "granitemoehybrid": Spelling(
        "model.layers",
        attention=("input_layernorm", attend("self_attn"), scaled("residual_multiplier")),
        mlp=("post_attention_layernorm", "shared_mlp", scaled("residual_multiplier")),
    ),
    "llama4_text": Spelling(
        "model.layers",
        attention=("input_layernorm", attend("self_attn")),
        mlp=("post_attention_layernorm", _fed_to_experts),
    ),
}


@pytest.fixture(autouse=True)
def _spelt(monkeypatch):
    for name, spelling in _SPELLINGS.items():
        monkeypatch.setitem(spellings.SPELLINGS, name, spelling)


@pytest.mark.parametrize(
    "build",
    thinned(
        [
            mbart,
            xglm,
            biogpt,
            dense_granite_4,
            llama_4_in_chunks,
            phi_3_with_long_tables,
            llama_with_dynamic_tables,
        ],
        2,
    ),
)
def test_plans_are_what_the_reference_says(build):
    model = impasto.load(build())
    plans = [Plan.parse(line, layers=4) for line in LINES]
    requests = [(TEXT[:36], [7, 8]), (TEXT[:36], [7, 9, 11]), (TEXT[:20], [3])]
    scores = model.loglikelihood(plans, requests)
    written = model.generate(plans, [TEXT[:36], TEXT[:29]], max_new_tokens=3)
    for plan, found, texts in zip(plans, scores, written, strict=True):
        logits = model.next_logits(plan, torch.tensor([TEXT]))[0]
        wanted = reference.next_logits(model.hf, plan, TEXT)
        torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)
        for request, (log_p, _) in zip(requests, found, strict=True):
            assert log_p == pytest.approx(reference.score(model.hf, plan, *request)[0], abs=1e-3)
        for length, new in zip((36, 29), texts, strict=True):
            assert new == reference.generate(model.hf, plan, TEXT[:length], 3)


@pytest.mark.parametrize("build", [granite_4_with_experts, mbart])
def test_the_identity_plan_is_the_model_itself(build):
    model, plan = impasto.load(build()), Plan.identity(4)
    ids = torch.tensor([TEXT])
    with torch.no_grad():
        own = model.hf(ids, use_cache=False).logits[0].log_softmax(-1)
    choices = [TEXT[40:], [5, 6]]
    scores = model.loglikelihood(plan, [(TEXT[:40], choice) for choice in choices])[0]
    wanted = own[39:43].gather(1, torch.tensor(TEXT[40:])[:, None]).sum()
    assert scores[0][0] == pytest.approx(float(wanted), abs=1e-3)
    torch.testing.assert_close(model.next_logits(plan, ids)[0].log_softmax(-1), own[-1])
    with impasto.apply(model.hf, plan):
        by_hf = model.hf.generate(ids, max_new_tokens=4, do_sample=False)[0, 44:].tolist()
    assert model.generate(plan, [TEXT], max_new_tokens=4)[0][0] == by_hf


def test_the_language_model_of_a_multimodal_one_runs_plans():
    text = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 2, "sliding_window": 8,
    }  # fmt: skip
    seen = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "image_size": 28,
        "num_attention_heads": 4, "patch_size": 14,
    }  # fmt: skip
    config = hf.Gemma3Config(text_config=text, vision_config=seen, mm_tokens_per_image=4)
    model = impasto.load(hf.Gemma3ForConditionalGeneration(config).eval())
    assert model._opened.anatomy.path.startswith("model.language_model.")
    ids = torch.tensor([TEXT[:30]])
    with torch.no_grad():
        own = model.hf(ids, use_cache=False).logits[0, -1]
    torch.testing.assert_close(model.next_logits(Plan.identity(2), ids)[0], own)
    assert model.loglikelihood(Plan.identity(2), [(TEXT[:30], [4])])[0][0][0] == pytest.approx(
        float(own.log_softmax(-1)[4]), abs=1e-4
    )


def gpt_neo():
    config = hf.GPTNeoConfig(
        vocab_size=97, hidden_size=32, num_layers=4, num_heads=4, intermediate_size=64,
        attention_types=[[["global", "local"], 2]], window_size=32, max_position_embeddings=256,
    )  # fmt: skip
    return weighted(hf.GPTNeoForCausalLM(config))


def llama_4_with_a_floor():
    return made(
        hf.Llama4ForCausalLM, **_HALF, head_dim=8, intermediate_size_mlp=48, num_local_experts=2,
        floor_scale=16, attn_scale=1.0, no_rope_layers=[1, 0, 1, 0], pad_token_id=0,
    )  # fmt: skip


def llama_4_with_a_floor_out_of_reach():
    return made(
        hf.Llama4ForCausalLM, **_HALF, head_dim=8, intermediate_size_mlp=48, num_local_experts=2,
        max_position_embeddings=2**20, floor_scale=2**18, no_rope_layers=[1, 0, 1, 0],
        pad_token_id=0,
    )  # fmt: skip


def hybrid():
    return made(
        hf.Qwen3NextForCausalLM, **_HALF, head_dim=8, num_experts=4, num_experts_per_tok=2,
        layer_types=["full_attention", "linear_attention", "linear_attention", "full_attention"],
        moe_intermediate_size=16, shared_expert_intermediate_size=16, linear_num_key_heads=2,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
    )  # fmt: skip


def zaya():
    return build(hf.ZayaForCausalLM)


def mpt():
    config = hf.MptConfig(d_model=32, n_heads=4, n_layers=3, max_seq_len=64, vocab_size=97)
    return hf.MptForCausalLM(config).eval()


@pytest.mark.parametrize(
    ("build", "reason"),
    thinned(
        [
            (gpt_neo, "in a text of 40 tokens, though they do in one of 8.*window_size=32"),
            (llama_4_with_a_floor, "by the place of a row"),
            (llama_4_with_a_floor_out_of_reach, "counts positions by itself.*floor_scale=262144"),
            (hybrid, "layers 1-2 have linear_attn where others have self_attn"),
            (mpt, "says what is hidden, not what is seen"),
        ]
    ),
)
def test_where_rows_cannot_be_packed_sequences_run_as_they_are(build, reason):
    source = build()
    model = impasto.load(source)
    assert re.search(reason, model.runs_sequences or "")
    ids = torch.randint(3, 97, (1, 50), generator=torch.Generator().manual_seed(1))
    layers = model.num_layers
    with torch.no_grad():
        own = source(ids, use_cache=False).logits[:, -1]
    assert torch.equal(model.next_logits(Plan.identity(layers), ids), own)
    for line in ("0 0-1", f"0 freeze 1-{layers - 1}", "1 noise(gaussian) [0|1]"):
        plan, text = Plan.parse(line, layers=layers), ids[0].tolist()
        whole = model.next_logits(plan, ids)
        [states] = model.hidden_states(plan, [text])
        torch.testing.assert_close(
            model._opened.leave(states[-1, -1:]), whole, atol=1e-4, rtol=1e-4
        )
        score, _ = model.loglikelihood(plan, [(text[:-1], text[-1:])])[0][0]
        log_p = model.next_logits(plan, ids[:, :-1])[0].log_softmax(-1)[text[-1]]
        assert score == pytest.approx(float(log_p), abs=1e-4)


@pytest.mark.parametrize(
    ("make", "reason"), [(zaya, "hand it prev_router_hidden_states beside its states")]
)
def test_others_are_refused_with_the_reason(make, reason):
    with pytest.raises(ModelError, match=reason) as refused:
        impasto.load(make())
    assert "\n" not in str(refused.value)


def test_layers_with_a_norm_behind_their_parts_run_whole():
    model = impasto.load(bart())
    for line in ("0 2-3", "3-0", "0-1 freeze [2|3] 1"):
        plan = Plan.parse(line, layers=4)
        logits = model.next_logits(plan, torch.tensor([TEXT]))[0]
        wanted = reference.next_logits(model.hf, plan, TEXT)
        torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)
    with pytest.raises(ModelError, match="which can only run whole: without attention and MLP"):
        model.next_logits(Plan.parse("0-2 3.mlp", layers=4), torch.tensor([TEXT]))


@pytest.mark.parametrize("build", [phi_3_with_long_tables, llama_with_dynamic_tables])
def test_where_rotary_tables_change_with_the_length_plans_end(build):
    model, plan = impasto.load(build()), Plan.parse("0-1 freeze 2-3", layers=4)
    assert model.max_positions == 64
    ids = torch.randint(97, (1, 65), generator=torch.Generator().manual_seed(0))
    model.next_logits(plan, ids[:, 1:])
    with pytest.raises(ModelError, match=r"a text of 65 tokens is too long.*beyond 64 tokens"):
        model.next_logits(plan, ids)
    padded = torch.ones_like(ids)
    padded[:, 0] = 0
    model.next_logits(plan, ids, padded)


class _NoAttention(nn.Module):
    def forward(self, hidden_states, **_):
        return torch.zeros_like(hidden_states), None


def test_a_removed_attention_costs_nothing():
    whole, lacking = made(hf.LlamaForCausalLM), made(hf.LlamaForCausalLM)
    lacking.model.layers[2].self_attn = _NoAttention()
    shapes = [impasto.load(each).shape for each in (whole, lacking)]
    assert shapes[1].layers[:2] == shapes[0].layers[:2]
    assert shapes[1].layers[2].attention == shapes[1].layers[2].kept == 0
    assert shapes[1].layers[2].mlp == shapes[0].layers[2].mlp


@pytest.mark.parametrize("name", ["opt", "llama", "olmo2"])
def test_held_texts_of_any_number_are_right(name):
    model = impasto.load(weighted(FAMILIES[name]()))
    plan = Plan.parse("0-1 freeze 2-5", layers=6)
    requests = [([token, 5, *TEXT[:9]], [7]) for token in range(4)]
    for request, (log_p, _) in zip(requests, model.loglikelihood(plan, requests)[0], strict=True):
        assert log_p == pytest.approx(reference.score(model.hf, plan, *request)[0], abs=1e-3)


@pytest.mark.parametrize("make", [mbart, xglm, biogpt])
def test_padding_on_the_left_moves_no_position_where_models_count_places(make):
    model = impasto.load(make())
    texts, width = [TEXT[:5], TEXT[3:12]], 9
    rows = torch.tensor([[0] * (width - len(ids)) + ids for ids in texts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in texts])
    for plan in map(Plan.parse, LINES):
        for found, ids in zip(model.next_logits(plan, rows, mask), texts, strict=True):
            wanted = reference.next_logits(model.hf, plan, ids)
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
