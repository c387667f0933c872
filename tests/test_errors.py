"""Every mistake of a user is one `ImpastoError` with the reason; on the command line, exit code 2.

The calls themselves are in `mistakes`. They are made in a process of their own, for in this one the
shapes and types of arguments are checked before the package sees them.
"""

import ast
import builtins
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import harness_index
import impasto
import mistakes
import tiny
from impasto import ImpastoError, Plan, PlanError, Study, UserError
from impasto.cli import app
from impasto.model.loading.files import weight_bytes
from impasto.model.structure.anatomy import ModelError

ROOT = Path(impasto.__file__).parent
HERE = Path(__file__).parent
STUDY = mistakes.STUDY

# ------------------------------------------------------------------ what is raised


def test_every_error_of_ours_has_one_root_and_a_mistake_is_a_value_error_too():
    assert issubclass(ImpastoError, Exception)
    for kind in (UserError, PlanError, ModelError):
        assert issubclass(kind, ImpastoError)
        assert issubclass(kind, ValueError)
    for kind in _error_classes():
        assert issubclass(kind, ImpastoError), kind


def _error_classes() -> Iterator[type]:
    """Yield the classes of errors that the package defines, all but those that only steer."""
    from importlib import import_module

    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                parts = path.with_suffix("").parts
                yield getattr(import_module(".".join(["impasto", *parts])), node.name)


def raised(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return what each call raised, in a process without the tests' shape checks."""
    told = subprocess.run(
        [sys.executable, HERE / "mistakes.py", folder],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert told.returncode == 0, told.stderr[-2000:]
    return json.loads(told.stdout.splitlines()[-1])


def test_a_mistake_is_an_error_of_ours_that_names_what_was_wrong(tmp_path):
    """All of them in one test, for the process that makes them takes long to begin."""
    found, wrong = raised(tmp_path), []
    assert found.keys() == mistakes.PARTS.keys()
    for part, calls in found.items():
        assert calls, part
        for name, (word, *kinds, message) in calls.items():
            is_ours = {"ImpastoError", "ValueError"} <= set(kinds)
            is_sentence = len(message.split()) >= 4 and "Traceback" not in message
            if not (is_ours and is_sentence and word in message):
                wrong.append((part, name, kinds[:1], message[:200]))
    assert not wrong


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b"null", b"\xff", b'{"model": 3}'])
def test_of_a_tokenizer_that_cannot_be_read_a_warning_tells(content, tmp_path):
    folder = tiny.bert(tmp_path / "model")
    (tmp_path / "model/tokenizer.json").write_bytes(content)
    with pytest.warns(UserWarning, match=r"tokenizer of .*model cannot be read: .*; prompts are"):
        model = impasto.load(folder)
    with pytest.raises(ImpastoError, match="without one"):
        model.hidden_states(Plan.parse("0"), ["good"])
    assert len(model.hidden_states(Plan.parse("0"), [[2, 9, 3]])) == 1


def test_what_a_file_of_weights_is_counted_by_names_the_model_where_it_is_damaged(tmp_path):
    folder = tiny.bert(tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"model.* cannot be read"):
        weight_bytes(folder)


# ------------------------------------------------------------------ whatever is read


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text(alphabet="0123456789 -*()[]|.,=sumfreezenoiseinjectattnmlp\n"))
def test_whatever_the_text_parsing_a_plan_raises_plan_errors_only(text):
    try:
        plan = Plan.parse(text)
    except PlanError:
        return
    assert Plan.parse(str(plan)) == plan


KEYS = "plan steps layer part parallel combine noise seed keep freeze inject"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS.split(" ")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.booleans())
def test_whatever_the_json_reading_a_plan_raises_plan_errors_only(document, whole):
    given_document = document if whole else {"plan": 1, "steps": document}
    try:
        plan = Plan.from_json(json.dumps(given_document))
    except PlanError:
        return
    assert Plan.from_json(plan.to_json()) == plan


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50) | st.text(max_size=50))
def test_whatever_is_given_for_json_reading_a_plan_raises_plan_errors_only(given_text):
    with pytest.raises(PlanError):
        Plan.from_json(given_text)


