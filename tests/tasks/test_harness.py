"""lm-eval's tasks in a study: their groups and records, and one clear answer for each mistake."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

import json
import subprocess
import sys

import pytest

import impasto
from harness_reference import Case, arc, gsm8k, hellaswag, lambada, mmlu, theirs, write
from impasto import Study, UserError
from impasto.study import StudyError
from impasto.tasks import Generation, LogLikelihood, load_suite
from impasto.tasks.harness.loading import naming_what_is_missing

SUBJECTS = ("anatomy", "virology", "astronomy")


def study(*entries, plans=("baseline",)):
    text = {"model": "demo", "tasks": list(entries), "plans": list(plans)}
    return Study.from_text(json.dumps(text, indent=1), source="mine.yaml")


@pytest.fixture(scope="module")
def demo():
    return impasto.load("demo")


@pytest.fixture
def arc_file(tmp_path):
    return write(tmp_path / "arc.jsonl", arc(6))


def test_requests_are_built_once_and_asked_for_all_plans_together(arc_file, monkeypatch, demo):
    calls = []
    inner = demo.loglikelihood
    monkeypatch.setattr(
        demo, "loglikelihood", lambda plans, *a, **k: calls.append(plans) or inner(plans, *a, **k)
    )
    study({"name": "arc_easy", "data": {"test": arc_file}}, plans=["freeze"]).run(model=demo)
    assert [len(plans) for plans in calls] == [14]


def test_a_task_asks_what_lm_eval_asks(arc_file):
    [task] = load_suite({"name": "arc_easy", "data": {"test": arc_file}}).tasks
    [first, *_] = task.requests()
    assert first[1] == LogLikelihood("Question: What is 0 + 0?\nAnswer:", " moon and more ")
    assert [item.id for item in task.items] == list("012345")
    assert (task.name, task.title, task.part_of) == ("arc_easy", "arc_easy", "")


def test_the_same_entry_asks_the_same_and_another_seed_another(tmp_path):
    files = {"test": write(tmp_path / "test.jsonl", arc(4))}
    files["train"] = write(tmp_path / "train.jsonl", arc(20))

    def load(**options):
        entry = {"name": "arc_easy", "data": files, "num_fewshot": 2, **options}
        return load_suite(entry).tasks[0]

    task = load()
    assert task.requests() == task.requests() == load().requests()
    assert load(seed=7).requests() != task.requests()
    assert load().digest == task.digest != load(seed=7).digest


def test_stops_and_lengths_are_each_requests_own(tmp_path, demo):
    data = {s: write(tmp_path / f"{s}.jsonl", gsm8k(6)) for s in ("test", "train")}
    entry = {
        "name": "gsm8k",
        "data": data,
        "generation_kwargs": {"max_gen_toks": 9, "until": ["."]},
    }
    [task] = load_suite(entry).tasks
    [[request], *_] = task.requests(demo.tokenizer)
    assert isinstance(request, Generation)
    assert (request.max_new_tokens, request.stop) == (9, (".", "<|end|>"))


DRAWN = """
import random
from functools import partial

def shuffled(dataset, times):
    def drawn(doc):
        for _ in range(times):
            random.shuffle(doc["choices"])
        return doc
    return dataset.map(drawn)

