"""Model arguments of lm-eval's own model class do in impasto what they do there."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import json
import sqlite3

import pytest

import impasto
from harness_reference import Case, arc, gsm8k, theirs, wikitext
from impasto import Plan, Study, UserError
from impasto.lm_eval import ImpastoLM, read_arguments
from impasto.study.work.identity import model_identity
from special_tokens import random_model, saved, tokenizer_of
from thinning import thinned

SHORT = {"generation_kwargs": {"max_gen_toks": 24}}
CHAT = {"apply_chat_template": True, "fewshot_as_multiturn": True}
CASES = {
    "multiple choice": Case("arc_easy", {"test": arc(6), "train": arc(9)}, {"num_fewshot": 2}),
    "rolling windows": Case("wikitext", {"test": wikitext(3)}),
    "generation": Case("gsm8k", {"test": gsm8k(3), "train": gsm8k(8)}, SHORT | {"num_fewshot": 1}),
}
BASELINE = Plan.identity(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model"), "BOS before")


def studied(name, case, folder, load=None, **options):
    """Return a study's metrics under the baseline, as lm-eval calls them, and its table."""
    entry = case.entry(folder) | options
    study = {"model": name, "tasks": [entry], "plans": ["baseline"]}
    frame = Study.from_text(json.dumps(study | ({"load": load} if load else {}))).run().table
    rows = frame.to_dict(orient="records")
    names = [row["metric"] if "," in row["metric"] else row["metric"] + ",none" for row in rows]
    return dict(zip(names, (row["value"] for row in rows), strict=True)), frame


def agree(found, wanted):
    """Assert that metrics are lm-eval's; a study's have no standard errors among them."""
    assert found
    for metric, value in found.items():
        assert value == (
            wanted[metric] if wanted[metric] == "N/A" else pytest.approx(wanted[metric], rel=1e-4)
        )


@pytest.mark.parametrize(
    ("options", "case"),
    [
        *(({"max_length": 40}, case) for case in CASES),
        ({"add_bos_token": False}, "multiple choice"),
        ({"add_bos_token": False}, "generation"),
        ({"add_bos_token": True, "max_length": 64}, "rolling windows"),
    ],
    ids=str,
)
def test_numbers_are_those_of_lm_evals_own_model_class(options, case, folder, tmp_path):
    from lm_eval.models.huggingface import HFLM

    wanted = theirs(HFLM(folder, device="cpu", **options), CASES[case], tmp_path)
    agree(theirs(ImpastoLM(folder, **options), CASES[case], tmp_path), wanted)
    found, frame = studied(folder, CASES[case], tmp_path, load=options)
    agree(found, wanted)
    plain, _ = studied(folder, CASES[case], tmp_path)
    if case == "rolling windows":  # its perplexities tell every difference
        assert found != plain
    if case != "rolling windows" and options.get("max_length") == 40:
        assert (frame["truncated"] > 0).all()


def test_a_model_that_is_loaded_already_takes_them_too(folder, tmp_path):
    from lm_eval.models.huggingface import HFLM

    model = impasto.load(folder)
    case, options = CASES["rolling windows"], {"max_length": 40, "add_bos_token": False}
    lm = HFLM(model.hf, tokenizer=model.tokenizer, **options)
    wanted = theirs(lm, case, tmp_path)
    agree(theirs(ImpastoLM(model, **options), case, tmp_path), wanted)
    limited = ImpastoLM(ImpastoLM(model, max_length=40).opened, add_bos_token=False)
    assert (limited.max_length, limited.opened.text_options.given) == (40, options)
    assert model.max_positions == 192
    assert model.tokens("a")[0] == model.tokenizer.bos_token_id


def test_a_context_beyond_max_length_loses_its_left_end(folder):
    short, whole = impasto.load(folder, max_length=16), impasto.load(folder)
    ids = [5 + i % 40 for i in range(60)]
    assert short.max_positions == 16
    [found] = short.loglikelihood(BASELINE, [(ids, [7, 8])])
    [wanted] = whole.loglikelihood(BASELINE, [(ids[-15:], [7, 8])])
    assert found == wanted
    with pytest.raises(UserError, match="exceed the model's 16 positions"):
        short.generate(BASELINE, [ids], max_new_tokens=2)


