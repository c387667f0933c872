"""Tokenizers that append special tokens: texts that go on end without them, lm-eval's as HFLM's."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import json
import warnings

import pytest

import impasto
from harness_reference import Case, arc, gsm8k, lambada, theirs, wikitext
from impasto import Plan, Study
from impasto.lm_eval import ImpastoLM
from impasto.run.batching.tokenisation import added_tokens
from special_tokens import TEMPLATES, random_model, saved, tokenizer_of
from thinning import thinned

APPENDING = {"[SEP] after": "[SEP]", "[CLS] and [SEP]": "[SEP]", "BOS and EOS": "</s>"}
PLANS = [Plan.identity(4), Plan.parse("0 2-3")]
CONTEXT, CONTINUATION = "Q: What is the capital of France?\nA:", " Paris"
CASES = {
    "multiple choice": Case("arc_easy", {"test": arc(6)}),
    "one continuation": Case("lambada_openai", {"test": lambada(5)}),
    "rolling windows": Case("wikitext", {"test": wikitext(3)}),
    "generation": Case(
        "gsm8k",
        {"test": gsm8k(3), "train": gsm8k(8)},
        {"generation_kwargs": {"max_gen_toks": 24}, "num_fewshot": 1},
    ),
}


@pytest.fixture(scope="module")
def opened():
    """By template, a model that was loaded with its tokenizer."""
    made = {name: tokenizer_of(name) for name in TEMPLATES}
    return {name: impasto.load(random_model(t), t) for name, t in made.items()}


def plain(model, template, text):
    """Return a text's token ids, with BOS where the template has one, and nothing behind it."""
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    has_bos = TEMPLATES[template].startswith("<s>")
    return [model.tokenizer.bos_token_id, *ids] if has_bos else ids


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_tokenizer_adds_is_told_by_what_it_does_to_a_text(template):
    tokenizer = tokenizer_of(template)
    before, behind = (list(map(tokenizer.decode, some)) for some in added_tokens(tokenizer))
    assert before == (["<s>"] if TEMPLATES[template].startswith("<s>") else [])
    assert behind == ([APPENDING[template]] if template in APPENDING else [])
    assert added_tokens(tokenizer, add_bos_token=False) == ((), ())


def test_a_tokenizer_that_knows_few_words_is_tried_on_its_own():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE({"q": 0, "z": 1, "[SEP]": 2}, []))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens(["[SEP]"])
    inner.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", special_tokens=[("[SEP]", 2)]
    )
    assert added_tokens(PreTrainedTokenizerFast(tokenizer_object=inner)) == ((), (2,))


@pytest.mark.filterwarnings("ignore:the tokenizer puts")
@pytest.mark.parametrize("template", TEMPLATES)
def test_no_prompt_and_no_context_ends_in_an_appended_token(template, opened):
    model = opened[template]
    ids = plain(model, template, CONTEXT)
    assert model.tokens(CONTEXT) == ids
    assert ids[-1] not in model.tokenizer.all_special_ids
    more = model.tokenizer.encode(CONTINUATION, add_special_tokens=False)
    assert model.token_pair(CONTEXT, CONTINUATION) == (ids, more)
    of_text = model.loglikelihood(PLANS, [(CONTEXT, CONTINUATION)])
    assert of_text == model.loglikelihood(PLANS, [(ids, more)])
    written = model.generate(PLANS, [CONTEXT], max_new_tokens=4)
    of_ids = model.generate(PLANS, [ids], max_new_tokens=4)
    for [text], [tokens] in zip(written, of_ids, strict=True):
        assert text == model.tokenizer.decode(tokens, skip_special_tokens=True)
    [states] = model.hidden_states(PLANS[0], [CONTEXT])
    assert states.shape[1] == len(ids)


@pytest.mark.filterwarnings("ignore:the tokenizer puts")
def test_an_end_that_the_user_wrote_stays(opened):
    model = opened["BOS and EOS"]
    assert model.tokens("2 + 3</s>") == [*model.tokens("2 + 3"), model.tokenizer.eos_token_id]


@pytest.mark.parametrize("template", APPENDING)
def test_it_is_said_once_however_much_is_asked(template):
    tokenizer = tokenizer_of(template)
    model = impasto.load(random_model(tokenizer), tokenizer)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.generate(PLANS, [[1, 2]], max_new_tokens=1)
        assert not told  # token ids are read as they are
        for _ in range(2):
            model.loglikelihood(PLANS, [(CONTEXT, CONTINUATION)] * 3)
            model.generate(PLANS, [CONTEXT] * 2, max_new_tokens=1)
    [warning] = told
    assert str(warning.message).startswith(f"the tokenizer puts {APPENDING[template]} behind")


