"""lm-eval's index of tasks, of the few folders that the tests need."""

# pyright: reportCallIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportArgumentType=false, reportReturnType=false, reportTypedDictNotRequiredAccess=false, reportGeneralTypeIssues=false, reportOptionalOperand=false, reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false, reportOptionalIterable=false
# (lm-eval's registry and dictionaries hide their types)

from functools import cache
from importlib.util import find_spec
from pathlib import Path

FOLDERS = (
    "arc", "gsm8k", "hellaswag", "lambada", "mmlu/default", "squadv2", "truthfulqa", "wikitext",
    "winogrande",
)  # fmt: skip


@cache
def index(include_path=None):
    """Return the index of these folders and of a user's."""
    from impasto.tasks.harness.quiet import quiet

    with quiet():
        from lm_eval.tasks import TaskManager

        tasks = Path(find_spec("lm_eval").origin).parent / "tasks"
        folders = [tasks / folder for folder in FOLDERS]
        if include_path is not None:
            folders.append(Path(include_path))
        return TaskManager(include_path=folders, include_defaults=False)
