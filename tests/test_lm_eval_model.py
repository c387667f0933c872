"""The model `impasto` inside lm-eval: its numbers are HFLM's, and its plan is in the results."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import sys

import pytest

import harness_index
import impasto
import impasto.lm_eval
from harness_reference import (
    Case,
    arc,
    gsm8k,
    lambada,
    theirs,
    wikitext,
    without_a_look_around,
)
from impasto import Plan, PlanError, UserError
from impasto.cli.lm_eval import run_command_line
from impasto.engine_version import ENGINE_VERSION
from impasto.lm_eval import ImpastoLM, read_arguments

PLAN = "0-3 noise(gaussian, seed=3) 4-11"
CASES = {
    "multiple choice": Case("arc_easy", {"test": arc(6)}),
    "one continuation": Case("lambada_openai", {"test": lambada(5)}),
    "rolling windows": Case("wikitext", {"test": wikitext(3)}),
    "generation": Case(
        "gsm8k",
        {"test": gsm8k(3), "train": gsm8k(8)},
        {"generation_kwargs": {"max_gen_toks": 24}},
    ),
}


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


@pytest.mark.parametrize(
    ("line", "case"), [("0-11", next(iter(CASES))), *((PLAN, case) for case in CASES)]
)
def test_its_numbers_are_those_of_lm_evals_own_model_class(case, line, demo, tmp_path):
    from lm_eval.models.huggingface import HFLM

    found = theirs(ImpastoLM(demo, plan=line), CASES[case], tmp_path)
    with impasto.apply(demo.hf, Plan.parse(line)):
        lm = HFLM(pretrained=demo.hf, tokenizer=demo.tokenizer, batch_size=2)
        wanted = theirs(lm, CASES[case], tmp_path)
    assert found.keys() == wanted.keys()
    for metric, value in wanted.items():
        assert found[metric] == (value if value == "N/A" else pytest.approx(value, rel=1e-4))


def test_lm_eval_finds_it_by_name_and_its_results_name_plan_and_digest(tmp_path):
    from lm_eval import simple_evaluate

    files = CASES["one continuation"].files(tmp_path)
    task = {"task": "own", "output_type": "loglikelihood", "test_split": "test"}
    task |= {"dataset_path": "json", "dataset_kwargs": {"data_files": files}}
    task |= {"doc_to_text": "{{text}}", "doc_to_target": " so"}
    task["metric_list"] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    with without_a_look_around():
        results = simple_evaluate(
            "impasto",
            f"pretrained=demo,plan={PLAN}",
            tasks=[task],
            batch_size="auto",
            task_manager=harness_index.index(),
        )
    assert results["config"]["plan"] == PLAN
    assert results["config"]["plan_digest"] == Plan.parse(PLAN).digest
    assert results["config"]["engine"] == ENGINE_VERSION
    assert results["config"]["model"] == "impasto"
    assert results["results"]["own"]["acc,none"] == 0


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("pretrained=demo", {"pretrained": "demo"}),
        (f"pretrained=demo,plan={PLAN},dtype=float32", {"pretrained": "demo", "plan": PLAN}),
        ('pretrained=demo,plan="0 [1 2|3] 4-11"', {"pretrained": "demo", "plan": "0 [1 2|3] 4-11"}),
        ('{"pretrained": "demo", "plan": "[0]"}', {"pretrained": "demo", "plan": "[0]"}),
        ("trust_remote_code=True", {"trust_remote_code": True}),
        ("", {}),
    ],
)
def test_arguments_are_read_with_the_plans_own_commas_in_them(text, arguments):
    read = read_arguments(text)
    assert {key: value for key, value in read.items() if key != "dtype"} == arguments


NESTED = pytest.param('{"a": ' * 100_000, id="nested")


@pytest.mark.parametrize("text", ["demo", "pretrained=demo,0-3", "{'a': 1}", "=demo", NESTED])
def test_what_is_no_argument_is_refused(text):
    with pytest.raises(UserError, match="model_args"):
        read_arguments(text)


def test_what_it_cannot_run_is_refused(demo):
    with pytest.raises(PlanError, match=r"layers 0\.\.11"):
        ImpastoLM(demo, plan="0-12")
    with pytest.raises(UserError, match="tasks name no donors"):
        ImpastoLM(demo, plan="inject(donor) 0-11")
    with pytest.raises(UserError, match="takes no 'peft'; it takes pretrained, plan"):
        ImpastoLM("demo", peft="adapter")
    with pytest.raises(UserError, match="cannot be loaded"):
        ImpastoLM("no-such/model")


def test_without_a_plan_it_is_the_baseline_and_a_number_is_a_plan_too(demo):
    assert ImpastoLM(demo).plan == Plan.identity(12)
    assert ImpastoLM(demo, plan=3).plan == Plan.parse("3")  # as lm-eval's command line reads it


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("--tasks a", "run --model impasto --tasks a"),
        ("run --tasks a --limit 3", "run --model impasto --tasks a --limit 3"),
        ("--model hf --tasks a", "--model hf --tasks a"),
        ("--tasks a -M hf", "--tasks a -M hf"),
        ("--model=hf --tasks a", "--model=hf --tasks a"),
        ("--model_args plan=3 --tasks a", "run --model impasto --model_args plan=3 --tasks a"),
        ("--config own.yaml", "--config own.yaml"),
        ("--config=own.yaml", "--config=own.yaml"),
        ("-Cown.yaml", "-Cown.yaml"),
        ("--config other.yaml", "run --model impasto --config other.yaml"),
        ("ls tasks", "ls tasks"),
        ("--help", "--help"),
        ("", ""),
    ],
)
def test_every_option_is_passed_on_to_lm_evals_command_line(given, passed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("model: hf\n")
    (tmp_path / "other.yaml").write_text("limit: 3\n")
    monkeypatch.setattr(sys, "argv", ["impasto"])
    seen = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: seen.append(list(sys.argv)))
    run_command_line(given.split())
    assert seen == [["lm-eval", *passed.split()]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("limit: [3", "expected"),
        ("- limit", "it should be a mapping"),
    ],
)
def test_a_file_of_options_that_is_none_is_answered(text, message, tmp_path):
    path = tmp_path / "options.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=rf"options\.yaml(.|\n)*{message}"):
        run_command_line(["--config", str(path)])


@pytest.mark.parametrize(
    "words",
    [
        "--tasks a --include_path FOLDER",
        "--tasks a --incl=FOLDER",
        "run --tasks a,FOLDER/rivers.yaml",
        "--tasks FOLDER",
        "--config options.yaml",
        "-C options.yaml --limit 3",
    ],
)
def test_task_files_run_only_where_that_is_allowed(words, monkeypatch, tmp_path):
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "rivers.yaml").write_text("task: rivers\n")
    (folder / "harm.py").write_text("")
    (tmp_path / "options.yaml").write_text(f"model: impasto\ninclude_path: {folder}\ntasks: [a]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["impasto"])
    ran = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: ran.append(list(sys.argv)))
    given = words.replace("FOLDER", str(folder)).split()
    with pytest.raises(UserError, match=r"runs as code, and holds Python: harm\.py.*--allow-code"):
        run_command_line(given)
    assert not ran
    run_command_line([*given, "--allow-code"])
    assert "--allow-code" not in ran[0]
    monkeypatch.setattr("impasto.cli.running._can_ask", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: True)
    run_command_line(given)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    with pytest.raises(UserError, match="nothing was run"):
        run_command_line(given)
    assert len(ran) == 2


@pytest.mark.parametrize(
    "words", ["ls tasks --include_path tasks", "--tasks arc_easy,piqa", "--tasks results", "--help"]
)
def test_what_runs_no_task_file_needs_no_leave(words, monkeypatch, tmp_path):
    (tmp_path / "results").mkdir()  # a folder that is called as a task is
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["impasto"])
    ran = []
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", lambda: ran.append(1))
    run_command_line(words.split())
    assert ran == [1]


@pytest.fixture
def small_index(monkeypatch):
    """lm-eval's command line with an index of the few tasks that the tests need."""
    monkeypatch.setattr(sys, "argv", ["impasto"])
    index = harness_index.index()
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **options: index)