@pytest.mark.parametrize("template", sorted(TEMPLATES.keys() - APPENDING.keys()))
def test_nothing_is_said_of_other_tokenizers(template, opened):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened[template].loglikelihood(PLANS, [(CONTEXT, CONTINUATION)])
        ImpastoLM(opened[template])


def test_an_encoder_reads_sentences_with_both_special_tokens():
    from encoders import encoder

    tokenizer = tokenizer_of("[CLS] and [SEP]", mask_token="<|end|>")
    model = impasto.load(encoder("bert"), tokenizer)
    first, *_, last = model.tokens("A")
    assert tokenizer.convert_ids_to_tokens([first, last]) == ["<s>", "[SEP]"]


BOS = (None, True, False)
COMBINED = [  # every two of them meet; all combinations are slow
    pytest.param(case, template, bos, marks=[] if BOS[(i + j) % 3] is bos else pytest.mark.slow)
    for i, case in enumerate(CASES)
    for j, template in enumerate(APPENDING)
    for bos in BOS
]


@pytest.mark.parametrize(("case", "template", "bos"), thinned(COMBINED))
@pytest.mark.filterwarnings("ignore:the tokenizer puts")
def test_lm_evals_tasks_have_the_numbers_of_its_own_model_class(case, template, bos, tmp_path):
    from lm_eval.models.huggingface import HFLM

    name = saved(tmp_path / "model", template)
    options = {} if bos is None else {"add_bos_token": bos}
    wanted = theirs(HFLM(name, device="cpu", **options), CASES[case], tmp_path)
    found = theirs(ImpastoLM(name, **options), CASES[case], tmp_path)
    assert found.keys() == wanted.keys()
    for metric, value in wanted.items():
        assert found[metric] == (value if value == "N/A" else pytest.approx(value, rel=1e-4))
    load = {"load": options} if options else {}
    study = {"model": name, "tasks": [CASES[case].entry(tmp_path)], "plans": ["baseline"]} | load
    for row in Study.from_text(json.dumps(study)).run().table.to_dict(orient="records"):
        metric, _, filtering = row["metric"].partition(",")
        assert row["value"] == pytest.approx(wanted[f"{metric},{filtering or 'none'}"], rel=1e-4)


@pytest.mark.filterwarnings("ignore:the tokenizer puts")
def test_the_text_of_the_prefix_token_begins_a_text_of_its_own(tmp_path):
    """Without BOS, lm-eval takes EOS for it, and adds nothing to a text that begins with that."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    name = saved(tmp_path, "[SEP] after", bos_token=None)
    request = Instance("loglikelihood", {}, ("</s>2 + 3 =", " 5"), 0, task_name="a")
    text = Instance("loglikelihood_rolling", {}, ("</s>2 + 3 = 5",), 0, task_name="a")
    ours, hflm = ImpastoLM(name), HFLM(name, device="cpu")
    assert ours.loglikelihood([request])[0] == pytest.approx(hflm.loglikelihood([request])[0])
    rolled = hflm.loglikelihood_rolling([text])
    assert ours.loglikelihood_rolling([text]) == pytest.approx(rolled)


def test_a_study_says_it_once_and_writes_it_down(tmp_path):
    name = saved(tmp_path / "model", "BOS and EOS")
    tasks = [CASES["multiple choice"].entry(tmp_path), {"name": "arithmetic", "limit": 4}]
    study = {"model": name, "tasks": tasks, "plans": ["baseline", "0 2-3"]}
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Study.from_text(json.dumps(study)).run(out=tmp_path / "out", say=told.append)
    [notice] = [sentence for sentence in told if "behind every text" in sentence]
    assert notice.startswith("the tokenizer puts </s> behind every text; prompts and contexts are")
    assert "as its own model class reads them" in notice
    assert (tmp_path / "out" / "study.log").read_text().count(notice) == 1


def test_the_option_leaves_nothing_to_say(tmp_path):
    name = saved(tmp_path, "BOS and EOS")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lm = ImpastoLM(name, add_bos_token=False)
        model = impasto.load(name, add_bos_token=False)
        model.generate(PLANS, [CONTEXT], max_new_tokens=1)
    assert lm.tok_encode(CONTEXT) == model.tokenizer.encode(CONTEXT, add_special_tokens=False)
