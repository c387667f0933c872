"""A choice that merges into its context has no token to score: it is named; lm-eval fails there."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import json

import pytest

import impasto
from impasto import Plan, Study, UserError
from impasto.lm_eval import ImpastoLM
from impasto.study.results.table import Results

BASELINE = Plan.identity(12)
MERGING = ("What is the capital of Fran", "ce")  # ` France` is one token of the demo model's
DOCUMENTS = [
    {"q": "2 + 3 =", "c": [" 5", " 7"], "a": 0},
    {"q": MERGING[0], "c": [" wolf", MERGING[1]], "a": 0},
    {"q": "4 - 1 =", "c": [" 2", " 3"], "a": 1},
]
NAMED = r"merges, document 1, choice 1: the continuation 'ce' has no token to score: it merges into"


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


def study(folder, documents=DOCUMENTS, output="multiple_choice"):
    """Return a study of a task whose choices follow their contexts without a space between."""
    data = folder / "documents.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents))
    task = {
        "task": "merges",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "output_type": output,
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": "a",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "merges.yaml").write_text(json.dumps(task))
    own = {"name": "merges", "include_path": str(folder)}
    tasks = [{"name": "arithmetic", "limit": 8}, own]
    return Study.from_text(
        json.dumps({"model": "demo", "tasks": tasks, "plans": ["baseline", "0 2-11"]})
    )


def instance(number, choice, *arguments):
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", {}, arguments, choice, metadata=("merges", number, 1))


def test_the_case_is_one(demo):
    ids = [demo.tokenizer.encode(text) for text in (MERGING[0], "".join(MERGING))]
    assert len(ids[1]) <= len(ids[0])


def test_lm_evals_own_model_class_fails_there(demo):
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(demo.hf, tokenizer=demo.tokenizer)
    with pytest.raises(AssertionError):
        lm.loglikelihood([instance(0, 0, *MERGING)])


def test_the_request_is_named_with_what_would_be_right(demo):
    requests = [("2 + 3 =", " 5"), MERGING]
    with pytest.raises(UserError) as caught:
        demo.loglikelihood(BASELINE, requests)
    told = str(caught.value)
    assert told.startswith("request 1: the continuation 'ce' has no token to score")
    assert f"merges into its context {MERGING[0]!r}" in told
    assert "Begin the continuation with a space" in told
    assert "target_delimiter" in told
    context, continuation = (demo.tokenizer.encode(text) for text in MERGING)
    assert demo.loglikelihood(BASELINE, [(context, continuation)])  # the way out that is named


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (("2 +", ""), "the continuation '' has no token to score; it needs at least one"),
        (("", ""), "the continuation '' has no token to score; it needs at least one"),
        ((" \n", " 5"), r"the context ' \\n' has no token: white space"),
        (([1, 2], []), "needs at least one"),
        (([], [1]), "a context of token ids needs at least one token"),
    ],
)
def test_what_else_has_no_token_is_named_by_its_own_reason(request_, reason, demo):
    with pytest.raises(UserError, match=f"^request 2: .*{reason}"):
        demo.loglikelihood(BASELINE, [("1 +", " 1"), ("1 +", " 2"), request_])


def test_a_study_names_task_document_and_choice_before_anything_runs(tmp_path, demo):
    asked = []
    with pytest.raises(UserError, match=f"^{NAMED}"):
        study(tmp_path).run(
            out=tmp_path / "out",
            allow_code=True,
            progress=lambda standing: asked.append(standing.share),
        )
    assert set(asked) <= {0.0}


def test_what_a_folder_holds_already_is_not_lost(tmp_path):
    right = [*DOCUMENTS[:1], *DOCUMENTS[2:]]
    before = study(tmp_path, right).run(out=tmp_path / "out", allow_code=True).table
    with pytest.raises(UserError, match=NAMED):
        study(tmp_path).run(out=tmp_path / "out", allow_code=True)
    told = []
    again = study(tmp_path, right).run(out=tmp_path / "out", allow_code=True, say=told.append).table
    assert "4 of 4 cells are there already" in told
    assert again.equals(before)
    assert Results.read(tmp_path / "out").table.equals(before)


def test_an_estimate_names_it_too(tmp_path):
    with pytest.raises(UserError, match=NAMED):
        study(tmp_path).estimate(allow_code=True)


def test_a_choice_longer_than_the_context_window_is_named(tmp_path):
    long = {"q": "2 + 3 =", "c": [" 5" * 300, " 7"], "a": 1}
    with pytest.raises(
        UserError, match=r"^merges, document 3, choice 0: .* exceeds the 256 tokens"
    ):
        study(tmp_path, [DOCUMENTS[0]] * 3 + [long]).run(allow_code=True)


def test_inside_lm_eval_it_is_named_as_well(demo):
    lm = ImpastoLM(demo)
    with pytest.raises(UserError, match=NAMED):
        lm.loglikelihood([instance(0, 0, "2 + 3 =", " 5"), instance(1, 1, *MERGING)])
