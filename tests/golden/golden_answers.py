"""What the engine answers: some questions of each kind, by models that anyone can draw again.

Weights come from NumPy's legacy generator, whose stream NumPy promises never to change, and depend
on nothing but a weight's name. `golden.json` holds the answers of one version of the engine, one
line each; `make.py` writes it, `test_golden.py` compares.
"""

import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from transformers import BertConfig, BertModel

import impasto
import tiny
from encoders import ENCODERS
from families import FAMILIES, VOCABULARY
from impasto import Donor, Plan, Study
from impasto.heads import predict
from impasto.tasks import RollingLogLikelihood
from impasto.tasks.answering import answer
from impasto.tasks.problem import Example, Frozen, Problem
from plans import ENCODER_PLANS, INJECTING_PLANS, PLANS

GOLDEN = Path(__file__).with_name("golden.json")
TOLERANCE = 1e-4  # in log p, and in any other number; of large ones a tenth of that share

DECODERS = ("llama", "gpt2", "gpt_neox", "gemma3", "bloom", "falcon_alibi", "qwen3_moe")
INJECTED = ("llama", "gpt2")
MASKED = ("bert", "deberta_v2_conv", "modernbert")
MASK, PADDING = 3, 1  # token ids of the random encoders
NEW_TOKENS = 6

DEMO = """\
model: demo
tasks: [{name: capitals, limit: 6}, {name: arithmetic, terms: 2, limit: 6}]
plans:
- 0-3 freeze 4-11
- 0-5 noise(gaussian, seed=3) 6-11
- 0-4 noise(shuffle) 5-11
- 0-3 [4-7]*2 8-11
- 0-7 8-11.mlp
- inject(donor) 0-11
- 0-3 inject(donor) 4-11
"""
TEXT = "Q: What is the capital of Spain?\nA: Madrid\nQ: What is the capital of France?\nA:"
CHOICES = (" Paris", " Rome", " Madrid\n", " 12")

Answers = dict[str, Any]  # by what was asked


def answers() -> Answers:
    """Return all answers, numbers rounded as they are kept."""
    answers = head_answers() | demo_answers()
    for name in DECODERS:
        answers |= _named(name, decoder_answers(name))
    for name in INJECTED:
        answers |= _named(name, injected_answers(name))
    for name in MASKED:
        answers |= _named(name, encoder_answers(name))
    return {key: _plain(answers[key]) for key in sorted(answers)}


def decoder(name: str) -> Any:
    """Return a small decoder of a family with drawn weights."""
    return impasto.load(drawn(FAMILIES[name]("sdpa")))


def decoder_plans(name: str) -> list[Plan]:
    """Return the plans that a family is asked under: all of them together meet every plan."""
    return PLANS[DECODERS.index(name) :: len(DECODERS)]


def prompts() -> list[list[int]]:
    """Return three prompts of token ids, the second of which begins as the first does."""
    draw = np.random.RandomState(1)
    first, other, short = (draw.randint(4, VOCABULARY, n).tolist() for n in (11, 7, 5))
    return [first, first[:6] + other, short]


def decoder_answers(name: str) -> Iterator[tuple[str, Any]]:
    """Yield what a decoder answers to each kind of question."""
    model, plans = decoder(name), decoder_plans(name)
    first, second, short = texts = prompts()
    requests = [
        (first, [5]),
        (first, [7, 8]),
        ([*first, 5], [9, 4, 6]),
        (second, [30]),
        (short, [4, 4]),
    ]
    ids, mask = padded(texts)
    yield from _by_plan("log p", plans, model.loglikelihood(plans, requests))
    yield from _by_plan("fidelity", plans, model.fidelity(plans, texts, length=8))
    yield from _by_plan("written", plans, model.generate(plans, texts, NEW_TOKENS))
    logits = [model.next_logits(plan, ids, mask)[:, ::32] for plan in plans]
    yield from _by_plan("next logits", plans, logits)
    states = [model.hidden_states(plan, [first])[0][:, -1, :2] for plan in plans]
    yield from _by_plan("hidden states", plans, states)
    if "falcon" not in name:  # its attention is chosen once, on loading
        yield "attention entropy", model.attention_entropy(first).mean(-1)


def injected_answers(name: str) -> Iterator[tuple[str, Any]]:
    """Yield what a decoder answers under plans that inject."""
    model, plans = decoder(name), INJECTING_PLANS[::2]
    first, second, _ = prompts()
    donors = {"a": Donor(second, (5, 8), (2, 5)), "b": Donor(second[::-1], (0, 1), (3, 4))}
    scores = model.loglikelihood(plans, [(first, [5]), (first, [7, 8])], donors)
    yield from _by_plan("log p", plans, scores)
    yield from _by_plan("written", plans, model.generate(plans, [first], NEW_TOKENS, donors=donors))


def encoder_answers(name: str) -> Iterator[tuple[str, Any]]:
    """Yield what an encoder answers: scores of masked tokens, and logits at every token."""
    model: Any = impasto.load(drawn(ENCODERS[name]("sdpa")))
    model.mask_token = MASK
    plans = ENCODER_PLANS[MASKED.index(name) :: 2 * len(MASKED)]
    texts = prompts()
    yield from _by_plan("masked", plans, model.masked_scores(plans, texts))
    ids, mask = padded(texts, on_the_left=False)
    logits = [model.token_logits(plan, ids, mask)[:, :5:2, ::48] for plan in plans]
    yield from _by_plan("token logits", plans, logits)


