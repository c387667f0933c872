"""What llama.cpp makes of exported plans: logits and greedy tokens against impasto's own.

    python benchmarks/served.py [--family llama]

Needs llama-cpp-python. Small random models of six families and the demo model: 12 plans of whole
layers each (skipped, repeated, reordered), for Llama's shape 8 more with dropped parts, every one
as a GGUF file in f32 that llama.cpp loads, with 24 tokens written greedily. Then the capitals that
the demo model knows under a plan, asked in llama.cpp and in impasto.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
import numpy as np
import torch
import transformers

import impasto
from impasto.plan import Plan
from impasto.tasks import load_suite

TOKENS = 24
WHOLE = (
    "0-5", "0-1 3-5", "0 2 4", "1-5", "0-4", "5-0",
    "0-2 2-5", "0-1 2*3 3-5", "(0-2)*2 3-5", "3 1 5 0", "0-5*2", "2",
)  # fmt: skip
PARTS = (
    "0.mlp 1-5", "0-4 5.mlp", "0-4 5.attn", "0.attn 1-5",
    "0-1 2-4.mlp 5", "0-1 2-3.attn 5.mlp 4", "0.mlp 1.attn 2 2 3.mlp 4-5.attn", "0-5.mlp",
)  # fmt: skip
DEMO = (
    "0-11", "0-3 6-11", "0-5 6*2 7-11", "11-0", "0 2 4 6 8 10", "1-11", "0-10", "0-5 5-11",
    "(0-3)*2 4-11", "0-2 4*3 5-11", "0-3 7-4 8-11", "0-11*2",
    "0-7 8-11.mlp", "0.mlp 1-11", "0-10 11.attn", "0-11.mlp", "0-10 11.mlp", "0.attn 1-11",
    "0-3 4.attn 5.mlp 6 6 7-11", "0.mlp 1-10 11.mlp",
)  # fmt: skip
ASKED = "0-7 8-11.mlp"
_SIZES: dict[str, Any] = {
    "vocab_size": 1536,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_WINDOWS = {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 8}
_BASES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
}
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip


def _small(name: str, **special: Any) -> Any:
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    attention = "eager" if "Gemma2" in name else "sdpa"
    config = kind.config_class(**_SIZES | special, attn_implementation=attention)
    return kind(config).eval()


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": partial(
        _small, "LlamaForCausalLM", rope_parameters=_LLAMA3, attention_bias=True, mlp_bias=True
    ),
    "mistral": partial(_small, "MistralForCausalLM", sliding_window=200, head_dim=32),
    "qwen2": partial(_small, "Qwen2ForCausalLM", tie_word_embeddings=True),
    "qwen3": partial(_small, "Qwen3ForCausalLM", head_dim=32),
    "gemma": partial(_small, "GemmaForCausalLM", head_dim=32),
    "gemma2": partial(_small, "Gemma2ForCausalLM", **_WINDOWS),
    "gemma3": partial(_small, "Gemma3ForCausalLM", **_WINDOWS, rope_parameters=_BASES),
}


def main() -> None:
    """Export, run and print."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--family", choices=[*FAMILIES, "demo"])
    given = parser.parse_args()
    names = [given.family] if given.family else [*FAMILIES, "demo"]
    demo = impasto.load("demo")
    print("| model | plans | largest difference of logits | tokens as the plan's |")
    print("| --- | --- | --- | --- |")
    for name in names:
        model = demo if name == "demo" else impasto.load(FAMILIES[name](), tokenizer=demo.tokenizer)
        lines = DEMO if name == "demo" else WHOLE
        if name in ("llama", "mistral"):
            lines = (*WHOLE, *PARTS)
        found = [_compared(model, Plan.parse(line)) for line in lines]
        worst = max(difference for difference, _ in found)
        tokens = sum(same for _, same in found)
        print(f"| {name} | {len(lines)} | {worst:.1e} | {tokens} of {TOKENS * len(lines)} |")
    if "demo" in names:
        same, right, asked = _capitals(demo, Plan.parse(ASKED))
        print(f"\ncapitals under {ASKED}: {same} of {asked} answers are impasto's, {right} right")


def _compared(model: Any, plan: Plan) -> tuple[float, int]:
    """Return how far llama.cpp's logits are from a plan's, and how many greedy tokens agree."""
    ids = model.tokenizer("Q: What is the capital of France?\nA:")["input_ids"]
    own, logits = list(ids), []
    with torch.no_grad(), impasto.apply(model.hf, plan):
        for _ in range(TOKENS):
            logits = model.hf(torch.tensor([own]), use_cache=False).logits[0]
            own.append(int(logits[-1].argmax()))
    with _served(model, plan) as served:
        served.eval(own[:-1])
        there = np.array(served.scores[: len(own) - 1])
        served.reset()
        served.eval(ids)
        written = list(ids)
        for _ in range(TOKENS):
            written.append(int(served.scores[served.n_tokens - 1].argmax()))
            served.eval(written[-1:])
    difference = float(np.abs(there - np.asarray(logits)).max())
    return difference, sum(a == b for a, b in zip(own[-TOKENS:], written[-TOKENS:], strict=True))


class _served:  # noqa: N801
    """An exported plan in llama.cpp, for the length of a block."""

    def __init__(self, model: Any, plan: Plan) -> None:
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name, "plan.gguf")
        impasto.export(model, plan, file, form="gguf")
        self._llama = llama_cpp.Llama(
            str(file), n_ctx=128, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0
        )

    def __enter__(self) -> Any:
        return self._llama

    def __exit__(self, *_: object) -> None:
        self._llama.close()
        self._folder.cleanup()


def _capitals(model: Any, plan: Plan) -> tuple[int, int, int]:
    """Return how many answers to the task capitals are impasto's, and how many are right."""
    questions = list(_questions())
    [own] = model.generate(plan, [prompt for prompt, _ in questions], max_new_tokens=8)
    same = right = 0
    with _served(model, plan) as served:
        for (prompt, capital), text in zip(questions, own, strict=True):
            served.reset()
            answer = served(prompt, max_tokens=8, temperature=0.0)["choices"][0]["text"]
            lines = [each.split("\n")[0].strip() for each in (answer, str(text))]
            same += lines[0] == lines[1]
            right += lines[0] == capital
    return same, right, len(questions)


def _questions() -> Iterator[tuple[str, str]]:
    [task] = load_suite({"name": "capitals"}).tasks
    for item in task.items:
        yield item.prompt, item.answer


if __name__ == "__main__":
    main()
