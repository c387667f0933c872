"""Requests of any kind and order are answered each as if alone; what was cut to fit is counted."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import pytest
import torch

import impasto
from families import VOCABULARY, family
from impasto import Plan, UserError
from impasto.tasks import Generation, HeadQuestion, LogLikelihood, RollingLogLikelihood
from impasto.tasks.answering import answer
from impasto.tasks.problem import Example, Frozen, Problem

PLANS = [Plan.parse(line) for line in ("0-11", "0-2 freeze 3-11")]
ITEMS = [
    [LogLikelihood("2 + 3 =", " 5"), LogLikelihood("2 + 3 =", " 7")],
    [Generation("4 - 1 =", ("\n",), 4)],
    [RollingLogLikelihood("Q: What is the capital of France?\nA: Paris\n")],
    [Generation("4 - 1 =", (" ",), 4), LogLikelihood("", "1 + 1 = 2"), Generation("2 +", (), 2)],
]


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


def close(one, other):
    if isinstance(one, tuple):
        return one[1] == other[1] and one[0] == pytest.approx(other[0], abs=1e-4)
    return one == (other if isinstance(one, str) else pytest.approx(other, abs=1e-4))


def test_every_request_is_answered_as_if_alone_under_every_plan(demo):
    together = answer(demo, PLANS, ITEMS)
    assert together.truncated == 0
    for plan, found in zip(PLANS, together.responses, strict=True):
        for requests, responses in zip(ITEMS, found, strict=True):
            for request, response in zip(requests, responses, strict=True):
                [[[alone]]] = answer(demo, [plan], [[request]]).responses
                assert close(response, alone)


def test_the_responses_are_those_of_the_model(demo):
    [[(right, _), (short,), _, (_, _, written)]] = answer(demo, PLANS[:1], ITEMS).responses
    assert right == demo.loglikelihood(PLANS[0], [("2 + 3 =", " 5")])[0][0]
    assert short == " 3"
    assert written == demo.generate(PLANS[0], ["2 +"], max_new_tokens=2)[0][0]


@pytest.mark.parametrize("length", [1, 60, 128, 129, 300])
def test_a_whole_text_is_scored_token_by_token_in_disjoint_windows(length):
    """Every token is predicted once; each window but the last is as long as the context."""
    model = impasto.load(family("llama"), _letters())
    limit = model.max_positions
    text = "".join(chr(ord("a") + i * i % 26) for i in range(length))
    [[[found]]] = answer(model, [Plan.identity(6)], [[RollingLogLikelihood(text)]]).responses
    ids = [model.prefix_token, *model.tokens(text)]
    wanted, done = 0.0, 1
    while done < len(ids):
        end = min(done + limit, len(ids))
        window = ids[max(0, end - 1 - limit) : end - 1]
        with torch.no_grad():
            log_p = model.hf(input_ids=torch.tensor([window])).logits[0].log_softmax(-1)
        first = end - 1 - len(window)
        wanted += sum(log_p[i - 1 - first, ids[i]].item() for i in range(done, end))
        done = end
    assert found == pytest.approx(wanted, abs=1e-3)


def _letters():
    """Return a tokenizer of one token for each letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {"<s>": 0} | {chr(ord("a") + i): i + 1 for i in range(26)}
    inner = Tokenizer(models.WordLevel(known, unk_token="<s>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    assert len(known) < VOCABULARY
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")


def test_what_is_too_long_loses_its_left_end_and_is_counted(demo):
    room = demo.max_positions
    words = "2 + 3 = 5\n" * room
    kept = demo.tokens(words)[-(room - 4) :]
    items = [
        [Generation(words, ("\n",), 4)],
        [LogLikelihood(words, " 5"), LogLikelihood(words, " 7")],
        [Generation("2 + 3 =", ("\n",), 4)],
    ]
    answers = answer(demo, PLANS[:1], items)
    assert answers.truncated == 2
    [[(cut,), _, _]] = answers.responses
    [[ids]] = demo.generate(PLANS[0], [kept], max_new_tokens=4)
    assert cut == demo.tokenizer.decode(ids).split("\n")[0]


def test_stops_are_looked_for_one_after_the_other_as_lm_eval_does(demo):
    """The reply is ` 3`: where the first stop is cut off, the second is no longer whole."""
    items = [[Generation("4 - 1 =", stops, 4)] for stops in (("3", " 3"), (" 3", "3"))]
    [[(first,), (second,)]] = answer(demo, PLANS[:1], items).responses
    assert (first, second) == (" ", "")


def test_a_continuation_longer_than_the_context_is_refused(demo):
    with pytest.raises(UserError, match="exceeds the 256 tokens that the model reads"):
        answer(demo, PLANS[:1], [[LogLikelihood("2 +", " 3 = 5\n" * 256)]])


def test_replies_that_leave_no_room_for_a_prompt_are_refused(demo):
    with pytest.raises(UserError, match="leave no room for a prompt in the model's 256 positions"):
        answer(demo, PLANS[:1], [[Generation("2 + 3 =", (), 256)]])


def test_heads_are_asked_of_who_has_them_and_of_nobody_else(demo):
    problem = Problem("mood", [Example("good", None, 1)], 2, Frozen())
    items = [[HeadQuestion(problem, "fine", None)], [HeadQuestion(problem, "bad", "dull")]]
    with pytest.raises(UserError, match="mood is asked of heads that are fitted to it; run it in"):
        answer(demo, PLANS, items)

    def predict(model, plans, problem, texts, progress):
        assert (model, problem.name) == (demo, "mood")
        return [[float(len(texts))] * len(texts) for _ in plans]

    said = answer(demo, PLANS, items, predict=predict).responses
    assert said == [[(2.0,), (2.0,)]] * len(PLANS)


def test_progress_goes_from_nothing_to_all(demo):
    told = []
    answer(demo, PLANS, ITEMS, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