def head_answers() -> Answers:
    """Return what heads say that were fitted to an encoder under plans: classes, and numbers."""
    config = BertConfig(
        vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=64,
    )  # fmt: skip
    model: Any = impasto.load(drawn(BertModel(config)), tokenizer=tiny.tokenizer())
    draw = random.Random(0)
    sentences = [(tiny.sentence(number % 2, draw), number % 2) for number in range(60)]
    plans = [Plan.parse(line, layers=4) for line in ("0-3", "0 [1-2]*2 3", "0-1 2.attn 3.mlp")]
    answers: Answers = {}
    for what, classes in (("class", 2), ("number", 0)):
        examples = [Example(text, None, label) for text, label in sentences[:48]]
        problem = Problem(what, examples, classes, Frozen())
        said = predict(model, plans, problem, [(text, None) for text, _ in sentences[48:]])
        answers |= _named("heads", _by_plan(what, plans, said))
    return answers


def demo_answers() -> Answers:
    """Return what the bundled model answers: to our own tasks, of choices, and of a whole text."""
    model: Any = impasto.load("demo")
    study = Study.from_text(DEMO, name="golden")
    results = study.run(model=model)
    answers: Answers = {}
    for record in results.answers:
        key = f"demo | {record['task']} | {record['plan']}"
        answers.setdefault(key, []).append(record["responses"])
    for row in results.table.to_dict(orient="records"):
        answers[f"demo | {row['task']}, {row['metric']} | {row['plan']}"] = row["value"]
    unique = {labelled.plan.digest: labelled.plan for labelled in study.labelled_plans(12)}
    plans = [plan for plan in unique.values() if not plan.injections]
    scores = model.loglikelihood(plans, [(TEXT, choice) for choice in CHOICES])
    whole = answer(model, plans, [[RollingLogLikelihood(TEXT)]]).responses
    answers |= _named("demo", _by_plan("choices", plans, scores))
    return answers | _named("demo", _by_plan("whole text", plans, whole))


@torch.no_grad()
def drawn(hf: Any) -> Any:
    """Return a model with weights that follow from their names, so large that every edit shows."""
    for name, weight in hf.named_parameters():
        draw = np.random.RandomState(crc32(name.encode()))
        values = torch.from_numpy(draw.standard_normal(weight.shape)).to(weight.dtype)
        if weight.ndim == 1 or "norm" in name.lower():
            weight.add_(values * 0.1)
        else:
            weight.copy_(values * 0.25)
    return hf.eval()


def padded(texts: Sequence[Sequence[int]], on_the_left: bool = True) -> tuple[Any, Any]:
    """Return texts as one batch of token ids with its mask."""
    width = max(map(len, texts))
    rows = [[PADDING] * (width - len(text)) for text in texts]
    both = list(zip(rows, texts, strict=True))
    ids = [[*fill, *text] if on_the_left else [*text, *fill] for fill, text in both]
    ones = [[0] * len(fill) + [1] * len(text) for fill, text in both]
    mask = ones if on_the_left else [row[::-1] for row in ones]
    return torch.tensor(ids), torch.tensor(mask)


def read() -> Mapping[str, Any]:
    """Return the golden file: the engine's version, the libraries' versions, and the answers."""
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def write(engine: int, versions: Mapping[str, str], answers: Answers) -> None:
    """Write the golden file, an answer a line."""
    lines = ",\n".join(
        f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in answers.items()
    )
    head = f'"engine": {engine},\n"versions": {json.dumps(versions)},\n"answers": {{\n'
    GOLDEN.write_text(f"{{\n{head}{lines}\n}}\n}}\n", encoding="utf-8")


def differences(answers: Answers, golden: Answers) -> Iterator[str]:
    """Yield where answers differ from the golden ones beyond rounding."""
    for key in dict.fromkeys([*golden, *answers]):
        if key not in answers or key not in golden:
            yield f"{key}: only {'golden' if key in golden else 'answered'}"
        elif not alike(answers[key], golden[key]):
            yield f"{key}: {json.dumps(answers[key])[:200]}, not {json.dumps(golden[key])[:200]}"


def alike(answers: Any, golden: Any) -> bool:
    """Say whether two answers are the same up to rounding; all but numbers must be equal."""
    if isinstance(answers, list) and isinstance(golden, list):
        return len(answers) == len(golden) and all(map(alike, answers, golden))
    if isinstance(answers, float) and isinstance(golden, float | int):
        return math.isclose(answers, golden, rel_tol=TOLERANCE / 10, abs_tol=TOLERANCE)
    return type(answers) is type(golden) and answers == golden


def _named(name: str, answers: Iterable[tuple[str, Any]]) -> Answers:
    return {f"{name} | {key}": value for key, value in answers}


def _by_plan(what: str, plans: Sequence[Plan], said: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for plan, each in zip(plans, said, strict=True):
        yield f"{what} | {plan}", each


def _plain(value: Any) -> Any:
    """Return an answer as JSON has it, with seven digits of each number."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value
