"""Tasks of impasto's own are put as a chat by the model's template, each example as two turns."""

from typing import Any

import pytest

from impasto.error import UserError
from impasto.tasks import load_suite
from special_tokens import tokenizer_of

CHAT = {"apply_chat_template": True}


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of("none")


def task(**options) -> Any:
    return load_suite({"name": "capitals", "limit": 2} | options).tasks[0]


def put(entry, tokenizer) -> Any:
    [one] = load_suite(entry).tasks
    return one.requests(tokenizer)


def test_an_example_is_two_turns_and_the_question_the_last(tokenizer):
    item = task().items[0]
    [[request], _] = task(**CHAT).requests(tokenizer)
    assert request.prompt == (
        "[user] Q: What is the capital of Spain?\nA:\n[assistant] Madrid\n"
        f"[user] Q: What is the capital of {item.id}?\nA:\n[assistant]"
    )
    assert request.stop == ("\n",)


def test_a_system_instruction_stands_before_everything(tokenizer):
    [[request], _] = task(**CHAT, system_instruction="Be brief.").requests(tokenizer)
    assert request.prompt.startswith("[system] Be brief.\n[user] Q: What is the capital of Spain")


def test_every_own_task_of_questions_takes_a_chat(tokenizer, tmp_path):
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text('{"question": "1 + 1?", "answer": "2"}\n{"question": "2?", "answer": "3"}\n')
    entry = {"name": "questions", "file": str(quiz)} | CHAT
    [[request]] = put({**entry, "shots": 1}, tokenizer)
    last = "[user] Q: 2?\nA:\n[assistant]"
    assert request.prompt == f"[user] Q: 1 + 1?\nA:\n[assistant] 2\n{last}"
    [[scored]] = put({**entry, "shots": 1, "score": "likelihood"}, tokenizer)
    assert scored.context.endswith(last)
    assert scored.continuation == "3"  # the reply begins right behind the template
    [[request]] = put({"name": "arithmetic", "limit": 1} | CHAT, tokenizer)
    assert request.prompt.startswith("[user] 2 + 3 =\n[assistant] 5\n[user] ")


def test_a_donor_is_put_as_a_chat_too(tokenizer):
    asked = task(**CHAT)
    donor = asked.donor(asked.items[0], tokenizer)
    assert donor["prompt"].startswith("[user] Q: What is")
    assert donor["prompt"].endswith("[assistant]")


def test_a_chat_is_another_task_than_its_text_and_says_how_it_is_put():
    tasks = [task(), task(**CHAT), task(**CHAT, system_instruction="Be brief.")]
    assert len({each.digest for each in tasks}) == 3
    assert task(apply_chat_template=False).digest == tasks[0].digest


def test_a_model_without_a_template_is_told_once(tokenizer):
    class Plain:
        chat_template = None

    with pytest.raises(UserError, match="apply_chat_template needs a model whose tokenizer has a"):
        task(**CHAT).requests(Plain())
    assert task().requests(Plain())


def test_texts_are_no_chat():
    with pytest.raises(UserError, match="texts has no option 'apply_chat_template'"):
        load_suite({"name": "texts", "file": "t.txt"} | CHAT)