WRONG = [
    ("max_length", 0, "from 1 on, not 0"),
    ("max_length", -3, "from 1 on, not -3"),
    ("max_length", 193, "exceeds the model's 192 positions"),
    ("max_length", "many", "from 1 on, not 'many'"),
    ("max_length", True, "from 1 on, not True"),
    ("max_length", 1.5, r"from 1 on, not 1\.5"),
    ("add_bos_token", "yes", "true or false, not 'yes'"),
    ("add_bos_token", 1, "true or false, not 1"),
]


@pytest.mark.parametrize(("option", "value", "reason"), WRONG)
def test_wrong_values_are_refused_with_the_reason(option, value, reason, folder):
    with pytest.raises(UserError, match=rf"{option}.*{reason}"):
        ImpastoLM(folder, **{option: value})
    study = {"model": folder, "tasks": ["capitals"], "plans": ["baseline"]}
    study["load"] = {option: value}
    with pytest.raises(UserError, match=option):
        Study.from_text(json.dumps(study)).run(limit=1)


def test_an_encoder_takes_none_of_them():
    from encoders import encoder

    with pytest.raises(UserError, match="max_length: options are for decoders"):
        impasto.load(encoder("bert"), max_length=8)


@pytest.mark.parametrize("written", ["max_length=40,add_bos_token=False", None])
def test_arguments_may_be_written_as_text_or_json(written, folder):
    text = f"pretrained={folder},{written}"
    if written is None:
        text = json.dumps({"pretrained": folder, "max_length": 40, "add_bos_token": False})
    assert read_arguments(text)
    lm = ImpastoLM.create_from_arg_string(text)
    assert (lm.max_length, lm.opened.text_options.add_bos_token) == (40, False)


def test_a_key_has_the_options_only_where_they_are_given(folder):
    plain = model_identity(impasto.load(folder)).parts
    assert not {"max_length", "add_bos_token"} & plain.keys()
    limited = model_identity(impasto.load(folder, max_length=40)).parts
    assert limited == plain | {"max_length": "40"}
    bare = model_identity(impasto.load(folder, add_bos_token=False)).parts
    assert bare["add_bos_token"] == "False"


def test_an_option_makes_other_cells_and_spares_those_without_it(folder, tmp_path):
    out, case = tmp_path / "out", CASES["multiple choice"]
    study = {"model": folder, "tasks": [case.entry(tmp_path)], "plans": ["baseline"]}

    def cells(**more):
        Study.from_text(json.dumps(study | more)).run(out=out)
        with sqlite3.connect(out / "results.sqlite") as connection:
            return {key for (key,) in connection.execute("SELECT key FROM cells")}

    first = cells()
    assert len(cells(load={"max_length": 100})) == 2 * len(first)
    assert cells(load={"max_length": 100}) > first
    assert len(cells()) == 2 * len(first)


def chatting(case, **options):
    return Case(CASES[case].name, CASES[case].splits, CASES[case].options | CHAT | options)


@pytest.mark.parametrize(
    "thinking",
    thinned(
        [
            {"enable_thinking": False},
            {"enable_thinking": True, "think_end_token": " "},
            {"enable_thinking": True, "think_end_token": "e"},
            {"think_end_token": 300},
        ],
        2,
    ),
    ids=str,
)
def test_thinking_is_told_to_the_chat_template_and_is_no_part_of_the_reply(
    thinking, folder, tmp_path
):
    from lm_eval.models.huggingface import HFLM

    case = chatting("generation", generation_kwargs={"max_gen_toks": 24, "until": ["\n\n\n"]})
    hflm, ours = HFLM(folder, device="cpu", **thinking), ImpastoLM(folder, **thinking)
    turns = [{"role": "user", "content": "Two?"}]
    assert ours.apply_chat_template(turns) == hflm.apply_chat_template(turns)
    assert ("[think]" in ours.apply_chat_template(turns)) == bool(thinking.get("enable_thinking"))
    options = {"until": ["\n\n\n"], "max_gen_toks": 24}
    asked = [instance("generate_until", f"{w} is", options) for w in ("Ink", "It")]
    assert ours.generate_until(asked) == hflm.generate_until(asked)
    wanted = theirs(hflm, case, tmp_path)
    agree(theirs(ours, case, tmp_path), wanted)
    agree(studied(folder, case, tmp_path, **thinking)[0], wanted)


