"""The workloads of `sweep.py`: their plans, models and inputs, who runs them, and the targets."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers.utils import logging

import impasto
from impasto import Plan
from impasto.run import load_decoder
from peers import Answers, Case, Input, Peer, applied, applied_generation, cases, hand_edited

TARGETS = {"C": 30, "B": 6, "A": 7, "few-shot": 60, "generation": 2, "shots-generation": 2}
CONTEXT, CHOICE, CHOICES, PREFIX = 256, 12, 4, 512
PROMPTS, PROMPT, NEW, SHOTS = 64, 64, 64, 5
SMALL = {
    "vocab_size": 8192, "hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 8,
    "num_hidden_layers": 16, "max_position_embeddings": 1024,
}  # fmt: skip
LLAMA_2_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_attention_heads": 32, "num_hidden_layers": 32, "max_position_embeddings": 4096,
}  # fmt: skip

TOLERANCE, COARSE_TOLERANCE = 1e-4, CHOICE * 2e-2  # nats per choice, in fp32 and in less


@dataclass(frozen=True)
class Workload:
    """Plans, what they run on, and who runs them.

    Attributes:
        target: How many times faster than the peer the sweep is to be.
        inputs: All of one shape.
        engine: From model, plans and inputs to the answers, plan by plan.
        peer_every: The peer is timed on one plan in this many.
        differ: How far two answers are apart.
        limit: How far they may be.
        probe: One short input, from which the peer's layer-rows are counted.
        told: How far answers are apart, in words.
        least_share: Of the machine's rate of matrix products, what the run's products are to
            reach; 0 where the model is so small that products are not most of the work.
    """

    target: float
    model: impasto.Model
    cases: list[Case]
    inputs: list[Input]
    engine: Callable[[impasto.Model, list[Plan], Sequence[Input]], list[Answers]]
    peer: Peer
    peer_name: str
    peer_every: int
    differ: Callable[[Any, Any], float]
    limit: float
    probe: Input
    told: Callable[[Sequence[float]], str]
    least_share: float

    def sweep(self, every: int = 1, inputs: int | None = None) -> list[Answers]:
        """Run all plans at once, or one in ``every``, on all inputs or the first few."""
        plans = [case.plan for case in self.cases[::every]]
        return self.engine(self.model, plans, self.inputs[:inputs])


def workload(name: str, given: argparse.Namespace) -> Workload | str:
    """Return a workload under the settings of the command line, or why it cannot run."""
    shots = {"generation": 0, "shots-generation": SHOTS}
    return _generation(given, shots[name]) if name in shots else _scoring(name, given)


def _scoring(name: str, given: argparse.Namespace) -> Workload:
    model = load_decoder(random_llama(given.device, given.dtype, given.layers))
    count = given.questions or (64 if given.device == "cuda" else 8 if name == "B" else 16)
    inputs = questions(model.hf.config.vocab_size, count, PREFIX if name == "few-shot" else 0)
    context, continuation = inputs[0]
    is_history = name == "A"  # which no list of layers can say
    limit = TOLERANCE if given.dtype == torch.float32 else COARSE_TOLERANCE
    every = 2 if name == "C" and given.device == "cpu" else 4
    return Workload(
        target=TARGETS[name],
        model=model,
        cases={"A": _paper_a, "B": _paper_b}.get(name, _paper_c)(model.num_layers),
        inputs=inputs,
        engine=score,
        peer=applied if is_history else hand_edited,
        peer_name="HFLM under apply" if is_history else "HFLM on hand-edited models",
        peer_every=given.peer_every or every,
        differ=lambda one, other: abs(one - other),
        limit=limit,
        probe=(context[:20], continuation),
        told=lambda apart: f"they differ by at most {max(apart):.1e}",
        least_share=0.6,
    )


def _generation(given: argparse.Namespace, shots: int) -> Workload | str:
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("IMPASTO_REAL_DATA", beside))
    weights, texts = folder / "models/stories260K", sorted(folder.glob("data/tinystories/*.txt"))
    if not weights.exists() or not texts:
        return (
            "it needs models/stories260K and data/tinystories/*.txt in the folder that "
            "IMPASTO_REAL_DATA names"
        )
    logging.disable_progress_bar()
    hf = AutoModelForCausalLM.from_pretrained(weights, dtype=given.dtype).eval().to(given.device)
    hf.generation_config.eos_token_id = None  # all write to the end
    count = given.questions or PROMPTS
    stories = _stories(weights, texts, count + shots)
    before = [token for story in stories[count:] for token in story]
    prompts = [before + story for story in stories[:count]]
    return Workload(
        target=TARGETS["shots-generation" if shots else "generation"],
        model=load_decoder(hf),
        cases=_paper_a(hf.config.num_hidden_layers),
        inputs=[(prompt, NEW) for prompt in prompts],
        engine=_write,
        peer=applied_generation,
        peer_name="generate under apply",
        peer_every=given.peer_every or 1,
        differ=lambda one, other: float(one != other),
        limit=0,
        probe=(prompts[0][:4], 4),
        told=lambda apart: f"{sum(apart):.0f} differ",
        least_share=0,
    )


def _paper_a(T: int) -> list[Case]:
    families = ("freeze", "shuffle", "gaussian", "drop_attention_from")
    return [case for family in families for case in cases(family, T, k=range(T + 1))]


def _paper_b(T: int) -> list[Case]:
    n = range(1, T // 2)
    return [
        *cases("skip", T, n=n),
        *cases("middle_repeat", T, n=n),
        *cases("reverse", T, n=n),
        *cases("random_order", T, n=n, seed=range(10)),
        *cases("parallel", T, n=n),
        *cases("looped_parallel", T, n=n, loops=range(1, 9)),
    ]


def _paper_c(T: int) -> list[Case]:
    parts, counts = ("attention", "mlp", "block"), range(min(8, T // 2) + 1)
    return cases("drop_last", T, part=parts, count=counts, keep_last=(False, True))


@cache
def random_llama(device: str, dtype: torch.dtype, layers: int | None) -> Any:
    """Return a Llama with random weights: a small one, or on a GPU one like Llama-2-7B."""
    shape: dict[str, Any] = LLAMA_2_7B if device == "cuda" else SMALL
    config = LlamaConfig(**shape, use_cache=False)  # scoring needs no cache
    config.num_hidden_layers = layers or config.num_hidden_layers
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def questions(vocabulary: int, count: int, prefix: int = 0) -> list[Input]:
    """Return requests of random tokens, four to a context; contexts may begin alike."""
    generator = torch.Generator().manual_seed(0)

    def tokens(size: int) -> list[int]:
        return torch.randint(vocabulary, (size,), generator=generator).tolist()

    first = tokens(prefix)
    contexts = [first + tokens(CONTEXT) for _ in range(count)]
    return [(context, tokens(CHOICE)) for context in contexts for _ in range(CHOICES)]


def _stories(tokenizer: Path, texts: Sequence[Path], count: int) -> list[list[int]]:
    """Return prompts cut from the texts one after the other, each behind the first token."""
    reader, size = AutoTokenizer.from_pretrained(tokenizer), PROMPT - 1
    text = "\n".join(path.read_text() for path in texts)[: 8 * size * count]
    ids = reader(text, add_special_tokens=False, verbose=False)["input_ids"]
    return [[reader.bos_token_id, *ids[size * i : size * (i + 1)]] for i in range(count)]


def score(model: impasto.Model, plans: list[Plan], inputs: Sequence[Input]) -> list[Answers]:
    """Return impasto's log-likelihoods, plan by plan."""
    return [[value for value, _ in scores] for scores in model.loglikelihood(plans, inputs)]


def _write(model: impasto.Model, plans: list[Plan], inputs: Sequence[Input]) -> list[Answers]:
    return model.generate(plans, [prompt for prompt, _ in inputs], max_new_tokens=inputs[0][1])