once = partial(shuffled, times=1)
"""
DRAWN_TASK = """
task: drawn
dataset_path: json
output_type: multiple_choice
test_split: test
process_docs: !function drawing.once
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{choices.index(answer)}}"
"""


def drawn(tmp_path):
    """Return a task whose choices are shuffled by `random`, as those of GPQA are."""
    own = tmp_path / "drawn"
    own.mkdir(exist_ok=True)
    (own / "drawing.py").write_text(DRAWN)
    (own / "drawn.yaml").write_text(DRAWN_TASK)
    rows = [
        {"question": f"Which {i}?", "choices": list("abcdefgh"), "answer": "c"} for i in range(9)
    ]
    data = {"test": write(tmp_path / "drawn.jsonl", rows)}
    [task] = load_suite(
        {"name": "drawn", "include_path": str(own), "data": data}, allow_code=True
    ).tasks
    return task


def test_documents_drawn_at_random_are_judged_as_they_were_asked(tmp_path):
    task = drawn(tmp_path)
    asked = [[r.continuation.strip() for r in requests] for requests in task.requests()]
    assert len({tuple(choices) for choices in asked}) > 1
    for item, choices in zip(task.items, asked, strict=True):
        assert item.doc["choices"] == choices
        said = [(0.0 if choice == "c" else -9.0, False) for choice in choices]
        assert task.judge(item, said)["acc"] == 1
    again = [[r.continuation.strip() for r in requests] for requests in drawn(tmp_path).requests()]
    assert again == asked


def test_a_digest_does_not_depend_on_where_functions_lie_in_memory(tmp_path):
    task = drawn(tmp_path)
    config = task._task.config
    digest, inner = task.digest, config.process_docs.func
    config.process_docs = type(config.process_docs)(lambda *a, **k: inner(*a, **k), times=1)
    config.process_docs.func.__qualname__ = inner.__qualname__
    assert str(config.process_docs.func) != str(inner)
    assert task.digest == digest


def test_answers_of_an_earlier_run_are_judged_without_asking_anew(arc_file):
    [asked] = load_suite({"name": "arc_easy", "data": {"test": arc_file}}).tasks
    [judging] = load_suite(
        {"name": "arc_easy", "data": {"test": arc_file}, "apply_chat_template": True}
    ).tasks
    asked.requests()
    for item in asked.items:
        said = [(-float(i), False) for i in range(len(item.doc["choices"]["text"]))]
        assert judging.judge(item, said) == asked.judge(item, said)


def test_chance_is_read_off_the_choices(tmp_path, arc_file):
    [task] = load_suite({"name": "arc_easy", "data": {"test": arc_file}}).tasks
    assert task.chance("acc") == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 3)
    assert task.chance("acc_norm") == task.chance("acc")
    entry = {"name": "lambada_openai", "data": {"test": write(tmp_path / "l.jsonl", lambada(3))}}
    [task] = load_suite(entry).tasks
    assert task.chance("acc") == 0
    assert task.chance("perplexity") != task.chance("perplexity")  # not a number


def test_every_items_answers_and_values_are_kept(arc_file, demo):
    entry = {"name": "arc_easy", "data": {"test": arc_file}}
    results = study(entry, plans=["0 2-11"]).run(model=demo)
    records = [r for r in results.answers if r["plan"] == "0 2-11"]
    assert [r["item"] for r in records] == list("012345")
    assert [len(r["responses"]) for r in records] == [3, 4, 5, 3, 4, 5]
    frame = results.table
    [row] = frame[(frame.plan == "0 2-11") & (frame.metric == "acc")].to_dict(orient="records")
    assert sum(r["metrics"]["acc"] for r in records) / 6 == row["value"]
    assert json.loads(json.dumps(list(results.answers))) == list(results.answers)


def test_a_groups_scores_are_lm_evals_and_name_their_parts(tmp_path, demo):
    from lm_eval.api.metrics import pooled_sample_stderr
    from lm_eval.models.huggingface import HFLM

    rows = mmlu(3, SUBJECTS)[:-1]  # of unlike sizes
    own = write_group(tmp_path)
    files = {s: write(tmp_path / f"{s}.jsonl", rows) for s in ("test", "dev")}
    entry = {"name": "some_mmlu", "include_path": str(own), "data": files, "num_fewshot": 1}
    suite = load_suite({**entry, "subset_column": "subject"}, allow_code=True)
    assert [task.name for task in suite.tasks] == [f"mmlu_{subject}" for subject in SUBJECTS]
    assert {task.part_of for task in suite.tasks} == {"some_mmlu"}
    frame = study({**entry, "subset_column": "subject"}).run(model=demo, allow_code=True).table
    lm = HFLM(pretrained=demo.hf, tokenizer=demo.tokenizer, batch_size=2)
    values, errors, sizes = [], [], []
    for subject in SUBJECTS:
        mine = [row for row in rows if row["subject"] == subject]
        case = Case(f"mmlu_{subject}", {"test": mine, "dev": mine}, {"num_fewshot": 1})
        found = theirs(lm, case, tmp_path)
        [row] = frame[frame.task == f"mmlu_{subject}"].to_dict(orient="records")
        assert (row["value"], row["n"]) == (found["acc,none"], len(mine))
        values.append(found["acc,none"])
        errors.append(found["acc_stderr,none"])
        sizes.append(len(mine))
    [row] = frame[frame.task == "some_mmlu"].to_dict(orient="records")
    total = sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)
    assert (row["value"], row["n"]) == (pytest.approx(total), 8)
    assert (row["chance"], row["part_of"], row["truncated"]) == (0.25, "", 0)
    assert row["stderr"] == pytest.approx(pooled_sample_stderr(errors, sizes))


def write_group(folder):
    """Write a group of a user's own over three of lm-eval's tasks."""
    own = folder / "own"
    own.mkdir()
    members = "".join(f"  - mmlu_{subject}\n" for subject in SUBJECTS)
    (own / "some_mmlu.yaml").write_text(
        f"group: some_mmlu\ntask:\n{members}"
        "aggregate_metric_list:\n  - metric: acc\n    weight_by_size: true\n"
    )
    return own


def test_plans_that_inject_run_on_the_tasks_that_name_donors(arc_file, demo):
    mixed = study({"name": "arc_easy", "data": {"test": arc_file}}, "capitals", plans=["inject"])
    frame = mixed.run(model=demo, limit=2).table
    assert set(frame[frame.strategy == "inject"]["task"]) == {"capitals"}
    only = study({"name": "arc_easy", "data": {"test": arc_file}}, plans=["inject"])
    with pytest.raises(StudyError, match="none of the study's tasks names donors"):
        only.run(model=demo)


def test_plans_about_the_prompt_run_on_the_tasks_that_have_prompts(tmp_path, demo):
    file = tmp_path / "texts.txt"
    file.write_text("4 - 1 = 3\n2 + 3 = 5\n")
    line, texts = "0-7 freeze(prompt) 8-11", {"name": "texts", "file": str(file)}
    frame = study(texts, "capitals", plans=[line]).run(model=demo, limit=2).table
    assert set(frame[frame.plan == line]["task"]) == {"capitals"}
    with pytest.raises(StudyError, match="whole texts, which have no prompt"):
        study(texts, plans=[line]).run(model=demo)


def bad_entry(options, tmp_path):
    """Return a study's entry whose file is good, but for what the options say."""
    good = {"name": "arc_easy", "data": {"test": write(tmp_path / "arc.jsonl", arc(3))}}
    return good | options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "arc_esy"}, "did you mean 'arc_easy'"),
        ({"name": "capitols"}, "did you mean 'capitals'"),
        ({"name": "nothing_like_it"}, "The tasks are arithmetic, capitals"),
        ({"fewshots": 3}, "arc_easy has no option 'fewshots'; it has num_fewshot, limit, data"),
        ({"num_fewshot": -1}, "num_fewshot must be a whole number from 0 on, not -1"),
        ({"limit": 0}, "limit must be a whole number from 1 on"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"apply_chat_template": "yes"}, "apply_chat_template must be true or false"),
        ({"data": "arc.jsonl"}, "a file for each split, such as"),
        ({"data": {}}, "a file for each split"),
        ({"generation_kwargs": 3}, "generation_kwargs must be a mapping"),
        (
            {"include_path": "nowhere"},
            "include_path must be a folder that is there, .*nowhere",
        ),
    ],
)
def test_a_wrong_entry_is_answered_when_the_study_is_read(options, message, tmp_path):
    with pytest.raises(StudyError, match=message) as caught:
        study("capitals", bad_entry(options, tmp_path))
    assert str(caught.value).startswith("mine.yaml, line 5: ")


