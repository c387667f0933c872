"""The bundled model is small, loads offline, and knows its tasks under plain greedy decoding."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from impasto.tasks import arithmetic, capitals

DEMO = Path(str(files("impasto") / "demo"))
BARS = [(capitals(), 0.99), (arithmetic(2), 0.99), (arithmetic(3, limit=200), 0.97)]


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(DEMO, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(DEMO, local_files_only=True)


def reply(model, tokenizer, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Continue every prompt greedily, up to its newline, with Hugging Face alone."""
    inputs = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    newline = tokenizer.encode("\n")[0]
    ids = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=[tokenizer.eos_token_id, newline],
    )
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :])


def exact_matches(task, replies: list[str]) -> list[bool]:
    given = zip(task.items, replies, strict=True)
    return [task.judge(question, [text])["exact_match"] for question, text in given]


def test_the_weights_take_at_most_sixteen_megabytes():
    assert (DEMO / "model.safetensors").stat().st_size <= 16_000_000


def test_it_is_a_llama_of_twelve_layers_that_computes_in_float32(model):
    assert model.config.model_type == "llama"
    assert model.config.num_hidden_layers == 12
    assert model.dtype == torch.float32


def test_the_tokenizer_maps_tokens_to_text_and_writes_digits_one_by_one(tokenizer):
    prompt = capitals().items[0].prompt
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    pieces = [prompt[a:b] for a, b in encoded["offset_mapping"]]
    assert "".join(pieces) == prompt
    assert tokenizer.tokenize("12 + 3") == ["1", "2", "Ġ+", "Ġ3"]


@pytest.mark.parametrize("text", ["", "Q: Brasília?\n\nA: 東京 \t42\r\n", " a  b", "<|ende|>"])
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_a_prompt_and_its_answer_are_encoded_apart_as_together(tokenizer):
    for task, _ in BARS:
        for q in task.items[:50]:
            whole = tokenizer.encode(f"{q.prompt} {q.answer}\n")
            assert whole == tokenizer.encode(q.prompt) + tokenizer.encode(f" {q.answer}\n")


def test_prompts_take_few_tokens(tokenizer):
    longest = [max(len(tokenizer.encode(q.prompt)) for q in task.items) for task, _ in BARS]
    assert longest[0] <= 26
    assert longest[1:] == [10, 14]


@pytest.mark.parametrize(("task", "bar"), BARS, ids=lambda value: getattr(value, "name", ""))
def test_it_answers_its_tasks_under_plain_greedy_decoding(model, tokenizer, task, bar):
    replies = reply(model, tokenizer, [q.prompt for q in task.items], task.max_new_tokens)
    right = [
        task.judge(q, [text])["exact_match"] for q, text in zip(task.items, replies, strict=True)
    ]
    assert sum(right) / len(right) >= bar


def test_another_example_does_not_change_what_it_knows(model, tokenizer):
    task = capitals(shot="Mongolia", limit=50)
    replies = reply(model, tokenizer, [q.prompt for q in task.items], task.max_new_tokens)
    right = [
        task.judge(q, [text])["exact_match"] for q, text in zip(task.items, replies, strict=True)
    ]
    assert sum(right) >= 49


def test_its_card_and_its_scores_tell_the_truth():
    scores = json.loads((DEMO / "scores.json").read_text())["exact_match"]
    assert scores["capitals"] >= 0.99
    assert scores["arithmetic-2"] >= 0.99
    assert scores["arithmetic-3"] >= 0.97
    assert "194" in (DEMO / "README.md").read_text()
