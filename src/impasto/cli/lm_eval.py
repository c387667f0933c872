"""lm-evaluation-harness's own command line, on a plan."""

import io
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import typer

from impasto.cli.app import app
from impasto.cli.running import may_run_code
from impasto.error import UserError
from impasto.plain_data import read_yaml

ALLOW = "--allow-code"
OWN_FILES = "have a task file of your own read files: --include_path FOLDER"


@app.command(
    "lm-eval",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def lm_eval(context: typer.Context) -> None:
    """Run lm-evaluation-harness's command line on a plan: --model_args pretrained=M,plan="…"."""
    run_command_line(context.args)


def run_command_line(arguments: Sequence[str]) -> None:
    """Run lm-eval's own command line, with this model where no other is named.

    Raises UserError for what lm-eval refuses, with near names for a task that it does not find, for
    a data set or a package that is not there, and for code that nobody has allowed to run: task
    files, which `--allow-code` allows.
    """
    from lm_eval.__main__ import cli_evaluate

    from impasto.lm_eval import NAME  # importing it registers the model
    from impasto.tasks.harness.code import check_code
    from impasto.tasks.harness.loading import missing_package, naming_what_is_missing, unknown

    words = [word for word in arguments if word != ALLOW]
    sys.argv = ["lm-eval", *_with_model(words, NAME)]
    for folder in _with_code():
        if len(words) == len(arguments) and not may_run_code([{"include_path": folder}]):
            check_code("lm-eval's command line", folder)
    try:
        with naming_what_is_missing(instead=OWN_FILES):
            cli_evaluate()
    except ImportError as error:
        raise UserError(missing_package("lm-eval", error)) from None
    except (ValueError, OSError) as error:
        if isinstance(error, UserError) or not _is_lm_evals(error):
            raise
        missing = re.fullmatch(r"Tasks not found: (.+)", str(error))
        tasks = missing[1].split(", ") if missing else []
        raise UserError("\n".join(map(unknown, tasks)) or f"lm-eval: {error}") from None


def _is_lm_evals(error: Exception) -> bool:
    """Say whether lm-eval raised an error itself."""
    raised = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    return raised[-1].startswith("lm_eval.")


def _with_model(arguments: Sequence[str], model: str) -> list[str]:
    """Return the arguments with `--model` before them, unless they name a model or run none."""
    given = list(arguments)
    rest = given[1:] if given[:1] == ["run"] else given
    runs = bool(rest) and rest[0] not in ("ls", "validate", "-h", "--help")
    if not runs or any(re.match(r"(--model|-M)(=|$)|-M\w", word) for word in rest):
        return given
    if any("model" in _config(path) for path in _configs(rest)):
        return given
    return ["run", "--model", model, *rest]


def _with_code() -> list[str]:
    """Return the folders of task files that lm-eval's command line would run, as it reads it."""
    from lm_eval.__main__ import HarnessCLI

    before = list(sys.argv)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            given = vars(HarnessCLI().parse_args())
    except SystemExit:  # it says what is wrong, or its help, when it is called
        return []
    finally:
        sys.argv = before
    if given.get("command") != "run":
        return []  # the others list names
    options = {**(_config(given["config"]) if given["config"] else {})}
    options |= {name: value for name, value in given.items() if value}
    tasks = options.get("tasks") or []
    named = [tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, list) else []
    files = [Path(word) for some in named for word in str(some).split(",")]
    folders = [str(file.parent) for file in files if file.suffix == ".yaml" or "/" in str(file)]
    folders += [str(file) for file in files[:1] if len(files) == 1 and any(file.glob("*.yaml"))]
    included = options.get("include_path") or []
    folders += [included] if isinstance(included, str) else list(map(str, included))
    return list(dict.fromkeys(folders))


def _configs(words: Sequence[str]) -> list[str]:
    """Return the files that `--config FILE`, `--config=FILE`, `-C FILE` and `-CFILE` name."""
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--config", "-C")]
    joined = [re.fullmatch(r"(?:--config=|-C)(.+)", word) for word in words]
    return after + [match[1] for match in joined if match]


def _config(path: str) -> Mapping[str, Any]:
    """Return a file of lm-eval's options; raises UserError where it is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path} cannot be read: {error}") from None
    read = read_yaml(text, f"--config {path}", "a file of options") or {}
    if not isinstance(read, Mapping):
        raise UserError(f"--config {path} holds no options; it should be a mapping, as `limit: 3`")
    return read