def damaged(change):
    """Return good rows, the third of them changed."""
    rows = arc(4)
    change(rows[2])
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (damaged(lambda r: r.pop("answerKey")), "row 3: the column 'answerKey' is missing; row 1"),
        (
            damaged(lambda r: r.update(question=7)),
            "row 3, column 'question': this is a number, and",
        ),
        (
            damaged(lambda r: r["choices"].update(text="a")),
            r"row 3, column 'choices.text': this is a",
        ),
        (damaged(lambda r: r.update(answerKey="Z")), "row 3: arc_easy cannot read it: .*'Z'"),
        ([], "has no rows"),
        ([{"text": "a"}], "row 1 has the columns text; .*'question' is undefined"),
    ],
)
def test_a_malformed_file_names_itself_the_row_and_the_column(rows, message, tmp_path):
    path = write(tmp_path / "bad.jsonl", rows)
    with pytest.raises(UserError, match=rf"bad\.jsonl.*{message}"):
        load_suite({"name": "arc_easy", "data": {"test": path}}).tasks[0].requests()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"test": "nowhere.jsonl"}, r"nowhere\.jsonl does not exist"),
        ({"tset": "arc.jsonl"}, "arc_easy reads no split 'tset'; it reads test, validation, train"),
        ({"train": "arc.jsonl"}, r"asks its split 'test', so data needs \{test: FILE\}"),
    ],
)
def test_a_file_that_cannot_serve_is_said_so(data, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "arc.jsonl", arc(3))
    with pytest.raises(UserError, match=message):
        load_suite({"name": "arc_easy", "data": data})