@st.composite
def almost_studies(draw) -> bytes:
    """Return a study file with a stretch of it replaced by something else."""
    whole = draw(st.sampled_from([STUDY, STUDY.replace("baseline", "{freeze: {k: all}}")])).encode()
    start = draw(st.integers(0, len(whole)))
    stop = draw(st.integers(start, min(len(whole), start + 10)))
    signs = st.text(alphabet="!&*{}[]:,-#|>'\"% \n\tab01.~", max_size=6).map(str.encode)
    return whole[:start] + draw(signs | st.binary(max_size=6)) + whole[stop:]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | almost_studies())
def test_whatever_the_bytes_a_study_file_reads_or_raises_an_error_of_ours(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.yaml")
        path.write_bytes(content)
        try:
            study = Study.from_yaml(path)
        except ImpastoError:
            return
        assert study.tasks


# ------------------------------------------------------------------ the command line


class Command(NamedTuple):
    """Words of a command line, with what its message must have."""

    words: str
    says: str


COMMANDS = [
    Command("generate Q --plan 0-", "0-"),
    Command("generate Q --plan 0-99", "99"),
    Command("generate Q --plan 0-11 --model ./nowhere", "nowhere"),
    Command("generate Q --plan 0-11 --model nobody/nothing", "nobody/nothing"),
    Command("generate Q --plan 0-11 --model broken", "broken"),
    Command("generate Q --plan 0-11 --max-new-tokens 0", "--max-new-tokens"),
    Command("generate Q --plan 0-11 --max-new-tokens many", "--max-new-tokens"),
    Command("generate Q --plan 0-11 --max-new-tokens 99999", "99999"),
    Command("generate Q --plan 0-11 --stop=", "stop"),
    Command("generate Q --plan inject(a)0-11", "donor"),
    Command("generate Q --plan inject(a)0-11 --donor D --donor-span X --target-span Q", "X"),
    Command("generate Q", "--plan"),
    Command("explain --plan nonsense", "nonsense"),
    Command("explain --plan 0-11 --layers none", "--layers"),
    Command("explain --plan 0-11 --layers 0", "--layers"),
    Command("explain --plan 0-11 --layers 4", "11"),
    Command("explain --plan 0-11 --model empty", "config.json"),
    Command("explain nowhere.yaml", "nowhere.yaml"),
    Command("explain bytes.yaml", "bytes.yaml"),
    Command("explain study.yaml --memory lots", "lots"),
    Command("explain", "--plan"),
    Command("run nowhere.yaml", "nowhere.yaml"),
    Command("run empty", "folder"),
    Command("run bytes.yaml", "bytes.yaml"),
    Command("run broken.yaml", "line"),
    Command("run study.yaml --limit none", "--limit"),
    Command("run study.yaml --limit 0", "--limit"),
    Command("run study.yaml --memory lots", "lots"),
    Command("run study.yaml --out study.yaml", "study.yaml"),
    Command("run study.yaml --out junk", "results.sqlite"),
    Command("run study.yaml --track paper", "paper"),
    Command("run study.yaml --model ./nowhere", "nowhere"),
    Command("run study.yaml --sequences 3", "--bench"),
    Command("run study.yaml --workers 3", "--cluster"),
    Command("run study.yaml --save-every often", "--save-every"),
    Command("results nowhere", "nowhere"),
    Command("results junk", "results.sqlite"),
    Command("results foreign", "another program"),
    Command("results empty --format xls", "xls"),
    Command("results empty --pack a --unpack b", "--pack"),
    Command("results new --unpack study.yaml", "study.yaml"),
    Command("status nowhere", "nowhere"),
    Command("status junk", "results.sqlite"),
    Command("figures nowhere", "nowhere"),
    Command("figures empty --only Z9", "Z9"),
    Command("figures empty --format bmp", "bmp"),
    Command("report nowhere", "nowhere"),
    Command("report junk", "results.sqlite"),
    Command("similarity --texts nowhere.txt", "nowhere.txt"),
    Command("similarity --texts bytes.yaml", "bytes.yaml"),
    Command("similarity --texts texts.txt --limit 0", "--limit"),
    Command("similarity --texts texts.txt --model ./nowhere", "nowhere"),
    Command("similarity --texts texts.txt --out study.yaml", "study.yaml"),
    Command("probe --texts texts.txt --label kind", "labels"),
    Command("probe --texts rows.csv --label colour", "colour"),
    Command("probe --texts rows.csv --label kind", "rows.csv"),
    Command("models ./nowhere", "nowhere"),
    Command("models broken", "broken"),
    Command("export --plan 0-3 empty", "empty"),
    Command("export --plan 0-3 study.yaml/below", "study.yaml"),
    Command("export --plan 0-99 new", "99"),
    Command("export --plan nonsense new", "nonsense"),
    Command("export --plan 0-3 --model ./nowhere new", "nowhere"),
    Command("bench --plan 0-99", "99"),
    Command("bench --plan 0-3 --device moon", "moon"),
    Command("bench --plan 0-3 --tokens many", "many"),
    Command("bench --plan 0-3 --batch -1", "-1"),
    Command("bench --plan 0-3 --dtype float33", "float33"),
    Command("bench --plan 0-3 --shape llama-2-8b", "llama-2-8b"),
    Command("bench --plan 0-3 --shape llama-2-7b,colour=red", "colour"),
    Command("bench --plan 0-3 --shape llama-2-7b,num_hidden_layers=[", "num_hidden_layers"),
    Command("bench --plan 0-3 --shape llama-2-7b,num_hidden_layers=many", "num_hidden_layers"),
    Command("bench --plan 0-3 --shape broken", "broken"),
    Command("bench --family {drop_last:[1]}", "--family"),
    Command("bench --family [", "--family"),
    Command("bench --family {a:2020-99-99}", "--family"),
    Command("bench --plan 0-3 --rounds 0", "--rounds"),
    Command("lm-eval --model_args pretrained=./nowhere --tasks arc_easy", "nowhere"),
    Command("lm-eval --model_args nonsense --tasks arc_easy", "nonsense"),
    Command("lm-eval --config nowhere.yaml --tasks arc_easy", "nowhere.yaml"),
    Command("no-such-command", "no-such-command"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Go to a folder with files that are not what they should be."""
    import sqlite3

    monkeypatch.chdir(tmp_path)
    for name in ("empty", "junk", "foreign", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "junk/results.sqlite").write_bytes(b"not SQLite " * 99)
    connection = sqlite3.connect(tmp_path / "foreign/results.sqlite")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    (tmp_path / "broken/config.json").write_text("[1")
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "broken.yaml").write_text("model: [\n")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "texts.txt").write_text("one text\nanother text\n")
    (tmp_path / "rows.csv").write_text("text,kind\none text,a\nanother,a\n")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_a_mistake_on_the_command_line_is_one_message_and_exit_code_2(command, folder, monkeypatch):
    if command.words.startswith("lm-eval"):  # whose whole index of tasks takes ten seconds
        known = harness_index.index()
        monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **_: known)
    before = _there(folder)
    told = CliRunner().invoke(app, command.words.split(" "))
    assert told.exit_code == 2, (told.output, told.exception)
    assert command.says in told.output
    assert "Traceback" not in told.output
    assert _there(folder) == before, "something was left behind"


def _there(folder: Path) -> list[Path]:
    """Return what lies in a folder, but for the lock and the log of what was tried."""
    return sorted(path for path in folder.rglob("[!.]*") if path.suffix != ".log")


def test_a_message_is_bounded_however_much_it_quotes():
    message = str(UserError(f"first {'x' * 10_000} last\n" + "line\n" * 1000))
    assert len(message) < 2500
    assert message.startswith("first xxx")
    assert " last\nline\n" in message
    assert "characters left out" in message
    assert message.endswith("more lines")
    assert str(UserError("short\nlines")) == "short\nlines"


# ------------------------------------------------------------------ what the code itself says

# Classes of errors that are not ours and may be raised, by module: each with its reason.
RAISED = {
    "__init__.py": {"AttributeError": "how Python is told that a module has no such name"},
    "exporting/caches.py": {"ValueError": "stands on its own, without impasto"},
    "exporting/sequences.py": {"ValueError": "stands on its own, without impasto"},
    "exporting/modeling.py": {"ValueError": "runs in exported folders, where there is no impasto"},
    "model/arguments/counted.py": {"ValueError": "caught by the only caller, as zip's own is"},
    "model/structure/stacked_weight.py": {
        "NotImplementedError": "how torch is told that a tensor does not do that"
    },
    "plan/words.py": {"AssertionError": "no such item can stand there"},
    "run/generate/kv_pool.py": {"KeyError": "an occurrence without a buffer"},
    "run/encoder/executor.py": {"TypeError": "plans with such steps are not admitted"},
    "run/kv/buffers.py": {"MemoryError": "what it is; who asked cuts its batch and goes on"},
    "run/execute/executor.py": {"TypeError": "no such step can stand there"},
    "signals.py": {"KeyboardInterrupt": "what Ctrl-C raises, for other signals"},
    "study/database/answers.py": {"IndexError": "how Python is told that a sequence ends"},
    "run/batching/moments.py": {"TypeError": "donors give their states another way"},
    "run/execute/sequential.py": {"TypeError": "no such step can stand there"},
    "study/results/several.py": {"IndexError": "how Python is told that a sequence ends"},
    "study/running/stopping.py": {"KeyboardInterrupt": "what it is"},
}

# Where whatever is raised may be caught: by module and function, each with its reason.
CAUGHT = {
    ("exporting/roundtrip.py", "check"): "runs a folder's own code; raised again as ExportError",
    ("model/loading/unreadable.py", "read_tokenizer"): "tokenizers raises Exception; others go on",
    ("study/running/place.py", "made_for_a_run"): "removes what it made, and raises it again",
    ("study/cluster/pool.py", "connected"): "Ray raises Exception; raised again as UserError",
    ("study/cluster/worker.py", "_replied"): "goes to the study's process with its traceback",
    ("study/database/opening.py", "open_to_write"): "closes the file and raises again",
    ("study/database/opening.py", "_connected_to_read"): "closes the file and raises again",
    ("study/database/opening.py", "_copy_up_to_date"): "closes the copy and raises again",
    ("study/database/opening.py", "transaction"): "rolls back and raises again",
    ("study/following/tracking.py", "_try"): "a tracker's own code; the user is told, whole",
    ("study/following/tracking.py", "tracked"): "a tracker's own code; raised as UserError",
    ("tasks/harness/benchmark.py", "_blamed"): "a task's own code; told with its document",
    ("tasks/harness/benchmark.py", "_built"): "a task's own code; raised again as UserError",
    ("tasks/harness/loading.py", "load_benchmark"): "a task's own code; raised as UserError",
    ("tasks/harness/loading.py", "served"): "a data set's own code; raised as UserError",
}


def test_the_package_raises_its_own_errors_only():
    found: dict[str, set[str]] = {}
    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                name = ast.unparse(kind)
                if isinstance(getattr(builtins, name, None), type):
                    found.setdefault(path.as_posix(), set()).add(name)
    assert found == {module: set(kinds) for module, kinds in RAISED.items()}


def test_whatever_is_raised_is_caught_where_there_is_a_reason_only():
    found = set()
    for path, tree in _modules():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                found |= {(path.as_posix(), function.name) for _ in _catching_all(function)}
    assert found == set(CAUGHT)


def _catching_all(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield what catches everything in a function, functions within it left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        kinds: list[ast.expr | None] = []
        if isinstance(node, ast.ExceptHandler):
            kinds = [*node.type.elts] if isinstance(node.type, ast.Tuple) else [node.type]
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            kinds = [*node.args]
        if any(kind is None or ast.unparse(kind) in _EVERYTHING for kind in kinds):
            yield node
        waiting += ast.iter_child_nodes(node)


_EVERYTHING = ("Exception", "BaseException")


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    """Yield every module of the package, by its path within."""
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def test_the_lists_of_exceptions_are_about_modules_that_there_are():
    for module in {*RAISED, *(module for module, _ in CAUGHT)}:
        assert (ROOT / module).is_file()
    assert all(re.search(r"\w+ \w+", reason) for reason in CAUGHT.values())
