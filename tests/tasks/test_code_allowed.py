"""Folders of task files run code: only where the user has allowed it, whatever a study says."""

import json

import pytest
from typer.testing import CliRunner

import harness_index
from impasto.cli import app, running
from impasto.error import UserError
from impasto.study import Study
from impasto.tasks import load_suite
from impasto.tasks.harness import loading

REFUSED = "not loaded: the folder .* has task files, which lm-eval runs as code, and holds Python"


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """Return a task of a folder whose Python says when it was run."""
    monkeypatch.setattr(loading, "_index", harness_index.index)
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1 =", "a": " 2"}\n')
    (folder / "utils.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\ndef text(row): return row['q']\n"
    )
    (folder / "sums.yaml").write_text(
        "task: sums\ndataset_path: json\noutput_type: loglikelihood\ntest_split: test\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "doc_to_text: !function utils.text\ndoc_to_target: '{{a}}'\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    return {"name": "sums", "include_path": str(folder)}


def study(entry):
    return json.dumps({"model": "demo", "tasks": [entry], "plans": ["baseline"]})


def test_nothing_runs_unless_it_is_allowed(entry, tmp_path):
    read = Study.from_text(study(entry))
    for act in (lambda: load_suite(entry), read.load_suite, read.run, read.estimate):
        with pytest.raises(UserError, match=rf"{REFUSED}: utils.py.*--allow-code.*allow_code=True"):
            act()
    assert not (tmp_path / "ran").exists()
    [task] = load_suite(entry, allow_code=True).tasks
    assert (tmp_path / "ran").exists()
    assert task.name == "sums"
    with pytest.raises(UserError, match=REFUSED):  # it was for that call
        load_suite(entry)


def test_run_takes_the_option_or_asks_once(entry, tmp_path, monkeypatch):
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(study(entry))
    words = ["run", str(file), "--out", str(out), "--quiet"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert "--allow-code" in refused.stderr
    monkeypatch.setattr(running, "_can_ask", lambda: True)
    declined = CliRunner().invoke(app, words, input="n\n")
    assert (declined.exit_code, declined.output.count("Run it?")) == (2, 1)
    assert not (tmp_path / "ran").exists()
    agreed = CliRunner().invoke(app, words, input="y\n")
    assert (agreed.exit_code, agreed.output.count("Run it?")) == (0, 1), agreed.output
    assert (tmp_path / "ran").exists()
    allowed = CliRunner().invoke(app, [*words, "--allow-code"])
    assert (allowed.exit_code, allowed.output.count("Run it?")) == (0, 0), allowed.output


def test_a_page_shows_no_questions_of_code_that_is_not_allowed(entry, tmp_path):
    out = tmp_path / "out"
    Study.from_text(study(entry)).run(out, allow_code=True)
    (tmp_path / "ran").unlink()
    done = CliRunner().invoke(app, ["report", str(out)])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "ran").exists()