def test_examples_without_a_file_to_draw_them_from_are_refused(arc_file):
    [task] = load_suite({"name": "arc_easy", "data": {"test": arc_file}, "num_fewshot": 2}).tasks
    with pytest.raises(UserError, match="takes 2 examples, and data gives none"):
        task.requests()


def test_numbers_in_a_csv_file_are_numbers(tmp_path):
    import csv

    path = tmp_path / "hellaswag.csv"
    rows = [{"text": " ".join(row["text"].split()), "year": i} for i, row in enumerate(lambada(3))]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "year"])
        writer.writeheader()
        writer.writerows(rows)
    [task] = load_suite({"name": "lambada_openai", "data": {"test": str(path)}}).tasks
    assert [item.doc for item in task.items] == rows


def test_a_data_set_that_is_not_there_says_which_and_how_to_get_it():
    with pytest.raises(
        UserError, match=r"allenai/ai2_arc \(ARC-Easy\).*HF_HUB_OFFLINE.*test: FILE"
    ):
        load_suite("arc_easy")


def test_a_package_that_is_not_there_says_which(tmp_path):
    (tmp_path / "needy.yaml").write_text("task: needy\ndoc_to_text: !function needs.it\n")
    (tmp_path / "needs.py").write_text("import no_such_package\n\nit = str\n")
    with pytest.raises(UserError, match="needy needs the package no_such_package: pip install"):
        load_suite({"name": "needy", "include_path": str(tmp_path)}, allow_code=True)


def test_a_task_that_samples_is_refused(tmp_path):
    data = {s: write(tmp_path / f"{s}.jsonl", gsm8k(6)) for s in ("test", "train")}
    sampled = {"do_sample": True, "temperature": 0.7}
    [task] = load_suite({"name": "gsm8k", "data": data, "generation_kwargs": sampled}).tasks
    with pytest.raises(UserError, match=r"gsm8k samples its replies.*do_sample: false"):
        task.requests()


def test_a_model_without_a_chat_template_cannot_be_put_a_chat(arc_file, demo):
    chat = {"name": "arc_easy", "data": {"test": arc_file}, "apply_chat_template": True}
    with pytest.raises(UserError, match="tokenizer has a chat template"):
        study(chat).run(model=demo)


def test_what_lm_eval_prints_stays_off_the_screen(arc_file, demo, capfd):
    study({"name": "arc_easy", "data": {"test": arc_file}}).run(model=demo)
    assert capfd.readouterr() == ("", "")


def test_results_are_read_without_the_tasks_data(tmp_path, demo):
    from impasto.study import Results

    path = tmp_path / "hellaswag.jsonl"
    entry = {"name": "hellaswag", "data": {"validation": write(path, hellaswag(3))}}
    results = study(entry).run(tmp_path / "out", model=demo)
    path.unlink()
    assert Results.read(tmp_path / "out").answers == results.answers


@pytest.mark.slow
def test_a_tasks_digest_is_the_same_in_every_process_and_wherever_its_files_lie(tmp_path):
    code = (
        "import sys; from impasto.tasks import load_suite; "
        "entry = {'name': 'hellaswag', 'data': {'validation': sys.argv[1]}}; "
        "print(load_suite(entry).tasks[0].digest)"
    )
    found = set()
    for name, count in (("a", 3), ("b", 3), ("c", 2)):
        path = write(tmp_path / f"{name}.jsonl", hellaswag(count))
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        found.add((count, done.stdout))
    assert len(found) == 2
    assert len({digest for _, digest in found}) == 2


def test_a_metric_that_cannot_be_had_is_named_with_how_to_get_it():
    wanted = r"the metric code_eval.*evaluate\.load\(\"code_eval\"\)"
    with pytest.raises(UserError, match=wanted), naming_what_is_missing():
        raise FileNotFoundError("Couldn't find a module script at /a/code_eval/code_eval.py. Mo…")
