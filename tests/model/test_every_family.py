"""Every family of the installed transformers: what opens is right, what does not says why.

The fast tests hold fifty-four families that must never fall out to the reference on a few plans.
The slow one builds all there are, prints their counts, and compares them with the table that
``impasto models`` prints, so that a new release of transformers shows at once what changed:
``python tests/census.py --write`` writes the table anew.
"""

from collections import Counter
from typing import Any

import pytest

from census import OF_DECODERS, PLANS, Found, census, counted_row, look_at
from census_build import entries
from impasto.model.structure.families import counted
from thinning import thinned

KEPT = (
    "apertus", "arcee", "bert", "biogpt", "bitnet", "codegen", "cohere", "cohere2",
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "ernie4_5", "exaone4",
    "falcon", "gemma", "gemma2", "gemma3_text", "gemma4_text", "glm", "glm4", "gpt2",
    "gpt_bigcode", "gpt_neox", "gpt_oss", "granite", "granitemoe", "helium", "llama",
    "llama4_text", "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "opt", "phi3",
    "qwen2", "qwen3", "smollm3", "stablelm",
)  # fmt: skip
COMPOSITE = (
    "blip",
    "blip-2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "glm4v",
    "idefics2",
    "llava",
    "mllama",
    "qwen2_5_vl",
    "qwen3_vl",
    "vision-encoder-decoder",
)
# What opens, and then stops in transformers' own code on longer texts: where.
STOPS = {"xlstm": "(modeling_xlstm.py:126)"}
_FEW = ("identity", "skip of layer 0", "mix")


def _kinds(mapping: str) -> dict[str, Any]:
    return dict(entries(mapping))


@pytest.mark.parametrize("model_type", KEPT)
def test_a_family_that_must_not_fall_out_is_exact(model_type):
    lines = {name: PLANS[name] for name in _FEW}
    found = look_at(model_type, _kinds("CAUSAL_LM")[model_type], lines, **OF_DECODERS)
    assert found.verdict == "exact", found


@pytest.mark.parametrize("model_type", thinned(COMPOSITE, 2))
def test_the_decoder_of_a_composite_family_is_exact(model_type):
    lines = {name: PLANS[name] for name in _FEW}
    found = look_at(model_type, _kinds("MULTIMODAL_LM")[model_type], lines)
    assert found.verdict == "exact", found


@pytest.mark.parametrize(
    ("mapping", "model_type", "reason"),
    [
        ("MULTIMODAL_LM", "diffusion_gemma", "is an encoder-decoder"),
        ("MULTIMODAL_LM", "inkling2", "what follows its last layer reads more than the states"),
        ("MULTIMODAL_LM", "kyutai_speech_to_text", "reads no text by itself"),
        ("MULTIMODAL_LM", "voxtral_realtime", "reads no text by itself"),
        ("MASKED_LM", "big_bird", "in the place of its blocks' attention.self"),
    ],
)
def test_a_refusal_says_what_failed(mapping, model_type, reason):
    found = look_at(model_type, _kinds(mapping)[model_type])
    assert found.verdict == "refused"
    assert reason in found.reason


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["CAUSAL_LM", "MULTIMODAL_LM", "MASKED_LM"])
def test_every_family_is_exact_or_refused_with_a_reason(mapping):
    every = list(census(mapping))
    print(mapping, dict(Counter(found.verdict for found in every)))
    bad = [
        found
        for found in every
        if found.verdict in ("wrong", "crashed")
        and not found.reason.endswith(STOPS.get(found.model_type, "nowhere"))
    ]
    assert not bad, "\n".join(map(str, bad))
    refused = [found for found in every if found.verdict == "refused"]
    assert all(len(found.reason.split()) >= 4 for found in refused)
    _agree_with_the_table(every, is_encoder=mapping == "MASKED_LM")


def _agree_with_the_table(every: list[Found], is_encoder: bool) -> None:
    kind = "encoder" if is_encoder else "decoder"
    table = {row.model_type: row for row in counted() if row.kind == kind}
    changed = []
    for found in every:
        if found.verdict == "exact":
            new, known = (
                counted_row(found.model_type, is_encoder, found),
                table.get(found.model_type),
            )
            if known is None or known.layers != "yes":
                changed.append(f"opens now: {new}")
            elif (new.parts, new.rows) != (known.parts, known.rows):
                changed.append(f"{known} is now {new}")
        elif found.verdict == "refused":
            known = table.get(found.model_type)
            if known is not None and known.layers == "yes" and not is_encoder:
                changed.append(f"no longer opens, in one of its classes: {found}")
    assert not changed, "\n".join(changed)


def test_no_family_that_must_not_fall_out_is_missing_from_the_table():
    opened = {row.model_type for row in counted() if row.layers == "yes"}
    assert {*KEPT, *COMPOSITE} <= opened
