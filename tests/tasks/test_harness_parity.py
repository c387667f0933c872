"""lm-eval's tasks in a study score what lm-eval itself scores, whatever they ask and however."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import json
import math

import pytest
import torch

import impasto
from harness_reference import Case, arc, gsm8k, hellaswag, lambada, theirs, wikitext
from impasto import Plan, Study
from impasto.study.results.notices import cut_short
from thinning import thinned

PLANS = ["0-11", "0 2-11", "0-3 freeze 4-11", "0-5 noise(gaussian) 6-11"]
SHORT = {"generation_kwargs": {"max_gen_toks": 24}}
CASES = {
    "multiple choice": Case("arc_easy", {"test": arc(12)}),
    "few-shot examples": Case("arc_easy", {"test": arc(6), "train": arc(9)}, {"num_fewshot": 3}),
    "another draw": Case(
        "arc_easy", {"test": arc(6), "train": arc(9)}, {"num_fewshot": 2, "seed": 5}
    ),
    "documents processed first": Case("hellaswag", {"validation": hellaswag(8)}),
    "a limit": Case("hellaswag", {"validation": hellaswag(8)}, {"limit": 3}),
    "one continuation": Case("lambada_openai", {"test": lambada(9)}),
    "rolling windows": Case("wikitext", {"test": wikitext(4)}),
    "generation and filters": Case("gsm8k", {"test": gsm8k(4), "train": gsm8k(8)}, SHORT),
    "a system instruction": Case(
        "arc_easy", {"test": arc(5)}, {"system_instruction": "Answer in one word."}
    ),
    "more than the context": Case(
        "arc_easy", {"test": arc(3), "train": arc(30)}, {"num_fewshot": 25}
    ),
}


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


@pytest.fixture(scope="module")
def with_bos():
    """A random model whose tokenizer puts a BOS before every text, and has a chat template."""
    from tokenizers import Tokenizer, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer.from_str(impasto.load("demo").tokenizer.backend_tokenizer.to_str())
    inner.add_special_tokens(["<s>"])
    bos = inner.token_to_id("<s>")
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bos)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=bos + 1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=12,
        num_attention_heads=4,
        max_position_embeddings=192,
        bos_token_id=bos,
        eos_token_id=0,
    )
    hf = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in hf.parameters():
            weight.mul_(4) if weight.ndim > 1 else None
    return impasto.load(hf, tokenizer)


@pytest.fixture(scope="module")
def without_positions():
    """A random model that could read on and on, with a tokenizer that says 64 tokens are enough."""
    from tokenizers import Tokenizer
    from transformers import BloomConfig, BloomForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer.from_str(impasto.load("demo").tokenizer.backend_tokenizer.to_str())
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", pad_token="<|end|>", model_max_length=64
    )
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=len(tokenizer), hidden_size=32, n_layer=12, n_head=4, eos_token_id=0
    )
    return impasto.load(BloomForCausalLM(config).eval(), tokenizer)


def compare(model, case, plans, folder):
    """Assert that a study's metrics, standard errors too, are lm-eval's under every plan."""
    from lm_eval.models.huggingface import HFLM

    study = {"model": "m", "tasks": [case.entry(folder)], "plans": plans}
    frame = Study.from_text(json.dumps(study)).run(model=model).table
    for line in plans:
        rows = frame[(frame.plan == line) & (frame.strategy == "plan")]
        with impasto.apply(model.hf, Plan.parse(line)):
            lm = HFLM(pretrained=model.hf, tokenizer=model.tokenizer, batch_size=4)
            wanted = theirs(lm, case, folder)
        assert len(rows) * 2 == len(wanted) > 0
        for row in rows.to_dict(orient="records"):
            name, _, filtering = row["metric"].partition(",")
            value = wanted[f"{name},{filtering or 'none'}"]
            assert row["value"] == pytest.approx(value, rel=1e-5, abs=1e-9), row["metric"]
            stderr = wanted[f"{name}_stderr,{filtering or 'none'}"]
            if stderr == "N/A":
                assert math.isnan(row["stderr"])
            else:
                assert row["stderr"] == pytest.approx(stderr, rel=1e-4, abs=1e-9)
    return frame


@pytest.mark.parametrize("case", thinned(CASES, 2))
def test_every_metric_is_lm_evals(case, demo, tmp_path):
    compare(demo, CASES[case], PLANS if case == "multiple choice" else PLANS[:3:2], tmp_path)


@pytest.mark.parametrize(
    "case",
    thinned(
        ["multiple choice", "one continuation", "rolling windows", "generation and filters"], 2
    ),
)
def test_a_bos_is_put_where_lm_eval_puts_it(case, with_bos, tmp_path):
    compare(with_bos, CASES[case], PLANS[:3:2], tmp_path)


@pytest.mark.parametrize(
    ("case", "multiturn"),
    [("few-shot examples", True), ("few-shot examples", False), ("generation and filters", True)],
)
def test_chats_are_put_as_lm_eval_puts_them(case, multiturn, with_bos, tmp_path):
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": multiturn}
    chat["system_instruction"] = "Be brief."
    told = Case(CASES[case].name, CASES[case].splits, CASES[case].options | chat)
    compare(with_bos, told, PLANS[:1], tmp_path)


def test_what_does_not_fit_the_context_is_counted(demo, tmp_path):
    frame = compare(demo, CASES["more than the context"], PLANS[:1], tmp_path)
    assert set(frame["truncated"]) == {3}
    assert list(cut_short(frame)) == [
        "arc_easy: 3 of 3 items did not fit the model's context and lost their beginning"
    ]
    frame = compare(demo, CASES["multiple choice"], PLANS[:1], tmp_path)
    assert set(frame["truncated"]) == {0}
    assert not list(cut_short(frame))


@pytest.mark.parametrize(
    "case", thinned(["more than the context", "rolling windows", "generation and filters"])
)
def test_a_model_without_positions_reads_as_much_as_lm_eval_lets_it(
    case, without_positions, tmp_path
):
    assert without_positions.max_positions is None
    frame = compare(without_positions, CASES[case], PLANS[:2], tmp_path)
    assert (frame["truncated"] > 0).all() == (case != "rolling windows")
