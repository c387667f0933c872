"""Train the demo model from nothing: `python recipes/train_demo.py`, under an hour on two cores.

Writes everything that `impasto.load("demo")` needs, with the log of the training and the scores of
the weights as they are stored. The seed fixes the text, the order and the first weights; the last
bits of a sum may still differ between machines. Scores are exact matches of plain Hugging Face
greedy decoding on the tasks' own questions, which are all part of the training text: the model is
meant to know them.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from demo_text import Sequences, tokenizer_text
from impasto.tasks import Questions, arithmetic, capitals

DEMO = Path(__file__).parents[1] / "src" / "impasto" / "demo"
VOCABULARY = 1536
PIECES = r"[A-Z]:|\?\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"  # words, and digits one by one
END = "<|end|>"
TASKS = (capitals(), arithmetic(2), arithmetic(3))


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast the model learns."""

    steps: int = 1400
    rows: int = 16
    length: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    score_every: int = 500
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of a step: a linear rise, then half a cosine down to a hundredth."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def new_tokenizer() -> PreTrainedTokenizerFast:
    """Train the byte-level BPE: any text can be written, no token is put before a prompt."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(PIECES), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_text(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=256
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build the untrained model: twelve Llama layers of width 192."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=12,
        num_attention_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.get_vocab()[END],
        pad_token_id=tokenizer.get_vocab()[END],
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, sequences: Sequences, settings: Settings, out: Path) -> None:
    """Train in place, and write a line of the log for every fifty steps and every score."""
    optimizer = torch.optim.AdamW(
        model.parameters(), betas=(0.9, 0.98), weight_decay=settings.weight_decay, fused=True
    )
    started, losses = time.monotonic(), []
    with (out / "training_log.csv").open("w", buffering=1, encoding="utf-8") as log:
        log.write(",".join(("step", "seconds", "loss", *(task.name for task in TASKS))) + "\n")
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate_at(step)
            loss = weighted_loss(model, *sequences.draw(settings.rows))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if (step + 1) % 50 == 0:
                scored = (step + 1) % settings.score_every == 0
                shares = score(model, sequences.tokenizer) if scored else {}
                row = [step + 1, round(time.monotonic() - started), f"{sum(losses) / 50:.4f}"]
                row += [f"{shares[task.name]:.4f}" if scored else "" for task in TASKS]
                log.write(",".join(map(str, row)) + "\n")
                losses.clear()


def weighted_loss(
    model: LlamaForCausalLM, ids: list[list[int]], weights: list[list[float]]
) -> Tensor:
    """Return the mean loss in nats over the next tokens, each with its weight."""
    tokens, weight = torch.tensor(ids), torch.tensor(weights)[:, 1:]
    logits: Tensor = model(input_ids=tokens[:, :-1], use_cache=False).logits
    nats = functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    return (nats * weight).sum() / weight.sum()


@torch.no_grad()
def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Return each task's share of exact matches under plain greedy decoding."""
    model.eval()
    shares = {task.name: _right(model, tokenizer, task) / len(task.items) for task in TASKS}
    model.train()
    return shares


def _right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Questions) -> int:
    """Count the questions that are answered right, in batches padded on the left."""
    right = 0
    ends = [tokenizer.get_vocab()[END], *tokenizer.encode("\n")]
    generate: Any = model.generate  # its declared type refuses transformers' own models
    for start in range(0, len(task.items), 256):
        batch = task.items[start : start + 256]
        inputs = tokenizer(
            [q.prompt for q in batch],
            padding=True,
            padding_side="left",
            return_tensors="pt",
            return_token_type_ids=False,
        )
        ids = generate(
            **inputs,
            do_sample=False,
            max_new_tokens=task.max_new_tokens,
            eos_token_id=ends,
            pad_token_id=ends[0],
        )
        replies = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])
        given = zip(batch, replies, strict=True)
        right += sum(task.judge(question, [reply])["exact_match"] for question, reply in given)
    return right


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the weights in half precision, under a configuration that loads them as float32."""
    model.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n")


def main() -> None:
    """Train, store, load again and score what was stored."""
    parser = argparse.ArgumentParser(description="Train the demo model")
    parser.add_argument("--out", type=Path, default=DEMO, help="the folder to write (%(default)s)")
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--seed", type=int, default=Settings().seed)
    arguments = parser.parse_args()
    settings = Settings(steps=arguments.steps, seed=arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    torch.manual_seed(settings.seed)
    started = time.monotonic()

    tokenizer = new_tokenizer()
    model = new_model(tokenizer)
    sequences = Sequences(tokenizer, END, settings.length, settings.seed)
    train(model, sequences, settings, arguments.out)
    save(model, tokenizer, arguments.out)

    stored = AutoModelForCausalLM.from_pretrained(arguments.out)
    result = {
        "exact_match": score(stored, tokenizer),
        "training_minutes": round((time.monotonic() - started) / 60, 1),
        "parameters": stored.num_parameters(),
    }
    (arguments.out / "scores.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