def instance(kind, *arguments):
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, arguments, 0, metadata=("a", 0, 1))


@pytest.mark.parametrize("kind", ["token", "text"])
def test_a_reply_begins_behind_the_last_end_of_thinking(kind, folder):
    plain = ImpastoLM(folder)
    decode, prompts = plain.tokenizer.decode, ["Q: What is 2 and 3?\nA:", "It"]
    tokens = [plain.opened.tokens(prompt) for prompt in prompts]
    written = plain.opened.generate(BASELINE, tokens, max_new_tokens=12)[0]
    end = written[0][4] if kind == "token" else decode(written[0])[6:8]
    options = {"until": [], "max_gen_toks": 12}
    asked = [instance("generate_until", prompt, options) for prompt in prompts]
    replies = ImpastoLM(folder, think_end_token=end).generate_until(asked)
    for ids, reply in zip(written, replies, strict=True):
        if kind == "token":
            last = max((i for i, token in enumerate(ids) if token == end), default=-1)
            wanted = decode(ids[last + 1 :], skip_special_tokens=True)
        else:
            wanted = decode(ids, skip_special_tokens=True).split(end)[-1]
        assert reply == wanted.lstrip()
    assert replies[0] != decode(written[0], skip_special_tokens=True)


def test_thinking_that_cannot_be_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="needs think_end_token"):
        ImpastoLM(folder, enable_thinking=True)
    with pytest.raises(UserError, match="true or false, not 'on'"):
        ImpastoLM(folder, enable_thinking="on")
    with pytest.raises(UserError, match="think_end_token is a text"):
        ImpastoLM(folder, think_end_token="")
    lm = ImpastoLM(folder, enable_thinking=True, think_end_token="x")
    with pytest.raises(UserError, match="a scores given answers"):
        lm.loglikelihood([instance("loglikelihood", "2 +", " 3")])
    options = {"enable_thinking": True, "think_end_token": "x"}
    for case, given, reason in (
        (CASES["generation"], options, "needs apply_chat_template: true"),
        (chatting("generation"), {"enable_thinking": True}, "needs think_end_token"),
        (chatting("generation"), {"enable_thinking": 1}, "true or false"),
        (chatting("multiple choice"), options, "arc_easy scores given answers"),
        (chatting("multiple choice"), {"think_end_token": "x"}, "think_end_token has nothing"),
        (CASES["generation"], {"max_length": 8}, r"about the model: load: \{max_length: 8\}"),
    ):
        with pytest.raises(UserError, match=reason):
            studied(folder, case, tmp_path, **given)
    with pytest.raises(UserError, match="enable_thinking is an option of a task"):
        studied(folder, CASES["generation"], tmp_path, load={"enable_thinking": True})


def test_a_template_that_knows_no_thinking_is_told_of():
    tokenizer = tokenizer_of("none")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    model = impasto.load(random_model(tokenizer), tokenizer)
    lm = ImpastoLM(model, enable_thinking=False)
    with pytest.warns(UserWarning, match="enable_thinking changes nothing here"):
        lm.apply_chat_template([{"role": "user", "content": "Two?"}])


def test_an_option_of_thinking_is_a_part_of_a_tasks_digest_only_where_given(tmp_path):
    from impasto.tasks import load_suite

    def digest(**options):
        [task] = load_suite(chatting("generation").entry(tmp_path) | options).tasks
        return task.digest

    assert len({digest(), digest(enable_thinking=False), digest(think_end_token="x")}) == 3


def test_a_file_of_answers_is_read_in_one_way(folder, tmp_path):
    from lm_eval.api.model import CachingLM

    def open_file(**options):
        return CachingLM(ImpastoLM(folder, **options), str(tmp_path / "answers.db"))

    open_file().dbdict.close()
    with pytest.raises(UserError, match=r"read with \{'max_length': 40\}"):
        open_file(max_length=40)
