"""lm-evaluation-harness's own command line, on a plan."""

import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from impasto.cli.app import app
from impasto.error import UserError

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

    Raises UserError for what lm-eval refuses, with near names for a task that it does not find, and
    for a data set or a package that is not there.
    """
    from lm_eval.__main__ import cli_evaluate

    from impasto.lm_eval import NAME  # importing it registers the model
    from impasto.tasks.harness.loading import missing_package, naming_what_is_missing, unknown

    sys.argv = ["lm-eval", *_with_model(arguments, NAME)]
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


def _configs(words: Sequence[str]) -> list[str]:
    """Return the files that `--config FILE`, `--config=FILE`, `-C FILE` and `-CFILE` name."""
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--config", "-C")]
    joined = [re.fullmatch(r"(?:--config=|-C)(.+)", word) for word in words]
    return after + [match[1] for match in joined if match]


def _config(path: str) -> Mapping[str, Any]:
    """Return a file of lm-eval's options; raises UserError where it is none."""
    try:
        read = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config {path} cannot be read: {error}") from None
    if not isinstance(read, Mapping):
        raise UserError(f"--config {path} holds no options; it should be a mapping, as `limit: 3`")
    return read