def test_a_task_that_lm_eval_does_not_find_suggests_near_names(small_index):
    words = ["--model_args", "pretrained=demo", "--tasks", "arc_esy"]
    with pytest.raises(UserError, match="unknown task 'arc_esy'; did you mean 'arc_easy'"):
        run_command_line(words)


def test_what_a_task_lacks_is_said_with_how_to_get_it(small_index, monkeypatch):
    def gone(*given, **options):
        raise ConnectionError("no network")

    words = ["--model_args", "pretrained=demo", "--tasks", "arc_easy"]
    monkeypatch.setattr("datasets.load_dataset", gone)
    with pytest.raises(UserError, match=r"data set allenai/ai2_arc \(ARC-Easy\).*--include_path"):
        run_command_line(words)
    monkeypatch.setattr("lm_eval.simple_evaluate", lambda **given: __import__("no_such_package"))
    with pytest.raises(UserError, match="pip install no_such_package"):
        run_command_line(words)


def test_what_lm_eval_refuses_is_a_message_and_a_fault_of_ours_is_none(small_index, monkeypatch):
    with pytest.raises(UserError, match=r"lm-eval: .*limit"):
        run_command_line(["--tasks", "arc_easy", "--limit", "3", "--samples", '{"arc_easy": [1]}'])

    def faulty(**given):
        raise ValueError("a fault")

    monkeypatch.setattr("lm_eval.simple_evaluate", faulty)
    with pytest.raises(ValueError, match=r"^a fault$") as caught:
        run_command_line(["--model_args", "pretrained=demo", "--tasks", "arc_easy"])
    assert not isinstance(caught.value, UserError)


def test_results_count_the_requests_that_lost_their_left_end(demo, tmp_path):
    from lm_eval.api.instance import Instance

    def ask(kind, *arguments):
        return [Instance(kind, {}, arguments, 0, task_name="a")]

    lm, long = ImpastoLM(demo), "Q: What is the capital of France?\n" * 80
    lm.loglikelihood(ask("loglikelihood", "Q: 1 + 1", " = 2"), disable_tqdm=True)
    assert lm.get_model_info()["truncated"] == 0
    lm.loglikelihood(ask("loglikelihood", long, " Paris"), disable_tqdm=True)
    lm.generate_until(ask("generate_until", long, {"until": ["\n"], "max_gen_toks": 2}))
    assert lm.get_model_info()["truncated"] == 2


def test_a_file_of_answers_serves_one_plan_and_one_engine(demo, tmp_path, monkeypatch):
    from lm_eval.api.model import CachingLM

    def open_file(line):
        return CachingLM(ImpastoLM(demo, plan=line), str(tmp_path / "answers.db"))

    open_file("0-11").dbdict.close()
    open_file("0-11").dbdict.close()
    with pytest.raises(
        UserError, match=r"answers\.db holds the answers of .* under 0-11, and this"
    ):
        open_file("11-0")
    monkeypatch.setattr("impasto.lm_eval.ENGINE_VERSION", 2)
    with pytest.raises(UserError, match=r"under 0-11, and this is .* by impasto's engine 2; give"):
        open_file("0-11")
